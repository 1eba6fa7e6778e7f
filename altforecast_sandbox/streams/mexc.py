"""MEXC: aggregated depth as protobuf, numbered fromVersion to toVersion, and the REST book to join.

What belongs here: MEXC's spot depth channel and depth request. What does not: candles (`exchanges.mexc`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from altforecast_sandbox.exchanges.desk import Refusal
from altforecast_sandbox.exchanges.mexc import spelled
from altforecast_sandbox.resting import Change, RestingBook, Rows
from altforecast_sandbox.streams.sent_window import top
from altforecast_sandbox.streams.venue_wire import Markets, VenueWire, compact, listed, request, texts
from altforecast_sandbox.streams.wire import Books, Frame, Respond, StreamService

_PREFIX = "spot@public.aggre.depth.v3.api.pb"
_SPEEDS = ("10ms", "100ms")
_MOST_CHANNELS = 30
_TOO_MANY = f"Not Subscribed successfully! The maximum limit is {_MOST_CHANNELS} subscriptions per websocket."
_TOO_OFTEN = "Not Subscribed successfully! Reason： Too many requests! "
_DEFAULT_ROWS, _MOST_ROWS = 100, 5000
_VARINT, _BYTES = 0, 2
_CHANNEL, _SYMBOL, _CREATE_TIME, _SEND_TIME, _DEPTHS = 1, 3, 5, 6, 313
"""Fields of the wrapper."""
_ASKS, _BIDS, _EVENT_TYPE, _FROM, _TO = 1, 2, 3, 4, 5
"""Fields of the depth message."""
_PRICE, _QUANTITY = 1, 2


class MexcWire(VenueWire):
    """A connection of at most 30 channels; one speed per market, the newest wins."""

    def received(self, payload: Frame, now_ms: int) -> Sequence[Frame]:  # noqa: ARG002
        """Answer ping, subscriptions and their end; the number of the request comes back as `id`."""
        asked = request(payload)
        method, number = str(asked.get("method", "")), asked.get("id", 0)
        if method.upper() == "PING":
            return (_told(number, "PONG"),)
        if method not in ("SUBSCRIPTION", "UNSUBSCRIPTION"):
            return (_told(number, "no subscription success"),)
        channels = [str(channel) for channel in listed(asked.get("params"))]
        wanted = [channel for channel in channels if self._symbol(channel)]
        refused = [channel for channel in channels if not self._symbol(channel)]
        if method == "SUBSCRIPTION" and len(set(self.following.symbols) | {self._symbol(c) for c in wanted}) > _MOST_CHANNELS:
            return (_told(number, _TOO_MANY),)
        for channel in wanted:
            if method == "SUBSCRIPTION":
                self.following.symbols[self._symbol(channel)] = channel
            else:
                self.following.symbols.pop(self._symbol(channel), None)
        answers = [_told(number, ",".join(wanted))] if wanted else []
        if refused:
            answers.append(_told(number, f"Not Subscribed successfully! [{','.join(refused)}].  Reason： Blocked! "))
        return answers

    def _symbol(self, channel: Any) -> str:
        parts = str(channel).rsplit("@", 2)
        if len(parts) != 3 or parts[0] != _PREFIX or parts[1] not in _SPEEDS:
            return ""
        return self.symbols.get(parts[2], "")

    def changed(self, book: RestingBook, change: Change) -> Sequence[Frame]:
        """One wrapper with the changed levels."""
        return (_wrapper(self.following.symbols[book.symbol], self.names[book.symbol], book, change),)


def _told(number: Any, message: str) -> str:
    return compact({"id": number, "code": 0, "msg": message})


def _wrapper(channel: str, name: str, book: RestingBook, change: Change) -> bytes:
    depths = b"".join((
        _levels(_ASKS, book, change.asks), _levels(_BIDS, book, change.bids), _text(_EVENT_TYPE, _PREFIX),
        _text(_FROM, str(change.first_id)), _text(_TO, str(change.last_id)),
    ))  # fmt: skip
    return b"".join((
        _text(_CHANNEL, channel), _text(_SYMBOL, name), _number(_CREATE_TIME, change.ts_ms), _number(_SEND_TIME, change.ts_ms),
        _embedded(_DEPTHS, depths),
    ))  # fmt: skip


def _levels(field: int, book: RestingBook, rows: Rows) -> bytes:
    return b"".join(_embedded(field, _text(_PRICE, price) + _text(_QUANTITY, size)) for price, size in texts(book, rows))


def _text(field: int, value: str) -> bytes:
    return _embedded(field, value.encode())


def _embedded(field: int, body: bytes) -> bytes:
    return _varint(field << 3 | _BYTES) + _varint(len(body)) + body


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3 | _VARINT) + _varint(value)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _requests(books: Books, now_ms: Callable[[], int]) -> dict[str, Respond]:
    symbols = Markets(books, spelled)
    return {"GET /api/v3/depth": lambda query: _depth(books, symbols, now_ms(), query)}


def _depth(books: Books, symbols: Mapping[str, str], now_ms: int, query: Mapping[str, str]) -> dict[str, Any]:
    symbol, rows = symbols.get(query.get("symbol", "")), query.get("limit", str(_DEFAULT_ROWS))
    if symbol is None:
        raise Refusal(400, {"code": -1121, "msg": "Invalid symbol."})
    if not rows.isdigit() or not 1 <= int(rows) <= _MOST_ROWS:
        raise Refusal(400, {"code": -1100, "msg": "Illegal parameter limit"})
    book = books[symbol]
    bids, asks = top(book, int(rows))
    return {"lastUpdateId": book.last_id, "bids": texts(book, bids), "asks": texts(book, asks), "timestamp": now_ms}


def _limited(payload: Frame) -> Sequence[Frame]:
    asked = request(payload)
    return (_told(asked.get("id", 0), _TOO_OFTEN),) if asked.get("method") == "SUBSCRIPTION" else ()


STREAM = StreamService("mexc", lambda books, _path, _now_ms: MexcWire(books, spelled), _requests, is_shared=True, limited=_limited)
