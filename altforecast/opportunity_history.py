"""The log of opportunity events as a table, and the lives and outcomes that follow from it.

What belongs here: events to rows, rows to closed opportunities, rows to outcomes, cuts of books as rows. What does not:
finding opportunities (`scanner`), statistics over them (`opportunity_stats`) and storage.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from altforecast.arbitrage_tables import BOOK_CUTS, CAPTURE_DELAYS_MS, LEVELS_KEPT, OPPORTUNITIES, OPPORTUNITY_EVENTS, OPPORTUNITY_OUTCOMES
from altforecast.books import Book, BookState
from altforecast.opportunities import OpportunityEvent

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NS_PER_MS = 1_000_000
WHAT = ("id", "type", "symbol", "buy_exchange", "sell_exchange", "sell_symbol")
_FIGURES = (
    "buy_vwap", "sell_vwap", "gross_edge_pct", "fees_pct", "slippage_pct", "withdraw_pct", "net_edge_pct", "expected_profit_usdt",
    "available_qty", "optimal_qty", "optimal_profit_usdt", "capture_chance",
)  # fmt: skip


def event_frame(events: Iterable[OpportunityEvent]) -> pl.DataFrame:
    """Rows of `opportunity_events`, sorted; of two rows with one key the later stays. No events give an empty frame."""
    frame = pl.DataFrame([_event_row(e) for e in events], schema=OPPORTUNITY_EVENTS.schema)
    return OPPORTUNITY_EVENTS.conform(frame.unique(OPPORTUNITY_EVENTS.key, keep="last", maintain_order=True))


def _event_row(event: OpportunityEvent) -> dict[str, Any]:
    one = event.opportunity
    at = _time(event.ts_ms)
    row: dict[str, Any] = {name: getattr(one, name) for name in (*WHAT, *_FIGURES)}
    row |= {
        "ts": at, "known_at": at, "event": event.kind.value, "type": one.type.value,
        "edge_curve": json.dumps([list(point) for point in one.edge_curve]), "risk_flags": ",".join(one.risk_flags),
        "ts_detected": _time(one.ts_detected_ms), "opened_at": _time(event.opened_ms), "peak_edge_pct": event.peak_edge_pct,
        "peak_at": _time(event.peak_ms), "reason": event.reason, "capture_delays_ms": ",".join(str(c.delay_ms) for c in event.captures),
    }  # fmt: skip
    captured = {c.delay_ms: c for c in event.captures}
    for delay in CAPTURE_DELAYS_MS:
        capture = captured.get(delay)
        row[f"capture_{delay}ms_edge_pct"] = capture.net_edge_pct if capture else None
        row[f"capture_{delay}ms_profit_usdt"] = capture.profit_usdt if capture else None
    return row


def _time(ms: int) -> datetime:
    return EPOCH + timedelta(milliseconds=ms)


def opportunities(events: pl.DataFrame) -> pl.DataFrame:
    """Rows of `opportunities`: one per opportunity that the events close, with what they say up to its close.

    Events of opportunities that are still open give nothing. An id closes once: a second close is passed over.
    """
    closed = events.filter(pl.col("event") == "closed").sort("ts").unique("id", keep="first", maintain_order=True)
    if closed.is_empty():
        return OPPORTUNITIES.empty()
    life = events.join(closed.select("id", closed_at="ts"), on="id").filter(pl.col("ts") <= pl.col("closed_at"))
    rows = (
        closed.select(*WHAT, "ts", "opened_at", "peak_at", "peak_edge_pct", "reason", "known_at", death_edge_pct="net_edge_pct")
        .join(_sums(life), on="id")
        .join(_birth(events), on="id", how="left")
        .with_columns(closed_at="ts", lifetime_ms=(pl.col("ts") - pl.col("opened_at")).dt.total_milliseconds())
    )
    return OPPORTUNITIES.conform(rows.select(OPPORTUNITIES.schema.names()))


def _sums(life: pl.DataFrame) -> pl.DataFrame:
    flags = pl.col("risk_flags").str.split(",").explode(empty_as_null=False, keep_nulls=False)
    return life.group_by("id").agg(
        pl.len().cast(pl.Int64).alias("n_events"),
        pl.col("expected_profit_usdt").max().alias("peak_profit_usdt"),
        pl.col("optimal_profit_usdt").max().alias("peak_optimal_profit_usdt"),
        flags.filter(flags != "").unique().sort().str.join(",").alias("risk_flags"),
    )


def _birth(events: pl.DataFrame) -> pl.DataFrame:
    opened = events.filter(pl.col("event") == "opened").sort("ts").unique("id", keep="first", maintain_order=True)
    return opened.select(
        "id",
        birth_edge_pct="net_edge_pct",
        birth_profit_usdt="expected_profit_usdt",
        birth_optimal_qty="optimal_qty",
        birth_optimal_profit_usdt="optimal_profit_usdt",
        birth_edge_curve="edge_curve",
    )


def outcomes(events: pl.DataFrame) -> pl.DataFrame:
    """Rows of `opportunity_outcomes`: for every opportunity and delay the first event that carries the outcome."""
    frames = [_outcomes_after(events, delay) for delay in CAPTURE_DELAYS_MS]
    return OPPORTUNITY_OUTCOMES.conform(pl.concat(frames))


def _outcomes_after(events: pl.DataFrame, delay: int) -> pl.DataFrame:
    edge, profit = pl.col(f"capture_{delay}ms_edge_pct"), pl.col(f"capture_{delay}ms_profit_usdt")
    verdict = pl.when(profit.is_null()).then(pl.lit("not_live")).when(profit > 0).then(pl.lit("captured")).otherwise(pl.lit("gone"))
    carrying = events.filter(pl.col("capture_delays_ms").str.split(",").list.contains(str(delay)))
    first = carrying.sort("ts").unique("id", keep="first", maintain_order=True)
    return first.select(
        "ts",
        *WHAT,
        "opened_at",
        pl.lit(delay, pl.Int64).alias("delay_ms"),
        verdict.alias("outcome"),
        edge.alias("net_edge_pct"),
        profit.alias("profit_usdt"),
        "known_at",
    )


def cut_rows(books: Iterable[Book], now_ns: int) -> list[Mapping[str, Any]]:
    """Rows of `book_cuts` of the books that are live and have both sides; what is not live leaves no row."""
    at = _time(now_ns // NS_PER_MS)
    return [_cut_row(b, at) for b in books if b.state is BookState.LIVE and b.bid_keys and b.ask_keys]


def _cut_row(book: Book, at: datetime) -> Mapping[str, Any]:
    cut = -LEVELS_KEPT - 1
    return {
        "ts": at, "known_at": at, "exchange": book.venue, "symbol": book.symbol,
        "bid_prices": book.bid_keys[:cut:-1], "bid_sizes": book.bid_sizes[:cut:-1],
        "ask_prices": [-key for key in book.ask_keys[:cut:-1]], "ask_sizes": book.ask_sizes[:cut:-1],
        "ts_event": None if book.ts_event_ms is None else _time(book.ts_event_ms), "ts_ingest": _time(book.ts_ingest_ns // NS_PER_MS),
    }  # fmt: skip


def cut_frame(rows: Iterable[Mapping[str, Any]]) -> pl.DataFrame:
    """Rows of `book_cuts` as a frame; of two rows with one key the later stays."""
    frame = pl.DataFrame(list(rows), schema=BOOK_CUTS.schema)
    return BOOK_CUTS.conform(frame.unique(BOOK_CUTS.key, keep="last", maintain_order=True))
