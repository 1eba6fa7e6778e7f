"""Gate WebSocket v4, `spot.obu`: a full frame and then what moved in the best 50 or 400 levels, numbered U to u.

What belongs here: Gate's order book channel for spot. What does not: other venues and REST (`exchanges.gate`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from altforecast_sandbox.exchanges.gate import spelled
from altforecast_sandbox.resting import Change, RestingBook
from altforecast_sandbox.streams.sent_window import SentWindow
from altforecast_sandbox.streams.venue_wire import VenueWire, compact, listed, request, texts
from altforecast_sandbox.streams.wire import Frame, StreamService, no_requests

DEPTHS = ("50", "400")
_CHANNEL = "spot.obu"
_BAD_ARGUMENT = 2


class GateWire(VenueWire):
    """A connection; one window per market (a second depth of the same market replaces the first)."""

    def received(self, payload: Frame, now_ms: int) -> Sequence[Frame]:
        """Answer ping, subscribe and unsubscribe."""
        asked = request(payload)
        channel, event = asked.get("channel"), asked.get("event")
        if channel == "spot.ping":
            return (compact({"time": now_ms // 1000, "channel": "spot.pong", "event": "", "result": None}),)
        if channel != _CHANNEL or event not in ("subscribe", "unsubscribe"):
            return (self._told(asked, now_ms, f"unknown channel: {channel}"),)
        topics = [str(topic) for topic in listed(asked.get("payload"))]
        known = {topic: self._market(topic) for topic in topics}
        for topic, market in known.items():
            if market is None:
                return (self._told(asked, now_ms, f"unknown currency pair: {_pair(topic)}"),)
        frames = [self._told(asked, now_ms)]
        for topic, market in known.items():
            frames += self._switched(topic, market or ("", 0), event == "subscribe", now_ms)
        return frames

    def _market(self, topic: Any) -> tuple[str, int] | None:
        parts = str(topic).split(".")
        if len(parts) != 3 or parts[0] != "ob" or parts[2] not in DEPTHS or parts[1] not in self.symbols:
            return None
        return self.symbols[parts[1]], int(parts[2])

    def _switched(self, topic: str, market: tuple[str, int], is_wanted: bool, now_ms: int) -> list[str]:
        symbol, depth = market
        if not is_wanted:
            self.following.symbols.pop(symbol, None)
            return []
        book = self.books[symbol]
        window = SentWindow(book, depth)
        self.following.symbols[symbol] = (topic, window)
        bids, asks = window.sent
        full = {"t": book.ts_ms or now_ms, "full": True, "s": topic, "u": book.last_id}
        return [_update(full | {"b": texts(book, bids), "a": texts(book, asks)})]

    def _told(self, asked: dict[str, Any], now_ms: int, problem: str | None = None) -> str:
        answer: dict[str, Any] = {
            "time": now_ms // 1000, "time_ms": now_ms, "id": asked.get("id"), "conn_id": "sandbox", "channel": asked.get("channel"),
            "event": asked.get("event"), "payload": asked.get("payload"),
        }  # fmt: skip
        if problem is not None:
            answer["error"] = {"code": _BAD_ARGUMENT, "message": problem}
        return compact(answer | {"result": {"status": "success" if problem is None else "fail"}})

    def changed(self, book: RestingBook, change: Change) -> Sequence[Frame]:
        """What moved in the window; nothing where only deeper levels moved, the next U then covers them."""
        topic, window = self.following.symbols[book.symbol]
        bids, asks = window.moved(book)
        if not bids and not asks:
            return ()
        first, window.last_id = window.last_id + 1, change.last_id
        numbers = {"t": change.ts_ms, "s": topic, "U": first, "u": change.last_id}
        return (_update(numbers | {"b": texts(book, bids), "a": texts(book, asks)}),)


def _pair(topic: Any) -> str:
    parts = str(topic).split(".")
    return parts[1] if len(parts) > 1 else str(topic)


def _update(result: dict[str, Any]) -> str:
    return compact({"channel": _CHANNEL, "event": "update", "result": result, "time_ms": result["t"]})


STREAM = StreamService("gate", lambda books, _path, _now_ms: GateWire(books, spelled), no_requests)
