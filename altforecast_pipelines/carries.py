"""State that a window inherits from the months before it, read back from the lake.

What belongs here: on-balance volume and live levels at the start of a window. What does not: warm-up, which is read with
the inputs (`build`).
"""

from datetime import datetime

import polars as pl

from altforecast.symbols import CRYPTOCAP
from altforecast.tables import INDICATORS, LEVELS
from altforecast.types import Series, Timeframe
from altforecast_io.lake import Lake, series_filter
from altforecast_pipelines.build import series_of

MAX_MONTHS_BACK = 120
"""A series silent for longer than this many months of files starts anew."""
SERIES = ["symbol", "exchange"]


def last_obv(lake: Lake, timeframe: Timeframe, start: datetime, wanted: frozenset[Series]) -> pl.DataFrame | None:
    """Last known on-balance volume per wanted series before `start`, with the close of its bar.

    Columns symbol, exchange, ts, obv, close; series without one are absent. Index series have no volume and are passed over.
    """
    left = frozenset(s for s in wanted if s.exchange != CRYPTOCAP)
    found: list[pl.DataFrame] = []
    for file in reversed(lake.files("indicators", timeframe, end=start)[-MAX_MONTHS_BACK:]):
        if not left:
            break
        known = pl.read_parquet(file.path, columns=[*SERIES, "ts", "obv"], hive_partitioning=False).filter(
            series_filter(left), pl.col("obv").is_not_null()
        )
        last = known.sort("ts").unique(SERIES, keep="last")
        if last.height:
            closes = lake.read("bars", timeframe, file.start, file.end, left, [*SERIES, "ts", "close"])
            found.append(last.join(closes, on=[*SERIES, "ts"], how="inner"))
            left -= series_of(last)
    return pl.concat(found).sort(SERIES) if found else INDICATORS.empty().select(*SERIES, "ts", "obv", pl.lit(0.0).alias("close"))


def live_levels(lake: Lake, timeframe: Timeframe, start: datetime, wanted: frozenset[Series]) -> pl.DataFrame | None:
    """All level rows of the newest month of each wanted series before `start`: every live level has a row in it."""
    left = wanted
    found: list[pl.DataFrame] = []
    for file in reversed(lake.files("levels", timeframe, end=start)[-MAX_MONTHS_BACK:]):
        if not left:
            break
        rows = pl.read_parquet(file.path, hive_partitioning=False).filter(series_filter(left))
        found.append(rows)
        left -= series_of(rows)
    return pl.concat(found).sort(LEVELS.sort) if found else None
