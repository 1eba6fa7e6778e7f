"""Which past residuals a forecast rests on.

What belongs here: the newest calibration of each series and model. What does not: renewing them (`altforecast.forecasting`).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import polars as pl

from altforecast.forecast_packs import CLIMATOLOGY, HAR, SCALE, SHAPE
from altforecast.types import Timeframe
from altforecast_io.lake import PartFile, month_start
from altforecast_serving.queries.lake import NO_FILE, LakeReader, stamp

_KEY = ("symbol", "exchange", "horizon", "model")
_PREFERRED = {name: rank for rank, name in enumerate((SCALE, SHAPE, HAR))}
_POOL = ("*", "*")
"""Symbol and exchange of the calibration over all series."""
Facts = dict[tuple[str, ...], tuple[datetime, datetime, int, int]]


def calibration_of(reader: LakeReader, row: dict[str, Any]) -> dict[str, Any] | None:
    """Span and counts of the residuals behind a row of `forecasts`; of the pool for a series listed since; None where it names none.

    Counts are null where the newest calibration of its month is not the one that the forecast used.
    """
    at = row["calibrated_at"]
    if at is None:
        return None
    facts = _facts(reader, Timeframe(row["timeframe"]), at)
    tail = (row["horizon"], row["model"])
    found = facts.get((row["symbol"], row["exchange"], *tail)) or facts.get((*_POOL, *tail))
    if found is None or found[0] != at:
        return {"renewed_at": at, "window_start": None, "n_own": None, "n_pooled": None}
    return {"renewed_at": at, "window_start": found[1], "n_own": found[2], "n_pooled": found[3]}


def _facts(reader: LakeReader, timeframe: Timeframe, at: datetime) -> Facts:
    part = reader.lake.part("forecast_calibrations", timeframe, month_start(at))
    if stamp(part.path) == NO_FILE:
        return {}
    return reader.of_part("calibrations", part, _newest_facts)


def _newest_facts(part: PartFile) -> Facts:
    """Newest row of each series and model; of its parts the one that carries the width."""
    columns = [*_KEY, "part", "ts", "window_start", "n_own", "n_pooled"]
    rows = pl.read_parquet(part.path, columns=columns, hive_partitioning=False).filter(pl.col("part") != CLIMATOLOGY)
    ranked = rows.with_columns(pl.col("part").replace_strict(_PREFERRED, default=len(_PREFERRED), return_dtype=pl.Int64).alias("rank"))
    newest = ranked.sort(*_KEY, "ts", -pl.col("rank")).unique(_KEY, keep="last", maintain_order=True)
    wanted = newest.select(*_KEY, "ts", "window_start", "n_own", "n_pooled")
    return {tuple(values[:4]): values[4:] for values in wanted.iter_rows()}
