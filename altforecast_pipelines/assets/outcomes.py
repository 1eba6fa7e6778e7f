"""The asset `divergence_outcomes`.

What belongs here: warm-up and the call. What does not: barriers and horizons (`altforecast.outcomes`).
"""

import polars as pl

from altforecast.params import OUTCOMES
from altforecast.types import Timeframe, Window
from altforecast_pipelines.build import Frames, Step
from altforecast_pipelines.checks import no_future, unique_keys
from altforecast_pipelines.table_assets import table_asset


def compute(frames: Frames, timeframe: Timeframe, window: Window, carry: pl.DataFrame | None) -> pl.DataFrame:
    """Events and control pivots that matured in the window."""
    from altforecast.outcomes import divergence_outcomes

    return divergence_outcomes(frames["bars"], frames["indicators"], frames["divergences"], frames["pivots"], timeframe)


STEP = Step("divergence_outcomes", dict.fromkeys(("bars", "indicators", "divergences", "pivots"), OUTCOMES.horizon_bars), compute)
divergence_outcomes = table_asset(
    STEP,
    group="evidence",
    checks=(unique_keys("divergence_outcomes"), no_future("divergence_outcomes")),
    doc=f"Barriers of {OUTCOMES.barrier_atr} ATR, {OUTCOMES.horizon_bars} bars; every confirmed pivot is the control.",
)
