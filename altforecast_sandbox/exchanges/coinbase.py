"""Coinbase Advanced REST: products, currencies, time and candles (no 4h, at most 350 per call, quiet bars left out).

What belongs here: Coinbase's spellings, limits, shapes and error bodies. What does not: other venues.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from altforecast.types import Timeframe
from altforecast_sandbox.coins import COINS, Pair
from altforecast_sandbox.exchanges.desk import Desk, Refusal, VenueService, bars, digits, step, whole_number
from altforecast_sandbox.faults import Bodies

_GRANULARITIES = {
    "ONE_MINUTE": Timeframe.M1, "FIVE_MINUTE": Timeframe.M5, "FIFTEEN_MINUTE": Timeframe.M15, "ONE_HOUR": Timeframe.H1,
    "ONE_DAY": Timeframe.D1,
}  # fmt: skip
_MOST_ROWS = 350


def _routes(desk: Desk) -> dict[str, Any]:
    return {
        "/v2/time": lambda _: {"data": {"iso": _iso(desk), "epoch": desk.now_ms() // 1000}},
        "/v2/currencies": lambda _: {"data": [{"id": "USD", "name": "United States Dollar", "min_size": "0.01"}]},
        "/v2/currencies/crypto": lambda _: {"data": [_currency(c.code, c.name) for c in COINS] + [_currency("USDT", "Tether")]},
        "/v2/exchange-rates": lambda _: {"data": {"currency": "USD", "rates": {}}},
        "/api/v3/brokerage/time": lambda _: {
            "iso": _iso(desk), "epochSeconds": str(desk.now_ms() // 1000), "epochMillis": str(desk.now_ms()),
        },
        "/api/v3/brokerage/market/products": lambda request: _products(desk, request),
        "/api/v3/brokerage/market/products/{product}/candles": lambda request: _candles(desk, request),
    }  # fmt: skip


def _iso(desk: Desk) -> str:
    return datetime.fromtimestamp(desk.now_ms() // 1000, tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _error(status: int, name: str, message: str) -> Refusal:
    return Refusal(status, {"error": name, "error_details": message, "message": message})


def spelled(pair: Pair) -> str:
    """The venue's name of a pair: `BTC-USD`."""
    return f"{pair.base}-{pair.quote}"


def _currency(code: str, name: str) -> dict[str, str]:
    return {"asset_id": f"sandbox-{code.lower()}", "code": code, "name": name, "type": "crypto"}


def _products(desk: Desk, request: web.Request) -> dict[str, Any]:
    is_spot = request.query.get("product_type", "SPOT") == "SPOT"
    listed = [_product(p) for p in desk.pairs] if is_spot else []
    return {"products": listed, "num_products": len(listed)}


def _product(pair: Pair) -> dict[str, Any]:
    return {
        "product_id": spelled(pair), "base_increment": step(pair.amount_digits), "quote_increment": step(pair.price_digits),
        "price_increment": step(pair.price_digits), "quote_min_size": "1", "quote_max_size": "50000000",
        "base_min_size": step(pair.amount_digits), "base_max_size": "3400000", "status": "online", "trading_disabled": False,
        "product_type": "SPOT", "quote_currency_id": pair.quote, "base_currency_id": pair.base, "alias": "", "alias_to": [],
    }  # fmt: skip


def _candles(desk: Desk, request: web.Request) -> dict[str, Any]:
    pair = desk.named(spelled).get(request.match_info["product"])
    if pair is None:
        raise _error(404, "NOT_FOUND", "valid product_id is required")
    timeframe = _GRANULARITIES.get(request.query.get("granularity", ""))
    if timeframe is None:
        raise _error(400, "INVALID_ARGUMENT", "granularity argument is invalid")
    wrong = _error(400, "INVALID_ARGUMENT", "start and end argument is invalid")
    start, end = (whole_number(request, n, None, wrong) for n in ("start", "end"))  # seconds, both inclusive
    if start is None or end is None:
        raise wrong
    if (end - start) * 1000 // timeframe.ms >= _MOST_ROWS:
        raise _error(
            400, "INVALID_ARGUMENT", f"start and end argument is invalid - number of candles requested should be less than {_MOST_ROWS}"
        )
    found = desk.first(pair.symbol, timeframe, start * 1000, _MOST_ROWS, end * 1000 + 1)
    return {"candles": [_row(row, pair) for row in bars(found, is_newest_first=True)]}


def _row(row: tuple[int, float, float, float, float, float], pair: Pair) -> dict[str, str]:
    ts, open_, high, low, close, volume = row
    prices = {"low": low, "high": high, "open": open_, "close": close}
    texts = {name: digits(price, pair.price_digits) for name, price in prices.items()}
    return {"start": str(ts // 1000)} | texts | {"volume": digits(volume, pair.amount_digits)}


SERVICE = VenueService(
    "coinbase",
    _routes,
    Bodies(
        limited=(429, {"errors": [{"id": "rate_limit_exceeded", "message": "Too many requests"}]}),
        refused={"error": "INTERNAL", "error_details": "internal error", "message": "internal error"},
    ),
)
