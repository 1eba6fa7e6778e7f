"""Where prices of order books come from: the seeded market within the minute, or a recorded path of Bitcoin.

What belongs here: log prices of coins at any millisecond. What does not: venues, spreads and books (`order_flow`).
"""

from __future__ import annotations

import csv
import math
import random
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Protocol

from altforecast.errors import InputError
from altforecast_sandbox.coins import COIN_INDEX, COINS
from altforecast_sandbox.listings import extra_price_usdt
from altforecast_sandbox.market import Market

_DAY_MS, _MINUTE_MS = 86_400_000, 60_000
_USDC_BPS = 1.5
Points = Sequence[tuple[int, float]]
"""(time [ms], price of one Bitcoin [USDT]), ascending."""


class BasePath(Protocol):
    """Prices that all venues swing around."""

    def log_usdt(self, coin: str, ms: int) -> float:
        """Log price of one coin in USDT; USDT itself is 0."""
        ...


class MarketPath:
    """The seeded market, straight within each minute; synthetic coins follow Bitcoin and a slow wave of their own."""

    def __init__(self, market: Market) -> None:
        self._market = market
        self._minutes: dict[str, tuple[int, float, float]] = {}
        """Per coin: start of the minute, log price there, slope per ms."""

    def log_usdt(self, coin: str, ms: int) -> float:
        """Log price in USDT; raises InputError outside the market's time."""
        if coin == "USDT":
            return 0.0
        begin, level, slope = self._minutes.get(coin, (-1, 0.0, 0.0))
        if not begin <= ms < begin + _MINUTE_MS:
            begin = ms // _MINUTE_MS * _MINUTE_MS
            level, after = self._mark(coin, begin), self._mark(coin, begin + _MINUTE_MS)
            slope = (after - level) / _MINUTE_MS
            self._minutes[coin] = (begin, level, slope)
        return level + slope * (ms - begin)

    def _mark(self, coin: str, ms: int) -> float:
        day, minute = ms // _DAY_MS, ms % _DAY_MS // _MINUTE_MS
        if coin == "USD":
            return -self._market.dollar_mark(day, minute)
        if coin == "USDC":
            return math.sin(ms / _MINUTE_MS * (2 * math.pi / 977.0)) * _USDC_BPS * 1e-4
        if coin in COIN_INDEX:
            return self._market.coin_mark(coin, day, minute)
        btc = self._market.coin_mark("BTC", day, minute) - math.log(COINS[0].anchor_usdt)
        draw = random.Random(coin)
        wave = math.sin(ms / _MINUTE_MS * (2 * math.pi / draw.uniform(300, 3_000)) + draw.uniform(0, 6))
        return math.log(extra_price_usdt(coin)) + draw.uniform(0.6, 1.4) * btc + 0.01 * wave


class RecordedPath:
    """Bitcoin as recorded, played from `start_ms` and then back and forth; the other coins follow it by their beta."""

    def __init__(self, points: Points, start_ms: int, under: MarketPath) -> None:
        if len(points) < 2 or any(b[0] <= a[0] or b[1] <= 0 for a, b in pairwise(points)) or points[0][1] <= 0:
            raise InputError("base_path", len(points), "needs two or more points, times ascending, prices positive")
        self._ms = [ms - points[0][0] for ms, _ in points]
        self._log = [math.log(price) for _, price in points]
        self._start_ms, self._under = start_ms, under

    def log_usdt(self, coin: str, ms: int) -> float:
        """Log price in USDT."""
        moved = self._recorded(ms)
        if coin == "BTC":
            return moved
        still = self._under.log_usdt(coin, self._start_ms)
        if coin in ("USD", "USDC", "USDT"):
            return still
        beta = COINS[COIN_INDEX[coin]].beta if coin in COIN_INDEX else 1.0
        return still + beta * (moved - self._log[0])

    def _recorded(self, ms: int) -> float:
        length = self._ms[-1]
        at = (ms - self._start_ms) % (2 * length)
        at = min(at, 2 * length - at)
        i = min(max(bisect_right(self._ms, at), 1), len(self._ms) - 1)
        before, after = self._ms[i - 1], self._ms[i]
        return self._log[i - 1] + (self._log[i] - self._log[i - 1]) * (at - before) / (after - before)


class JumpingPath:
    """A path that a fault can move as a whole."""

    def __init__(self, path: BasePath) -> None:
        self._path = path
        self.moved_log = 0.0
        """Added to every coin against USDT; dollars stay."""

    def log_usdt(self, coin: str, ms: int) -> float:
        """Log price in USDT."""
        log = self._path.log_usdt(coin, ms)
        return log if coin in ("USDT", "USD", "USDC") else log + self.moved_log


def read_points(lines: Sequence[str]) -> list[tuple[int, float]]:
    """The points of a file of `ts_ms,mid` lines, with or without a header; raises InputError naming the wrong line."""
    points = []
    for number, row in enumerate(csv.reader(lines), start=1):
        if number == 1 and row and not row[0].strip().isdigit():
            continue
        try:
            points.append((int(row[0]), float(row[1])))
        except (ValueError, IndexError):
            raise InputError("base_path", row, f"line {number} is not `ts_ms,mid`") from None
    return points


def path_of(market: Market, points: Points | None, start_ms: Callable[[], int]) -> JumpingPath:
    """The path of the market, or of recorded points from now on."""
    seeded = MarketPath(market)
    return JumpingPath(seeded if points is None else RecordedPath(points, start_ms(), seeded))
