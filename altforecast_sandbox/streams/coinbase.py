"""Coinbase Advanced Trade: `level2` snapshots and updates and `heartbeats`, all of a connection in one numbering.

What belongs here: Coinbase's order book and heartbeat channels. What does not: other venues and REST (`exchanges.coinbase`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from altforecast_sandbox.exchanges.coinbase import spelled
from altforecast_sandbox.resting import Change, RestingBook, Rows
from altforecast_sandbox.streams.sent_window import EVERYTHING, top
from altforecast_sandbox.streams.venue_wire import VenueWire, compact, listed, request, texts
from altforecast_sandbox.streams.wire import Books, Frame, StreamService, no_requests

_CHANNELS = ("level2", "heartbeats")
_NEVER = "1970-01-01T00:00:00Z"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class CoinbaseWire(VenueWire):
    """A connection; no key is asked for, as for all public channels."""

    def __init__(self, books: Books) -> None:
        super().__init__(books, spelled)
        self._next = 0
        self._has_heartbeats = False
        self._n_beats = 0

    def received(self, payload: Frame, now_ms: int) -> Sequence[Frame]:
        """Subscribe and unsubscribe: snapshots first, then the list of what is followed now."""
        asked = request(payload)
        kind, channel, names = asked.get("type"), asked.get("channel"), listed(asked.get("product_ids"))
        if kind not in ("subscribe", "unsubscribe"):
            return (_error(f"invalid message type: {kind}"),)
        if channel not in _CHANNELS:
            return (_error(f"channel {channel} is not valid"),)
        unknown = [name for name in names if name not in self.symbols]
        if unknown:
            return (_error(f"failure to subscribe, invalid product_id: {','.join(map(str, unknown))}"),)
        if channel == "level2" and not names:
            return (_error("failure to subscribe, product_ids are required"),)
        frames = self._switched(channel, names, kind == "subscribe", now_ms)
        return [*frames, self._message("subscriptions", now_ms, {"subscriptions": self._listed()})]

    def _switched(self, channel: str, names: Sequence[str], is_wanted: bool, now_ms: int) -> list[str]:
        if channel == "heartbeats":
            self._has_heartbeats = is_wanted
            return []
        if not is_wanted:
            for name in names:
                self.following.symbols.pop(self.symbols[name], None)
            return []
        fresh = [name for name in names if self.symbols[name] not in self.following.symbols]
        self.following.symbols |= {self.symbols[name]: name for name in fresh}
        return [self._snapshot(name, self.books[self.symbols[name]], now_ms) for name in fresh]

    def _listed(self) -> dict[str, list[str]]:
        listed = {"level2": list(self.following.symbols.values())} if self.following.symbols else {}
        return listed | ({"heartbeats": ["heartbeats"]} if self._has_heartbeats else {})

    def _snapshot(self, name: str, book: RestingBook, now_ms: int) -> str:
        bids, asks = top(book, EVERYTHING)
        event = {"type": "snapshot", "product_id": name, "updates": _updates(book, bids, asks, _NEVER)}
        return self._message("l2_data", book.ts_ms or now_ms, event)

    def changed(self, book: RestingBook, change: Change) -> Sequence[Frame]:
        """One update; new_quantity 0 removes a level."""
        updates = _updates(book, change.bids, change.asks, _iso(change.ts_ms))
        event = {"type": "update", "product_id": self.following.symbols[book.symbol], "updates": updates}
        return (self._message("l2_data", change.ts_ms, event),)

    def beat(self, now_ms: int) -> Sequence[Frame]:
        """A heartbeat for those who asked."""
        if not self._has_heartbeats:
            return ()
        self._n_beats += 1
        told = (_EPOCH + timedelta(milliseconds=now_ms)).strftime("%Y-%m-%d %H:%M:%S.%f +0000 UTC")
        return (self._message("heartbeats", now_ms, {"current_time": told, "heartbeat_counter": str(self._n_beats)}),)

    def _message(self, channel: str, ts_ms: int, event: dict[str, Any]) -> str:
        number, self._next = self._next, self._next + 1
        return compact({"channel": channel, "client_id": "", "timestamp": _iso(ts_ms), "sequence_num": number, "events": [event]})


def _updates(book: RestingBook, bids: Rows, asks: Rows, when: str) -> list[dict[str, str]]:
    return [
        {"side": side, "event_time": when, "price_level": price, "new_quantity": size}
        for side, rows in (("bid", bids), ("offer", asks))
        for price, size in texts(book, rows)
    ]


def _iso(ts_ms: int) -> str:
    return (_EPOCH + timedelta(milliseconds=ts_ms)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _error(problem: str) -> str:
    return compact({"type": "error", "message": problem})


def _limited(payload: Frame) -> Sequence[Frame]:
    return (_error("rate limit exceeded"),) if request(payload).get("type") == "subscribe" else ()


STREAM = StreamService("coinbase", lambda books, _path, _now_ms: CoinbaseWire(books), no_requests, limited=_limited)
