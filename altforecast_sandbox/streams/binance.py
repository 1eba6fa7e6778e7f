"""Binance spot streams: raw (`/ws/...`) and combined (`/stream`), `depth` changes and the shallow `depth5`, `10` and `20` books.

What belongs here: Binance's frames and its REST depth. What does not: other venues.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson

from altforecast_sandbox.coins import Pair
from altforecast_sandbox.exchanges.desk import Refusal
from altforecast_sandbox.resting import Change, RestingBook, Rows
from altforecast_sandbox.streams.venue_wire import Markets, VenueWire, compact, listed, request
from altforecast_sandbox.streams.wire import Books, Frame, Respond, StreamService

_STREAM = re.compile(r"^([a-z0-9]+)@depth(5|10|20)?(?:@(?:100|1000)ms)?$")
_PRINTED_DIGITS = 8
_DEFAULT_LEVELS, _MOST_LEVELS = 100, 5_000


def _spelled(pair: Pair) -> str:
    return pair.base + pair.quote


class BinanceWire(VenueWire):
    """One connection; `following` holds (stream, whether frames are wrapped, levels or 0 for changes)."""

    def __init__(self, books: Books, path: str) -> None:
        super().__init__(books, _spelled)
        address = urlsplit(path)
        self._is_combined = address.path.startswith("/stream")
        named = parse_qs(address.query).get("streams", [""])[0] if self._is_combined else address.path.removeprefix("/ws").strip("/")
        for stream in named.split("/"):
            self._follow(stream)

    def received(self, payload: Frame, now_ms: int) -> Sequence[Frame]:  # noqa: ARG002
        """Subscriptions, their ends and the list of both. Streams of unknown markets are accepted and stay silent."""
        asked = request(payload)
        method, number = asked.get("method"), asked.get("id")
        if method == "LIST_SUBSCRIPTIONS":
            return (compact({"result": [stream for stream, *_ in self.following.symbols.values()], "id": number}),)
        if method not in ("SUBSCRIBE", "UNSUBSCRIBE"):
            return (compact({"error": {"code": 2, "msg": "Invalid request: unknown variant"}, "id": number}),)
        for stream in listed(asked.get("params")):
            if method == "SUBSCRIBE":
                self._follow(str(stream))
            else:
                self.following.symbols = {s: kept for s, kept in self.following.symbols.items() if kept[0] != stream}
        return (compact({"result": None, "id": number}),)

    def _follow(self, stream: str) -> None:
        found = _STREAM.match(stream)
        symbol = self.symbols.get(found[1].upper()) if found else None
        if found and symbol is not None:
            self.following.symbols[symbol] = (stream, self._is_combined, int(found[2] or 0))

    def changed(self, book: RestingBook, change: Change) -> Sequence[Frame]:
        """The change, or the whole of a shallow book."""
        stream, is_combined, levels = self.following.symbols[change.symbol]
        if levels:
            data: dict[str, Any] = _whole(book, levels)
        else:
            data = {
                "e": "depthUpdate", "E": change.ts_ms, "s": self.names[change.symbol], "U": change.first_id, "u": change.last_id,
                "b": _levels(book, change.bids), "a": _levels(book, change.asks),
            }  # fmt: skip
        return (orjson.dumps({"stream": stream, "data": data} if is_combined else data).decode(),)


def _levels(book: RestingBook, rows: Rows) -> list[list[str]]:
    price, size = book.price, book.size
    more_price, more_size = ("0" * (_PRINTED_DIGITS - digits) for digits in (book.price_digits, book.amount_digits))
    dot = "" if book.amount_digits else "."
    return [[price(ticks) + more_price, size(lots) + dot + more_size] for ticks, lots in rows]


def _whole(book: RestingBook, levels: int) -> dict[str, Any]:
    return {
        "lastUpdateId": book.last_id,
        "bids": _levels(book, book.top_bids(levels)),
        "asks": _levels(book, book.top_asks(levels)),
    }


def _requests(books: Books, now_ms: Callable[[], int]) -> Mapping[str, Respond]:  # noqa: ARG001
    markets = Markets(books, _spelled)

    def depth(asked: Mapping[str, str]) -> Any:
        if "symbol" not in asked:
            raise Refusal(400, {"code": -1102, "msg": "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed."})
        limit = asked.get("limit", str(_DEFAULT_LEVELS))
        if not limit.isdigit():
            raise Refusal(400, {"code": -1100, "msg": "Illegal characters found in parameter 'limit'; legal range is '^[0-9]{1,20}$'."})
        symbol = markets.get(asked["symbol"])
        if symbol is None:
            raise Refusal(400, {"code": -1121, "msg": "Invalid symbol."})
        return _whole(books[symbol], min(int(limit), _MOST_LEVELS))

    return {"GET /api/v3/depth": depth}


def _connect(books: Books, path: str, now_ms: int) -> BinanceWire:  # noqa: ARG001
    return BinanceWire(books, path)


STREAM = StreamService("binance", _connect, _requests, is_shared=True)
