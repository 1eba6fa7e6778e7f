"""Market regime for the outside: the newest hours with their contributions.

What belongs here: reading regime rows. What does not: computing them (`altforecast.regime`).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import polars as pl

from altforecast_serving.lineage import Answer
from altforecast_serving.queries.lake import LakeReader
from altforecast_serving.queries.rows import EMPTY_LAKE, latest, not_built

INPUTS = ("total3", "total2", "btc_d", "usdt_d", "ethbtc")


def find_regime(reader: LakeReader, *, as_of: datetime | None, limit: int) -> Answer:
    """`latest` (or null) and `history`, newest first; as_of: only rows known by then count."""
    known = pl.lit(True) if as_of is None else pl.col("known_at") <= as_of
    page = reader.page("regime", [], known, ("ts",), limit, end=as_of)
    rows = [_row(row) for row in page.to_dicts()]
    warnings = [] if rows else [not_built("regime") if reader.series() else EMPTY_LAKE]
    if rows and rows[0]["is_degraded"]:
        warnings.append(f"missing or stale inputs: {', '.join(rows[0]['missing']) or 'unknown'}")
    data = {"latest": rows[0] if rows else None, "history": rows}
    return Answer(data, reader.rests_on("regime", [], page), latest(page, "known_at"), warnings=warnings)


def _row(row: dict[str, Any]) -> dict[str, Any]:
    """A table row with its contributions as a list, largest first, and its missing inputs as a list."""
    contributions = [{"metric": name, "z": row.pop(f"z_{name}"), "contribution": row.pop(f"contribution_{name}")} for name in INPUTS]
    contributions.sort(key=lambda c: -abs(c["contribution"] or 0.0))
    row["missing"] = [name.strip() for name in row["missing"].split(",") if name.strip()]
    row["contributions"] = contributions
    return row
