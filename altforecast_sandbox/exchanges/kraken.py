"""Kraken REST: assets, pairs, time and OHLC (the newest 720 bars, whatever is asked).

What belongs here: Kraken's spellings, limits, shapes and error bodies. What does not: other venues.
"""

from __future__ import annotations

from typing import Any

from aiohttp import web

from altforecast.types import Timeframe
from altforecast_sandbox.coins import Pair
from altforecast_sandbox.exchanges.desk import Desk, Refusal, VenueService, bars, digits, whole_number
from altforecast_sandbox.faults import Bodies

_INTERVALS = {
    "1": Timeframe.M1, "5": Timeframe.M5, "15": Timeframe.M15, "60": Timeframe.H1, "240": Timeframe.H4, "1440": Timeframe.D1,
}  # fmt: skip
_MOST_ROWS = 720
_ALTERNATE = {"BTC": "XBT", "DOGE": "XDG"}
_OLD_ASSETS = {"BTC": "XXBT", "ETH": "XETH", "XRP": "XXRP", "LTC": "XLTC", "DOGE": "XXDG", "USD": "ZUSD"}
"""Assets of the first years carry a prefix, in pairs only where both sides do."""


def _routes(desk: Desk) -> dict[str, Any]:
    return {
        "/0/public/Time": lambda _: _ok({"unixtime": desk.now_ms() // 1000, "rfc1123": ""}),
        "/0/public/Assets": lambda _: _ok({_asset(c): _about_asset(c) for p in desk.pairs for c in (p.base, p.quote)}),
        "/0/public/AssetPairs": lambda _: _ok({_spelled(p): _about(p) for p in desk.pairs}),
        "/0/public/OHLC": lambda request: _ohlc(desk, request),
    }


def _ok(result: dict[str, Any]) -> dict[str, Any]:
    return {"error": [], "result": result}


def _error(text: str) -> Refusal:
    return Refusal(200, {"error": [text]})


def _asset(code: str) -> str:
    return _OLD_ASSETS.get(code, code)


def _short(code: str) -> str:
    return _ALTERNATE.get(code, code)


def _spelled(pair: Pair) -> str:
    both_old = pair.base in _OLD_ASSETS and pair.quote in _OLD_ASSETS
    return _asset(pair.base) + _asset(pair.quote) if both_old else _short(pair.base) + _short(pair.quote)


def _about_asset(code: str) -> dict[str, Any]:
    return {"aclass": "currency", "altname": _short(code), "decimals": 10, "display_decimals": 5, "status": "enabled"}


def _about(pair: Pair) -> dict[str, Any]:
    return {
        "altname": _short(pair.base) + _short(pair.quote), "wsname": f"{_short(pair.base)}/{_short(pair.quote)}",
        "aclass_base": "currency", "base": _asset(pair.base), "aclass_quote": "currency", "quote": _asset(pair.quote), "lot": "unit",
        "cost_decimals": 5, "pair_decimals": pair.price_digits, "lot_decimals": 8, "lot_multiplier": 1, "leverage_buy": [],
        "leverage_sell": [], "fees": [[0, 0.4]], "fees_maker": [[0, 0.25]], "ordermin": "0.0001", "costmin": "0.5",
        "tick_size": digits(10.0**-pair.price_digits, pair.price_digits), "status": "online",
    }  # fmt: skip


def _ohlc(desk: Desk, request: web.Request) -> dict[str, Any]:
    asked = request.query.get("pair", "")
    known = desk.named(_spelled) | desk.named(lambda p: _short(p.base) + _short(p.quote))
    if asked not in known:
        raise _error("EQuery:Unknown asset pair")
    timeframe = _INTERVALS.get(request.query.get("interval", "1"))
    if timeframe is None:
        raise _error("EGeneral:Invalid arguments:interval")
    since = whole_number(request, "since", None, _error("EGeneral:Invalid arguments:since"))
    pair = known[asked]
    # `since` never reaches behind the newest 720 bars; it is exclusive.
    found = desk.last(pair.symbol, timeframe, _MOST_ROWS, None)
    rows = [row for row in bars(found) if since is None or row[0] > since * 1000]
    now_open = desk.now_ms() // timeframe.ms * timeframe.ms
    last = max((row[0] for row in bars(found) if row[0] < now_open), default=0) // 1000
    return _ok({_spelled(pair): [_row(row, pair) for row in rows], "last": last})


def _row(row: tuple[int, float, float, float, float, float], pair: Pair) -> list[Any]:
    ts, open_, high, low, close, volume = row
    prices = [digits(p, pair.price_digits) for p in (open_, high, low, close)]
    mean = digits((high + low + close) / 3 if volume else 0.0, pair.price_digits)
    return [ts // 1000, *prices, mean, digits(volume, 8), int(volume * 20) + 1 if volume else 0]


SERVICE = VenueService(
    "kraken", _routes, Bodies(limited=(200, {"error": ["EAPI:Rate limit exceeded"]}), refused={"error": ["EService:Unavailable"]})
)
