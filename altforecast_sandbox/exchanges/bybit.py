"""Bybit v5 REST: instruments, time and klines (newest first).

What belongs here: Bybit's spellings, limits, shapes and error bodies. What does not: other venues.
"""

from __future__ import annotations

from typing import Any

from aiohttp import web

from altforecast.types import Timeframe
from altforecast_sandbox.coins import Pair
from altforecast_sandbox.exchanges.desk import Desk, Refusal, VenueService, bars, digits, step, whole_number
from altforecast_sandbox.faults import Bodies

_INTERVALS = {
    "1": Timeframe.M1, "5": Timeframe.M5, "15": Timeframe.M15, "60": Timeframe.H1, "240": Timeframe.H4, "D": Timeframe.D1,
}  # fmt: skip
_DEFAULT_ROWS, _MOST_ROWS = 200, 1000


def _routes(desk: Desk) -> dict[str, Any]:
    return {
        "/v5/market/time": lambda _: _ok(desk, {"timeSecond": str(desk.now_ms() // 1000), "timeNano": f"{desk.now_ms()}000000"}),
        "/v5/market/instruments-info": lambda request: _instruments(desk, request),
        "/v5/market/kline": lambda request: _kline(desk, request),
    }


def _ok(desk: Desk, result: dict[str, Any]) -> dict[str, Any]:
    return {"retCode": 0, "retMsg": "OK", "result": result, "retExtInfo": {}, "time": desk.now_ms()}


def _error(message: str) -> Refusal:
    return Refusal(200, {"retCode": 10001, "retMsg": message, "result": {}, "retExtInfo": {}, "time": 0})


def _spelled(pair: Pair) -> str:
    return pair.base + pair.quote


def _instruments(desk: Desk, request: web.Request) -> dict[str, Any]:
    category = request.query.get("category", "")
    if category not in ("spot", "linear", "inverse", "option"):
        raise _error("Illegal category")
    listed = [_instrument(p) for p in desk.pairs] if category == "spot" else []
    return _ok(desk, {"category": category, "list": listed, "nextPageCursor": ""})


def _instrument(pair: Pair) -> dict[str, Any]:
    return {
        "symbol": _spelled(pair), "baseCoin": pair.base, "quoteCoin": pair.quote, "innovation": "0", "status": "Trading",
        "marginTrading": "none",
        "lotSizeFilter": {
            "basePrecision": step(pair.amount_digits), "quotePrecision": "0.00000001", "minOrderQty": step(pair.amount_digits),
            "maxOrderQty": "9999999", "minOrderAmt": "1", "maxOrderAmt": "4000000",
        },
        "priceFilter": {"tickSize": step(pair.price_digits)},
    }  # fmt: skip


def _kline(desk: Desk, request: web.Request) -> dict[str, Any]:
    category = request.query.get("category", "linear")
    pair = desk.named(_spelled).get(request.query.get("symbol", "")) if category == "spot" else None
    if pair is None:
        raise _error("Not supported symbols")
    timeframe = _INTERVALS.get(request.query.get("interval", ""))
    if timeframe is None:
        raise _error("Invalid period!")
    start, end, limit = (whole_number(request, n, None, _error(f"params error: {n} invalid")) for n in ("start", "end", "limit"))
    if limit is not None and not 1 <= limit <= _MOST_ROWS:
        raise _error("params error: limit should be between 1 and 1000")
    stop = None if end is None else end + 1
    rows = limit or _DEFAULT_ROWS
    found = desk.last(pair.symbol, timeframe, rows, stop) if start is None else desk.first(pair.symbol, timeframe, start, rows, stop)
    listed = [_row(row, pair) for row in bars(found, is_newest_first=True)]
    return _ok(desk, {"category": category, "symbol": _spelled(pair), "list": listed})


def _row(row: tuple[int, float, float, float, float, float], pair: Pair) -> list[str]:
    ts, *prices, volume = row
    texts = [digits(p, pair.price_digits) for p in prices]
    return [str(ts), *texts, digits(volume, pair.amount_digits), digits(volume * prices[-1], 6)]


SERVICE = VenueService(
    "bybit",
    _routes,
    Bodies(
        limited=(403, {"retCode": 10006, "retMsg": "Too many visits!", "result": {}, "retExtInfo": {}, "time": 0}),
        refused={"retCode": 10016, "retMsg": "Internal server error.", "result": {}, "retExtInfo": {}, "time": 0},
    ),
)
