"""What every venue's service needs: its symbols, its clock and its candles at this moment.

What belongs here: the venue-neutral half of a candle request. What does not: spellings and JSON shapes of a venue.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web

from altforecast.types import Timeframe
from altforecast_sandbox.clock import Clock
from altforecast_sandbox.coins import Pair
from altforecast_sandbox.faults import Bodies
from altforecast_sandbox.listings import bar_pairs, listed_pairs
from altforecast_sandbox.market import Candles, Market
from altforecast_sandbox.skeleton import FIRST_DAY

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_MS = FIRST_DAY * 86_400_000
_WIDENINGS = 8


class Refusal(Exception):
    """The service answers with this status and body instead of data."""

    def __init__(self, status: int, body: Any) -> None:
        self.status, self.body = status, body
        super().__init__(f"refused with {status}")


@dataclass(frozen=True)
class Desk:
    """One venue's view of the market; `clock` already contains the venue's own clock error."""

    venue: str
    market: Market
    clock: Clock
    extra_symbols: int = 0
    """How many synthetic pairs the venue lists besides."""

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """What the venue lists, some of it with order books alone."""
        return listed_pairs(self.venue, self.extra_symbols)

    def named(self, spell: Callable[[Pair], str]) -> dict[str, Pair]:
        """The pairs that have bars, by the venue's own spelling."""
        return {spell(pair): pair for pair in bar_pairs(self.venue)}

    def now_ms(self) -> int:
        """The venue's present [ms since 1970]."""
        return (self.clock() - _EPOCH) // timedelta(milliseconds=1)

    def first(self, symbol: str, timeframe: Timeframe, start_ms: int, limit: int, end_ms: int | None = None) -> Candles:
        """The first `limit` candles with open time in [start, end); the forming one is the last there can be."""
        start, stop = max(start_ms, _FIRST_MS), self._stop(end_ms)
        start = -(-start // timeframe.ms) * timeframe.ms
        span = limit * timeframe.ms
        for _ in range(_WIDENINGS):
            found = self._between(symbol, timeframe, start, min(start + span, stop))
            if len(found) >= limit or start + span >= stop:
                break
            span *= 2
        return _rows(found, slice(0, limit))

    def last(self, symbol: str, timeframe: Timeframe, limit: int, end_ms: int | None = None, start_ms: int = 0) -> Candles:
        """The last `limit` candles with open time in [start, end), ascending."""
        floor, stop = max(start_ms, _FIRST_MS), self._stop(end_ms)
        stop = -(-stop // timeframe.ms) * timeframe.ms
        span = limit * timeframe.ms
        for _ in range(_WIDENINGS):
            found = self._between(symbol, timeframe, max(stop - span, floor), stop)
            if len(found) >= limit or stop - span <= floor:
                break
            span *= 2
        return _rows(found, slice(max(len(found) - limit, 0), None))

    def _stop(self, end_ms: int | None) -> int:
        return self.now_ms() + 1 if end_ms is None else min(end_ms, self.now_ms() + 1)

    def _between(self, symbol: str, timeframe: Timeframe, start_ms: int, end_ms: int) -> Candles:
        start, end = (_EPOCH + timedelta(milliseconds=ms) for ms in (start_ms, max(end_ms, start_ms)))
        return self.market.candles(symbol, timeframe, start, end, self.venue, now=self.clock())


def _rows(candles: Candles, rows: slice) -> Candles:
    open_, high, low, close = (c[rows] for c in (candles.open, candles.high, candles.low, candles.close))
    return Candles(candles.ts_ms[rows], open_, high, low, close, candles.volume[rows], candles.price_digits, candles.amount_digits)


@dataclass(frozen=True)
class VenueService:
    """A venue's routes below its prefix, and what it says when it limits or refuses."""

    name: str
    routes: Callable[[Desk], Mapping[str, Callable[[web.Request], Any]]]
    """GET paths (aiohttp patterns) and functions from the request to the JSON body; they may raise Refusal."""
    bodies: Bodies


def mount(service: VenueService, desk: Desk) -> list[web.RouteDef]:
    """The aiohttp routes of a venue under `/<venue>`."""
    return [web.get(f"/{service.name}{path}", _handler(answer)) for path, answer in service.routes(desk).items()]


def _handler(answer: Callable[[web.Request], Any]) -> Callable[[web.Request], Any]:
    async def handle(request: web.Request) -> web.Response:
        try:
            return web.json_response(answer(request))
        except Refusal as refusal:
            return web.json_response(refusal.body, status=refusal.status)

    return handle


def whole_number(request: web.Request, name: str, default: int | None, refuse: Refusal) -> int | None:
    """A query parameter as a whole number, `default` when absent; raises the given refusal for anything else."""
    text = request.query.get(name)
    if text is None or text == "":
        return default
    if not text.isdigit():
        raise refuse
    return int(text)


def bars(candles: Candles, is_newest_first: bool = False) -> list[tuple[int, float, float, float, float, float]]:
    """Rows of open time [ms], open, high, low, close, volume."""
    columns = (candles.open, candles.high, candles.low, candles.close, candles.volume)
    rows = list(zip(candles.ts_ms.tolist(), *(c.tolist() for c in columns), strict=True))
    return rows[::-1] if is_newest_first else rows


def step(places: int) -> str:
    """The smallest step of a number with so many decimals: `0.01` for 2."""
    return digits(10.0**-places, places)


def digits(value: float, places: int) -> str:
    """A price or volume as a venue prints it, with a fixed number of decimals."""
    return f"{value:.{places}f}"
