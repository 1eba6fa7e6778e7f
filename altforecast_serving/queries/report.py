"""The market report for the outside: its newest lines, and all of them as one text.

What belongs here: reading report rows. What does not: arrows and wording (`altforecast.reports`).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import polars as pl

from altforecast.types import Metric
from altforecast_serving.lineage import Answer
from altforecast_serving.queries.lake import LakeReader
from altforecast_serving.queries.rows import EMPTY_LAKE, latest, not_built

TIMEFRAMES = ("15m", "1h", "4h", "24h")
_ORDER = {metric.value: rank for rank, metric in enumerate(Metric)}


def find_report(reader: LakeReader, *, as_of: datetime | None) -> Answer:
    """The newest hour's lines in the order of the metrics; as_of: only rows known by then count."""
    known = pl.lit(True) if as_of is None else pl.col("known_at") <= as_of
    page = reader.page("market_report", [], known, ("ts", "metric"), len(_ORDER), end=as_of)
    newest = page.filter(pl.col("ts") == pl.col("ts").max())
    lines = sorted((_line(row) for row in newest.to_dicts()), key=lambda line: _ORDER.get(line["metric"], len(_ORDER)))
    data: dict[str, Any] = {
        "ts": latest(newest, "ts"),
        "known_at": latest(newest, "known_at"),
        "regime": newest["regime"][0] if newest.height else None,
        "is_degraded": bool(newest["is_degraded"].any()) if newest.height else True,
        "lines": lines,
        "text": "\n".join(line["line"] for line in lines),
    }
    warnings = [] if lines else [not_built("market_report") if reader.series() else EMPTY_LAKE]
    return Answer(data, reader.rests_on("market_report", [], newest), latest(newest, "known_at"), warnings=warnings)


def _line(row: dict[str, Any]) -> dict[str, Any]:
    changes = [{"over": tf, "arrow": row[f"arrow_{tf}"], "change_pct": row[f"change_{tf}_pct"], "z": row[f"z_{tf}"]} for tf in TIMEFRAMES]
    return {"metric": row["metric"], "line": row["line"], "is_degraded": row["is_degraded"], "changes": changes}
