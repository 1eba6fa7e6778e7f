"""OKX v5 REST: instruments, time, candles and history candles.

What belongs here: OKX's spellings, limits, shapes and error bodies. What does not: other venues.
"""

from __future__ import annotations

from typing import Any

from aiohttp import web

from altforecast.types import Timeframe
from altforecast_sandbox.coins import Pair
from altforecast_sandbox.exchanges.desk import Desk, Refusal, VenueService, bars, digits, step, whole_number
from altforecast_sandbox.faults import Bodies

_BARS = {
    "1m": Timeframe.M1, "5m": Timeframe.M5, "15m": Timeframe.M15, "1H": Timeframe.H1, "4H": Timeframe.H4, "1Dutc": Timeframe.D1,
}  # fmt: skip
"""Plain `1D`, which the venue cuts at UTC+8, is not served."""
_DEFAULT_ROWS, _MOST_ROWS = 100, 300
_RECENT_BARS = 1440


def _routes(desk: Desk) -> dict[str, Any]:
    return {
        "/api/v5/public/time": lambda _: _ok([{"ts": str(desk.now_ms())}]),
        "/api/v5/public/instruments": lambda request: _ok([_instrument(p) for p in desk.pairs if request.query.get("instType") == "SPOT"]),
        "/api/v5/market/candles": lambda request: _candles(desk, request, is_history=False),
        "/api/v5/market/history-candles": lambda request: _candles(desk, request, is_history=True),
    }


def _ok(data: list[Any]) -> dict[str, Any]:
    return {"code": "0", "msg": "", "data": data}


def _error(code: str, message: str, status: int = 200) -> Refusal:
    return Refusal(status, {"code": code, "msg": message, "data": []})


def _spelled(pair: Pair) -> str:
    return f"{pair.base}-{pair.quote}"


def _instrument(pair: Pair) -> dict[str, Any]:
    return {
        "instType": "SPOT", "instId": _spelled(pair), "uly": "", "instFamily": "", "baseCcy": pair.base, "quoteCcy": pair.quote,
        "settleCcy": "", "ctVal": "", "ctMult": "", "listTime": "1514764800000", "expTime": "", "lever": "10",
        "tickSz": step(pair.price_digits), "lotSz": step(pair.amount_digits), "minSz": step(pair.amount_digits),
        "state": "live", "maxLmtSz": "9999999999", "maxMktSz": "1000000", "instIdCode": None,
    }  # fmt: skip


def _candles(desk: Desk, request: web.Request, is_history: bool) -> dict[str, Any]:
    pair = desk.named(_spelled).get(request.query.get("instId", ""))
    if pair is None:
        raise _error("51001", "Instrument ID, Instrument ID code, or Spread ID doesn't exist.")
    timeframe = _BARS.get(request.query.get("bar", "1m"))
    if timeframe is None:
        raise _error("51000", "Parameter bar error")
    before, after, limit = (whole_number(request, n, None, _error("51000", f"Parameter {n} error")) for n in ("before", "after", "limit"))
    if limit is not None and not 1 <= limit <= _MOST_ROWS:
        raise _error("51000", "Parameter limit error")
    now_open = desk.now_ms() // timeframe.ms * timeframe.ms
    # Only the history endpoint reaches further back; it has closed bars only.
    oldest = 0 if is_history else now_open - (_RECENT_BARS - 1) * timeframe.ms
    newest = now_open if is_history else now_open + 1
    end = newest if after is None else min(after, newest)
    start = oldest if before is None else max(before + 1, oldest)
    found = desk.last(pair.symbol, timeframe, limit or _DEFAULT_ROWS, end, start)
    return _ok([_row(row, pair, now_open) for row in bars(found, is_newest_first=True)])


def _row(row: tuple[int, float, float, float, float, float], pair: Pair, now_open: int) -> list[str]:
    ts, *prices, volume = row
    quote = digits(volume * prices[-1], 4)
    texts = [digits(p, pair.price_digits) for p in prices]
    return [str(ts), *texts, digits(volume, pair.amount_digits), quote, quote, "1" if ts < now_open else "0"]


SERVICE = VenueService(
    "okx",
    _routes,
    Bodies(
        limited=(429, {"code": "50011", "msg": "Too Many Requests", "data": []}),
        refused={"code": "50026", "msg": "System error", "data": []},
    ),
)
