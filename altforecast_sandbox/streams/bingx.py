"""BingX: whole books of the best levels in gzip after every change, and pings that want an answer.

What belongs here: BingX's spot depth channels. What does not: other venues and REST (`exchanges.bingx`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from altforecast_sandbox.exchanges.bingx import spelled
from altforecast_sandbox.resting import Change, RestingBook
from altforecast_sandbox.streams.sent_window import SentWindow, Sides
from altforecast_sandbox.streams.venue_wire import VenueWire, compact, no_requests, packed, request, texts
from altforecast_sandbox.streams.wire import Books, Frame, StreamService

DEPTHS = ("5", "10", "20", "50", "100")
_PING_MS = 5_000
_MOST_CHANNELS = 200
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_KEPT = 1024
_frames: OrderedDict[tuple[int, str], tuple[RestingBook, tuple[int, int], bytes]] = OrderedDict()


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
        return self._switched(asked, self.symbols[name], int(channel[5:]), kind == "sub", now_ms)

    def _switched(self, asked: dict[str, Any], symbol: str, depth: int, is_wanted: bool, now_ms: int) -> Sequence[Frame]:
        if not is_wanted:
            self.following.symbols.pop(symbol, None)
            return (_answer(asked, 0, "SUCCESS", now_ms),)
        if symbol not in self.following.symbols and len(self.following.symbols) >= _MOST_CHANNELS:
            return (_answer(asked, 80403, f"the number of subscriptions exceeds the limit of {_MOST_CHANNELS}", now_ms),)
        book = self.books[symbol]
        window = SentWindow(book, depth)
        self.following.symbols[symbol] = (asked["dataType"], window)
        return (_answer(asked, 0, "SUCCESS", now_ms), _whole(asked["dataType"], book, window.sent, book.ts_ms or now_ms))

    def changed(self, book: RestingBook, change: Change) -> Sequence[Frame]:
        """The whole book; nothing where only deeper levels moved."""
        topic, window = self.following.symbols[book.symbol]
        if not any(window.moved(book)):
            return ()
        return (_whole(topic, book, window.sent, change.ts_ms),)

    def beat(self, now_ms: int) -> Sequence[Frame]:
        """A ping every 5 s."""
        if now_ms - self._pinged_ms < _PING_MS:
            return ()
        self._pinged_ms = now_ms
        told = (_EPOCH + timedelta(milliseconds=now_ms)).isoformat(timespec="milliseconds")
        return (packed(compact({"ping": uuid5(NAMESPACE_URL, str(now_ms)).hex, "time": told})),)


def _answer(asked: dict[str, Any], code: int, message: str, now_ms: int) -> bytes:
    return packed(compact({"code": code, "id": asked.get("id"), "msg": message, "timestamp": now_ms}))


def _whole(topic: str, book: RestingBook, sides: Sides, ts_ms: int) -> bytes:
    """The frame of a whole book, asks from the worst to the best; packed once for all connections (the newest 1,024 are kept)."""
    key = (id(book), topic)
    known = _frames.get(key)
    if known is not None and known[0] is book and known[1] == (book.last_id, ts_ms):
        return known[2]
    data = {"bids": texts(book, sides[0]), "asks": texts(book, sides[1])[::-1], "lastUpdateId": book.last_id}
    frame = packed(compact({"code": 0, "data": data, "dataType": topic, "success": True, "timestamp": ts_ms}))
    _frames[key] = (book, (book.last_id, ts_ms), frame)
    _frames.move_to_end(key)
    if len(_frames) > _KEPT:
        _frames.popitem(last=False)
    return frame


STREAM = StreamService("bingx", lambda books, _path, now_ms: BingxWire(books, now_ms), no_requests)
