"""Filling a lake with exchange bars over a span of time: what is missing, fetched page by page into the landing area.

What belongs here: the plan, its resumption after a kill, and progress. What does not: pagination (`exchanges.ohlcv`), taking
landing files into the table (pipelines).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from altforecast import CODE_VERSION
from altforecast.errors import AltForecastError, InputError, StorageError
from altforecast.tables import TS
from altforecast.types import GapKind, Quality, Series, Timeframe, Window
from altforecast_io.clock import Clock, utc_now
from altforecast_io.exchanges.connection import VenueClient, open_venue
from altforecast_io.exchanges.ohlcv import FetchReport, fetch_bars
from altforecast_io.exchanges.venues import Venue, venue_of
from altforecast_io.lake import Lake
from altforecast_io.landing import landing_files, read_landing, write_landing
from altforecast_io.provenance import Input, Provenance
from altforecast_io.settings import Settings

BATCH_ROWS = 10_000
BATCH_S = 30.0
"""A landing file is closed after this many rows or seconds: a kill loses no more."""
CONCURRENCY = 4
_STAMP = "%Y%m%dT%H%M%S"


@dataclass(frozen=True)
class Span:
    """Bars of one series to fetch: start <= ts < end."""

    series: Series
    timeframe: Timeframe
    start: datetime
    end: datetime

    @property
    def n_bars(self) -> int:
        """Bars in the span."""
        return round((self.end - self.start) / self.timeframe.duration)


@dataclass(frozen=True)
class Progress:
    """How far one span is."""

    span: Span
    done_until: datetime
    n_rows: int


@dataclass
class Backfill:
    """What a backfill did."""

    spans: list[Span]
    n_rows: int = 0
    n_files: int = 0
    reports: list[FetchReport] = field(default_factory=list)
    failures: list[tuple[Span, str]] = field(default_factory=list)
    """Spans that ended early, and why; running the same backfill again goes on from there."""

    def notes(self) -> list[str]:
        """Plain sentences for people: failures first, then what the venue held back."""
        failed = [f"{s.series.exchange} {s.series.symbol} {s.timeframe} from {s.start:%Y-%m-%d}: {why}" for s, why in self.failures]
        return failed + [note for report in self.reports for note in report.notes()]


def plan_backfill(
    lake: Lake, venue: str, symbols: Iterable[str], timeframes: Iterable[Timeframe], start: datetime, end: datetime, now: datetime
) -> list[Span]:
    """Spans that neither the lake nor the landing area holds, oldest first within each series.

    Bars that the lake marks feed_down count as missing; holes judged quiet count as held. Spans closer together than half a
    page become one. Only bars closed at `now` are planned. Raises UnknownNameError for a venue, InputError for an empty range.
    """
    found = venue_of(venue)
    if start >= end:
        raise InputError("start", start.isoformat(), f"must be before {end.isoformat()}")
    pairs = [(Series(found.slug, symbol), timeframe) for symbol in symbols for timeframe in timeframes]
    return [span for series, timeframe in pairs for span in _missing(lake, found, series, timeframe, start, min(end, now))]


def _missing(lake: Lake, venue: Venue, series: Series, timeframe: Timeframe, start: datetime, end: datetime) -> list[Span]:
    ms = timeframe.ms
    first, stop = -(-_ms(start) // ms) * ms, _ms(end) // ms * ms
    wanted = np.arange(first, stop, ms, dtype=np.int64)
    held = np.isin(wanted, present_times(lake, series, timeframe, start, end))
    landed = [_covered(path.stem) for path in _landed(lake, series, timeframe, start, end)]
    asked = [(_ms(window.start), _ms(window.end)) for window in landed]
    for low, high in asked + _judged_quiet(lake, series, timeframe, start, end):
        held |= (wanted >= low) & (wanted < high)
    missing = wanted[~held]
    if not missing.size:
        return []
    breaks = np.flatnonzero(np.diff(missing) > ms * max(1, venue.max_bars // 2)) + 1
    runs = np.split(missing, breaks)
    return [Span(series, timeframe, _utc(int(run[0])), _utc(int(run[-1]) + ms)) for run in runs]


def present_times(lake: Lake, series: Series, timeframe: Timeframe, start: datetime, end: datetime) -> npt.NDArray[np.int64]:
    """Open times [ms], sorted and unique, of bars in the lake and in landing files of exchange bars; feed_down does not count."""
    rows = lake.read("bars", timeframe, start, end, [series], ["ts", "quality"])
    kept = rows.filter(pl.col("quality") != Quality.FEED_DOWN.value)["ts"]
    landed = read_landing(_landed(lake, series, timeframe, start, end)).filter(pl.col("ts") >= start, pl.col("ts") < end)["ts"]
    return np.unique(pl.concat([kept, landed]).dt.epoch("ms").to_numpy())


def _landed(lake: Lake, series: Series, timeframe: Timeframe, start: datetime, end: datetime) -> list[Path]:
    files = landing_files(lake.root, prefix=landing_name(series, timeframe))
    return [path for path in files if (covered := _covered(path.stem)).start < end and covered.end > start]


def landing_name(series: Series, timeframe: Timeframe, start: datetime | None = None, end: datetime | None = None) -> str:
    """Name of a landing file of exchange bars that covers [start, end); without times, what all names of the series begin with."""
    head = f"ccxt-{series.exchange}-{series.symbol}-{timeframe}-"
    return head if start is None or end is None else f"{head}{start.strftime(_STAMP)}-{end.strftime(_STAMP)}"


def _covered(stem: str) -> Window:
    start, end = (datetime.strptime(part, _STAMP).replace(tzinfo=UTC) for part in stem.rsplit("-", 2)[1:])
    return Window(start, end)


def _judged_quiet(lake: Lake, series: Series, timeframe: Timeframe, start: datetime, end: datetime) -> list[tuple[int, int]]:
    columns = ["symbol", "exchange", "timeframe", "ts", "end_ts", "kind"]
    verdicts = read_landing(landing_files(lake.root, "bar_gaps"), "bar_gaps").select(columns)
    rows = pl.concat([lake.read("bar_gaps", timeframe, None, end, [series], columns), verdicts])
    mine = (pl.col("symbol") == series.symbol) & (pl.col("exchange") == series.exchange) & (pl.col("timeframe") == timeframe.value)
    quiet = rows.filter(mine & (pl.col("kind") == GapKind.QUIET.value) & (pl.col("end_ts") > start) & (pl.col("ts") < end))
    return [(_ms(row[0]), _ms(row[1])) for row in quiet.select("ts", "end_ts").unique().iter_rows()]


def backfill_bars(
    settings: Settings, lake: Lake, venue: str, symbols: Sequence[str], timeframes: Sequence[Timeframe], start: datetime, end: datetime,
    *, progress: Callable[[Progress], None] | None = None, clock: Clock = utc_now, run_id: str = "backfill",
) -> Backfill:  # fmt: skip
    """Fetch what is missing into landing files and return what was done. Must not be called inside an event loop.

    Killed and called again with the same arguments it goes on behind the last closed file. One failing series does not stop
    the others; a full disk does (StorageError). Raises InputError for a wrong venue or range before anything is fetched.
    """
    spans = plan_backfill(lake, venue, symbols, timeframes, start, end, clock())
    return asyncio.run(fetch_spans(settings, lake, spans, progress=progress, clock=clock, run_id=run_id))


async def fetch_spans(
    settings: Settings, lake: Lake, spans: Sequence[Span], *, progress: Callable[[Progress], None] | None = None,
    clock: Clock = utc_now, run_id: str = "backfill",
) -> Backfill:  # fmt: skip
    """Fetch spans of any venues into landing files, at most four at a time per venue."""
    done = Backfill(list(spans))
    for venue in sorted({span.series.exchange for span in spans}):
        mine = [span for span in spans if span.series.exchange == venue]
        turns = asyncio.Semaphore(CONCURRENCY)
        try:
            async with open_venue(venue, settings, clock) as client, asyncio.TaskGroup() as tasks:
                work = _Fetch(client, lake, done, progress or (lambda _progress: None), clock, run_id)
                for span in mine:
                    tasks.create_task(work.one(span, turns))
        except* StorageError as errors:
            raise errors.exceptions[0] from None
        except* AltForecastError as errors:
            done.failures += [(span, str(errors.exceptions[0])) for span in mine]
    return done


@dataclass
class _Fetch:
    client: VenueClient
    lake: Lake
    done: Backfill
    progress: Callable[[Progress], None]
    clock: Clock
    run_id: str

    async def one(self, span: Span, turns: asyncio.Semaphore) -> None:
        async with turns:
            report = FetchReport(span.series, span.timeframe)
            self.done.reports.append(report)
            batch = _Batch(self, span)
            try:
                async for frame in fetch_bars(self.client, span.series.symbol, span.timeframe, span.start, span.end, report=report):
                    batch.add(frame)
                    self.progress(Progress(span, batch.until, report.n_rows))
                self.progress(Progress(span, span.end, report.n_rows))
            except StorageError:
                raise
            except AltForecastError as error:
                self.done.failures.append((span, str(error)))
            finally:
                batch.close()  # also when a person ends the work: what was read is kept


class _Batch:
    """Pages of one span on their way into the next landing file."""

    def __init__(self, work: _Fetch, span: Span) -> None:
        self._work, self._span, self._frames, self._began = work, span, list[pl.DataFrame](), work.clock()
        self.start = self.until = span.start
        held = present_times(work.lake, span.series, span.timeframe, span.start, span.end)
        self._held = pl.Series(held, dtype=pl.Int64).cast(TS)

    def add(self, frame: pl.DataFrame) -> None:
        self._frames.append(frame)
        self.until = _utc(_ms(frame["ts"][-1]) + self._span.timeframe.ms)
        if sum(f.height for f in self._frames) >= BATCH_ROWS or (self._work.clock() - self._began).total_seconds() >= BATCH_S:
            self.close()

    def close(self) -> None:
        """Write what is new of the pages so far; bars that were held before are left as they are."""
        start, frames = self.start, self._frames
        self.start, self._frames, self._began = self.until, [], self._work.clock()
        fresh = [frame.filter(~pl.col("ts").is_in(self._held.implode())) for frame in frames]
        rows = pl.concat(fresh) if fresh else None
        if rows is not None and rows.height:
            work, span = self._work, self._span
            name = landing_name(span.series, span.timeframe, start, self.until)
            write_landing(work.lake.root, name, rows, _provenance(work, span, start, self.until, rows.height))
            work.done.n_rows += rows.height
            work.done.n_files += 1


def _provenance(work: _Fetch, span: Span, start: datetime, until: datetime, n_rows: int) -> Provenance:
    source = f"{span.series.exchange} {span.series.symbol} {span.timeframe} {start.isoformat()}..{until.isoformat()}"
    return Provenance(
        "bars", work.run_id, CODE_VERSION, work.lake.environment, work.clock(), inputs=(Input("exchange", source),), n_rows=n_rows
    )


def merged(spans: Iterable[Span], within_bars: int) -> list[Span]:
    """Spans of each series and timeframe in order, those at most `within_bars` apart joined into one."""
    groups: dict[tuple[Series, Timeframe], list[Span]] = {}
    for span in sorted(spans, key=lambda s: s.start):
        groups.setdefault((span.series, span.timeframe), []).append(span)
    joined = []
    for (series, timeframe), group in groups.items():
        windows = [Window(group[0].start, group[0].end)]
        for _, following in pairwise(group):
            last = windows[-1]
            is_near = following.start <= last.end + within_bars * timeframe.duration
            if is_near:
                windows[-1] = Window(last.start, max(last.end, following.end))
            else:
                windows.append(Window(following.start, following.end))
        joined += [Span(series, timeframe, w.start, w.end) for w in windows]
    return joined


def _ms(when: datetime) -> int:
    return round(when.timestamp() * 1000)


def _utc(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
