"""The asset `levels`.

What belongs here: warm-up, carry and the call. What does not: what a level is (`altforecast.levels`).
"""

import polars as pl

from altforecast.levels import find_levels, level_warmup_bars
from altforecast.types import Timeframe, Window
from altforecast_pipelines.build import Frames, Step
from altforecast_pipelines.carries import live_levels
from altforecast_pipelines.checks import no_future, unique_keys
from altforecast_pipelines.table_assets import table_asset


def compute(frames: Frames, timeframe: Timeframe, window: Window, carry: pl.DataFrame | None) -> pl.DataFrame:
    """Level events of the window, continuing the levels that were live before it."""
    return find_levels(frames["bars"], frames["indicators"], timeframe, window.start, carry)


WARMUP_BARS = level_warmup_bars()
STEP = Step("levels", {"bars": WARMUP_BARS, "indicators": WARMUP_BARS}, compute, live_levels)
levels = table_asset(
    STEP,
    group="signals",
    checks=(unique_keys("levels"), no_future("levels")),
    doc="Every month begins with `carried` rows, so each month stands alone.",
)
