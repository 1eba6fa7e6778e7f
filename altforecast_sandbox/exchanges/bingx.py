"""BingX REST spot: symbols, time and klines (newest first, numbers as numbers).

What belongs here: BingX's spellings, limits, shapes and error bodies. What does not: other venues.
"""

from __future__ import annotations

from typing import Any

from aiohttp import web

from altforecast.types import Timeframe
from altforecast_sandbox.coins import Pair
from altforecast_sandbox.exchanges.desk import Desk, Refusal, VenueService, bars, whole_number
from altforecast_sandbox.faults import Bodies

_DEFAULT_ROWS, _MOST_ROWS = 500, 1440


def _routes(desk: Desk) -> dict[str, Any]:
    return {
        "/openApi/swap/v2/server/time": lambda _: _ok(desk, {"serverTime": desk.now_ms()}),
        "/openApi/spot/v1/common/symbols": lambda _: _ok(desk, {"symbols": [_symbol(p) for p in desk.pairs]}),
        "/openApi/swap/v2/quote/contracts": lambda _: _ok(desk, []),
        "/openApi/cswap/v1/market/contracts": lambda _: _ok(desk, []),
        "/openApi/spot/v1/market/kline": lambda request: _kline(desk, request),
    }


def _ok(desk: Desk, data: Any) -> dict[str, Any]:
    return {"code": 0, "timestamp": desk.now_ms(), "msg": "", "data": data}


def _error(code: int, message: str) -> Refusal:
    return Refusal(200, {"code": code, "msg": message, "debugMsg": ""})


def spelled(pair: Pair) -> str:
    """The venue's name of a pair: `BTC-USDT`."""
    return f"{pair.base}-{pair.quote}"


def _symbol(pair: Pair) -> dict[str, Any]:
    return {
        "symbol": spelled(pair), "minQty": 0, "maxQty": 0, "minNotional": 5, "maxNotional": 1000000, "status": 1,
        "tickSize": 10.0**-pair.price_digits, "stepSize": 10.0**-pair.amount_digits, "apiStateSell": True, "apiStateBuy": True,
        "timeOnline": 0,
    }  # fmt: skip


def _kline(desk: Desk, request: web.Request) -> dict[str, Any]:
    name = request.query.get("symbol", "")
    pair = desk.named(spelled).get(name)
    if pair is None:
        raise _error(109425, f"{name} not exist, please verify it")
    interval = request.query.get("interval", "")
    if interval not in [t.value for t in Timeframe]:
        raise _error(100400, "interval is invalid")
    start, end, limit = (whole_number(request, n, None, _error(100400, f"{n} is invalid")) for n in ("startTime", "endTime", "limit"))
    if limit is not None and not 1 <= limit <= _MOST_ROWS:
        raise _error(100400, f"limit is invalid: at most {_MOST_ROWS}")
    timeframe, rows, stop_ms = Timeframe(interval), limit or _DEFAULT_ROWS, None if end is None else end + 1
    found = desk.last(pair.symbol, timeframe, rows, stop_ms) if start is None else desk.first(pair.symbol, timeframe, start, rows, stop_ms)
    return _ok(desk, [_row(row, timeframe) for row in bars(found, is_newest_first=True)])


def _row(row: tuple[int, float, float, float, float, float], timeframe: Timeframe) -> list[Any]:
    ts, *prices, volume = row
    return [ts, *prices, volume, ts + timeframe.ms - 1, round(volume * prices[-1], 2)]


SERVICE = VenueService(
    "bingx",
    _routes,
    Bodies(
        limited=(429, {"code": 100410, "msg": "rate limitation", "debugMsg": ""}),
        refused={"code": 100500, "msg": "internal system error", "debugMsg": ""},
    ),
)
