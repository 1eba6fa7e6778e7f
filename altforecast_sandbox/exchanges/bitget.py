"""Bitget v2 REST spot: symbols, coins, time, candles and history candles (which align on the end time).

What belongs here: Bitget's spellings, limits, shapes and error bodies. What does not: other venues.
"""

from __future__ import annotations

from typing import Any

from aiohttp import web

from altforecast.types import Timeframe
from altforecast_sandbox.coins import Pair
from altforecast_sandbox.exchanges.coin_chains import bitget_coins
from altforecast_sandbox.exchanges.desk import Desk, Refusal, VenueService, bars, digits, whole_number
from altforecast_sandbox.faults import Bodies

_GRANULARITIES = {
    "1min": Timeframe.M1, "5min": Timeframe.M5, "15min": Timeframe.M15, "1h": Timeframe.H1, "4h": Timeframe.H4,
    "1Dutc": Timeframe.D1,
}  # fmt: skip
"""Plain `1day`, which the venue cuts at UTC+8, is not served."""
_DEFAULT_ROWS, _MOST_RECENT, _MOST_HISTORY = 100, 1000, 200
_DAY_MS = 86_400_000
_RECENT_DAYS = {
    Timeframe.M1: 30, Timeframe.M5: 30, Timeframe.M15: 30, Timeframe.H1: 60, Timeframe.H4: 240, Timeframe.D1: 1440,
}  # fmt: skip


def _routes(desk: Desk) -> dict[str, Any]:
    return {
        "/api/v2/public/time": lambda _: _ok(desk, {"serverTime": str(desk.now_ms())}),
        "/api/v2/spot/public/coins": lambda _: _ok(desk, bitget_coins()),
        "/api/v2/spot/public/symbols": lambda _: _ok(desk, [_listed(p) for p in desk.pairs]),
        "/api/v2/margin/currencies": lambda _: _ok(desk, []),
        "/api/v2/mix/market/contracts": lambda _: _ok(desk, []),
        "/api/v2/spot/market/candles": lambda request: _candles(desk, request, is_history=False),
        "/api/v2/spot/market/history-candles": lambda request: _candles(desk, request, is_history=True),
    }


def _ok(desk: Desk, data: Any) -> dict[str, Any]:
    return {"code": "00000", "msg": "success", "requestTime": desk.now_ms(), "data": data}


def _error(code: str, message: str) -> Refusal:
    return Refusal(400, {"code": code, "msg": message, "requestTime": 0, "data": None})


def spelled(pair: Pair) -> str:
    """The venue's name of a pair: `BTCUSDT`."""
    return pair.base + pair.quote


def _listed(pair: Pair) -> dict[str, Any]:
    return {
        "symbol": spelled(pair), "baseCoin": pair.base, "quoteCoin": pair.quote, "minTradeAmount": "0", "maxTradeAmount": "900000000",
        "takerFeeRate": "0.001", "makerFeeRate": "0.001", "pricePrecision": str(pair.price_digits),
        "quantityPrecision": str(pair.amount_digits), "quotePrecision": "8", "status": "online", "minTradeUSDT": "1",
    }  # fmt: skip


def _candles(desk: Desk, request: web.Request, is_history: bool) -> dict[str, Any]:
    name = request.query.get("symbol", "")
    pair = desk.named(spelled).get(name)
    if pair is None:
        raise _error("40309", f"The symbol {name} has been removed or does not exist")
    timeframe = _GRANULARITIES.get(request.query.get("granularity", ""))
    if timeframe is None:
        raise _error("400171", "Parameter verification failed: granularity")
    start, end, limit = (
        whole_number(request, n, None, _error("40017", f"Parameter verification failed: {n}")) for n in ("startTime", "endTime", "limit")
    )
    most = _MOST_HISTORY if is_history else _MOST_RECENT
    if limit is not None and not 1 <= limit <= most:
        raise _error("40017", "Parameter verification failed: limit")
    if is_history and end is None:
        raise _error("40019", "Parameter endTime cannot be empty")
    # The history endpoint knows an end only; the recent one reaches back a number of days.
    floor = 0 if is_history else max(start or 0, desk.now_ms() - _RECENT_DAYS[timeframe] * _DAY_MS)
    found = desk.last(pair.symbol, timeframe, limit or _DEFAULT_ROWS, end, floor)
    return _ok(desk, [_row(row, pair) for row in bars(found)])


def _row(row: tuple[int, float, float, float, float, float], pair: Pair) -> list[str]:
    ts, *prices, volume = row
    quote = digits(volume * prices[-1], 6)
    return [str(ts), *(digits(p, pair.price_digits) for p in prices), digits(volume, pair.amount_digits), quote, quote]


SERVICE = VenueService(
    "bitget",
    _routes,
    Bodies(
        limited=(429, {"code": "429", "msg": "Too Many Requests", "requestTime": 0, "data": None}),
        refused={"code": "40725", "msg": "service return an error", "requestTime": 0, "data": None},
    ),
)
