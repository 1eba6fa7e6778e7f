"""Holes in bar series, asked again from the exchange: filled where the venue has the bars, judged where it has none.

What belongs here: which holes to ask again, how often, and the verdicts that are kept. What does not: finding holes
(`altforecast.bars`), fetching (`backfill`).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import polars as pl

from altforecast.tables import BAR_GAPS
from altforecast.types import GapKind, Series, Timeframe
from altforecast_io.backfill import Backfill, Span, fetch_spans, merged, present_times
from altforecast_io.clock import Clock, utc_now
from altforecast_io.exchanges.venues import VENUES_BY_SLUG
from altforecast_io.lake import Lake
from altforecast_io.landing import landing_files, read_landing, write_landing
from altforecast_io.settings import Settings

MAX_ASKS = 3
"""A hole is asked again this often; after that its verdict stands."""
MAX_HOLES = 500
"""Holes of one call, newest first; the rest waits for the next call."""
MAX_HOLE_BARS = 50_000
"""A longer hole is no hole but a span never fetched: `altforecast backfill` is for that."""
MAX_VERDICTS = 20_000
"""Verdicts kept, newest holes first."""
JOIN_BARS = 100
_VERDICTS = "verdicts"
_ASKED = re.compile(r"^asked (\d+) of \d+ times")
_KEY = ["symbol", "exchange", "timeframe", "ts", "end_ts"]


@dataclass
class Refill:
    """What asking again brought."""

    n_asked: int = 0
    n_filled: int = 0
    """Bars that the venue had after all; they wait in the landing area."""
    n_files: int = 0
    verdicts: pl.DataFrame = field(default_factory=BAR_GAPS.empty)
    """Rows of bar_gaps for what is still missing, one per remaining hole."""
    failures: list[tuple[Span, str]] = field(default_factory=list)
    unrepairable: list[Span] = field(default_factory=list)
    """Holes of series that no exchange has (index series): flag them, nobody can fill them."""


def refill_gaps(settings: Settings, lake: Lake, gaps: pl.DataFrame, *, clock: Clock = utc_now, run_id: str = "refill") -> Refill:
    """Ask the exchanges again for holes judged feed_down or unknown, at most three times each over all calls.

    gaps: rows of table bar_gaps; index series, venues that we do not read and holes above 50 000 bars are left alone. Bars go to
    landing files. What a venue does not have although it has the bars on both sides
    was not traded there: verdict quiet. Without both sides, or when the venue cannot be reached, the kind stays and only the
    count of asks grows. Verdicts are kept in the landing area of bar_gaps; `apply_verdicts` lays them over recomputed holes.
    """
    spans = _worth_asking(apply_verdicts(gaps, lake.root))
    refill = repair_bars(settings, lake, spans, clock=clock, run_id=run_id)
    _keep(lake.root, refill.verdicts)
    return refill


def repair_bars(settings: Settings, lake: Lake, holes: Sequence[Span], *, clock: Clock = utc_now, run_id: str = "repair") -> Refill:
    """Fetch missing bars of any series from its exchange, such as those that TradingView failed to deliver for BTC and ETHBTC.

    Holes of index series and of venues that we do not read come back as `unrepairable`. Must not be called in an event loop.
    """
    able = [hole for hole in holes if hole.series.exchange in VENUES_BY_SLUG]
    refill = Refill(n_asked=len(able), unrepairable=[hole for hole in holes if hole not in able])
    if able:
        asked = [Span(h.series, h.timeframe, h.start - h.timeframe.duration, h.end + h.timeframe.duration) for h in able]
        done = asyncio.run(fetch_spans(settings, lake, merged(asked, JOIN_BARS), clock=clock, run_id=run_id))
        refill.n_files, refill.failures = done.n_files, done.failures
        earlier = known_verdicts(lake.root)
        rows = [row for hole in able for row in _verdicts(lake, hole, done, earlier, clock())]
        refill.verdicts = BAR_GAPS.conform(pl.DataFrame(rows, schema=BAR_GAPS.schema, orient="row").unique(BAR_GAPS.key))
        refill.n_filled = sum(h.n_bars for h in able) - int(refill.verdicts["n_bars"].sum())
    return refill


def known_verdicts(lake_root: Path) -> pl.DataFrame:
    """Verdicts of all earlier calls as rows of bar_gaps; empty at first."""
    return read_landing(landing_files(lake_root, "bar_gaps"), "bar_gaps")


def apply_verdicts(gaps: pl.DataFrame, lake_root: Path) -> pl.DataFrame:
    """Rows of bar_gaps with kind, evidence and known_at of the kept verdict where one is known for the very same hole."""
    kept = known_verdicts(lake_root).select(*_KEY, "kind", "evidence", "known_at")
    joined = gaps.join(kept, on=_KEY, how="left", suffix="_kept")
    columns = [pl.coalesce(f"{name}_kept", name).alias(name) for name in ("kind", "evidence", "known_at")]
    return BAR_GAPS.conform(joined.with_columns(columns).select(BAR_GAPS.schema.names()))


def _worth_asking(gaps: pl.DataFrame) -> list[Span]:
    is_open = pl.col("kind").is_in([GapKind.FEED_DOWN.value, GapKind.UNKNOWN.value])
    is_ours = pl.col("exchange").is_in(list(VENUES_BY_SLUG)) & (pl.col("n_bars") <= MAX_HOLE_BARS)
    rows = gaps.filter(is_open & is_ours).sort("ts", descending=True).iter_rows(named=True)
    spans = [_span(row) for row in rows if _asks(row["evidence"]) < MAX_ASKS]
    return spans[:MAX_HOLES]


def _span(row: dict[str, object]) -> Span:
    start, end = row["ts"], row["end_ts"]
    assert isinstance(start, datetime)
    assert isinstance(end, datetime)
    return Span(Series(str(row["exchange"]), str(row["symbol"])), Timeframe(str(row["timeframe"])), start, end)


def _asks(evidence: str) -> int:
    found = _ASKED.match(evidence)
    return int(found.group(1)) if found else 0


def _verdicts(lake: Lake, hole: Span, done: Backfill, earlier: pl.DataFrame, now: datetime) -> Iterable[tuple[object, ...]]:
    """Rows of bar_gaps for the parts of a hole that are still empty."""
    present = set(present_times(lake, hole.series, hole.timeframe, hole.start, hole.end).tolist())
    between = [h for r in done.reports if (r.series, r.timeframe) == (hole.series, hole.timeframe) for h in r.holes]
    why = next((text for span, text in done.failures if _covers(span, hole)), None)
    asks = 1 + max((_asks(text) for text in _earlier_evidence(earlier, hole)), default=0)
    for start, end in _empty_runs(hole, present):
        has_sides = any(low <= start and end <= high for low, high in between)
        kind, evidence = _judge(hole.series, has_sides, why, asks, now)
        n_bars = round((end - start) / hole.timeframe.duration)
        yield start, hole.series.symbol, hole.series.exchange, hole.timeframe.value, end, n_bars, kind.value, evidence, now


def _judge(series: Series, has_sides: bool, why: str | None, asks: int, now: datetime) -> tuple[GapKind, str]:
    head = f"asked {asks} of {MAX_ASKS} times, last {now:%Y-%m-%d %H:%M} UTC"
    if why is not None:
        return GapKind.UNKNOWN, f"{head}: {why}"
    if not has_sides:
        return GapKind.UNKNOWN, f"{head}: {series.exchange} gave no bar beside the hole, so its silence proves nothing"
    is_halt = VENUES_BY_SLUG[series.exchange].prints_quiet
    reason = "it prints bars without trades, so it was halted" if is_halt else "nothing was traded"
    return GapKind.QUIET, f"{head}: {series.exchange} has the bars on both sides and none inside; {reason}"


def _covers(span: Span, hole: Span) -> bool:
    return (span.series, span.timeframe) == (hole.series, hole.timeframe) and span.start <= hole.start and hole.end <= span.end


def _earlier_evidence(earlier: pl.DataFrame, hole: Span) -> list[str]:
    mine = (pl.col("symbol") == hole.series.symbol) & (pl.col("exchange") == hole.series.exchange)
    mine &= (pl.col("timeframe") == hole.timeframe.value) & (pl.col("ts") >= hole.start) & (pl.col("end_ts") <= hole.end)
    return earlier.filter(mine)["evidence"].to_list()


def _empty_runs(hole: Span, present: set[int]) -> list[tuple[datetime, datetime]]:
    step, runs = hole.timeframe.duration, list[tuple[datetime, datetime]]()
    for k in range(hole.n_bars):
        at = hole.start + k * step
        if round(at.timestamp() * 1000) in present:
            continue
        if runs and runs[-1][1] == at:
            runs[-1] = (runs[-1][0], at + step)
        else:
            runs.append((at, at + step))
    return runs


def _keep(lake_root: Path, verdicts: pl.DataFrame) -> None:
    if verdicts.is_empty():
        return
    both = pl.concat([known_verdicts(lake_root), verdicts]).unique(BAR_GAPS.key, keep="last", maintain_order=True)
    write_landing(lake_root, _VERDICTS, both.sort("ts", descending=True).head(MAX_VERDICTS), table="bar_gaps")
