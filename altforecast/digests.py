"""Digest of arbitrage opportunities as a text for people.

What belongs here: choosing the best, counting, wording. What does not: where rows come from and who is told (`realtime`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

SHOWN = 8
"""Opportunities named in one digest; the rest is counted."""
FLAG_WORDS = {
    "transfer_cost_unknown": "transfer cost assumed",
    "transfer_stale": "transfer terms old",
    "withdrawal_closed": "withdrawals closed",
    "deposit_closed": "deposits closed",
    "asset_unmatched": "maybe not the same coin",
    "converted_quote": "different dollars",
    "edge_too_good": "too good to trust",
    "thin": "thin book",
    "event_time_lag": "late data",
}
"""Risk flags in words."""


@dataclass(frozen=True)
class Thresholds:
    """What a digest names at least."""

    min_edge_pct: float
    min_profit_usdt: float


@dataclass(frozen=True)
class Found:
    """The best moment of one opportunity within the digest's interval."""

    id: str
    type: str
    symbol: str
    buy_exchange: str
    sell_exchange: str
    edge_pct: float
    profit_usdt: float
    """At the better of the fixed and the best size."""
    lifetime_ms: int | None
    """None while it is open."""
    flags: tuple[str, ...]


def found_in(row: Mapping[str, Any]) -> Found:
    """One feed row; raises KeyError, TypeError or ValueError for a row of another form."""
    flags = row.get("risk_flags") or ()
    profits = (float(row.get(name) or 0.0) for name in ("expected_profit_usdt", "optimal_profit_usdt"))
    edge = float(row["net_edge_pct"])
    if edge < 0.0:
        # the fixed size does not earn: the peak is that of the size that does
        edge = max(edge, float(row.get("peak_edge_pct") or edge))
    return Found(
        id=str(row["id"]), type=str(row["type"]), symbol=str(row["symbol"]), buy_exchange=str(row["buy_exchange"]),
        sell_exchange=str(row["sell_exchange"]), edge_pct=edge, profit_usdt=max(profits), lifetime_ms=None,
        flags=tuple(f for f in (flags.split(",") if isinstance(flags, str) else flags) if f),
    )  # fmt: skip


def better_of(known: Found | None, new: Found) -> Found:
    """The one with the higher profit, with every flag that either had."""
    if known is None:
        return new
    best = new if new.profit_usdt > known.profit_usdt else known
    return replace(best, flags=tuple(dict.fromkeys((*known.flags, *new.flags))), lifetime_ms=new.lifetime_ms or known.lifetime_ms)


def worth_telling(found: Sequence[Found], at_least: Thresholds) -> list[Found]:
    """Those above both thresholds, highest profit first."""
    chosen = [f for f in found if f.edge_pct >= at_least.min_edge_pct and f.profit_usdt >= at_least.min_profit_usdt]
    return sorted(chosen, key=lambda f: (-f.profit_usdt, f.id))


def digest_text(found: Sequence[Found], seconds: int, environment: str) -> str:
    """The message for the opportunities of so many seconds, in order; empty where there are none. Sandbox data say so first."""
    if not found:
        return ""
    span = f"{seconds} s" if seconds < 120 else f"{seconds / 60:g} min"
    head = f"Arbitrage, last {span}: {len(found)} above the thresholds"
    lines = [head if environment == "live" else f"SANDBOX, nothing here is real. {head}"]
    lines += [_line(f) for f in found[:SHOWN]]
    if len(found) > SHOWN:
        lines.append(f"and {len(found) - SHOWN} more")
    return "\n".join(lines)


def _line(found: Found) -> str:
    where = found.buy_exchange if found.type == "triangular" else f"{found.buy_exchange} → {found.sell_exchange}"
    lived = "open" if found.lifetime_ms is None else f"lived {_span(found.lifetime_ms)}"
    risks = "; " + ", ".join(FLAG_WORDS.get(f, f.replace("_", " ")) for f in found.flags) if found.flags else ""
    return f"{found.symbol} {where}: {found.edge_pct:.2f} %, {found.profit_usdt:,.0f} USDT, {lived}{risks}"


def _span(ms: int) -> str:
    if ms < 1000:
        return f"{ms} ms"
    return f"{ms / 1000:.1f} s" if ms < 60_000 else f"{ms / 60_000:.1f} min"
