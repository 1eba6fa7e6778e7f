"""Arbitrage opportunities: what one is, and its life from birth to death.

What belongs here: the value objects, identity over time, lifetimes, capture. What does not: how edges are computed
(`arbitrage`, `triangles`) and where rows are stored.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any


class OpportunityType(StrEnum):
    """How the profit would be made."""

    SPATIAL = "spatial"
    """Buy on one venue, sell on another."""
    TRIANGULAR = "triangular"
    """Three conversions on one venue that end where they began."""


class OpportunityEventKind(StrEnum):
    """What happened to an opportunity."""

    OPENED = "opened"
    UPDATED = "updated"
    CLOSED = "closed"


class RiskFlag(StrEnum):
    """Why an opportunity may not be real although the books say so."""

    TRANSFER_COST_UNKNOWN = "transfer_cost_unknown"
    """No withdrawal cost is known: the assumed one was used."""
    TRANSFER_STALE = "transfer_stale"
    """The withdrawal terms are older than allowed."""
    WITHDRAWAL_CLOSED = "withdrawal_closed"
    DEPOSIT_CLOSED = "deposit_closed"
    ASSET_UNMATCHED = "asset_unmatched"
    """Not proven that both venues mean the same coin."""
    CONVERTED_QUOTE = "converted_quote"
    """The two books are quoted in different dollars: a conversion edge is in the price."""
    EDGE_TOO_GOOD = "edge_too_good"
    """Above the sanity limit."""
    THIN = "thin"
    """The size takes the last known level of a book."""
    EVENT_TIME_LAG = "event_time_lag"
    """A book's event time lags behind its usual delay."""


@dataclass(frozen=True, slots=True)
class Opportunity:
    """One possible trade as the books stand at one moment; percentages in 0-100 points, amounts in base or USDT."""

    id: str
    """Hash of type, symbol, venues, legs and opening time."""
    type: OpportunityType
    symbol: str
    """Canonical symbol of the buy side (spatial); `A>B>C>A` of assets (triangular)."""
    buy_exchange: str
    sell_exchange: str
    sell_symbol: str
    """Symbol of the sell side; differs from `symbol` only where quotes differ."""
    buy_vwap: float
    sell_vwap: float
    """In the quote of the buy side (converted where quotes differ)."""
    gross_edge_pct: float
    fees_pct: float
    slippage_pct: float
    withdraw_pct: float
    net_edge_pct: float
    """At the fixed target size, by the formulas D29-D34; -100 where the books are too thin for it."""
    expected_profit_usdt: float
    """At the fixed target size, exact cash flow."""
    available_qty: float
    """Base that both books hold at a profit."""
    optimal_qty: float
    optimal_profit_usdt: float
    """At the size of the marginal walk, withdrawal cost included."""
    edge_curve: tuple[tuple[float, float], ...]
    """Points (notional USDT, net edge in percent), ascending."""
    risk_flags: tuple[RiskFlag, ...]
    ts_detected_ms: int
    capture_chance: float | None = None
    """Calibrated chance that the edge is still there after the usual delay; None before there is evidence."""


@dataclass(frozen=True, slots=True)
class Capture:
    """What the same trade was worth on the books that followed, a delay after its birth."""

    delay_ms: int
    net_edge_pct: float | None
    """None where a book was no longer live."""
    profit_usdt: float | None


@dataclass(frozen=True, slots=True)
class OpportunityEvent:
    """One step in the life of an opportunity."""

    kind: OpportunityEventKind
    opportunity: Opportunity
    ts_ms: int
    opened_ms: int
    peak_edge_pct: float
    peak_ms: int
    reason: str = ""
    """Why it closed: edge_gone | book_withdrawn | stale | shutdown."""
    captures: tuple[Capture, ...] = ()
    """Known at the end (closed events; those still pending 5 s after birth are delivered in a later `updated` event)."""


def opportunity_row(event: OpportunityEvent) -> dict[str, Any]:
    """One flat row of an event: what feed, state and API carry. Times are ISO 8601 with Z, lists are text as in the lake."""
    one = event.opportunity
    row: dict[str, Any] = {"ts": _iso(event.ts_ms), "event": event.kind.value}
    row |= {name: getattr(one, name) for name in _COPIED}
    row |= {
        "type": one.type.value,
        "edge_curve": _COMPACT(one.edge_curve),
        "risk_flags": ",".join(flag.value for flag in one.risk_flags),
        "ts_detected": _iso(one.ts_detected_ms),
        "opened_at": _iso(event.opened_ms),
        "peak_edge_pct": event.peak_edge_pct,
        "peak_at": _iso(event.peak_ms),
        "reason": event.reason,
    }
    for capture in event.captures:
        row[f"capture_{capture.delay_ms}ms_edge_pct"] = capture.net_edge_pct
        row[f"capture_{capture.delay_ms}ms_profit_usdt"] = capture.profit_usdt
    return row


_COMPACT = json.JSONEncoder(separators=(",", ":")).encode
"""Made once: making an encoder costs as much as using it."""


@lru_cache(maxsize=256)
def _iso(ms: int) -> str:
    # events of one evaluation share most of their times
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


_COPIED = (
    "id", "type", "symbol", "buy_exchange", "sell_exchange", "sell_symbol", "buy_vwap", "sell_vwap", "gross_edge_pct", "fees_pct",
    "slippage_pct", "withdraw_pct", "net_edge_pct", "expected_profit_usdt", "available_qty", "optimal_qty", "optimal_profit_usdt",
    "capture_chance",
)  # fmt: skip
