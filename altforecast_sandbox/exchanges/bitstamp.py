"""Bitstamp v2 REST: markets and OHLC (quiet bars flat).

What belongs here: Bitstamp's spellings, limits, shapes and error bodies. What does not: other venues.
"""

from __future__ import annotations

from typing import Any

from aiohttp import web

from altforecast.types import Timeframe
from altforecast_sandbox.coins import Pair
from altforecast_sandbox.exchanges.desk import Desk, Refusal, VenueService, bars, digits, whole_number
from altforecast_sandbox.faults import Bodies

_STEPS = {str(t.ms // 1000): t for t in Timeframe}
_MOST_ROWS = 1000


def _routes(desk: Desk) -> dict[str, Any]:
    return {
        "/api/v2/markets/": lambda _: [_market(p) for p in desk.pairs],
        "/api/v2/ohlc/{pair}/": lambda request: _ohlc(desk, request),
    }


def _error(field: str, message: str) -> Refusal:
    return Refusal(400, {"status": "error", "code": "400.002", "reason": message, "errors": [{"field": field, "message": message}]})


def _spelled(pair: Pair) -> str:
    return (pair.base + pair.quote).lower()


def _market(pair: Pair) -> dict[str, Any]:
    return {
        "name": f"{pair.base}/{pair.quote}", "market_symbol": _spelled(pair), "base_currency": pair.base, "base_decimals": 8,
        "counter_currency": pair.quote, "counter_decimals": pair.price_digits, "minimum_order_value": "10", "trading": "Enabled",
        "instant_order_counter_decimals": pair.price_digits, "instant_and_market_orders": "Enabled",
        "description": f"{pair.base} / {pair.quote}", "market_type": "SPOT",
    }  # fmt: skip


def _ohlc(desk: Desk, request: web.Request) -> dict[str, Any]:
    pair = desk.named(_spelled).get(request.match_info["pair"])
    if pair is None:
        raise Refusal(404, {"status": "error", "code": "404.001", "reason": "Invalid currency pair."})
    timeframe = _STEPS.get(request.query.get("step", ""))
    if timeframe is None:
        raise _error("step", "Not a valid choice.")
    start, end, limit = (whole_number(request, n, None, _error(n, "Not a valid integer.")) for n in ("start", "end", "limit"))  # seconds
    if limit is None or not 1 <= limit <= _MOST_ROWS:
        raise _error("limit", f"Must be between 1 and {_MOST_ROWS}.")
    stop_ms = None if end is None else end * 1000 + 1
    if start is None:
        found = desk.last(pair.symbol, timeframe, limit, stop_ms)
    else:
        found = desk.first(pair.symbol, timeframe, start * 1000, limit, stop_ms)
    return {"data": {"pair": f"{pair.base}/{pair.quote}", "ohlc": [_row(row, pair) for row in bars(found)]}}


def _row(row: tuple[int, float, float, float, float, float], pair: Pair) -> dict[str, str]:
    ts, open_, high, low, close, volume = row
    prices = {"open": open_, "high": high, "low": low, "close": close}
    texts = {name: digits(price, pair.price_digits) for name, price in prices.items()}
    return {"timestamp": str(ts // 1000)} | texts | {"volume": digits(volume, 8)}


SERVICE = VenueService(
    "bitstamp",
    _routes,
    Bodies(
        limited=(429, {"status": "error", "code": "400.002", "reason": "Request rate limit exceeded."}),
        refused={"status": "error", "code": "500.001", "reason": "Internal server error."},
    ),
)
