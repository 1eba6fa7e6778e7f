"""Support and resistance as they stand: live levels of one series at a moment, with what levels have been worth.

What belongs here: choosing the moment, reading the log that far, adding evidence. What does not: the state itself
(`altforecast.levels`).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import polars as pl

from altforecast.levels import levels_at
from altforecast.tables import LEVELS
from altforecast.types import Series, Timeframe
from altforecast_serving.lineage import Answer
from altforecast_serving.queries.evidence import NOT_MEASURED, Evidence, evidence_by_kind, newest_evidence
from altforecast_serving.queries.lake import LakeReader, one_series, scan
from altforecast_serving.queries.rows import Question, latest, why_empty, with_metric


def find_levels(
    reader: LakeReader,
    series: Series,
    timeframe: Timeframe,
    metrics: dict[Series, str],
    *,
    as_of: datetime | None,
    side: str | None,
    limit: int,
) -> Answer:
    """Live levels, nearest to the price first.

    as_of: only what was known then counts; None means the close of the series' newest bar.
    """
    held = reader.hot("bars", timeframe).of(series)
    moment = as_of or latest(held, "known_at")
    if moment is None:
        return Answer([], warnings=why_empty(reader, Question("levels", (timeframe,), series)))
    log = _newest_log(reader, series, timeframe, moment)
    live = levels_at(log, moment)
    if side is not None:
        live = live.filter(pl.col("side") == side)
    page = live.sort(pl.col("distance_atr").abs(), "id").head(limit)
    evidence, evidence_parts = newest_evidence(reader)
    return Answer(
        data=_rows(with_metric(page, metrics), evidence_by_kind(evidence)),
        parts=[*reader.rests_on("levels", (timeframe,), log), *(evidence_parts if page.height else [])],
        known_at=latest(page, "known_at"),
        warnings=[] if log.height else why_empty(reader, Question("levels", (timeframe,), series)),
    )


def _newest_log(reader: LakeReader, series: Series, timeframe: Timeframe, moment: datetime) -> pl.DataFrame:
    """Rows of the newest month that has any: each month begins with a copy of every live level."""
    wanted = one_series(series) & (pl.col("known_at") <= moment)
    for paths in reader.walk("levels", (timeframe,), None, moment, newest_first=True):
        rows = scan(paths, wanted)
        if rows.height:
            return rows
    return LEVELS.empty()


def _rows(page: pl.DataFrame, evidence: Evidence) -> list[dict[str, Any]]:
    rows = page.to_dicts()
    for row in rows:
        measured = evidence.get((row["timeframe"], "level", "", "bounce"))
        row["evidence"] = measured
        row["verdict"] = measured["verdict"] if measured else NOT_MEASURED
    return rows
