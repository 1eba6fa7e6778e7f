"""Bitfinex v2 REST: configuration and candles (order open, close, high, low; quiet bars left out).

What belongs here: Bitfinex's spellings, limits, shapes and error bodies. What does not: other venues.
"""

from __future__ import annotations

from typing import Any

from aiohttp import web

from altforecast.types import Timeframe
from altforecast_sandbox.coins import COINS, Pair
from altforecast_sandbox.exchanges.desk import Desk, Refusal, VenueService, bars, whole_number
from altforecast_sandbox.faults import Bodies

_TIMEFRAMES = {
    "1m": Timeframe.M1, "5m": Timeframe.M5, "15m": Timeframe.M15, "1h": Timeframe.H1, "4h": Timeframe.H4, "1D": Timeframe.D1,
}  # fmt: skip
_DEFAULT_ROWS, _MOST_ROWS = 100, 10_000
_TETHER = "UST"


def _routes(desk: Desk) -> dict[str, Any]:
    return {
        "/v2/conf/{labels}": lambda request: [_conf(desk, label) for label in request.match_info["labels"].split(",")],
        "/v2/candles/{series}/hist": lambda request: _candles(desk, request),
    }


def _error(message: str) -> Refusal:
    return Refusal(500, ["error", 10020, message])


def spelled(pair: Pair) -> str:
    """The venue's name of a pair: `BTCUST`, `LINK:UST`; in requests behind a `t`."""
    base, quote = (_TETHER if coin == "USDT" else coin for coin in (pair.base, pair.quote))
    return f"{base}:{quote}" if len(base) > 3 else base + quote


def _conf(desk: Desk, label: str) -> list[Any]:
    answers: dict[str, list[Any]] = {
        "pub:info:pair": [[spelled(p), [None, None, None, "0.0001", "100000", None, None, None, None, None]] for p in desk.pairs],
        "pub:list:currency": [c.code for c in COINS] + [_TETHER, "USD"],
        "pub:map:currency:sym": [[_TETHER, "USDt"]],
    }
    return answers.get(label, [])


def _candles(desk: Desk, request: web.Request) -> list[list[Any]]:
    kind, interval, name = [*request.match_info["series"].split(":", 2), "", ""][:3]
    pair = desk.named(lambda p: f"t{spelled(p)}").get(name)
    if pair is None or kind != "trade":
        raise _error("symbol: invalid")
    timeframe = _TIMEFRAMES.get(interval)
    if timeframe is None:
        raise _error("time_interval: invalid")
    start, end, limit = (whole_number(request, n, None, _error(f"{n}: invalid")) for n in ("start", "end", "limit"))
    if limit is not None and not 1 <= limit <= _MOST_ROWS:
        raise _error("limit: invalid")
    rows, stop_ms, is_rising = limit or _DEFAULT_ROWS, None if end is None else end + 1, request.query.get("sort") == "1"
    if is_rising:
        found = desk.first(pair.symbol, timeframe, start or 0, rows, stop_ms)
    else:
        found = desk.last(pair.symbol, timeframe, rows, stop_ms, start or 0)
    return [[ts, open_, close, high, low, volume] for ts, open_, high, low, close, volume in bars(found, is_newest_first=not is_rising)]


SERVICE = VenueService(
    "bitfinex", _routes, Bodies(limited=(429, ["error", 11010, "ratelimit: error"]), refused=["error", 20060, "maintenance"])
)
