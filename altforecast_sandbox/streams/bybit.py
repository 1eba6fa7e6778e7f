"""Bybit's public v5 WebSocket for spot order books: `orderbook.{1,50,200,1000}.{market}`, numbered one by one.

What belongs here: Bybit's frames, acknowledgements and refusals. What does not: other venues.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from altforecast_sandbox.coins import Pair
from altforecast_sandbox.resting import Change, RestingBook, Rows
from altforecast_sandbox.streams.venue_wire import VenueWire, compact, listed, request, texts
from altforecast_sandbox.streams.window import window_change
from altforecast_sandbox.streams.wire import Books, Frame, StreamService, no_requests

_DEPTHS = ("1", "50", "200", "1000")
_MOST_TOPICS = 10
_CONNECTION = "c9a0ff6e-0a3b-4a0c-8f2f-5f3d7c2b9a11"


def _spelled(pair: Pair) -> str:
    return pair.base + pair.quote


class BybitWire(VenueWire):
    """One connection; `following` holds the depth of each symbol."""

    def received(self, payload: Frame, now_ms: int) -> Sequence[Frame]:  # noqa: ARG002
        """Pings, subscriptions (all topics of a frame or none) and their ends."""
        asked = request(payload)
        op = asked.get("op")
        if op == "ping":
            return (_told(asked, True, "pong"),)
        topics = [str(topic) for topic in listed(asked.get("args"))]
        if op == "unsubscribe":
            for topic in topics:
                self.following.symbols.pop(self.symbols.get(topic.rpartition(".")[2], ""), None)
            return (_told(asked, True),)
        if op != "subscribe":
            return (_told(asked, False, f"error:request expired or op {op} not supported"),)
        if len(topics) > _MOST_TOPICS:
            return (_told(asked, False, "args size >10"),)
        wrong = [topic for topic in topics if self._parsed(topic) is None]
        if wrong:
            return (_told(asked, False, f"error:handler not found,topic:{wrong[0]}"),)
        return [_told(asked, True), *(self._follow(topic) for topic in topics)]

    def _parsed(self, topic: str) -> tuple[str, int] | None:
        """Symbol and depth."""
        parts = topic.split(".")
        symbol = self.symbols.get(parts[-1])
        is_known = len(parts) == 3 and parts[0] == "orderbook" and parts[1] in _DEPTHS and symbol is not None
        return (str(symbol), int(parts[1])) if is_known else None

    def _follow(self, topic: str) -> Frame:
        symbol, depth = self._parsed(topic) or ("", 0)
        self.following.symbols[symbol] = depth
        book = self.books[symbol]
        return self._frame(book, depth, "snapshot", book.top_bids(depth), book.top_asks(depth))

    def changed(self, book: RestingBook, change: Change) -> Sequence[Frame]:
        """The levels that changed; depth 1 comes whole. Sent even when empty, so that numbers stay without a hole."""
        depth = self.following.symbols[change.symbol]
        if depth == 1:
            return (self._frame(book, 1, "snapshot", book.top_bids(1), book.top_asks(1)),)
        return (self._frame(book, depth, "delta", *window_change(book, change, depth)),)

    def _frame(self, book: RestingBook, depth: int, kind: str, bids: Rows, asks: Rows) -> str:
        name = self.names[book.symbol]
        data = {"s": name, "b": texts(book, bids), "a": texts(book, asks), "u": book.last_id, "seq": book.last_id * 3}
        head = {"topic": f"orderbook.{depth}.{name}", "ts": book.ts_ms, "type": kind, "data": data, "cts": book.ts_ms}
        return orjson.dumps(head).decode()


def _told(asked: dict[str, Any], is_done: bool, message: str = "") -> str:
    told = {"success": is_done, "ret_msg": message, "conn_id": _CONNECTION}
    return compact(told | ({"req_id": asked["req_id"]} if "req_id" in asked else {}) | {"op": asked.get("op", "")})


def _limited(frame: Frame) -> Sequence[Frame]:
    asked = request(frame)
    return (_told(asked, False, "Too many visits!"),) if asked.get("op") == "subscribe" else ()


def _connect(books: Books, path: str, now_ms: int) -> BybitWire:  # noqa: ARG001
    return BybitWire(books, _spelled)


STREAM = StreamService("bybit", _connect, no_requests, is_shared=True, limited=_limited)
