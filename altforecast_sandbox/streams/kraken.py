"""Kraken's WebSocket v2 for order books: numbers with all their decimals, and the crc32 of the best ten levels.

What belongs here: Kraken's frames, acknowledgements and refusals. What does not: other venues.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from altforecast_sandbox.coins import Pair
from altforecast_sandbox.resting import Change, RestingBook, Rows
from altforecast_sandbox.streams.venue_wire import VenueWire, compact, listed, request
from altforecast_sandbox.streams.window import window_change
from altforecast_sandbox.streams.wire import Books, Frame, StreamService, no_requests

_DEPTHS = (10, 25, 100, 500, 1000)
_CHECKED = 10
_CHECKSUM = re.compile(r'"checksum":(\d+)')
_STATUS = {"version": "2.0.10", "system": "online", "api_version": "v2", "connection_id": 12393906104898154338}


def _spelled(pair: Pair) -> str:
    return f"{pair.base}/{pair.quote}"


class KrakenWire(VenueWire):
    """One connection; `following` holds the depth of each symbol."""

    def opened(self) -> Sequence[Frame]:
        """The status of the venue."""
        return (compact({"channel": "status", "type": "update", "data": [_STATUS]}),)

    def beat(self, now_ms: int) -> Sequence[Frame]:  # noqa: ARG002
        """A heartbeat about once a second while anything is followed."""
        return (compact({"channel": "heartbeat"}),) if self.following.symbols else ()

    def received(self, payload: Frame, now_ms: int) -> Sequence[Frame]:
        """Pings, subscriptions and their ends, answered symbol by symbol."""
        asked = request(payload)
        method, about = asked.get("method"), asked.get("params")
        times = {"time_in": _time(now_ms), "time_out": _time(now_ms)}
        number = {"req_id": asked["req_id"]} if "req_id" in asked else {}
        if method == "ping":
            return (compact({"method": "pong"} | number | times),)
        if method not in ("subscribe", "unsubscribe") or not isinstance(about, dict):
            return (compact({"error": "Unsupported method", "method": method, "success": False} | number | times),)
        return [frame for name in listed(about.get("symbol")) for frame in self._asked(str(method), about, str(name), number | times)]

    def _asked(self, method: str, about: dict[str, Any], name: str, more: dict[str, Any]) -> Sequence[Frame]:
        symbol, depth = self.symbols.get(name), about.get("depth", 10)
        error = None
        if symbol is None:
            error = f"Currency pair not supported {name}"
        elif about.get("channel") != "book":
            error = "Channel field is not valid"
        elif depth not in _DEPTHS:
            error = "Subscription depth not supported"
        if error is not None or symbol is None:
            return (compact({"error": error, "method": method, "success": False, "symbol": name} | more),)
        result = {"channel": "book", "depth": depth, "snapshot": about.get("snapshot", True), "symbol": name}
        told = compact({"method": method, "result": result, "success": True} | more)
        if method == "unsubscribe":
            self.following.symbols.pop(symbol, None)
            return (told,)
        self.following.symbols[symbol] = depth
        book = self.books[symbol]
        return told, self._frame(book, "snapshot", book.top_bids(depth), book.top_asks(depth))

    def changed(self, book: RestingBook, change: Change) -> Sequence[Frame]:
        """What changed among the levels followed; levels that are pushed out are not told: the client cuts them itself."""
        bids, asks = window_change(book, change, self.following.symbols[change.symbol], is_telling_fallen=False)
        return (self._frame(book, "update", bids, asks),) if bids or asks else ()

    def _frame(self, book: RestingBook, kind: str, bids: Rows, asks: Rows) -> str:
        levels = [",".join([f'{{"price":{book.price(t)},"qty":{book.size(q)}}}' for t, q in rows]) for rows in (bids, asks)]
        return (
            f'{{"channel":"book","type":"{kind}","data":[{{"symbol":"{self.names[book.symbol]}","bids":[{levels[0]}],'
            f'"asks":[{levels[1]}],"checksum":{checksum(book)},"timestamp":"{_time(book.ts_ms)}"}}]}}'
        )


def checksum(book: RestingBook) -> int:
    """The crc32 of the best ten asks, lowest first, then the best ten bids, highest first: digits of price and size."""
    rows = (*book.top_asks(_CHECKED), *book.top_bids(_CHECKED))
    # without dot and leading zeros, a fixed number's digits are its ticks or lots
    return zlib.crc32("".join([f"{ticks}{lots}" for ticks, lots in rows]).encode())


def _time(ms: int) -> str:
    return f"{_second(ms // 1000)}.{ms % 1000:03d}000Z"


@lru_cache(maxsize=16)
def _second(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, tz=UTC):%Y-%m-%dT%H:%M:%S}"


def _spoil(frame: Frame) -> Frame:
    return _CHECKSUM.sub(lambda found: f'"checksum":{int(found[1]) ^ 1}', str(frame))


def _limited(frame: Frame) -> Sequence[Frame]:
    asked = request(frame)
    told = {"error": "Exceeded msg rate", "method": "subscribe", "success": False}
    return (compact(told),) if asked.get("method") == "subscribe" else ()


def _connect(books: Books, path: str, now_ms: int) -> KrakenWire:  # noqa: ARG001
    return KrakenWire(books, _spelled)


STREAM = StreamService("kraken", _connect, no_requests, _spoil, is_shared=True, limited=_limited)
