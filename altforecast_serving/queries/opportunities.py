"""Opportunities that have ended, what they were still worth later, and their statistics: from the lake.

What belongs here: pages of closed opportunities with their outcomes, the newest statistics. What does not: what is open
now (`queries.arbitrage`) and computing any of it (pipelines).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl

from altforecast.arbitrage_tables import OPPORTUNITIES, OPPORTUNITY_OUTCOMES
from altforecast_serving.lineage import Answer
from altforecast_serving.queries.arbitrage import OpportunityFilter, shaped
from altforecast_serving.queries.cursors import encode_cursor
from altforecast_serving.queries.lake import LakeReader, beyond, scan
from altforecast_serving.queries.rows import latest

SORT = ("ts", "id")
NOT_BUILT = "no closed opportunity is in the lake yet: realtime writes events, Dagster (`altforecast up`) builds the tables"


@dataclass(frozen=True)
class ClosedQuestion:
    """Which closed opportunities: hashable."""

    wanted: OpportunityFilter
    limit: int
    after: tuple[datetime | str, ...] | None = None


def find_closed(reader: LakeReader, question: ClosedQuestion) -> Answer:
    """Closed opportunities, last closed first, each with its outcomes."""
    wanted = question.wanted
    rows = reader.page(
        OPPORTUNITIES.name, (), _predicate(question), SORT, question.limit + 1, start=wanted.since, end=wanted.until, newest_first=True
    )
    page = rows.head(question.limit)
    outcomes = _outcomes(reader, page)
    return Answer(
        data=[_row(row, outcomes.get(row["id"], [])) for row in page.to_dicts()],
        parts=reader.rests_on(OPPORTUNITIES.name, (), page),
        known_at=latest(page, "known_at"),
        next_cursor=encode_cursor([page[c][-1] for c in SORT]) if rows.height > question.limit else None,
        warnings=[] if reader.lake.files(OPPORTUNITIES.name) else [NOT_BUILT],
    )


def _predicate(question: ClosedQuestion) -> pl.Expr:
    asked, col = question.wanted, pl.col
    found = pl.lit(True)
    if asked.symbol is not None:
        found &= (col("symbol") == asked.symbol) | (col("sell_symbol") == asked.symbol)
    if asked.venue is not None:
        found &= (col("buy_exchange") == asked.venue) | (col("sell_exchange") == asked.venue)
    if asked.type is not None:
        found &= col("type") == asked.type
    if asked.min_edge is not None:
        found &= col("peak_edge_pct") >= asked.min_edge
    if asked.min_profit is not None:
        found &= pl.max_horizontal("peak_profit_usdt", "peak_optimal_profit_usdt") >= asked.min_profit
    flags = col("risk_flags").str.split(",")
    for flag in asked.flags:
        found &= flags.list.contains(flag)
    for flag in asked.without_flags:
        found &= ~flags.list.contains(flag)
    return found & beyond(SORT, question.after, newest_first=True) if question.after is not None else found


def _outcomes(reader: LakeReader, page: pl.DataFrame) -> dict[str, list[dict[str, Any]]]:
    """Outcomes of these opportunities by id, shortest delay first; they become known from birth to seconds after the close."""
    if page.is_empty():
        return {}
    ids, first = page["id"].implode(), page["opened_at"].min()
    start = first if isinstance(first, datetime) else None
    found: dict[str, list[dict[str, Any]]] = {}
    for paths in reader.walk(OPPORTUNITY_OUTCOMES.name, (), start, None, newest_first=True):
        rows = scan(paths, pl.col("id").is_in(ids))
        for row in rows.sort("delay_ms").select("id", "delay_ms", "outcome", "net_edge_pct", "profit_usdt").to_dicts():
            found.setdefault(row.pop("id"), []).append(row)
    return found


def _row(row: dict[str, Any], outcomes: list[dict[str, Any]]) -> dict[str, Any]:
    """A lake row in the shape that live ones have; figures of the moment are those at opening."""
    return shaped(row | {"edge_curve": row.pop("birth_edge_curve")}) | {
        "status": "closed",
        "net_edge_pct": row["birth_edge_pct"],
        "expected_profit_usdt": row["birth_profit_usdt"],
        "optimal_qty": row["birth_optimal_qty"],
        "optimal_profit_usdt": row["birth_optimal_profit_usdt"],
        "outcomes": outcomes,
    }


def find_opportunity_stats(reader: LakeReader, dimension: str | None, limit: int) -> Answer:
    """The newest statistics, of one dimension or all: most opportunities first within each."""
    newest = pl.DataFrame()
    for paths in reader.walk("opportunity_stats", (), None, None, newest_first=True):
        rows = scan(paths, pl.lit(True))
        if rows.height:
            newest = rows.filter(pl.col("ts") == pl.col("ts").max())
            break
    if newest.is_empty():
        return Answer([], warnings=[NOT_BUILT])
    wanted = newest if dimension is None else newest.filter(pl.col("dimension") == dimension)
    page = wanted.sort(["dimension", "n", "key"], descending=[False, True, False]).head(limit)
    return Answer(page.to_dicts(), reader.rests_on("opportunity_stats", (), page), latest(page, "known_at"))
