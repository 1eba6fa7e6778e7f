"""Bitstamp's WebSocket v2: `diff_order_book_{market}`, numbered by nothing but the time in microseconds.

What belongs here: Bitstamp's frames and its REST book. What does not: other venues.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from altforecast_sandbox.coins import Pair
from altforecast_sandbox.exchanges.desk import Refusal
from altforecast_sandbox.resting import Change, RestingBook, Rows
from altforecast_sandbox.streams.venue_wire import Markets, VenueWire, compact, request
from altforecast_sandbox.streams.wire import Books, Frame, Respond, StreamService

_PREFIX = "diff_order_book_"
_SIZE_DIGITS = 8


def _spelled(pair: Pair) -> str:
    return (pair.base + pair.quote).lower()


class BitstampWire(VenueWire):
    """One connection; `following` holds the channel of each symbol."""

    def received(self, payload: Frame, now_ms: int) -> Sequence[Frame]:  # noqa: ARG002
        """Heartbeats, subscriptions and their ends. There is no snapshot: the client asks REST."""
        asked = request(payload)
        event, about = asked.get("event"), asked.get("data")
        if event == "bts:heartbeat":
            return (compact({"event": "bts:heartbeat", "channel": "", "data": {"status": "success"}}),)
        channel = str(about.get("channel", "")) if isinstance(about, dict) else ""
        symbol = self.symbols.get(channel.removeprefix(_PREFIX)) if channel.startswith(_PREFIX) else None
        if event not in ("bts:subscribe", "bts:unsubscribe") or symbol is None:
            told = {"code": None, "message": "Bad subscription string."}
            return (compact({"event": "bts:error", "channel": channel, "data": told}),)
        if event == "bts:subscribe":
            self.following.symbols[symbol] = channel
            return (compact({"event": "bts:subscription_succeeded", "channel": channel, "data": {}}),)
        self.following.symbols.pop(symbol, None)
        return (compact({"event": "bts:unsubscription_succeeded", "channel": channel, "data": {}}),)

    def changed(self, book: RestingBook, change: Change) -> Sequence[Frame]:
        """The levels that changed."""
        data = _timed(book, change.bids, change.asks)
        return (orjson.dumps({"data": data, "channel": self.following.symbols[change.symbol], "event": "data"}).decode(),)


def _timed(book: RestingBook, bids: Rows, asks: Rows) -> dict[str, Any]:
    levels = {"bids": _levels(book, bids), "asks": _levels(book, asks)}
    return {"timestamp": str(book.micro // 1_000_000), "microtimestamp": str(book.micro)} | levels


def _levels(book: RestingBook, rows: Rows) -> list[list[str]]:
    more = ("" if book.amount_digits else ".") + "0" * (_SIZE_DIGITS - book.amount_digits)
    return [[book.price(ticks), book.size(lots) + more] for ticks, lots in rows]


def _requests(books: Books, now_ms: Callable[[], int]) -> Mapping[str, Respond]:  # noqa: ARG001
    markets = Markets(books, _spelled)

    def order_book(asked: Mapping[str, str]) -> Any:
        symbol = markets.get(asked["pair"])
        if symbol is None:
            raise Refusal(404, {"status": "error", "code": "404.001", "reason": "Invalid currency pair."})
        book = books[symbol]
        return _timed(book, book.top_bids(len(book.bids)), book.top_asks(len(book.asks)))

    return {"GET /api/v2/order_book/{pair}/": order_book, "GET /api/v2/order_book/{pair}": order_book}


def _connect(books: Books, path: str, now_ms: int) -> BitstampWire:  # noqa: ARG001
    return BitstampWire(books, _spelled)


STREAM = StreamService("bitstamp", _connect, _requests, is_shared=True)
