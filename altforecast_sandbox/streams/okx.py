"""OKX's public WebSocket v5 for spot order books: channels `books` (400 levels), `books5` and `bbo-tbt`.

What belongs here: OKX's frames, acknowledgements and refusals. What does not: other venues.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import orjson

from altforecast_sandbox.resting import Change, RestingBook, Rows
from altforecast_sandbox.streams.venue_wire import VenueWire
from altforecast_sandbox.streams.window import window_change
from altforecast_sandbox.streams.wire import Books, Frame, StreamService, no_requests

_DEPTHS = {"books": 400, "books5": 5, "bbo-tbt": 1}
_CONNECTION = "a4d3ae55"


class OkxWire(VenueWire):
    """One connection; `following` holds the channel of each symbol, the newest where there were several."""

    def received(self, payload: Frame, now_ms: int) -> Sequence[Frame]:  # noqa: ARG002
        """Pings, subscriptions and their ends."""
        if payload in ("ping", b"ping"):
            return ("pong",)
        try:
            asked = orjson.loads(payload)
            op, args = asked["op"], asked["args"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return (_error("60012", f"Invalid request: {payload!r}"),)
        if op not in ("subscribe", "unsubscribe"):
            return (_error("60012", f"Invalid request: {payload!r}"),)
        return [frame for arg in args for frame in self._asked(op, arg)]

    def _asked(self, op: str, arg: dict[str, Any]) -> Sequence[Frame]:
        channel, symbol = str(arg.get("channel")), str(arg.get("instId"))
        if channel not in _DEPTHS or symbol not in self.books:
            told = f"Wrong URL or channel:{channel},instId:{symbol} doesn't exist."
            return (_error("60018", f"{told} Please use the correct URL, channel and parameters referring to API document."),)
        told = orjson.dumps({"event": op, "arg": {"channel": channel, "instId": symbol}, "connId": _CONNECTION}).decode()
        if op == "unsubscribe":
            self.following.symbols.pop(symbol, None)
            return (told,)
        self.following.symbols[symbol] = channel
        return told, self._snapshot(self.books[symbol], channel)

    def changed(self, book: RestingBook, change: Change) -> Sequence[Frame]:
        """An update of `books`, or the whole of the shallow channels."""
        channel = self.following.symbols[change.symbol]
        if channel != "books":
            return (self._snapshot(book, channel),)
        bids, asks = window_change(book, change, _DEPTHS[channel])
        return (_frame(book, channel, "update", bids, asks, change.first_id - 1),)

    def _snapshot(self, book: RestingBook, channel: str) -> Frame:
        depth = _DEPTHS[channel]
        return _frame(book, channel, "snapshot" if channel == "books" else "", book.top_bids(depth), book.top_asks(depth), -1)


def _frame(book: RestingBook, channel: str, action: str, bids: Rows, asks: Rows, previous: int) -> str:
    data = {
        "asks": _levels(book, asks), "bids": _levels(book, bids), "ts": str(book.ts_ms), "checksum": _checksum(book),
        "seqId": book.last_id, "prevSeqId": previous,
    }  # fmt: skip
    head = {"arg": {"channel": channel, "instId": book.symbol}}
    return orjson.dumps(head | ({"action": action} if action else {}) | {"data": [data]}).decode()


def _levels(book: RestingBook, rows: Rows) -> list[list[str]]:
    price, size = book.price, book.size
    return [[price(ticks), size(lots), "0", "1" if lots else "0"] for ticks, lots in rows]


def _checksum(book: RestingBook) -> int:
    """The signed crc32 of the best 25 levels, bid and ask in turn."""
    parts = []
    bids, asks = book.top_bids(25), book.top_asks(25)
    for i in range(25):
        parts += [f"{book.price(ticks)}:{book.size(lots)}" for ticks, lots in (*bids[i : i + 1], *asks[i : i + 1])]
    crc = zlib.crc32(":".join(parts).encode())
    return crc - (1 << 32) if crc & 0x80000000 else crc


def _error(code: str, message: str) -> str:
    return orjson.dumps({"event": "error", "code": code, "msg": message, "connId": _CONNECTION}).decode()


def _spoil(frame: Frame) -> Frame:
    document = orjson.loads(frame)
    for data in document.get("data", []):
        data["checksum"] ^= 1
    return orjson.dumps(document).decode()


def _limited(frame: Frame) -> Sequence[Frame]:
    is_subscription = isinstance(frame, str) and '"subscribe"' in frame
    return (_error("60014", "Requests too frequent. Please reduce the frequency."),) if is_subscription else ()


def _connect(books: Books, path: str, now_ms: int) -> OkxWire:  # noqa: ARG001
    return OkxWire(books, lambda pair: pair.symbol)


STREAM = StreamService("okx", _connect, no_requests, _spoil, is_shared=True, limited=_limited)
