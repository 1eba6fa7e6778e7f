"""The asset `indicators`.

What belongs here: warm-up, carry and the call. What does not: formulas (`altforecast.indicators`).
"""

import polars as pl

from altforecast.params import INDICATORS
from altforecast.types import Timeframe, Window
from altforecast_pipelines.build import Frames, Step
from altforecast_pipelines.carries import last_obv
from altforecast_pipelines.checks import few_nulls, no_future, unique_keys
from altforecast_pipelines.table_assets import table_asset


def compute(frames: Frames, timeframe: Timeframe, window: Window, carry: pl.DataFrame | None) -> pl.DataFrame:
    """EMA, RSI, MACD, ATR, Bollinger, ADX from the bars read; on-balance volume from the carry on."""
    from altforecast.indicators import compute_indicators

    return compute_indicators(frames["bars"], timeframe, carry=carry)


STEP = Step("indicators", {"bars": INDICATORS.warmup_bars}, compute, last_obv)
indicators = table_asset(
    STEP,
    group="signals",
    checks=(unique_keys("indicators"), few_nulls("indicators", 0.9), no_future("indicators")),
    doc=f"Read with {INDICATORS.warmup_bars} bars of warm-up; on-balance volume continues from the last known value.",
)
