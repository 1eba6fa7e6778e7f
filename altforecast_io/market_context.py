"""Market context from all suppliers at once: for the route that shows it and for the asset that keeps it.

What belongs here: asking the suppliers together, breakers, cache, and what to say when one fails. What does not: any
supplier's shape (`sources`).
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime

import polars as pl
from cachetools import TTLCache

from altforecast.errors import AltForecastError, BusyError
from altforecast_io.breaker import Breaker
from altforecast_io.clock import Clock, utc_now
from altforecast_io.http import Failure, HttpClient, ServiceError
from altforecast_io.settings import Settings
from altforecast_io.sources import coingecko, dxy, feargreed
from altforecast_io.sources.readings import Reading, readings_frame

Fetch = Callable[[HttpClient, datetime, int], Awaitable[list[Reading]]]
OPEN_S = 60.0
MAX_FAILURES = 3


@dataclass(frozen=True)
class SourceState:
    """How one supplier did: `ok`, `cached`, `failed` or `disabled`, and why."""

    name: str
    state: str
    detail: str = ""


@dataclass(frozen=True)
class ContextView:
    """What is known now; figures that could not be had are absent, never 0."""

    readings: dict[str, Reading] = field(default_factory=dict)
    sources: tuple[SourceState, ...] = ()


def fetches(settings: Settings) -> dict[str, Fetch]:
    """The suppliers that the settings name, by name; none when the context is switched off."""
    if not settings.context_enable or settings.degradation_level == "no_market_context":
        return {}

    async def gecko(http: HttpClient, now: datetime, attempts: int) -> list[Reading]:
        return await coingecko.global_(http, settings, now, attempts=attempts)

    async def fear(http: HttpClient, now: datetime, attempts: int) -> list[Reading]:
        return [await feargreed.latest(http, settings, now, attempts=attempts)]

    async def dollar(http: HttpClient, now: datetime, attempts: int) -> list[Reading]:
        return [await dxy.latest(http, settings, now, attempts=attempts)]

    known: dict[str, tuple[str, Fetch]] = {
        coingecko.NAME: (settings.context_btc_dominance_url, gecko),
        feargreed.NAME: (settings.context_fear_greed_url, fear),
        dxy.NAME: (settings.context_dxy_url, dollar),
    }
    return {name: fetch for name, (url, fetch) in known.items() if url}


class MarketContext:
    """Reads the context for people who wait: one attempt per supplier, cached, behind a breaker each.

    Good answers live `context_cache_ttl_sec`; failures are not cached but open the breaker after three in a row. At most
    `rate_limit_market_context_per_hour` outgoing calls an hour; beyond that the figures are absent until calls age.
    """

    def __init__(self, settings: Settings, *, clock: Clock = utc_now, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._settings, self._clock, self._monotonic = settings, clock, monotonic
        self._fetches = fetches(settings)
        self._breakers = {
            name: Breaker(f"context:{name}", monotonic, max_failures=MAX_FAILURES, open_s=OPEN_S, counts=_means_down)
            for name in self._fetches
        }
        self._cache: TTLCache[str, list[Reading]] = TTLCache(maxsize=8, ttl=settings.context_cache_ttl_sec, timer=monotonic)
        self._calls: deque[float] = deque()
        self._busy = asyncio.Lock()

    async def read(self) -> ContextView:
        """All figures that can be had within one timeout; never raises for a supplier's failure. Callers queue, one fetches."""
        async with self._busy:
            missing = [name for name in self._fetches if name not in self._cache]
            fetched: list[SourceState] = []
            if missing:
                async with HttpClient(clock=self._clock, monotonic=self._monotonic) as http:
                    fetched = list(await asyncio.gather(*(self._fetch(http, name) for name in missing)))
            states = {s.name: s for s in fetched}
            sources = [states.get(n, SourceState(n, "cached")) for n in self._fetches]
            disabled = [SourceState(n, "disabled") for n in (coingecko.NAME, feargreed.NAME, dxy.NAME) if n not in self._fetches]
            readings = {r.name: r for name in self._fetches for r in self._cache.get(name, [])}
            return ContextView(readings, (*sources, *disabled))

    async def _fetch(self, http: HttpClient, name: str) -> SourceState:
        try:
            with self._breakers[name].guard():
                self._count_call()
                self._cache[name] = await self._fetches[name](http, self._clock(), 1)
        except AltForecastError as error:
            return SourceState(name, "failed", str(error))
        return SourceState(name, "ok")

    def _count_call(self) -> None:
        now = self._monotonic()
        while self._calls and now - self._calls[0] >= 3600:
            self._calls.popleft()
        limit = self._settings.rate_limit_market_context_per_hour
        if len(self._calls) >= limit:
            raise BusyError(f"RATE_LIMIT_MARKET_CONTEXT_PER_HOUR={limit} is used up")
        self._calls.append(now)


def _means_down(error: Exception) -> bool:
    return isinstance(error, ServiceError) and error.failure is not Failure.BAD_REQUEST


def fetch_market_context(settings: Settings, clock: Clock = utc_now) -> tuple[pl.DataFrame, list[SourceState]]:
    """All suppliers once, with retries, for work in the background: rows of table market_context and how each supplier did.

    The dollar index has no place in the table and is left to the route. Must not be called inside an event loop.
    """
    return asyncio.run(_fetch_all(settings, clock))


async def _fetch_all(settings: Settings, clock: Clock) -> tuple[pl.DataFrame, list[SourceState]]:
    wanted = {name: fetch for name, fetch in fetches(settings).items() if name != dxy.NAME}
    readings: list[Reading] = []
    states: list[SourceState] = []
    async with HttpClient(clock=clock) as http:
        results = await asyncio.gather(*(fetch(http, clock(), 3) for fetch in wanted.values()), return_exceptions=True)
    for name, result in zip(wanted, results, strict=True):
        if isinstance(result, list):
            readings += result
            states.append(SourceState(name, "ok"))
        elif isinstance(result, AltForecastError):
            states.append(SourceState(name, "failed", str(result)))
        else:
            raise result
    return readings_frame(readings), states
