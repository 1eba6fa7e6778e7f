"""What the assets of forecasts share: one look at the bars per run, adding what is said, checks of forecasts.

What belongs here: the part between Dagster and `forecasts`. What does not: any table of its own (`assets`).
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from time import perf_counter

import dagster as dg
import polars as pl

from altforecast.forecast_tables import QUANTILES
from altforecast.types import Timeframe
from altforecast_io.provenance import Input
from altforecast_pipelines.build import Built
from altforecast_pipelines.checks import Check
from altforecast_pipelines.features import TIMEFRAMES
from altforecast_pipelines.forecasts import Refresh, add_rows
from altforecast_pipelines.resources import House

MAX_NAMED = 10
"""Faults and series named in one warning."""


def begin(house: House, run_id: str) -> list[Refresh]:
    """The run's look at what is due, made by its first step; a process runs one run at a time."""
    if run_id not in house.refreshes:
        house.refreshes.clear()
        house.refreshes[run_id] = [Refresh(house, timeframe) for timeframe in TIMEFRAMES]
    return house.refreshes[run_id]


def said(house: House, name: str, refreshes: Sequence[Refresh], run_id: str, rows_of: Callable[[Refresh], pl.DataFrame]) -> Built:
    """Add what each length of bars has to say to a table; refreshes without anything due read nothing and write nothing."""
    began = perf_counter()
    done = [add_rows(house, name, rows_of(r), house.provenance(name, run_id), inputs_of(house, r)) for r in refreshes if r.dues]
    return whole(name, done, perf_counter() - began)


def whole(name: str, built: Sequence[Built], seconds: float) -> Built:
    """Several accounts of one table as one."""
    wrote = [one for one in built if one.n_rows]
    if not wrote:
        return Built(name, seconds=seconds)
    months: dict[str, int] = {}
    for one in wrote:
        months |= {month: n + months.get(month, 0) for month, n in one.rows_by_month.items()}
    parts = tuple(part for one in wrote for part in one.parts)
    return Built(name, sum(one.n_rows for one in wrote), parts, seconds, wrote[-1].preview, dict(sorted(months.items())))


def inputs_of(house: House, refresh: Refresh) -> tuple[Input, ...]:
    """Lineage: the files of bars that were read, and the models that spoke."""
    files = house.lake.files("bars", refresh.timeframe, refresh.window.start, refresh.window.end)
    bars = tuple(Input("lake", f.name, f.provenance().data_version) for f in files)
    return (*bars, *(Input("model", due.forecaster.version) for due in refresh.dues))


def usable_models(asset: str, name: str, refreshes: Sequence[Refresh], warn: Callable[[str], None]) -> dg.AssetCheckResult:
    """Whether every model in use could speak; names those that could not and series beyond the bound, in the run's log too."""
    faults = list(dict.fromkeys(fault for refresh in refreshes for fault in refresh.faults))
    left_out = [f"{n} {refresh.timeframe.value}" for refresh in refreshes for n in refresh.left_out]
    for text in [*faults[:MAX_NAMED], *([f"not forecast, too many series: {', '.join(left_out[:MAX_NAMED])}"] if left_out else [])]:
        warn(text)
    return dg.AssetCheckResult(
        passed=not faults,
        asset_key=asset,
        check_name=name,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"files": len(refreshes), "rows_broken": len(faults), "series_left_out": len(left_out),
                  **({"first": faults[0][:500]} if faults else {})},
    )  # fmt: skip


def known_after_close(name: str) -> Check:
    """No forecast is older than the close of its bar."""
    lengths = {tf.value: tf.ms for tf in Timeframe}
    close = pl.col("ts").dt.epoch("ms") + pl.col("timeframe").replace_strict(lengths, return_dtype=pl.Int64())
    return Check(
        "known_after_the_close", "known_at is not before the bar has closed",
        lambda rows, _: rows.filter(pl.col("known_at").dt.epoch("ms") < close), ("ts", "timeframe", "known_at"),
    )  # fmt: skip


def quantiles_ascend(name: str) -> Check:
    """Quantiles never cross."""
    crossed = pl.any_horizontal(*(pl.col(a) > pl.col(b) for a, b in pairwise(QUANTILES)))
    columns = ("ts", "symbol", "exchange", "horizon", "forecaster", *QUANTILES)
    return Check("quantiles_ascend", "no quantile lies above the next one", lambda rows, _: rows.filter(crossed), columns)
