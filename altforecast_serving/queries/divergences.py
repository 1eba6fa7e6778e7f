"""Divergences as they stand now: one row per event, with what its kind has been worth.

What belongs here: folding the life-cycle log into events, and adding evidence. What does not: finding divergences (pipelines).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl

from altforecast.tables import DIVERGENCES
from altforecast.types import DivergenceStatus, Implication, Series, Timeframe
from altforecast_serving.lineage import Answer
from altforecast_serving.queries.cursors import encode_cursor
from altforecast_serving.queries.evidence import NOT_MEASURED, Evidence, evidence_by_kind, newest_evidence
from altforecast_serving.queries.lake import LakeReader, beyond, one_series, scan
from altforecast_serving.queries.rows import EMPTY_LAKE, latest, not_built, with_metric

SORT = ("ts", "id")


@dataclass(frozen=True)
class DivergencesQuestion:
    """Which events: hashable. `end` is as-of: later rows do not exist for the question."""

    timeframes: tuple[Timeframe, ...]
    series: Series | None = None
    statuses: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    oscillators: tuple[str, ...] = ()
    start: datetime | None = None
    end: datetime | None = None
    limit: int = 100
    after: tuple[datetime | str, ...] | None = None


def find_divergences(reader: LakeReader, question: DivergencesQuestion, metrics: dict[Series, str]) -> Answer:
    """Events by their last status change, newest first, each with its evidence."""
    events = _events(reader, question)
    page = events.head(question.limit)
    evidence, evidence_parts = newest_evidence(reader)
    return Answer(
        data=_rows(with_metric(page, metrics), evidence_by_kind(evidence)),
        parts=[*reader.rests_on("divergences", question.timeframes, page), *(evidence_parts if page.height else [])],
        known_at=latest(page, "known_at"),
        next_cursor=encode_cursor([page[c][-1] for c in SORT]) if events.height > question.limit else None,
        warnings=[] if page.height else _why_empty(reader, question),
    )


def _why_empty(reader: LakeReader, question: DivergencesQuestion) -> list[str]:
    if not reader.series():
        return [EMPTY_LAKE]
    return [] if any(reader.lake.files("divergences", tf) for tf in question.timeframes) else [not_built("divergences")]


def _events(reader: LakeReader, question: DivergencesQuestion) -> pl.DataFrame:
    """Newest row of each event that matches, one more than the page holds.

    Months are read from the newest back, so an event's last row is always met first; of events met, only ids are kept.
    """
    found, met = [DIVERGENCES.empty()], [DIVERGENCES.empty().select("id")]
    for paths in reader.walk("divergences", question.timeframes, question.start, question.end, newest_first=True):
        newer = pl.concat(met)
        events = _last_rows(scan(paths, _filter(question)).join(newer, on="id", how="anti"))
        met.append(events.select("id"))
        found.append(_matching(events, question))
        if sum(frame.height for frame in found) > question.limit:
            break
    return pl.concat(found).sort(SORT, descending=True).head(question.limit + 1)


def _filter(question: DivergencesQuestion) -> pl.Expr:
    wanted = pl.lit(True) if question.series is None else one_series(question.series)
    if question.end is not None:
        wanted &= pl.col("ts") < question.end
    if question.kinds:
        wanted &= pl.col("kind").is_in(list(question.kinds))
    if question.oscillators:
        wanted &= pl.col("oscillator").is_in(list(question.oscillators))
    return wanted


def _last_rows(rows: pl.DataFrame) -> pl.DataFrame:
    is_terminal = pl.col("status") != DivergenceStatus.ACTIVE.value
    return rows.sort("ts", is_terminal).unique("id", keep="last", maintain_order=True)


def _matching(events: pl.DataFrame, question: DivergencesQuestion) -> pl.DataFrame:
    """Status, start and cursor speak about an event's last row, so they apply after folding."""
    wanted = pl.lit(True)
    if question.statuses:
        wanted &= pl.col("status").is_in(list(question.statuses))
    if question.start is not None:
        wanted &= pl.col("ts") >= question.start
    if question.after is not None:
        wanted &= beyond(SORT, question.after, newest_first=True)
    return events.filter(wanted)


def _rows(page: pl.DataFrame, evidence: Evidence) -> list[dict[str, Any]]:
    return [_with_evidence(row, evidence) for row in page.to_dicts()]


def _with_evidence(row: dict[str, Any], evidence: Evidence) -> dict[str, Any]:
    measured = evidence.get((row["timeframe"], "divergence", row["oscillator"], row["kind"]))
    row["implication"] = implication_of(row["kind"]).value
    row["evidence"] = measured
    row["verdict"] = measured["verdict"] if measured else NOT_MEASURED
    return row


def implication_of(kind: str) -> Implication:
    """What a kind of divergence would mean, if it meant anything."""
    if kind.endswith("bullish"):
        return Implication.BULLISH
    return Implication.BEARISH if kind.endswith("bearish") else Implication.NEUTRAL


def count_statuses(reader: LakeReader, timeframes: Iterable[Timeframe]) -> dict[str, int]:
    """Events by present status; `active` are those without a terminal row."""
    totals: dict[str, int] = {}
    for timeframe in timeframes:
        for part in reader.lake.files("divergences", timeframe):
            for status, n in reader.of_part("statuses", part, _part_statuses).items():
                totals[status] = totals.get(status, 0) + n
    opened = totals.pop(DivergenceStatus.ACTIVE.value, 0)
    return {DivergenceStatus.ACTIVE.value: max(0, opened - sum(totals.values())), **totals}


def _part_statuses(part: Any) -> dict[str, int]:
    counts = pl.read_parquet(part.path, columns=["status"], hive_partitioning=False)["status"].value_counts()
    return dict(counts.iter_rows())
