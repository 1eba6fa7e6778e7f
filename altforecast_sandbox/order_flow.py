"""The order flow: how one venue's book of one symbol changes from moment to moment, the same for the same seed and moments.

What belongs here: quotes around the base path, and the level changes that lead from one moment to the next. What does not:
when a book changes (`streams.hub`), planted opportunities (`plants`) and wire forms.
"""

from __future__ import annotations

import math
import random
import zlib
from bisect import bisect_left, bisect_right
from dataclasses import dataclass

from altforecast_sandbox.base_path import BasePath
from altforecast_sandbox.book_habits import BOOK_HABITS
from altforecast_sandbox.coins import Pair
from altforecast_sandbox.quotes import HABITS
from altforecast_sandbox.resting import Change, RestingBook, Rows

STABLE = ("USDT", "USD", "USDC")
_MAJORS = ("BTC", "ETH")
_OFFSET_SHARE = 0.3
"""Books differ between venues by less than bars do: differences stay below the smallest sum of two fees (5 bps)."""
_OWN_OFFSET_BPS = 0.25
_NOISE_SHARE = 0.6
"""Micro noise of the mid, at most this share of the half spread: simultaneous books never offer a profitable triangle."""
_NOISE_KEEP = 0.9
_MOST_WIDENING = 30e-4
_LEVEL_GAP_BPS = 0.25
_LEVEL_USDT = (1_500.0, 25_000.0)
"""Money on one level: of a venue without volume, and added for the largest."""
_SLACK, _FEWEST = 60, 20
_DEPTH_SCALE = 8.0
_FIRST_ID = 1_000_000


@dataclass(frozen=True)
class Pin:
    """A best price that stands still, with at least this size."""

    ticks: int
    lots: int


def venue_offset_log(seed: int, venue: str, coin: str, ms: int) -> float:
    """How much dearer a coin is on a venue than on the base path [log]; 0 for USDT.

    One offset per coin and venue: whatever symbols are made of them, every loop of symbols on a venue multiplies to 1.
    """
    if coin == "USDT":
        return 0.0
    minute = ms / 60_000.0
    own = math.sin(minute * (2 * math.pi / 29.0) + _phase(seed, venue, coin)) * _OWN_OFFSET_BPS
    if coin in STABLE:
        return own * 1e-4
    phase = _phase(seed, venue, "")
    wave = 0.6 * math.sin(minute * (2 * math.pi / 540.0) + phase) + 0.4 * math.sin(minute * (2 * math.pi / 37.0) + 2 * phase)
    return (HABITS[venue].offset_bps * _OFFSET_SHARE * wave + own) * 1e-4


def _phase(seed: int, venue: str, coin: str) -> float:
    return zlib.crc32(f"{seed} {venue} {coin}".encode()) / 2**32 * 2 * math.pi


class OrderFlow:
    """One book and what moves it; `step` is the only thing that changes it."""

    def __init__(self, seed: int, venue: str, pair: Pair, path: BasePath, start_ms: int) -> None:
        self.venue, self.pair = venue, pair
        self.pins: dict[str, Pin] = {}
        """`bid` or `ask` -> best price that a planted opportunity holds."""
        self._seed, self._path = seed, path
        self._rng = random.Random(f"{seed} {venue} {pair.symbol}")
        self._habits = BOOK_HABITS[venue]
        self._half_log = self._habits.half_spread_bps * (1.0 if pair.base in _MAJORS + STABLE else 3.0) * 1e-4
        self._noise = 0.0
        self._mid_log = self._log(start_ms)
        self._ticks = 10.0**pair.price_digits
        money = _LEVEL_USDT[0] + _LEVEL_USDT[1] * HABITS[venue].volume_share * (3.0 if pair.base in _MAJORS else 1.0)
        self._lots_unit = money / math.exp(path.log_usdt(pair.base, start_ms)) * 10.0**pair.amount_digits
        mid_ticks = math.exp(self._mid_log) * self._ticks
        self._gap = max(1, round(mid_ticks * _LEVEL_GAP_BPS * 1e-4))
        self._most = min(self._habits.levels, int(mid_ticks) // 3)
        self._least = max(self._most - _SLACK, min(_FEWEST, self._most))
        self.book = RestingBook(pair.symbol, pair.price_digits, pair.amount_digits, _FIRST_ID + self._rng.randrange(10**8), start_ms)
        self.step(start_ms)

    def step(self, ts_ms: int, is_crossed: bool = False, behind_ms: int = 0) -> Change:
        """The next change, already applied to the book.

        is_crossed: the best bid is put above the best ask; the next ordinary step heals it. behind_ms: the event time lags.
        """
        bid, ask = self._targets(ts_ms)
        if is_crossed and self.book.ask_ticks:
            bids = {self.book.ask_ticks[0] + 2: self._lots(0)}
            asks = {self.book.ask_ticks[0]: self._lots(0)}
        else:
            bids, asks = self._bids(bid), self._asks(ask)
        first = self.book.last_id + 1
        last = first + (self._rng.randrange(self._habits.id_span) if self._habits.id_span > 1 else 0)
        change = Change(self.pair.symbol, first, last, ts_ms - behind_ms, _best_first(bids, True), _best_first(asks, False))
        self.book.apply(change)
        return change

    def quote(self, ts_ms: int) -> tuple[float, float]:
        """Undisturbed mid [quote currency] and half spread [log] at a moment; draws nothing."""
        return math.exp(self._log(ts_ms)), self._half_log

    def _log(self, ms: int) -> float:
        base, quote = self.pair.base, self.pair.quote
        there = self._path.log_usdt(base, ms) + venue_offset_log(self._seed, self.venue, base, ms)
        return there - self._path.log_usdt(quote, ms) - venue_offset_log(self._seed, self.venue, quote, ms)

    def _targets(self, ts_ms: int) -> tuple[int, int]:
        """Best bid and ask [ticks]; the spread widens by what the mid moved since the last change, as makers do who are late."""
        now = self._log(ts_ms)
        half = self._half_log + min(abs(now - self._mid_log), _MOST_WIDENING)
        self._mid_log = now
        room = self._half_log * _NOISE_SHARE
        self._noise = min(max(self._noise * _NOISE_KEEP + (self._rng.random() - 0.5) * room, -room), room)
        mid = math.exp(now + self._noise) * self._ticks
        bid, ask = math.floor(mid * (1 - half)), math.ceil(mid * (1 + half))
        ask = max(ask, bid + 1)
        apart = ask - bid
        if "ask" in self.pins:
            ask = self.pins["ask"].ticks
            bid = min(bid, ask - apart)
        if "bid" in self.pins:
            bid = self.pins["bid"].ticks
            ask = ask if "ask" in self.pins else max(ask, bid + apart)
        return max(bid, 1), ask

    def _bids(self, target: int) -> dict[int, int]:
        levels = self.book.bid_ticks
        kept = bisect_right(levels, target)
        rows = dict.fromkeys(levels[kept:], 0)
        return self._side(rows, levels[:kept][::-1], self.book.bids, target, -1, self.pins.get("bid"))

    def _asks(self, target: int) -> dict[int, int]:
        levels = self.book.ask_ticks
        gone = bisect_left(levels, target)
        rows = dict.fromkeys(levels[:gone], 0)
        return self._side(rows, levels[gone:], self.book.asks, target, 1, self.pins.get("ask"))

    def _side(self, rows: dict[int, int], kept: list[int], side: dict[int, int], target: int, away: int, pin: Pin | None) -> dict[int, int]:
        """Add to `rows` what one side changes besides what is gone; `kept` is best first, `away` the direction off the mid."""
        rng, gap, draw_one = self._rng, self._gap, self._rng.random
        if not kept or kept[0] != target:
            rows[target] = self._lots(0)
            room = abs(kept[0] - target) if kept else 0
            for _ in range(min(2, room - 1)):
                rows.setdefault(target + away * rng.randrange(1, room), self._lots(1))
        fewest, most = self._habits.churn
        for _ in range(fewest + int(draw_one() * (most + 1 - fewest)) if kept else 0):
            k = min(int(-math.log(1.0 - draw_one()) * _DEPTH_SCALE), len(kept) - 1)
            ticks, draw = kept[k], draw_one()
            if draw < 0.7:
                rows[ticks] = self._lots(k)
            elif draw < 0.85:
                if ticks != target:
                    rows[ticks] = 0
            else:
                near = ticks + away * (1 + int(draw_one() * 2 * gap))
                if near > 0 and near not in side:
                    rows[near] = self._lots(k)
        self._level_out(rows, kept, target, away)
        if pin is not None:
            rows.pop(target, None)
            if side.get(target) != pin.lots:
                rows[target] = pin.lots
        return rows

    def _level_out(self, rows: dict[int, int], kept: list[int], target: int, away: int) -> None:
        """Keep the depth within its bounds: drop the farthest levels, or add farther ones."""
        rng = self._rng
        if len(kept) > self._most - 10:
            for ticks in kept[self._most - 10 :]:
                rows[ticks] = 0
        elif len(kept) < self._least:
            far = kept[-1] if kept else target
            for i in range(len(kept), self._least + _SLACK // 4):
                far += away * rng.randint(1, 2 * self._gap)
                if far <= 0:
                    break
                rows[far] = self._lots(i)

    def _lots(self, depth: int) -> int:
        share = 0.2 - math.log(1.0 - self._rng.random())
        return max(1, int(self._lots_unit * share * (1.0 + min(depth, 60) / 15.0)))


def _best_first(rows: dict[int, int], is_bid: bool) -> Rows:
    return tuple(sorted(rows.items(), reverse=is_bid))
