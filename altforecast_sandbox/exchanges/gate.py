"""Gate v4 REST spot: currencies, pairs, time and candlesticks (order close, high, low, open).

What belongs here: Gate's spellings, limits, shapes and error bodies. What does not: other venues.
"""

from __future__ import annotations

from typing import Any

from aiohttp import web

from altforecast.types import Timeframe
from altforecast_sandbox.coins import Pair
from altforecast_sandbox.exchanges.desk import Desk, Refusal, VenueService, bars, digits, step, whole_number
from altforecast_sandbox.faults import Bodies

_DEFAULT_ROWS, _MOST_ROWS, _REACH_BARS = 100, 1000, 10_000


def _routes(desk: Desk) -> dict[str, Any]:
    return {
        "/api/v4/spot/time": lambda _: {"server_time": desk.now_ms()},
        "/api/v4/spot/currencies": lambda _: [],
        "/api/v4/spot/currency_pairs": lambda _: [_listed(p) for p in desk.pairs],
        "/api/v4/margin/currency_pairs": lambda _: [],
        "/api/v4/futures/{settle}/contracts": lambda _: [],
        "/api/v4/delivery/{settle}/contracts": lambda _: [],
        "/api/v4/options/underlyings": lambda _: [],
        "/api/v4/spot/candlesticks": lambda request: _candlesticks(desk, request),
    }


def _error(label: str, message: str) -> Refusal:
    return Refusal(400, {"label": label, "message": message})


def spelled(pair: Pair) -> str:
    """The venue's name of a pair: `BTC_USDT`."""
    return f"{pair.base}_{pair.quote}"


def _listed(pair: Pair) -> dict[str, Any]:
    return {
        "id": spelled(pair), "base": pair.base, "base_name": pair.base, "quote": pair.quote, "quote_name": pair.quote, "fee": "0.2",
        "min_base_amount": step(pair.amount_digits), "min_quote_amount": "3", "max_quote_amount": "5000000",
        "amount_precision": pair.amount_digits, "precision": pair.price_digits, "trade_status": "tradable",
        "sell_start": 0, "buy_start": 0, "type": "normal",
    }  # fmt: skip


def _candlesticks(desk: Desk, request: web.Request) -> list[list[str]]:
    pair = desk.named(spelled).get(request.query.get("currency_pair", ""))
    if pair is None:
        raise _error("INVALID_CURRENCY_PAIR", f"Invalid currency pair {request.query.get('currency_pair', '')}")
    interval = request.query.get("interval", "30m")
    if interval not in [t.value for t in Timeframe]:
        raise _error("INVALID_PARAM_VALUE", "Invalid interval")
    start, end, limit = (
        whole_number(request, n, None, _error("INVALID_PARAM_VALUE", f"Invalid {n}")) for n in ("from", "to", "limit")
    )  # seconds
    timeframe = Timeframe(interval)
    if limit is not None and start is not None:
        raise _error("INVALID_PARAM_VALUE", "limit conflicts with from and to")
    if limit is not None and not 1 <= limit <= _MOST_ROWS:
        raise _error("INVALID_PARAM_VALUE", f"Invalid limit, must be between 1 and {_MOST_ROWS}")
    found = _between(desk, pair, timeframe, start, end, limit or _DEFAULT_ROWS)
    now_open = desk.now_ms() // timeframe.ms * timeframe.ms
    return [_row(row, pair, now_open) for row in found]


def _between(desk: Desk, pair: Pair, timeframe: Timeframe, start: int | None, end: int | None, limit: int) -> list[Any]:
    stop_ms = desk.now_ms() + 1 if end is None else end * 1000 + 1
    if start is None:
        return bars(desk.last(pair.symbol, timeframe, limit, stop_ms))
    start_ms = start * 1000
    if (stop_ms - start_ms) // timeframe.ms > _MOST_ROWS:
        raise _error("INVALID_PARAM_VALUE", "Candlestick range too broad. Maximum 1000 data points are allowed per request")
    if (desk.now_ms() - start_ms) // timeframe.ms > _REACH_BARS:
        raise _error("INVALID_PARAM_VALUE", "Candlestick too long ago. Maximum 10000 points ago are allowed")
    return bars(desk.first(pair.symbol, timeframe, start_ms, _MOST_ROWS, stop_ms))


def _row(row: tuple[int, float, float, float, float, float], pair: Pair, now_open: int) -> list[str]:
    ts, open_, high, low, close, volume = row
    prices = [digits(p, pair.price_digits) for p in (close, high, low, open_)]
    closed = "true" if ts < now_open else "false"
    return [str(ts // 1000), digits(volume * close, 8), *prices, digits(volume, pair.amount_digits), closed]


SERVICE = VenueService(
    "gate",
    _routes,
    Bodies(
        limited=(429, {"label": "TOO_MANY_REQUESTS", "message": "Request Rate limit Exceeded"}),
        refused={"label": "SERVER_ERROR", "message": "Server error"},
    ),
)
