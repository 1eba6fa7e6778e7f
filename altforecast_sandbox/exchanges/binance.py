"""Binance spot REST: exchange information, time and klines.

What belongs here: Binance's spellings, limits, shapes and error bodies. What does not: other venues.
"""

from __future__ import annotations

from typing import Any

from aiohttp import web

from altforecast.types import Timeframe
from altforecast_sandbox.coins import Pair
from altforecast_sandbox.exchanges.desk import Desk, Refusal, VenueService, bars, digits, whole_number
from altforecast_sandbox.faults import Bodies
from altforecast_sandbox.market import Candles

_DEFAULT_ROWS, _MOST_ROWS = 500, 1000
_PRINTED_DIGITS = 8


def _routes(desk: Desk) -> dict[str, Any]:
    return {
        "/api/v3/time": lambda _: {"serverTime": desk.now_ms()},
        "/api/v3/ping": lambda _: {},
        "/api/v3/exchangeInfo": lambda _: _info(desk, [_symbol(p) for p in desk.pairs]),
        "/fapi/v1/exchangeInfo": lambda _: _info(desk, []),
        "/dapi/v1/exchangeInfo": lambda _: _info(desk, []),
        "/api/v3/klines": lambda request: _klines(desk, request),
    }


def _error(code: int, message: str) -> Refusal:
    return Refusal(400, {"code": code, "msg": message})


def _info(desk: Desk, symbols: list[dict[str, Any]]) -> dict[str, Any]:
    return {"timezone": "UTC", "serverTime": desk.now_ms(), "rateLimits": [], "exchangeFilters": [], "symbols": symbols}


def _symbol(pair: Pair) -> dict[str, Any]:
    tick, step = digits(10.0**-pair.price_digits, 8), digits(10.0**-pair.amount_digits, 8)
    return {
        "symbol": pair.base + pair.quote, "status": "TRADING", "baseAsset": pair.base, "baseAssetPrecision": 8,
        "quoteAsset": pair.quote, "quotePrecision": 8, "quoteAssetPrecision": 8, "orderTypes": ["LIMIT", "MARKET"],
        "icebergAllowed": True, "isSpotTradingAllowed": True, "isMarginTradingAllowed": False,
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": tick, "maxPrice": "1000000.00000000", "tickSize": tick},
            {"filterType": "LOT_SIZE", "minQty": step, "maxQty": "9000000.00000000", "stepSize": step},
            {"filterType": "NOTIONAL", "minNotional": "5.00000000", "applyMinToMarket": True, "maxNotional": "9000000.00000000"},
        ],
        "permissions": [], "permissionSets": [["SPOT"]],
    }  # fmt: skip


def _klines(desk: Desk, request: web.Request) -> list[list[Any]]:
    known = desk.named(lambda p: p.base + p.quote)
    name = request.query.get("symbol", "")
    if not name:
        raise _error(-1102, "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed.")
    if name not in known:
        raise _error(-1121, "Invalid symbol.")
    interval = request.query.get("interval", "")
    if interval not in [t.value for t in Timeframe]:
        raise _error(-1120, "Invalid interval.")
    start, end, limit = (whole_number(request, n, None, _illegal(n)) for n in ("startTime", "endTime", "limit"))
    rows = min(_DEFAULT_ROWS if limit is None else max(limit, 1), _MOST_ROWS)
    symbol, timeframe = known[name].symbol, Timeframe(interval)
    stop = None if end is None else end + 1
    found = desk.last(symbol, timeframe, rows, stop) if start is None else desk.first(symbol, timeframe, start, rows, stop)
    return _rows(found, timeframe)


def _illegal(name: str) -> Refusal:
    return _error(-1100, f"Illegal characters found in parameter '{name}'; legal range is '^[0-9]{{1,20}}$'.")


def _rows(found: Candles, timeframe: Timeframe) -> list[list[Any]]:
    rows = []
    for ts, open_, high, low, close, volume in bars(found):
        prices = [digits(v, _PRINTED_DIGITS) for v in (open_, high, low, close, volume)]
        quote = (high + low + close) / 3 * volume
        rows.append(
            [ts, *prices, ts + timeframe.ms - 1, digits(quote, 8), int(volume * 40) + 1, digits(volume / 2, 8), digits(quote / 2, 8), "0"]
        )
    return rows


SERVICE = VenueService(
    "binance",
    _routes,
    Bodies(
        limited=(429, {"code": -1003, "msg": "Too much request weight used; current limit is 6000 request weight per 1 MINUTE."}),
        refused={"code": -1001, "msg": "Internal error; unable to process your request. Please try again."},
    ),
)
