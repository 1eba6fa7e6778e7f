"""Rows as the realtime process writes them to the bus.

What belongs here: their making. What does not: tests.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from altforecast_io.bus import BOOKS, OPPORTUNITIES, OPPORTUNITIES_FEED, SPREADS, VENUE_STATES, Bus

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def opportunity(name: str, **changes: Any) -> dict[str, Any]:
    """A flat row of an opened spatial opportunity."""
    row = {
        "ts": iso(NOW), "event": "opened", "id": name, "type": "spatial", "symbol": "BTC-USDT", "buy_exchange": "okx",
        "sell_exchange": "kraken", "sell_symbol": "BTC-USDT", "buy_vwap": 95000.0, "sell_vwap": 95400.0, "gross_edge_pct": 0.42,
        "fees_pct": 0.2, "slippage_pct": 0.02, "withdraw_pct": 0.01, "net_edge_pct": 0.19, "expected_profit_usdt": 5.7,
        "available_qty": 1.5, "optimal_qty": 0.8, "optimal_profit_usdt": 44.0, "edge_curve": "[[500,0.3],[3000,0.19],[20000,0.05]]",
        "risk_flags": "transfer_cost_unknown", "capture_chance": 0.6, "ts_detected": iso(NOW), "opened_at": iso(NOW - timedelta(seconds=3)),
        "peak_edge_pct": 0.25, "peak_at": iso(NOW), "reason": "",
    }  # fmt: skip
    return row | changes


def book(venue: str, symbol: str, price: float = 95000.0, n: int = 20) -> dict[str, Any]:
    """A live book around a price."""
    return {
        "exchange": venue, "symbol": symbol,
        "bids": [[price - i, 0.5 + i] for i in range(n)], "asks": [[price + 1 + i, 0.5] for i in range(n)],
        "ts_event": None, "ts_ingest": iso(NOW), "is_healthy": True,
        "meta": {"seq_id": 7, "checksum_ok": None, "lag_ms": 12.5, "state": "live", "n_updates": 99},
    }  # fmt: skip


def venue(name: str, **changes: Any) -> dict[str, Any]:
    """A healthy venue."""
    row = {
        "venue": name, "feed": "native", "state": "live", "n_symbols": 2, "n_live": 2, "n_connections": 1, "messages_per_s": 41.5,
        "lag_ms": 12.0, "age_ms": 80.0, "reconnects": {"stale": 1}, "gaps": 0, "last_fault": None, "taker_fee_bps": 10.0,
        "symbols": {"BTC-USDT": "live", "ETH-USDT": "live"}, "note": "",
    }  # fmt: skip
    return row | changes


def cut(symbols: tuple[str, ...], venues: tuple[str, ...]) -> dict[str, Any]:
    """A coherent cut: every ordered pair of venues, edges that differ."""
    edges = [
        {"symbol": s, "buy_exchange": a, "sell_exchange": b, "net_edge_pct": round(0.1 * (venues.index(b) - venues.index(a)) - 0.2, 3)}
        for s in symbols for a in venues for b in venues if a != b
    ]  # fmt: skip
    return {"ts": iso(NOW), "edges": edges}


async def write(bus: Bus, *rows: dict[str, Any]) -> None:
    """Feed and state as realtime writes them; a closed row leaves the state."""
    for row in rows:
        text = orjson.dumps(row)
        await bus.append(OPPORTUNITIES_FEED, text)
        await bus.put_many(OPPORTUNITIES, {row["id"]: b"" if row["event"] == "closed" else text})


async def put_books(bus: Bus, *books: dict[str, Any]) -> None:
    """State of some books."""
    await bus.put_many(BOOKS, {f"{b['exchange']} {b['symbol']}": orjson.dumps(b) for b in books})


async def put_venues(bus: Bus, *venues: dict[str, Any]) -> None:
    """State of some venues."""
    await bus.put_many(VENUE_STATES, {v["venue"]: orjson.dumps(v) for v in venues})


async def put_cut(bus: Bus, newest: dict[str, Any]) -> None:
    """The newest coherent cut."""
    await bus.put_many(SPREADS, {"cut": orjson.dumps(newest)})
