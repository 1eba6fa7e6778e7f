"""The asset `pivots`.

What belongs here: warm-up and the call. What does not: what a pivot is (`altforecast.pivots`).
"""

import polars as pl

from altforecast.params import DIVERGENCES
from altforecast.types import Timeframe, Window
from altforecast_pipelines.build import Frames, Step
from altforecast_pipelines.checks import no_future, unique_keys
from altforecast_pipelines.table_assets import table_asset


def compute(frames: Frames, timeframe: Timeframe, window: Window, carry: pl.DataFrame | None) -> pl.DataFrame:
    """Swing points that became known in the window."""
    from altforecast.pivots import find_pivots

    return find_pivots(frames["bars"], frames["indicators"], timeframe)


WARMUP_BARS = DIVERGENCES.warmup_bars
STEP = Step("pivots", {"bars": WARMUP_BARS, "indicators": WARMUP_BARS}, compute)
pivots = table_asset(
    STEP, group="signals", checks=(unique_keys("pivots"), no_future("pivots")), doc="A pivot is known five bars after its extreme."
)
