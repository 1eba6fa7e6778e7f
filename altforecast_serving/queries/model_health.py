"""How well each forecaster did lately, day by day.

What belongs here: reading the table model_health. What does not: judging it (pipelines) and the health of processes (`health`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl

from altforecast_io.lake import PartFile
from altforecast_serving.lineage import Answer
from altforecast_serving.queries.cursors import encode_cursor
from altforecast_serving.queries.lake import LakeReader, beyond
from altforecast_serving.queries.rows import EMPTY_LAKE, latest, not_built

SORT = ("ts", "horizon", "forecaster")
_RECENT = ("window_days", "n", "coverage_80", "coverage_95", "skill_climatology", "skill_har", "dm_t", "verdict", "reason")
Newest = dict[tuple[str, str], dict[str, Any]]


@dataclass(frozen=True)
class SkillQuestion:
    """Which days and forecasters: hashable."""

    horizon: str | None = None
    forecaster: str | None = None
    start: datetime | None = None
    end: datetime | None = None
    limit: int = 1000
    after: tuple[datetime | str, ...] | None = None


def find_skill(reader: LakeReader, question: SkillQuestion) -> Answer:
    """Days, newest first."""
    rows = reader.page("model_health", [], _filter(question), SORT, question.limit + 1, start=question.start, end=question.end)
    page = rows.head(question.limit)
    return Answer(
        page, reader.rests_on("model_health", [], page), latest(page, "known_at"),
        next_cursor=encode_cursor([page[c][-1] for c in SORT]) if rows.height > question.limit else None,
        warnings=[] if page.height else _why_empty(reader),
    )  # fmt: skip


def _filter(question: SkillQuestion) -> pl.Expr:
    wanted = pl.lit(True)
    if question.horizon is not None:
        wanted &= pl.col("horizon") == question.horizon
    if question.forecaster is not None:
        wanted &= pl.col("forecaster") == question.forecaster
    return wanted if question.after is None else wanted & beyond(SORT, question.after, newest_first=True)


def _why_empty(reader: LakeReader) -> list[str]:
    if not reader.series():
        return [EMPTY_LAKE]
    return [] if reader.lake.files("model_health") else [not_built("model_health")]


def newest_health(reader: LakeReader) -> Newest:
    """Newest row of each horizon and forecaster; of the two newest months, so that the first of a month is no hole."""
    found: Newest = {}
    for part in reader.lake.files("model_health")[-2:]:
        found |= reader.of_part("newest_health", part, _part_newest)
    return found


def _part_newest(part: PartFile) -> Newest:
    rows = pl.read_parquet(part.path, hive_partitioning=False).sort("ts").unique(["horizon", "forecaster"], keep="last")
    return {(row["horizon"], row["forecaster"]): row for row in rows.to_dicts()}


def recent_of(row: dict[str, Any] | None) -> dict[str, Any] | None:
    """What an answer says of a health row."""
    return None if row is None else {"as_of": row["ts"], **{name: row[name] for name in _RECENT}}
