"""MEXC REST spot: exchange information, time and klines (500 per call, whatever the documentation says).

What belongs here: MEXC's spellings, limits, shapes and error bodies. What does not: other venues.
"""

from __future__ import annotations

from typing import Any

from aiohttp import web

from altforecast.types import Timeframe
from altforecast_sandbox.coins import Pair
from altforecast_sandbox.exchanges.desk import Desk, Refusal, VenueService, bars, digits, step, whole_number
from altforecast_sandbox.faults import Bodies

_INTERVALS = {
    "1m": Timeframe.M1, "5m": Timeframe.M5, "15m": Timeframe.M15, "60m": Timeframe.H1, "4h": Timeframe.H4, "1d": Timeframe.D1,
}  # fmt: skip
_MOST_ROWS = 500


def _routes(desk: Desk) -> dict[str, Any]:
    return {
        "/api/v3/time": lambda _: {"serverTime": desk.now_ms()},
        "/api/v3/exchangeInfo": lambda _: {
            "timezone": "CST", "serverTime": desk.now_ms(), "rateLimits": [], "exchangeFilters": [],
            "symbols": [_symbol(p) for p in desk.pairs],
        },
        "/api/v1/contract/detail": lambda _: {"success": True, "code": 0, "data": []},
        "/api/v3/klines": lambda request: _klines(desk, request),
    }  # fmt: skip


def _error(code: int, message: str) -> Refusal:
    return Refusal(400, {"code": code, "msg": message})


def spelled(pair: Pair) -> str:
    """The venue's name of a pair: `BTCUSDT`."""
    return pair.base + pair.quote


def _symbol(pair: Pair) -> dict[str, Any]:
    return {
        "symbol": spelled(pair), "status": "1", "baseAsset": pair.base, "baseAssetPrecision": pair.amount_digits,
        "quoteAsset": pair.quote, "quotePrecision": pair.price_digits, "quoteAssetPrecision": pair.price_digits,
        "baseCommissionPrecision": 8, "quoteCommissionPrecision": 8, "orderTypes": ["LIMIT", "MARKET"],
        "isSpotTradingAllowed": True, "isMarginTradingAllowed": False, "quoteAmountPrecision": "1",
        "baseSizePrecision": step(pair.amount_digits), "permissions": ["SPOT"], "filters": [], "maxQuoteAmount": "2000000",
        "makerCommission": "0", "takerCommission": "0.0005",
    }  # fmt: skip


def _klines(desk: Desk, request: web.Request) -> list[list[Any]]:
    pair = desk.named(spelled).get(request.query.get("symbol", ""))
    if pair is None:
        raise _error(-1121, "Invalid symbol.")
    timeframe = _INTERVALS.get(request.query.get("interval", ""))
    if timeframe is None:
        raise _error(-1120, "Invalid interval.")
    start, end, limit = (whole_number(request, n, None, _error(-1100, f"Illegal parameter {n}")) for n in ("startTime", "endTime", "limit"))
    rows = min(max(limit or _MOST_ROWS, 1), _MOST_ROWS)
    found = desk.last(pair.symbol, timeframe, rows, end) if start is None else desk.first(pair.symbol, timeframe, start, rows, end)
    return [_row(row, pair, timeframe) for row in bars(found)]


def _row(row: tuple[int, float, float, float, float, float], pair: Pair, timeframe: Timeframe) -> list[Any]:
    ts, *prices, volume = row
    texts = [digits(p, pair.price_digits) for p in prices]
    return [ts, *texts, digits(volume, pair.amount_digits), ts + timeframe.ms, digits(volume * prices[-1], 2)]


SERVICE = VenueService(
    "mexc", _routes, Bodies(limited=(429, {"code": 429, "msg": "Too Many Requests"}), refused={"code": 500, "msg": "Internal error"})
)
