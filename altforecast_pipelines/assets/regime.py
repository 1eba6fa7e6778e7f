"""The asset `regime`.

What belongs here: warm-up, carry and the call. What does not: score and hysteresis (`altforecast.regime`).
"""

from datetime import timedelta

import polars as pl

from altforecast.params import REGIME
from altforecast.types import Timeframe
from altforecast_io.lake import Scope
from altforecast_pipelines.build import MarketStep
from altforecast_pipelines.checks import no_future, unique_keys
from altforecast_pipelines.metric_bars import due_for, read_metric_bars
from altforecast_pipelines.resources import House
from altforecast_pipelines.table_assets import table_asset

TIMEFRAMES = (Timeframe.H1,)
WARMUP = timedelta(days=REGIME.warmup_days)


def compute(house: House, scope: Scope) -> pl.DataFrame:
    """Hourly states of the window, continuing the last state before it."""
    from altforecast.regime import classify_regime

    start, end = scope.window.start, scope.window.end
    earlier = house.lake.files("regime", end=start)
    carry = house.lake.read("regime", None, earlier[-1].start, start) if earlier else None
    return classify_regime(read_metric_bars(house, TIMEFRAMES, start - WARMUP, end), start, carry)


STEP = MarketStep("regime", {"bars": (TIMEFRAMES, WARMUP)}, lambda house, plan: due_for(house, plan, TIMEFRAMES), compute)
regime = table_asset(
    STEP,
    group="market",
    checks=(unique_keys("regime"), no_future("regime")),
    doc="Missing or stale inputs make a row degraded, not silent.",
)
