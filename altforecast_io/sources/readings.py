"""One figure of an outside supplier, as table market_context keeps it.

What belongs here: the value type that all suppliers share and its frame. What does not: any supplier's own shape.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from datetime import datetime
from typing import Any

import polars as pl

from altforecast.tables import MARKET_CONTEXT


@dataclass(frozen=True)
class Reading:
    """A value with the time its supplier gives, the supplier's own words, and when we knew it."""

    ts: datetime
    name: str
    value: float
    label: str | None
    source: str
    known_at: datetime


def readings_frame(readings: Iterable[Reading]) -> pl.DataFrame:
    """Readings as table market_context, one row per key (the last given wins); none give an empty frame.

    A reading is known only after its own time, so known_at is never before ts.
    """
    rows = [astuple(r) for r in readings]
    frame = pl.DataFrame(rows, schema=MARKET_CONTEXT.schema, orient="row")
    frame = frame.with_columns(known_at=pl.max_horizontal("known_at", "ts"))
    return MARKET_CONTEXT.conform(frame.unique(MARKET_CONTEXT.key, keep="last", maintain_order=True))


def number(value: Any) -> float | None:
    """A finite number from a JSON number or a decimal string; None for everything else, never 0 for a missing one."""
    if value is None or isinstance(value, bool):
        return None
    try:
        found = float(str(value))
    except ValueError:
        return None
    return found if math.isfinite(found) else None
