"""BingX: whole books of the best levels in gzip after every change, and pings that want an answer.

What belongs here: BingX's spot depth channels. What does not: other venues and REST (`exchanges.bingx`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from altforecast_sandbox.exchanges.bingx import spelled
from altforecast_sandbox.resting import Change, RestingBook
from altforecast_sandbox.streams.sent_window import top
from altforecast_sandbox.streams.venue_wire import VenueWire, compact, packed, request, texts
from altforecast_sandbox.streams.wire import Books, Frame, StreamService, no_requests

DEPTHS = ("5", "10", "20", "50", "100")
_PING_MS = 5_000
_MOST_CHANNELS = 200
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class BingxWire(VenueWire):
    """A connection; one depth per market, the newest wins."""

    def __init__(self, books: Books, now_ms: int) -> None:
        super().__init__(books, spelled)
        self._pinged_ms = now_ms

    def received(self, payload: Frame, now_ms: int) -> Sequence[Frame]:
        """Answer sub and unsub (a request without `reqType` subscribes); pongs are taken silently."""
        if payload in ("Pong", b"Pong"):
            return ()
        if payload in ("Ping", b"Ping"):
            return (packed("Pong"),)
        asked = request(payload)
        if "pong" in asked:
            return ()
        name, _, channel = str(asked.get("dataType", "")).partition("@")
        kind = asked.get("reqType", "sub")
        if kind not in ("sub", "unsub") or not channel.startswith("depth") or channel[5:] not in DEPTHS:
            return (_answer(asked, 100400, f"dataType {asked.get('dataType')} is invalid", now_ms),)
        if name not in self.symbols:
            return (_answer(asked, 109425, f"{name} not exist, please verify it", now_ms),)
        return self._switched(asked, self.symbols[name], kind == "sub", now_ms)

    def _switched(self, asked: dict[str, Any], symbol: str, is_wanted: bool, now_ms: int) -> Sequence[Frame]:
        if not is_wanted:
            self.following.symbols.pop(symbol, None)
            return (_answer(asked, 0, "SUCCESS", now_ms),)
        if symbol not in self.following.symbols and len(self.following.symbols) >= _MOST_CHANNELS:
            return (_answer(asked, 80403, f"the number of subscriptions exceeds the limit of {_MOST_CHANNELS}", now_ms),)
        book = self.books[symbol]
        self.following.symbols[symbol] = asked["dataType"]
        return (_answer(asked, 0, "SUCCESS", now_ms), _whole(asked["dataType"], book, book.ts_ms or now_ms))

    def changed(self, book: RestingBook, change: Change) -> Sequence[Frame]:
        """The whole book, also where only deeper levels moved."""
        return (_whole(self.following.symbols[book.symbol], book, change.ts_ms),)

    def beat(self, now_ms: int) -> Sequence[Frame]:
        """A ping every 5 s."""
        if now_ms - self._pinged_ms < _PING_MS:
            return ()
        self._pinged_ms = now_ms
        told = (_EPOCH + timedelta(milliseconds=now_ms)).isoformat(timespec="milliseconds")
        return (packed(compact({"ping": uuid5(NAMESPACE_URL, str(now_ms)).hex, "time": told})),)


def _answer(asked: dict[str, Any], code: int, message: str, now_ms: int) -> bytes:
    return packed(compact({"code": code, "id": asked.get("id"), "msg": message, "timestamp": now_ms}))


def _whole(topic: str, book: RestingBook, ts_ms: int) -> bytes:
    """The frame of a whole book, asks from the worst to the best."""
    bids, asks = top(book, int(topic.rpartition("depth")[2]))
    data = {"bids": texts(book, bids), "asks": texts(book, asks)[::-1], "lastUpdateId": book.last_id}
    return packed(compact({"code": 0, "data": data, "dataType": topic, "success": True, "timestamp": ts_ms}))


def _limited(payload: Frame) -> Sequence[Frame]:
    asked = request(payload)
    if "dataType" not in asked:
        return ()
    return (packed(compact({"code": 100410, "id": asked.get("id"), "msg": "rate limitation"})),)


STREAM = StreamService("bingx", lambda books, _path, now_ms: BingxWire(books, now_ms), no_requests, is_shared=True, limited=_limited)
