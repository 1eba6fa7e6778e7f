"""The asset `divergences`.

What belongs here: warm-up and the call. What does not: definitions and life cycle (`altforecast.divergences`).
"""

import polars as pl

from altforecast.params import DIVERGENCES
from altforecast.types import Timeframe, Window
from altforecast_pipelines.build import Frames, Step
from altforecast_pipelines.checks import no_future, unique_keys
from altforecast_pipelines.table_assets import table_asset


def compute(frames: Frames, timeframe: Timeframe, window: Window, carry: pl.DataFrame | None) -> pl.DataFrame:
    """Events that opened or ended in the window."""
    from altforecast.divergences import find_divergences

    return find_divergences(frames["bars"], frames["indicators"], timeframe)


STEP = Step("divergences", {"bars": DIVERGENCES.warmup_bars, "indicators": DIVERGENCES.warmup_bars}, compute)
divergences = table_asset(
    STEP,
    group="signals",
    checks=(unique_keys("divergences"), no_future("divergences")),
    doc="An event opens as `active` and ends once: confirmed, invalidated, expired or superseded.",
)
