"""Taking arrived bars into the lake: from the inbox and from landing files, once each, with the values they replace.

What belongs here: reading arrivals, merging them month by month, marking them taken. What does not: deciding when
(`sensors`) and rebuilding what rests on bars (`build`).

Order of writes: revisions, bars, the marker of what is due (`due`), then the mark in the inbox and the removal of landing
files. A run that is killed in between leaves its arrivals waiting or its marker; taking arrivals in again changes nothing,
because merging is idempotent.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import polars as pl

from altforecast.tables import BAR_REVISIONS, BARS
from altforecast.types import Quality, Series, Timeframe, Window
from altforecast_io.lake import Lake, PartFile, Scope, next_month
from altforecast_io.landing import landing_files, remove_landing
from altforecast_io.provenance import Input, Provenance
from altforecast_io.store import inbox
from altforecast_io.store.engine import Store
from altforecast_pipelines import due
from altforecast_pipelines.build import Built, n_rows, series_of, summary, turn
from altforecast_pipelines.resources import House
from altforecast_pipelines.scope import Plan, Touched

READ_ROWS = 10_000
"""Inbox rows read at once."""
MERGE_ROWS = 2_000_000
"""Arrived bars merged at once; one month of one timeframe is never split."""


def take_in(house: House, plan: Plan, provenance: Provenance) -> Built:
    """Merge the plan's arrivals into `bars`; replaced values go to `bar_revisions`. Without arrivals nothing is written."""
    began = perf_counter()
    rows = waiting_rows(house.store, plan.inbox_to)
    files = [f for f in landing_files(house.lake.root) if f.name in plan.landing]
    inputs = [*inbox_inputs(rows), *(Input("import", f.name) for f in files)]
    record = replace(provenance, inputs=tuple(inputs))
    arrived = bars_of(rows)
    frames: list[pl.DataFrame] = []
    written: list[PartFile] = []
    for timeframe in Timeframe:
        new = pl.concat([arrived.filter(pl.col("timeframe") == timeframe.value), _landed(files, timeframe)])
        for window, chunk in month_runs(new):
            with turn(house.lake, "bars"):
                merged, parts = merge_into(house.lake, timeframe, window, chunk, record)
            frames.append(merged)
            written += parts
    if rows or files:
        due.mark(house, provenance.run_id, plan)
    if rows:
        inbox.mark_built(house.store, plan.inbox_to, provenance.run_id)
    remove_landing(files)
    if written:
        return summary("bars", frames, written, perf_counter() - began)
    return standing(house.lake, plan, perf_counter() - began)


def standing(lake: Lake, plan: Plan, seconds: float) -> Built:
    """The account of bars that a plan covers and that were there before."""
    parts = [f for p in plan.derived for f in lake.files("bars", p.timeframe, p.window.start, p.window.end)]
    counted: dict[str, int] = {}
    for part in parts:
        counted[part.month] = counted.get(part.month, 0) + n_rows(part)
    newest = pl.read_parquet(parts[-1].path, hive_partitioning=False).tail(5) if parts else BARS.empty()
    return Built("bars", sum(counted.values()), tuple(parts), seconds, newest, dict(sorted(counted.items())))


def merge_into(
    lake: Lake, timeframe: Timeframe, window: Window, new: pl.DataFrame, provenance: Provenance
) -> tuple[pl.DataFrame, list[PartFile]]:
    """Merge arrived bars of one timeframe into the months they touch; returns all rows of those series there, and the files."""
    from altforecast.bars import merge

    series = series_of(new)
    old = lake.read("bars", timeframe, window.start, window.end, series)
    merged, replaced = merge(old, new)
    scope = Scope(window, (timeframe,), series)
    if replaced.height:
        known = lake.read("bar_revisions", timeframe, window.start, window.end, series)
        both = pl.concat([known, replaced]).unique(BAR_REVISIONS.key, keep="first", maintain_order=True)
        lake.replace("bar_revisions", both, scope, replace(provenance, asset="bar_revisions"))
    return merged, lake.replace("bars", merged, scope, provenance)


def month_runs(new: pl.DataFrame, rows: int = MERGE_ROWS) -> Iterator[tuple[Window, pl.DataFrame]]:
    """Arrived bars in runs of adjoining months that hold at most `rows` rows (one month at least); untouched months are left out."""
    if new.is_empty():
        return
    months = new.with_columns(pl.col("ts").dt.truncate("1mo").alias("_month")).partition_by("_month", as_dict=True, include_key=False)
    batch: list[pl.DataFrame] = []
    window: Window | None = None
    for (month,), frame in sorted(months.items()):
        follows = window is not None and window.end == month and sum(f.height for f in batch) + frame.height <= rows
        if window is not None and not follows:
            yield window, pl.concat(batch)
            batch, window = [], None
        window = Window(window.start if window else month, next_month(month))
        batch.append(frame)
    if window is not None:
        yield window, pl.concat(batch)


def _landed(files: Sequence[Path], timeframe: Timeframe) -> pl.DataFrame:
    present = [f for f in files if f.exists()]
    if not present:
        return BARS.empty()
    rows = pl.scan_parquet(present, hive_partitioning=False).filter(pl.col("timeframe") == timeframe.value)
    return rows.select(BARS.schema.names()).collect()


# ---- what waits


def waiting_rows(store: Store, up_to: int) -> list[inbox.InboxRow]:
    """Inbox rows that no run has built yet, up to an id, oldest first."""
    first = inbox.pending(store).first_id if up_to else None
    found: list[inbox.InboxRow] = []
    after = (first or 0) - 1
    while first is not None and after < up_to:
        batch = inbox.tail(store, after, READ_ROWS)
        if not batch:
            break
        found += [r for r in batch if r.built_at is None and r.id <= up_to]
        after = batch[-1].id
    return found


def bars_of(rows: Iterable[inbox.InboxRow]) -> pl.DataFrame:
    """Inbox rows as bars: observed, from TradingView; prices become floats here."""
    records = [
        {
            "ts": r.ts, "symbol": r.series.symbol, "exchange": r.series.exchange, "timeframe": r.timeframe.value,
            "open": float(r.open), "high": float(r.high), "low": float(r.low), "close": float(r.close),
            "volume": None if r.volume is None else float(r.volume), "quality": Quality.OBSERVED.value, "source": r.kind,
            "received_at": r.received_at, "known_at": r.ts + r.timeframe.duration,
        }
        for r in rows
    ]  # fmt: skip
    return pl.DataFrame(records, schema=BARS.schema) if records else BARS.empty()


def inbox_inputs(rows: Sequence[inbox.InboxRow]) -> list[Input]:
    """The inbox range that a run takes, as one input."""
    return [Input("inbox", f"inbox {rows[0].id}..{rows[-1].id}", str(len(rows)))] if rows else []


def touched_by_inbox(rows: Iterable[inbox.InboxRow]) -> list[Touched]:
    """First and last open per stream."""
    spans: dict[tuple[object, object], Touched] = {}
    for r in rows:
        old = spans.get((r.timeframe, r.series), Touched(r.timeframe, r.series, r.ts, r.ts))
        spans[r.timeframe, r.series] = replace(old, first=min(old.first, r.ts), last=max(old.last, r.ts))
    return list(spans.values())


def touched_by_landing(files: Sequence[Path]) -> list[Touched]:
    """First and last open per stream and run of months in landing files."""
    if not files:
        return []
    rows = pl.scan_parquet(list(files), hive_partitioning=False)
    keys = ["timeframe", "exchange", "symbol"]
    months = rows.group_by(*keys, pl.col("ts").dt.truncate("1mo").alias("month")).agg(
        pl.col("ts").min().alias("a"), pl.col("ts").max().alias("b")
    )
    found = months.sort(*keys, "month").collect()
    return [Touched(Timeframe(tf), Series(exchange, symbol), a, b) for tf, exchange, symbol, _, a, b in found.iter_rows()]
