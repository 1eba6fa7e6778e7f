"""Crypto.com Exchange v1 REST: instruments and candlesticks.

What belongs here: Crypto.com's spellings, limits, shapes and error bodies. What does not: other venues.
"""

from __future__ import annotations

from typing import Any

from aiohttp import web

from altforecast.types import Timeframe
from altforecast_sandbox.coins import Pair
from altforecast_sandbox.exchanges.desk import Desk, Refusal, VenueService, bars, digits, step, whole_number
from altforecast_sandbox.faults import Bodies

_TIMEFRAMES = {
    "1m": Timeframe.M1, "5m": Timeframe.M5, "15m": Timeframe.M15, "1h": Timeframe.H1, "4h": Timeframe.H4, "1D": Timeframe.D1,
}  # fmt: skip
_DEFAULT_ROWS, _MOST_ROWS = 25, 300


def _routes(desk: Desk) -> dict[str, Any]:
    return {
        "/exchange/v1/public/get-instruments": lambda _: _ok("public/get-instruments", {"data": [_instrument(p) for p in desk.pairs]}),
        "/exchange/v1/public/get-candlestick": lambda request: _candlestick(desk, request),
    }


def _ok(method: str, result: dict[str, Any]) -> dict[str, Any]:
    return {"id": -1, "method": method, "code": 0, "result": result}


def _error(code: int, message: str) -> Refusal:
    return Refusal(400, {"id": -1, "method": "public/get-candlestick", "code": code, "message": message})


def spelled(pair: Pair) -> str:
    """The venue's name of a pair: `BTC_USDT`."""
    return f"{pair.base}_{pair.quote}"


def _instrument(pair: Pair) -> dict[str, Any]:
    return {
        "symbol": spelled(pair), "inst_type": "CCY_PAIR", "display_name": f"{pair.base}/{pair.quote}", "base_ccy": pair.base,
        "quote_ccy": pair.quote, "quote_decimals": pair.price_digits, "quantity_decimals": pair.amount_digits,
        "price_tick_size": step(pair.price_digits), "qty_tick_size": step(pair.amount_digits), "max_leverage": "50", "tradable": True,
        "expiry_timestamp_ms": 0, "beta_product": False, "margin_buy_enabled": False, "margin_sell_enabled": False,
    }  # fmt: skip


def _candlestick(desk: Desk, request: web.Request) -> dict[str, Any]:
    name, interval = request.query.get("instrument_name", ""), request.query.get("timeframe", "5m")
    pair, timeframe = desk.named(spelled).get(name), _TIMEFRAMES.get(interval)
    if pair is None:
        raise _error(30003, "Invalid instrument_name")
    if timeframe is None:
        raise _error(40003, "Invalid timeframe")
    start, end, count = (whole_number(request, n, None, _error(40003, f"Invalid {n}")) for n in ("start_ts", "end_ts", "count"))
    if count is not None and not 1 <= count <= _MOST_ROWS:
        raise _error(40003, "Invalid count")
    found = desk.last(pair.symbol, timeframe, count or _DEFAULT_ROWS, end, 0 if start is None else start + 1)
    data = [_row(row, pair) for row in bars(found)]
    return _ok("public/get-candlestick", {"interval": interval, "data": data, "instrument_name": name})


def _row(row: tuple[int, float, float, float, float, float], pair: Pair) -> dict[str, Any]:
    ts, *prices, volume = row
    texts = {name: digits(price, pair.price_digits) for name, price in zip("ohlc", prices, strict=True)}
    return texts | {"v": digits(volume, pair.amount_digits), "t": ts}


SERVICE = VenueService(
    "cryptocom",
    _routes,
    Bodies(
        limited=(429, {"id": -1, "code": 42901, "message": "TOO_MANY_REQUESTS"}),
        refused={"id": -1, "code": 10001, "message": "SYS_ERROR"},
    ),
)
