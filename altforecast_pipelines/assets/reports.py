"""The asset `market_report`.

What belongs here: warm-up and the call. What does not: arrows and words (`altforecast.reports`).
"""

from datetime import timedelta

import polars as pl

from altforecast.params import REPORT
from altforecast.types import Timeframe
from altforecast_io.lake import Scope
from altforecast_pipelines.build import MarketStep
from altforecast_pipelines.checks import no_future, unique_keys
from altforecast_pipelines.metric_bars import due_for, read_metric_bars
from altforecast_pipelines.resources import House
from altforecast_pipelines.table_assets import table_asset

TIMEFRAMES = (Timeframe.M15, Timeframe.H1, Timeframe.H4)
WARMUP = timedelta(days=REPORT.sd_days + 2)


def compute(house: House, scope: Scope) -> pl.DataFrame:
    """Six lines per hour of the window, with the regime of the same hour."""
    from altforecast.reports import market_report as report

    start, end = scope.window.start, scope.window.end
    regime = house.lake.read("regime", None, start, end)
    return report(read_metric_bars(house, TIMEFRAMES, start - WARMUP, end), regime, start)


STEP = MarketStep(
    "market_report",
    {"bars": (TIMEFRAMES, WARMUP), "regime": ((), timedelta(0))},
    lambda house, plan: due_for(house, plan, TIMEFRAMES),
    compute,
)
market_report = table_asset(
    STEP, group="market", checks=(unique_keys("market_report"), no_future("market_report")), doc="An unknown arrow is printed as `?`."
)
