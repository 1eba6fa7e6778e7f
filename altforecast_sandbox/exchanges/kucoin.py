"""KuCoin REST spot: symbols, currencies, tickers, time and candles (newest first, order open, close, high, low).

What belongs here: KuCoin's spellings, limits, shapes and error bodies. What does not: other venues.
"""

from __future__ import annotations

from typing import Any

from aiohttp import web

from altforecast.types import Timeframe
from altforecast_sandbox.coins import Pair
from altforecast_sandbox.exchanges.coin_chains import kucoin_currencies
from altforecast_sandbox.exchanges.desk import Desk, Refusal, VenueService, bars, digits, step, whole_number
from altforecast_sandbox.faults import Bodies

_TYPES = {
    "1min": Timeframe.M1, "5min": Timeframe.M5, "15min": Timeframe.M15, "1hour": Timeframe.H1, "4hour": Timeframe.H4,
    "1day": Timeframe.D1,
}  # fmt: skip
_DEFAULT_ROWS, _MOST_ROWS = 100, 1500


def _routes(desk: Desk) -> dict[str, Any]:
    return {
        "/api/v1/timestamp": lambda _: {"code": "200000", "data": desk.now_ms(), "msg": "success"},
        "/api/v1/symbols": lambda _: _ok([_listed(p) for p in desk.pairs]),
        "/api/v2/symbols": lambda _: _ok([_listed(p) for p in desk.pairs]),
        "/api/v1/currencies": lambda _: _ok([]),
        "/api/v3/currencies": lambda _: _ok(kucoin_currencies()),
        "/api/v1/market/allTickers": lambda _: _ok({"time": desk.now_ms(), "ticker": [_fees(p) for p in desk.pairs]}),
        "/api/v1/contracts/active": lambda _: _ok([]),
        "/api/v1/market/candles": lambda request: _candles(desk, request),
    }


def _ok(data: Any) -> dict[str, Any]:
    return {"code": "200000", "data": data}


def _error(message: str) -> Refusal:
    return Refusal(200, {"code": "400100", "msg": message})


def spelled(pair: Pair) -> str:
    """The venue's name of a pair: `BTC-USDT`."""
    return f"{pair.base}-{pair.quote}"


def _listed(pair: Pair) -> dict[str, Any]:
    return {
        "symbol": spelled(pair), "name": spelled(pair), "baseCurrency": pair.base, "quoteCurrency": pair.quote,
        "feeCurrency": pair.quote, "market": pair.quote, "baseMinSize": step(pair.amount_digits), "quoteMinSize": "0.1",
        "baseMaxSize": "10000000000", "quoteMaxSize": "99999999", "baseIncrement": step(pair.amount_digits),
        "quoteIncrement": "0.000001", "priceIncrement": step(pair.price_digits), "minFunds": "0.1", "isMarginEnabled": False,
        "enableTrading": True,
    }  # fmt: skip


def _fees(pair: Pair) -> dict[str, str]:
    return {"symbol": spelled(pair), "takerFeeRate": "0.001", "makerFeeRate": "0.001", "takerCoefficient": "1", "makerCoefficient": "1"}


def _candles(desk: Desk, request: web.Request) -> dict[str, Any]:
    pair = desk.named(spelled).get(request.query.get("symbol", ""))
    if pair is None:
        raise _error("This pair is not provided at present")
    timeframe = _TYPES.get(request.query.get("type", ""))
    if timeframe is None:
        raise _error("Incorrect candlestick type")
    start, end = (whole_number(request, n, None, _error(f"Invalid {n}")) for n in ("startAt", "endAt"))  # seconds
    stop_ms = None if not end else end * 1000
    if start is None:
        found = desk.last(pair.symbol, timeframe, _DEFAULT_ROWS if end is None else _MOST_ROWS, stop_ms)
    else:
        found = desk.last(pair.symbol, timeframe, _MOST_ROWS, stop_ms, start * 1000)
    return _ok([_row(row, pair) for row in bars(found, is_newest_first=True)])


def _row(row: tuple[int, float, float, float, float, float], pair: Pair) -> list[str]:
    ts, open_, high, low, close, volume = row
    prices = [digits(p, pair.price_digits) for p in (open_, close, high, low)]
    return [str(ts // 1000), *prices, digits(volume, pair.amount_digits), digits(volume * close, 8)]


SERVICE = VenueService(
    "kucoin",
    _routes,
    Bodies(limited=(429, {"code": "429000", "msg": "Too Many Requests"}), refused={"code": "500000", "msg": "Internal Server Error"}),
)
