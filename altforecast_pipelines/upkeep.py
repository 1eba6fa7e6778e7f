"""Ops that are no table: fetching bars into landing files, refilling holes, bounding what grows.

What belongs here: calls into `altforecast_io` and their account. What does not: schedules and how fetching works.
"""

from datetime import datetime, timedelta

import dagster as dg
import polars as pl

from altforecast.symbols import METRIC_TIMEFRAMES
from altforecast.types import Series, Timeframe, Window
from altforecast_io.lake import Lake, Scope
from altforecast_io.landing import write_landing
from altforecast_io.store import inbox
from altforecast_pipelines.resources import House

RUNS_KEPT_DAYS = 30
RUNS_DELETED_AT_ONCE = 500
REVISION_MONTHS_KEPT = 36
PROVENANCE_LOG_BYTES = 20_000_000
INBOX_KEPT_DAYS = 400
"""Built alerts older than this leave the inbox; their bars stay in the lake."""
LEFTOVER_AGE = timedelta(hours=6)
GAP_DAYS = 400
"""Holes older than this are not asked for again."""


@dg.op(pool="exchanges", description="Newest closed bars of TRACKED_SYMBOLS on BARS_EXCHANGE, into one landing file.")
def fetch_bars(context: dg.OpExecutionContext, house: dg.ResourceParam[House]) -> None:
    from altforecast_io.exchanges.latest import latest_bars, tracked_series

    if not house.settings.fetch_exchange_bars:
        context.log.info("FETCH_EXCHANGE_BARS is off")
        return
    series = tracked_series(house.settings)
    found = latest_bars(house.settings, series, METRIC_TIMEFRAMES, since=newest_bars(house.lake, series), clock=house.clock)
    for one, why in found.failures:
        context.log.warning(f"{one.exchange} {one.symbol}: {why}")
    if found.bars.height:
        write_landing(house.lake.root, f"latest-{context.run_id}", found.bars, house.provenance("bars", context.run_id))
    context.add_output_metadata({"rows": found.bars.height, "failures": len(found.failures)})


def newest_bars(lake: Lake, series: list[Series]) -> dict[tuple[Series, Timeframe], datetime]:
    """Open of the last bar held, per series and timeframe; series that the hot files do not have are absent."""
    newest: dict[tuple[Series, Timeframe], datetime] = {}
    for timeframe in METRIC_TIMEFRAMES:
        rows = lake.hot("bars", timeframe).group_by("exchange", "symbol").agg(pl.col("ts").max())
        held = {Series(exchange, symbol): ts for exchange, symbol, ts in rows.iter_rows()}
        newest |= {(s, timeframe): held[s] for s in series if s in held}
    return newest


@dg.op(pool="exchanges", description="Ask exchanges again for bars of holes judged feed_down or unknown.")
def refill_gaps(context: dg.OpExecutionContext, house: dg.ResourceParam[House]) -> None:
    from altforecast_io.bar_gaps import refill_gaps as refill

    if not house.settings.fetch_exchange_bars:
        context.log.info("FETCH_EXCHANGE_BARS is off")
        return
    gaps = house.lake.read("bar_gaps", start=house.clock() - timedelta(days=GAP_DAYS))
    done = refill(house.settings, house.lake, gaps, clock=house.clock, run_id=context.run_id)
    context.add_output_metadata({"asked": done.n_asked, "filled": done.n_filled, "failures": len(done.failures)})


@dg.op(pool="upkeep", description="Delete old runs, leftovers of killed writers, old revisions and built alerts; trim provenance logs.")
def tidy(context: dg.OpExecutionContext, house: dg.ResourceParam[House]) -> None:
    now = house.clock()
    n_runs = delete_old_runs(context.instance, now)
    n_files = remove_leftovers(house.lake, now)
    n_revisions = drop_old_revisions(house.lake, now)
    n_logs = trim_provenance_logs(house.lake)
    n_alerts = inbox.prune(house.store, now - timedelta(days=INBOX_KEPT_DAYS))
    context.add_output_metadata({"runs": n_runs, "leftovers": n_files, "revisions": n_revisions, "logs": n_logs, "alerts": n_alerts})


def delete_old_runs(instance: dg.DagsterInstance, now: datetime) -> int:
    """Delete ended runs (and their events) older than RUNS_KEPT_DAYS, at most RUNS_DELETED_AT_ONCE; returns how many.

    What a materialization said stays in the lake file's own provenance.
    """
    ended = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
    old = dg.RunsFilter(statuses=ended, updated_before=now - timedelta(days=RUNS_KEPT_DAYS))
    run_ids = instance.get_run_ids(old, limit=RUNS_DELETED_AT_ONCE)
    for run_id in run_ids:
        instance.delete_run(run_id)
    return len(run_ids)


def remove_leftovers(lake: Lake, now: datetime) -> int:
    """Remove temporary files that killed writers left behind, once they are LEFTOVER_AGE old; returns how many."""
    removed = 0
    for pattern in ("*.tmp", ".*.tmp", "*.partial"):
        for path in lake.root.rglob(pattern):
            if now.timestamp() - path.stat().st_mtime > LEFTOVER_AGE.total_seconds():
                path.unlink(missing_ok=True)
                removed += 1
    return removed


def drop_old_revisions(lake: Lake, now: datetime) -> int:
    """Drop revisions that were superseded more than REVISION_MONTHS_KEPT ago, however old their bars; returns how many rows."""
    limit = now - timedelta(days=31 * REVISION_MONTHS_KEPT)
    dropped = 0
    for part in lake.files("bar_revisions"):
        rows = lake.read("bar_revisions", part.timeframe, part.start, part.end)
        kept = rows.filter(pl.col("superseded_at") >= limit)
        if kept.height < rows.height:
            scope = Scope(Window(part.start, part.end), (Timeframe(part.timeframe),))
            lake.replace("bar_revisions", kept, scope, part.provenance())
            dropped += rows.height - kept.height
    return dropped


def trim_provenance_logs(lake: Lake) -> int:
    """Keep the newest half of each provenance log beyond PROVENANCE_LOG_BYTES; returns how many were cut."""
    cut = 0
    for path in (lake.root / "provenance").glob("*.jsonl"):
        if path.stat().st_size <= PROVENANCE_LOG_BYTES:
            continue
        lines = path.read_bytes().splitlines(keepends=True)
        temporary = path.with_suffix(".tmp")
        temporary.write_bytes(b"".join(lines[len(lines) // 2 :]))
        temporary.replace(path)
        cut += 1
    return cut
