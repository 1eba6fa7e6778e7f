"""Support and resistance as they stand: live levels of one series at a moment, with what levels have been worth.

What belongs here: choosing the moment, reading the log that far, adding evidence. What does not: the state itself
(`altforecast.levels`).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import polars as pl

from altforecast.levels import levels_at, levels_now
from altforecast.tables import LEVELS
from altforecast.types import Series, Timeframe
from altforecast_serving.lineage import Answer, newest_known
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
    """Live levels, nearest to the price first; side, distance and strength as of the newest bar closed at the moment.

    as_of: only what was known then counts; None means the close of the series' newest bar. Without a bar at or before the moment,
    side, band and distance stay as of each level's last event.
    """
    held = reader.hot("bars", timeframe).of(series)
    moment = as_of or latest(held, "known_at")
    if moment is None:
        return Answer([], warnings=why_empty(reader, Question("levels", (timeframe,), series)))
    log = _newest_log(reader, series, timeframe, moment)
    bar, indicators = (_newest_row(reader, name, series, timeframe, moment) for name in ("bars", "indicators"))
    live = _brought_up(levels_at(log, moment), bar, indicators, timeframe)
    if side is not None:
        live = live.filter(pl.col("side") == side)
    page = live.sort(pl.col("distance_atr").abs(), "id").head(limit)
    evidence, evidence_parts = newest_evidence(reader)
    return Answer(
        data=_rows(with_metric(page, metrics), evidence_by_kind(evidence)),
        parts=[
            *reader.rests_on("levels", (timeframe,), log),
            *(reader.rests_on("bars", (timeframe,), bar) if page.height else []),
            *(reader.rests_on("indicators", (timeframe,), indicators) if page.height else []),
            *(evidence_parts if page.height else []),
        ],
        known_at=newest_known((latest(page, "known_at"), latest(bar, "known_at"))) if page.height else None,
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


def _newest_row(reader: LakeReader, name: str, series: Series, timeframe: Timeframe, moment: datetime) -> pl.DataFrame:
    """The series' last row known at the moment: from memory where it reaches back that far, else from the month files; or no row."""
    held = reader.hot(name, timeframe)
    known = held.of(series).filter(pl.col("known_at") <= moment).tail(1)
    if known.height or held.is_complete(series):
        return known
    return reader.page(name, (timeframe,), one_series(series) & (pl.col("known_at") <= moment), ("ts",), 1, end=moment)


def _brought_up(state: pl.DataFrame, bar: pl.DataFrame, indicators: pl.DataFrame, timeframe: Timeframe) -> pl.DataFrame:
    """The levels as of the bar; as they are where there is none, or none as new as the log."""
    if state.is_empty() or bar.is_empty() or bar["ts"][0] < state["ts"].max():
        return state
    since = (bar["ts"].to_physical().to_numpy() - state["ts"].to_physical().to_numpy()) // timeframe.ms
    return levels_now(state, bar["close"][0], indicators["atr_14"][0] if indicators.height else None, since)


def _rows(page: pl.DataFrame, evidence: Evidence) -> list[dict[str, Any]]:
    rows = page.to_dicts()
    for row in rows:
        measured = evidence.get((row["timeframe"], "level", "", "bounce"))
        row["evidence"] = measured
        row["verdict"] = measured["verdict"] if measured else NOT_MEASURED
    return rows
