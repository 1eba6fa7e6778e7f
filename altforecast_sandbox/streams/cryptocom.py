"""Crypto.com Exchange v1: `book.10` and `book.50`, a snapshot and then what moved, each naming the one before in `pu`.

What belongs here: Crypto.com's order book channels and heartbeats. What does not: other venues and REST (`exchanges.cryptocom`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from altforecast_sandbox.exchanges.cryptocom import spelled
from altforecast_sandbox.resting import Change, RestingBook, Rows
from altforecast_sandbox.streams.sent_window import SentWindow
from altforecast_sandbox.streams.venue_wire import VenueWire, compact, listed, request, texts
from altforecast_sandbox.streams.wire import Books, Frame, StreamService, no_requests

DEPTHS = ("10", "50")
_HEARTBEAT_MS, _QUIET_MS = 30_000, 5_000
_MOST_CHANNELS = 400
_WITH_UPDATES = "SNAPSHOT_AND_UPDATE"


@dataclass
class _Topic:
    channel: str
    window: SentWindow
    is_incremental: bool
    told_ms: int


class CryptocomWire(VenueWire):
    """A connection; one depth per market, the newest wins."""

    def __init__(self, books: Books, now_ms: int) -> None:
        super().__init__(books, spelled)
        self._beaten_ms = now_ms

    def received(self, payload: Frame, now_ms: int) -> Sequence[Frame]:
        """Answer subscribe and unsubscribe; answers to heartbeats are taken silently."""
        asked = request(payload)
        method, params = asked.get("method"), _fields(asked.get("params"))
        if method == "public/respond-heartbeat":
            return ()
        if method not in ("subscribe", "unsubscribe"):
            return (_answer(asked, {"code": 40001, "message": f"Invalid method {method}"}),)
        # The documentation spells it with underscores; clients that spell it otherwise are served as well.
        kind = params.get("book_subscription_type") or params.get("bookSubscriptionType")
        frames: list[Frame] = []
        for channel in listed(params.get("channels")):
            frames += self._switched(asked, str(channel), kind == _WITH_UPDATES, now_ms)
        return frames

    def _switched(self, asked: dict[str, Any], channel: str, is_incremental: bool, now_ms: int) -> list[str]:
        parts = channel.split(".")
        symbol = self.symbols.get(parts[1]) if len(parts) == 3 and parts[0] == "book" and parts[2] in DEPTHS else None
        if symbol is None:
            return [_answer(asked, {"code": 40003, "message": "Unknown symbol", "channel": channel})]
        if asked.get("method") == "unsubscribe":
            self.following.symbols.pop(symbol, None)
            return [_answer(asked, {"code": 0, "channel": channel})]
        if symbol not in self.following.symbols and len(self.following.symbols) >= _MOST_CHANNELS:
            return [_answer(asked, {"code": 40107, "message": "EXCEED_MAX_SUBSCRIPTIONS", "channel": channel})]
        book = self.books[symbol]
        topic = _Topic(channel, SentWindow(book, int(parts[2])), is_incremental, now_ms)
        self.following.symbols[symbol] = topic
        return [_answer(asked, {"code": 0, "channel": channel}), self._snapshot(topic, book, book.ts_ms or now_ms)]

    def _snapshot(self, topic: _Topic, book: RestingBook, ts_ms: int) -> str:
        bids, asks = topic.window.sent
        data = {"asks": _levels(book, asks), "bids": _levels(book, bids), "t": ts_ms, "tt": ts_ms, "u": topic.window.last_id}
        return self._result(topic, book, "book", data)

    def changed(self, book: RestingBook, change: Change) -> Sequence[Frame]:
        """What moved in the window; nothing where only deeper levels moved."""
        topic: _Topic = self.following.symbols[book.symbol]
        bids, asks = topic.window.moved(book)
        if not bids and not asks:
            return ()
        topic.told_ms = change.ts_ms
        before, topic.window.last_id = topic.window.last_id, change.last_id
        if not topic.is_incremental:
            return (self._snapshot(topic, book, change.ts_ms),)
        return (self._update(topic, book, (bids, asks), before, change.ts_ms),)

    def beat(self, now_ms: int) -> Sequence[Frame]:
        """A heartbeat every 30 s, and an empty update for every market that was quiet for 5 s."""
        frames: list[Frame] = []
        for symbol, topic in self.following.symbols.items():
            if topic.is_incremental and now_ms - topic.told_ms >= _QUIET_MS:
                topic.told_ms = now_ms
                frames.append(self._update(topic, self.books[symbol], ((), ()), topic.window.last_id, now_ms))
        if now_ms - self._beaten_ms >= _HEARTBEAT_MS:
            self._beaten_ms = now_ms
            frames.append(compact({"id": now_ms, "method": "public/heartbeat", "code": 0}))
        return frames

    def _update(self, topic: _Topic, book: RestingBook, sides: tuple[Rows, Rows], before: int, ts_ms: int) -> str:
        update = {"bids": _levels(book, sides[0]), "asks": _levels(book, sides[1])}
        data = {"update": update, "t": ts_ms, "tt": ts_ms, "u": topic.window.last_id, "pu": before}
        return self._result(topic, book, "book.update", data)

    def _result(self, topic: _Topic, book: RestingBook, channel: str, data: dict[str, Any]) -> str:
        result = {
            "instrument_name": self.names[book.symbol], "subscription": topic.channel, "channel": channel,
            "depth": topic.window.depth, "data": [data],
        }  # fmt: skip
        return compact({"id": -1, "method": "subscribe", "code": 0, "result": result})


def _fields(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _levels(book: RestingBook, rows: Rows) -> list[list[str]]:
    """Price, size and number of orders."""
    return [[*pair, str(1 + lots % 5 if lots else 0)] for pair, (_, lots) in zip(texts(book, rows), rows, strict=True)]


def _answer(asked: dict[str, Any], told: dict[str, Any]) -> str:
    return compact({"id": asked.get("id", -1), "method": asked.get("method")} | told)


def _limited(payload: Frame) -> Sequence[Frame]:
    asked = request(payload)
    return (_answer(asked, {"code": 42901, "message": "TOO_MANY_REQUESTS"}),) if asked.get("method") == "subscribe" else ()


STREAM = StreamService("cryptocom", lambda books, _path, now_ms: CryptocomWire(books, now_ms), no_requests, limited=_limited)
