"""Bars of the six market metrics in long form, read from the lake.

What belongs here: which series carry the metrics, and when their tables are due. What does not: regime and report lines.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime

import polars as pl

from altforecast.symbols import metric_series
from altforecast.tables import BARS
from altforecast.types import Metric, Series, Timeframe, Window
from altforecast_io.lake import Scope
from altforecast_pipelines.resources import House
from altforecast_pipelines.scope import Plan


def carriers(house: House) -> dict[Series, Metric]:
    """Series -> metric, by the settings."""
    return {metric_series(m, house.settings.tv_btc_symbol): m for m in Metric}


def read_metric_bars(house: House, timeframes: Iterable[Timeframe], start: datetime, end: datetime) -> pl.DataFrame:
    """Columns ts, metric, timeframe, close of the metrics' bars with start <= ts < end."""
    metrics = carriers(house)
    columns = ["ts", "symbol", "exchange", "timeframe", "close"]
    frames = [house.lake.read("bars", tf, start, end, frozenset(metrics), columns) for tf in timeframes]
    names = pl.DataFrame(
        [(s.exchange, s.symbol, m.value) for s, m in metrics.items()], schema=["exchange", "symbol", "metric"], orient="row"
    )
    found = pl.concat([BARS.empty().select(columns), *frames]).join(names, on=["exchange", "symbol"], how="inner", maintain_order="left")
    return found.select("ts", "metric", "timeframe", "close")


def due_for(house: House, plan: Plan, timeframes: Sequence[Timeframe]) -> list[Scope]:
    """One scope over all parts of the plan that bring bars of a metric on one of the timeframes; none where none does."""
    metrics = frozenset(carriers(house))
    parts = [p for p in plan.derived if p.timeframe in timeframes and (p.series is None or p.series & metrics)]
    if not parts:
        return []
    return [Scope(Window(min(p.window.start for p in parts), max(p.window.end for p in parts)))]
