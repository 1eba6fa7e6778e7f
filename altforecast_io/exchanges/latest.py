"""The newest closed bars of the series that we follow, for the schedule.

What belongs here: which series are followed and their newest bars. What does not: filling long spans (`backfill`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import polars as pl

from altforecast.errors import AltForecastError
from altforecast.symbols import parse_symbol, parse_venue
from altforecast.tables import BARS
from altforecast.types import Series, Timeframe
from altforecast_io.clock import Clock, utc_now
from altforecast_io.exchanges.connection import VenueClient, open_venue
from altforecast_io.exchanges.ohlcv import FetchReport, fetch_bars
from altforecast_io.settings import Settings

CONCURRENCY = 8
N_BARS = 3
MAX_PAGES = 5
"""A series that fell further behind than this is caught up by a backfill, and said to be cut."""
Key = tuple[Series, Timeframe]


@dataclass
class Latest:
    """What one round gave: rows of table bars, what was noted, and which series failed."""

    bars: pl.DataFrame
    notes: list[str] = field(default_factory=list)
    failures: list[tuple[Series, str]] = field(default_factory=list)


def tracked_series(settings: Settings) -> list[Series]:
    """The series that the schedule follows: `TRACKED_SYMBOLS` on `BARS_EXCHANGE`, each once, in the order given."""
    venue = parse_venue(settings.bars_exchange)
    return list(dict.fromkeys(Series(venue, parse_symbol(symbol)) for symbol in settings.tracked_symbols))


def latest_bars(
    settings: Settings, series: Sequence[Series], timeframes: Sequence[Timeframe], now: datetime | None = None,
    *, since: Mapping[Key, datetime] | None = None, clock: Clock = utc_now,
) -> Latest:  # fmt: skip
    """The newest closed bars of each series and timeframe: from `since` (open of the last bar held) where given, else three.

    One connection per venue, at most eight requests at once; the venue's own rate limit holds besides. A failing series or
    venue is reported and does not stop the others. `now` overrides the clock. Must not be called inside an event loop.
    """
    tell = clock if now is None else lambda: now
    return asyncio.run(fetch_latest(settings, series, timeframes, since=since or {}, clock=tell))


async def fetch_latest(
    settings: Settings, series: Iterable[Series], timeframes: Sequence[Timeframe], *, since: Mapping[Key, datetime], clock: Clock
) -> Latest:
    """As `latest_bars`, inside an event loop."""
    wanted = list(dict.fromkeys(series))
    found = Latest(BARS.empty())
    venues = sorted({s.exchange for s in wanted})
    results = await asyncio.gather(
        *(_venue(settings, v, [s for s in wanted if s.exchange == v], timeframes, since, clock, found) for v in venues)
    )
    frames = [frame for result in results for frame in result]
    found.bars = pl.concat([found.bars, *frames]).sort(BARS.sort)
    return found


async def _venue(
    settings: Settings, venue: str, series: list[Series], timeframes: Sequence[Timeframe], since: Mapping[Key, datetime],
    clock: Clock, found: Latest,
) -> list[pl.DataFrame]:  # fmt: skip
    turns = asyncio.Semaphore(CONCURRENCY)
    try:
        async with open_venue(venue, settings, clock) as client:
            rounds = (_one(client, s, tf, since.get((s, tf)), turns, found) for s in series for tf in timeframes)
            return [frame for frames in await asyncio.gather(*rounds) for frame in frames]
    except AltForecastError as error:
        found.failures += [(s, str(error)) for s in series]
        return []


async def _one(
    client: VenueClient, series: Series, timeframe: Timeframe, since: datetime | None, turns: asyncio.Semaphore, found: Latest
) -> list[pl.DataFrame]:
    async with turns:
        now = datetime.fromtimestamp(client.now_ms() / 1000, UTC)
        start = now - (N_BARS + 1) * timeframe.duration if since is None else since + timeframe.duration
        report = FetchReport(series, timeframe)
        try:
            fetch = fetch_bars(client, series.symbol, timeframe, start, now, report=report, max_pages=MAX_PAGES)
            frames = [frame async for frame in fetch]
        except AltForecastError as error:
            found.failures.append((series, f"{timeframe}: {error}"))
            return []
        found.notes += report.notes()
        return frames
