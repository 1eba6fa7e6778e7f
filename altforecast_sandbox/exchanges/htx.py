"""HTX REST spot: symbols, currencies, time and history candles (newest first, numbers as numbers).

What belongs here: HTX's spellings, limits, shapes and error bodies. What does not: other venues.
"""

from __future__ import annotations

from typing import Any

from aiohttp import web

from altforecast.types import Timeframe
from altforecast_sandbox.coins import Pair
from altforecast_sandbox.exchanges.coin_chains import htx_currencies
from altforecast_sandbox.exchanges.desk import Desk, Refusal, VenueService, bars, whole_number
from altforecast_sandbox.faults import Bodies

_PERIODS = {
    "1min": Timeframe.M1, "5min": Timeframe.M5, "15min": Timeframe.M15, "60min": Timeframe.H1, "4hour": Timeframe.H4,
    "1day": Timeframe.D1,
}  # fmt: skip
_DEFAULT_ROWS, _MOST_ROWS = 150, 1000
# ccxt refuses an empty list of contracts, so each contract type lists one.
_LINEAR = {
    "symbol": "BTC", "contract_code": "BTC-USDT", "contract_size": 0.001, "price_tick": 0.1, "delivery_date": "", "delivery_time": "",
    "create_date": "20201021", "contract_status": 1, "contract_type": "swap", "pair": "BTC-USDT", "business_type": "swap",
}  # fmt: skip
_INVERSE = {
    "symbol": "BTC", "contract_code": "BTC-USD", "contract_size": 100.0, "price_tick": 0.1, "delivery_time": "",
    "create_date": "20200325", "contract_status": 1,
}  # fmt: skip
_FUTURE = {
    "symbol": "BTC", "contract_code": "BTC270326", "contract_type": "quarter", "contract_size": 100.0, "price_tick": 0.01,
    "delivery_date": "20270326", "delivery_time": "1806048000000", "create_date": "20260925", "contract_status": 1,
}  # fmt: skip


def _routes(desk: Desk) -> dict[str, Any]:
    return {
        "/v1/common/timestamp": lambda _: _ok(desk.now_ms()),
        "/v1/common/symbols": lambda _: _ok([_symbol(p) for p in desk.pairs]),
        "/v2/reference/currencies": lambda _: {"code": 200, "data": htx_currencies()},
        "/linear-swap-api/v1/swap_contract_info": lambda _: _ok([_LINEAR]),
        "/swap-api/v1/swap_contract_info": lambda _: _ok([_INVERSE]),
        "/api/v1/contract_contract_info": lambda _: _ok([_FUTURE]),
        "/market/history/candles": lambda request: _candles(desk, request),
        "/market/history/kline": lambda request: _candles(desk, request),
    }


def _ok(data: Any) -> dict[str, Any]:
    return {"status": "ok", "data": data}


def _error(desk: Desk, message: str) -> Refusal:
    return Refusal(200, {"ts": desk.now_ms(), "status": "error", "err-code": "invalid-parameter", "err-msg": message})


def spelled(pair: Pair) -> str:
    """The venue's name of a pair: `btcusdt`."""
    return (pair.base + pair.quote).lower()


def _symbol(pair: Pair) -> dict[str, Any]:
    return {
        "base-currency": pair.base.lower(), "quote-currency": pair.quote.lower(), "price-precision": pair.price_digits,
        "amount-precision": pair.amount_digits, "symbol-partition": "main", "symbol": spelled(pair), "state": "online",
        "value-precision": 8, "min-order-amt": 10.0**-pair.amount_digits, "max-order-amt": 10_000_000, "min-order-value": 5,
        "api-trading": "enabled",
    }  # fmt: skip


def _candles(desk: Desk, request: web.Request) -> dict[str, Any]:
    name, period = request.query.get("symbol", ""), request.query.get("period", "")
    pair, timeframe = desk.named(spelled).get(name), _PERIODS.get(period)
    if pair is None:
        raise _error(desk, "invalid symbol")
    if timeframe is None:
        raise _error(desk, "invalid period")
    start, end, size = (whole_number(request, n, None, _error(desk, f"invalid {n}")) for n in ("from", "to", "size"))  # seconds
    if size is not None and not 1 <= size <= (2 * _MOST_ROWS if request.path.endswith("kline") else _MOST_ROWS):
        raise _error(desk, "invalid size, valid range: [1, 1000]")
    rows, stop_ms = size or _DEFAULT_ROWS, None if end is None else end * 1000 + 1
    found = (
        desk.last(pair.symbol, timeframe, rows, stop_ms)
        if start is None
        else desk.first(pair.symbol, timeframe, start * 1000, rows, stop_ms)
    )
    listed = [_row(row) for row in bars(found, is_newest_first=True)]
    return {"ch": f"market.{name}.kline.{period}", "status": "ok", "ts": desk.now_ms(), "data": listed}


def _row(row: tuple[int, float, float, float, float, float]) -> dict[str, Any]:
    ts, open_, high, low, close, volume = row
    return {
        "id": ts // 1000, "open": open_, "close": close, "low": low, "high": high, "amount": volume, "vol": volume * close,
        "count": int(volume * 20) + 1,
    }  # fmt: skip


SERVICE = VenueService(
    "htx",
    _routes,
    Bodies(
        limited=(429, {"status": "error", "err-code": "rate-too-many-requests", "err-msg": "exceeded rate limit", "data": None}),
        refused={"status": "error", "err-code": "system-maintenance", "err-msg": "System is in maintenance!", "data": None},
    ),
)
