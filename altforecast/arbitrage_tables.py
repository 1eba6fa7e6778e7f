"""Registry of the lake tables that rest on order books.

What belongs here: columns of events, opportunities, outcomes, statistics and book cuts. What does not: tables that rest
on bars (`tables`) and how rows are computed. Convention: `ts` is the moment that made a row known, by our own clock.
"""

from __future__ import annotations

import polars as pl

from altforecast.table_schema import F64, I64, STR, TS, Column, Table

CAPTURE_DELAYS_MS = (100, 500, 1000, 5000)
"""Delays after birth at which the same trade is valued again."""
LEVELS_KEPT = 10
"""Levels of each side that a book cut keeps."""
LIST = pl.List(pl.Float64())
_KNOWN_AT = Column("known_at", TS, "UTC", "first moment at which the row could be known")


def _what() -> tuple[Column, ...]:
    return (
        Column("id", STR, "", "hash of type, symbol, venues, legs and opening time"),
        Column("type", STR, "", "spatial | triangular"),
        Column("symbol", STR, "", "symbol of the buy side (spatial); A>B>C>A of assets (triangular)"),
        Column("buy_exchange", STR, "", "venue slug of the buy side"),
        Column("sell_exchange", STR, "", "venue slug of the sell side"),
        Column("sell_symbol", STR, "", "symbol of the sell side; differs only where quotes differ"),
    )


def _captures() -> tuple[Column, ...]:
    return tuple(
        column
        for delay in CAPTURE_DELAYS_MS
        for column in (
            Column(
                f"capture_{delay}ms_edge_pct", F64, "%", f"net edge {delay} ms after birth; null: not known, or a book was not live", True
            ),
            Column(
                f"capture_{delay}ms_profit_usdt", F64, "USDT", f"profit of the fixed size {delay} ms after birth; null as the edge", True
            ),
        )
    )


def _rates() -> tuple[Column, ...]:
    return tuple(
        column
        for delay in CAPTURE_DELAYS_MS
        for column in (
            Column(f"n_{delay}ms", I64, "opportunities", f"opportunities whose {delay} ms outcome is known"),
            Column(f"capture_{delay}ms_frac", F64, "0-1", f"share of them still profitable after {delay} ms", True),
            Column(f"capture_{delay}ms_ci_low", F64, "0-1", "lower end of its 95 % interval", True),
            Column(f"capture_{delay}ms_ci_high", F64, "0-1", "upper end of it", True),
            Column(f"profit_{delay}ms_usdt", F64, "USDT", f"sum of the profits captured after {delay} ms at the fixed size", True),
        )
    )


OPPORTUNITY_EVENTS = Table(
    "opportunity_events", "Event log of arbitrage opportunities as the scanner saw them, in the order of the receive clock",
    "one event of one opportunity", ("ts", "id", "event"), ("ts", "id", "event"),
    (
        Column("ts", TS, "UTC", "receive time of the book update that made the event"),
        Column("event", STR, "", "opened | updated | closed"),
        *_what(),
        Column("buy_vwap", F64, "quote", "volume-weighted price of the fixed size on the buy side"),
        Column("sell_vwap", F64, "quote", "the same on the sell side, in the quote of the buy side"),
        Column("gross_edge_pct", F64, "%", "(sell_vwap - buy_vwap) / buy_vwap"),
        Column("fees_pct", F64, "%", "taker fees of all legs"), Column("slippage_pct", F64, "%", "latency buffer"),
        Column("withdraw_pct", F64, "%", "cost of the transfer over the notional"),
        Column("net_edge_pct", F64, "%", "gross - fees - slippage - withdraw at the fixed size; -100 where the books are too thin"),
        Column("expected_profit_usdt", F64, "USDT", "exact cash flow of the fixed size"),
        Column("available_qty", F64, "base", "size that both books hold at a profit"),
        Column("optimal_qty", F64, "base", "size of the highest profit, by the marginal walk"),
        Column("optimal_profit_usdt", F64, "USDT", "profit of that size, transfer cost included"),
        Column("edge_curve", STR, "", "JSON list of [notional USDT, net edge in percent], ascending"),
        Column("risk_flags", STR, "", "names of risk flags, comma separated"),
        Column("capture_chance", F64, "0-1", "calibrated chance that the edge is still there after the usual delay", True),
        Column("ts_detected", TS, "UTC", "when these figures were computed"),
        Column("opened_at", TS, "UTC", "when the opportunity opened"),
        Column("peak_edge_pct", F64, "%", "highest net edge so far"), Column("peak_at", TS, "UTC", "when it was reached"),
        Column("reason", STR, "", "why it closed: edge_gone | book_withdrawn | stale | shutdown; empty before"),
        Column("capture_delays_ms", STR, "", "delays whose outcome this row carries, comma separated"),
        *_captures(),
        _KNOWN_AT,
    ),
    by_timeframe=False,
)  # fmt: skip

OPPORTUNITIES = Table(
    "opportunities", "Closed arbitrage opportunities with their life from birth to death", "one closed opportunity", ("id",), ("ts", "id"),
    (
        Column("ts", TS, "UTC", "when it closed"),
        *_what(),
        Column("opened_at", TS, "UTC", "when it opened"), Column("peak_at", TS, "UTC", "when its net edge was highest"),
        Column("closed_at", TS, "UTC", "when it closed"), Column("lifetime_ms", I64, "ms", "closed - opened"),
        Column("n_events", I64, "events", "events of it up to its close"),
        Column("birth_edge_pct", F64, "%", "net edge at opening; null where the opening event was lost", True),
        Column("peak_edge_pct", F64, "%", "highest net edge"), Column("death_edge_pct", F64, "%", "last net edge, at closing"),
        Column("birth_profit_usdt", F64, "USDT", "profit of the fixed size at opening; null as birth_edge_pct", True),
        Column("birth_optimal_qty", F64, "base", "optimal size at opening; null as birth_edge_pct", True),
        Column("birth_optimal_profit_usdt", F64, "USDT", "profit of the optimal size at opening; null as birth_edge_pct", True),
        Column("birth_edge_curve", STR, "", "JSON list of [notional USDT, net edge in percent] at opening; null as birth_edge_pct", True),
        Column("peak_profit_usdt", F64, "USDT", "highest profit of the fixed size among its events"),
        Column("peak_optimal_profit_usdt", F64, "USDT", "highest profit of the optimal size among its events"),
        Column("reason", STR, "", "why it closed: edge_gone | book_withdrawn | stale | shutdown"),
        Column("risk_flags", STR, "", "every risk flag it ever had, sorted, comma separated"),
        _KNOWN_AT,
    ),
    by_timeframe=False,
)  # fmt: skip

OPPORTUNITY_OUTCOMES = Table(
    "opportunity_outcomes", "What each opportunity was still worth a delay after its birth, on the books that followed",
    "one opportunity and delay", ("id", "delay_ms"), ("ts", "id", "delay_ms"),
    (
        Column("ts", TS, "UTC", "time of the first event that carried the outcome"),
        *_what(),
        Column("opened_at", TS, "UTC", "when the opportunity opened"),
        Column("delay_ms", I64, "ms", "delay after opening"),
        Column("outcome", STR, "", "captured | gone | not_live (a book could not be used, so the trade could not be made)"),
        Column("net_edge_pct", F64, "%", "net edge then; null where not live", True),
        Column("profit_usdt", F64, "USDT", "profit of the fixed size then; null where not live", True),
        _KNOWN_AT,
    ),
    by_timeframe=False,
)  # fmt: skip

OPPORTUNITY_STATS = Table(
    "opportunity_stats", "Lifetimes, capture rates and profits of opportunities by pair, venue, hour and type, over the 28 days before",
    "one value of one dimension and as-of time", ("ts", "dimension", "key"), ("ts", "dimension", "key"),
    (
        Column("ts", TS, "UTC", "what was known before this moment is counted; midnights"),
        Column("dimension", STR, "", "all | pair (symbol and venues) | venue (on either side) | hour (UTC, of opening) | type"),
        Column("key", STR, "", "value of the dimension: all, BTC-USDT okx>kraken, okx, 00 to 23, spatial"),
        Column("n", I64, "opportunities", "opportunities that closed in the window"),
        Column("median_lifetime_ms", F64, "ms", "half lived longer", True),
        Column("p90_lifetime_ms", F64, "ms", "one in ten lived longer", True),
        Column("median_birth_edge_pct", F64, "%", "median net edge at opening", True),
        Column("profit_usdt", F64, "USDT", "sum of the profits at opening at the fixed size: what a trader without delay could have had"),
        *_rates(),
        Column("ci_method", STR, "", "day_cluster (bootstrap of whole days) | wilson (fewer than 5 days with opportunities)"),
        _KNOWN_AT,
    ),
    by_timeframe=False,
)  # fmt: skip

BOOK_CUTS = Table(
    "book_cuts", f"Order books cut at regular times, the best {LEVELS_KEPT} levels of each side", "one live book at one cut",
    ("ts", "exchange", "symbol"), ("ts", "exchange", "symbol"),
    (
        Column("ts", TS, "UTC", "time of the cut"),
        Column("exchange", STR, "", "venue slug"), Column("symbol", STR, "", "canonical symbol, BASE-QUOTE"),
        Column("bid_prices", LIST, "quote", "best first"), Column("bid_sizes", LIST, "base", "sizes at bid_prices"),
        Column("ask_prices", LIST, "quote", "best first"), Column("ask_sizes", LIST, "base", "sizes at ask_prices"),
        Column("ts_event", TS, "UTC", "the venue's time of the last update; null where it sends none", True),
        Column("ts_ingest", TS, "UTC", "our receive time of the last update"),
        _KNOWN_AT,
    ),
    by_timeframe=False,
)  # fmt: skip

ARBITRAGE_TABLES: tuple[Table, ...] = (OPPORTUNITY_EVENTS, OPPORTUNITIES, OPPORTUNITY_OUTCOMES, OPPORTUNITY_STATS, BOOK_CUTS)
