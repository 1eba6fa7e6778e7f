"""The coherent cut: every ordered venue pair of every symbol at one moment, for the heat map.

What belongs here: net edges at one quantity per symbol, their outside form. What does not: opportunities (`scanner`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from statistics import median
from typing import Any, NamedTuple

from altforecast.arbitrage import Costs, edge_of, vwap
from altforecast.book_slots import NS_PER_MS, Group, Slot, trouble
from altforecast.params import ArbitrageParams
from altforecast.trading_terms import TradingTerms


class CutEdge(NamedTuple):
    """Net edge of one ordered venue pair."""

    symbol: str
    buy_exchange: str
    sell_exchange: str
    net_edge_pct: float | None
    """At the fixed size [percent]; None where a book is too thin for it."""


def coherent_cut(
    groups: Iterable[Group], terms: TradingTerms, params: ArbitrageParams, values: Mapping[str, float], now_ns: int
) -> list[CutEdge]:
    """Edges by symbol and venues; pairs with a book that may not be used, beyond the skew or of unlike coins are left out.

    One quantity per symbol (target size over the median mid price), so that the edges of a symbol compare; the ledger sizes
    by the buy side's best ask instead. Symbols whose quote has no known USDT value are left out. values: USDT per unit of quote.
    """
    found = []
    oldest_ns = now_ns - int(params.stale_after_ms * NS_PER_MS)
    for group in sorted(groups, key=lambda g: g.symbol):
        value = values.get(group.quote)
        slots = sorted((s for s in group.slots if not trouble(s.book, oldest_ns)), key=lambda s: s.venue)
        if value is not None and len(slots) > 1:
            found += _edges(group, slots, terms, params, value, now_ns)
    return found


def _edges(group: Group, slots: list[Slot], terms: TradingTerms, params: ArbitrageParams, value: float, now_ns: int) -> list[CutEdge]:
    mid = median((s.book.bid_keys[-1] - s.book.ask_keys[-1]) / 2 for s in slots)
    quantity = params.target_size_usdt / (value * mid)
    buys = [vwap(s.book.ask_keys, s.book.ask_sizes, quantity) for s in slots]
    sells = [vwap(s.book.bid_keys, s.book.bid_sizes, quantity) for s in slots]
    skew_ns, slippage, assumed = params.max_skew_ms * NS_PER_MS, params.slippage_bps / 100.0, params.withdraw_cost_usdt / value
    found = []
    for i, one in enumerate(slots):
        for j, other in enumerate(slots):
            if i == j or abs(one.book.ts_ingest_ns - other.book.ts_ingest_ns) > skew_ns:
                continue
            way = terms.transfer(group.base, one.venue, other.venue, now_ns // NS_PER_MS)
            if way.is_other_coin:
                continue
            buy, sell, net = buys[i], sells[j], None
            if buy is not None and sell is not None:
                coins, fixed = (way.fee, 0.0) if way.fee is not None else (0.0, assumed)
                net = edge_of(buy[0], sell[0], quantity, Costs(one.fee, other.fee, slippage, coins, fixed)).net_pct
            found.append(CutEdge(group.symbol, one.venue, other.venue, net))
    return found


def cut_row(edges: Iterable[CutEdge], now_ns: int) -> dict[str, Any]:
    """The cut as the topic `spreads` carries it; time is ISO 8601 with Z and milliseconds."""
    at = datetime.fromtimestamp(now_ns // NS_PER_MS / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {"ts": at, "edges": [edge._asdict() for edge in edges]}
