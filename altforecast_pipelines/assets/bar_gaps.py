"""The asset `bar_gaps`: holes in bar series, told apart by what the other series did meanwhile.

What belongs here: which windows have to be looked at again, and the call. What does not: the verdicts (`altforecast.bars`).
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

import polars as pl

from altforecast.types import Timeframe, Window
from altforecast_io.lake import Lake, Scope, month_start, series_filter
from altforecast_pipelines.build import MarketStep
from altforecast_pipelines.checks import unique_keys
from altforecast_pipelines.partitions import FIRST_MONTH
from altforecast_pipelines.resources import House
from altforecast_pipelines.scope import Part, Plan
from altforecast_pipelines.table_assets import table_asset

WITNESS_DAYS = 31
"""Bars before a window that show which series were printing when a hole began."""
COLUMNS = ("symbol", "exchange", "timeframe", "ts")


def due(house: House, plan: Plan) -> Sequence[Scope]:
    """Derived parts, widened: a hole that reaches over the start of a window begins in an earlier month, and one that
    reaches over its end is seen only with the bar behind it."""
    extent = house.lake.extent("bars")
    end = extent.end if extent else FIRST_MONTH
    return [Scope(Window(_hole_start(house.lake, p), max(p.window.end, end)), (p.timeframe,), p.series) for p in plan.derived]


def _hole_start(lake: Lake, part: Part) -> datetime:
    start = part.window.start
    for file in reversed(lake.files("bars", part.timeframe, end=part.window.start)):
        rows = lake.read("bars", part.timeframe, file.start, file.end, part.series, COLUMNS)
        if rows.is_empty():
            continue
        last = rows.group_by("symbol", "exchange").agg(pl.col("ts").max())["ts"].min()
        is_whole = last is None or last + part.timeframe.duration >= part.window.start  # type: ignore[operator]
        return start if is_whole else month_start(last)  # type: ignore[arg-type]
    return start


def compute(house: House, scope: Scope) -> pl.DataFrame:
    """Gaps of the scope's series; the other series of the timeframe are read as witnesses."""
    from altforecast.bars import find_gaps
    from altforecast_io.bar_gaps import apply_verdicts

    (timeframe,) = scope.timeframes
    bars = house.lake.read("bars", timeframe, scope.window.start - timedelta(days=WITNESS_DAYS), columns=COLUMNS)
    gaps = find_gaps(bars, timeframe)
    judged = apply_verdicts(gaps, house.lake.root)
    return judged if scope.series is None else judged.filter(series_filter(scope.series))


STEP = MarketStep("bar_gaps", {"bars": (tuple(Timeframe), timedelta(days=WITNESS_DAYS))}, due, compute)
bar_gaps = table_asset(
    STEP, group="bars", checks=(unique_keys("bar_gaps"),), doc="`unknown` and `feed_down` holes are refilled by schedule.", fresh=False
)
