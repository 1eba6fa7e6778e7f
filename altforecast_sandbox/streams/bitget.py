"""Bitget WebSocket v2, `books`: a snapshot and every change of the whole book, each with a crc32 over the number texts.

What belongs here: Bitget's order book channel for spot. What does not: other venues and REST (`exchanges.bitget`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from zlib import crc32

from altforecast_sandbox.exchanges.bitget import spelled
from altforecast_sandbox.resting import Change, RestingBook, Rows
from altforecast_sandbox.streams.sent_window import EVERYTHING, top
from altforecast_sandbox.streams.venue_wire import VenueWire, compact, request, texts
from altforecast_sandbox.streams.wire import Frame, StreamService, no_requests

_CHECKED = 25
_MOST_CHANNELS = 1000
_KIND, _CHANNEL = "SPOT", "books"


class BitgetWire(VenueWire):
    """A connection."""

    def received(self, payload: Frame, now_ms: int) -> Sequence[Frame]:
        """Answer the text `ping`, subscribe and unsubscribe; every argument is acknowledged or refused by itself."""
        if payload in ("ping", b"ping"):
            return ("pong",)
        asked = request(payload)
        op, args = asked.get("op"), asked.get("args")
        if op not in ("subscribe", "unsubscribe"):
            return (compact({"event": "error", "code": 30003, "msg": "Invalid op", "op": op}),)
        if not isinstance(args, list):
            return (compact({"event": "error", "code": 30016, "msg": "Param error", "op": op}),)
        frames: list[Frame] = []
        for arg in args:
            frames += self._answered(op, arg if isinstance(arg, dict) else {}, now_ms)
        return frames

    def _answered(self, op: str, arg: dict[str, Any], now_ms: int) -> list[str]:
        symbol = self.symbols.get(arg.get("instId", ""))
        if symbol is None or arg.get("instType") != _KIND or arg.get("channel") != _CHANNEL:
            named = ",".join(f"{key}:{arg.get(key)}" for key in ("instType", "channel", "instId"))
            return [compact({"event": "error", "arg": arg, "code": 30001, "msg": f"{named} doesn't exist", "op": op})]
        if op == "unsubscribe":
            self.following.symbols.pop(symbol, None)
            return [compact({"event": "unsubscribe", "arg": arg})]
        if symbol not in self.following.symbols and len(self.following.symbols) >= _MOST_CHANNELS:
            return [compact({"event": "error", "arg": arg, "code": 30007, "msg": "request over limit, connection close", "op": op})]
        self.following.symbols[symbol] = arg["instId"]
        book = self.books[symbol]
        return [compact({"event": "subscribe", "arg": arg}), _frame("snapshot", arg["instId"], book, _whole(book), book.ts_ms or now_ms)]

    def changed(self, book: RestingBook, change: Change) -> Sequence[Frame]:
        """One update with the checksum of the book after it."""
        return (_frame("update", self.following.symbols[book.symbol], book, (change.bids, change.asks), change.ts_ms),)


def _whole(book: RestingBook) -> tuple[Rows, Rows]:
    return top(book, EVERYTHING)


def _frame(action: str, name: str, book: RestingBook, rows: tuple[Rows, Rows], ts_ms: int) -> str:
    data = {
        "asks": texts(book, rows[1]), "bids": texts(book, rows[0]), "checksum": checksum(book), "seq": book.last_id, "ts": str(ts_ms),
    }  # fmt: skip
    arg = {"instType": _KIND, "channel": _CHANNEL, "instId": name}
    return compact({"action": action, "arg": arg, "data": [data], "ts": ts_ms})


def checksum(book: RestingBook) -> int:
    """Signed crc32 over price and size texts of the best 25 bids and asks in turn, joined by colons."""
    bids, asks = (texts(book, rows) for rows in top(book, _CHECKED))
    parts: list[str] = []
    for i in range(_CHECKED):
        for side in (bids, asks):
            if i < len(side):
                parts += side[i]
    value = crc32(":".join(parts).encode())
    return value - (1 << 32) if value >= 1 << 31 else value


def _spoil(frame: Frame) -> Frame:
    message = json.loads(frame) if frame not in ("pong", b"pong") else {}
    if not message.get("data"):
        return frame
    message["data"][0]["checksum"] ^= 1
    return compact(message)


def _limited(payload: Frame) -> Sequence[Frame]:
    asked = request(payload)
    if asked.get("op") != "subscribe":
        return ()
    return (compact({"event": "error", "code": 30006, "msg": "request too many", "op": "subscribe"}),)


STREAM = StreamService(
    "bitget", lambda books, _path, _now_ms: BitgetWire(books, spelled), no_requests, _spoil, is_shared=True, limited=_limited
)
