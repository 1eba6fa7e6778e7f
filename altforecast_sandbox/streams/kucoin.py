"""KuCoin: tokens for connections, `/market/level2` changes numbered sequenceStart to sequenceEnd, and REST books to join.

What belongs here: KuCoin's order book topic for spot and the requests around it. What does not: candles (`exchanges.kucoin`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs, urlsplit

from altforecast_sandbox.exchanges.desk import Refusal
from altforecast_sandbox.exchanges.kucoin import spelled
from altforecast_sandbox.resting import Change, RestingBook, Rows
from altforecast_sandbox.streams.sent_window import EVERYTHING, top
from altforecast_sandbox.streams.venue_wire import Markets, VenueWire, compact, request, texts
from altforecast_sandbox.streams.wire import OWN_ADDRESS, Books, Frame, Respond, StreamService

_TOPIC = "/market/level2"
_TOKEN = "sandbox-token"
_MOST_PER_REQUEST, _MOST_TOPICS = 100, 400


class KucoinWire(VenueWire):
    """A connection; without the token of `bullet-public` it is greeted with an error."""

    def __init__(self, books: Books, path: str) -> None:
        super().__init__(books, spelled)
        query = parse_qs(urlsplit(path).query)
        self._has_token = _TOKEN in query.get("token", [])
        self._id = query.get("connectId", ["sandbox"])[0]

    def opened(self) -> Sequence[Frame]:
        """The welcome."""
        if not self._has_token:
            return (compact({"id": self._id, "type": "error", "code": 401, "data": "token is invalid"}),)
        return (compact({"id": self._id, "type": "welcome"}),)

    def received(self, payload: Frame, now_ms: int) -> Sequence[Frame]:
        """Answer ping, subscribe and unsubscribe; `response: true` asks for an acknowledgement."""
        asked = request(payload)
        kind = asked.get("type")
        if kind == "ping":
            return (compact({"id": asked.get("id"), "type": "pong", "timestamp": now_ms * 1000}),)
        if not self._has_token:
            return (_error(asked, 401, "token is invalid"),)
        if kind not in ("subscribe", "unsubscribe"):
            return (_error(asked, 415, "type is not supported"),)
        topic, _, names = str(asked.get("topic", "")).partition(":")
        wanted = [name for name in names.split(",") if name]
        if topic != _TOPIC or not wanted or any(name not in self.symbols for name in wanted):
            return (_error(asked, 404, f"topic {asked.get('topic')} is not found"),)
        return self._switched(asked, wanted, kind == "subscribe")

    def _switched(self, asked: dict[str, Any], wanted: Sequence[str], is_wanted: bool) -> Sequence[Frame]:
        if len(wanted) > _MOST_PER_REQUEST:
            return (_error(asked, 509, f"exceed max subscription count limitation of {_MOST_PER_REQUEST} per time"),)
        if is_wanted and len(self.following.symbols) + len(wanted) > _MOST_TOPICS:
            return (_error(asked, 509, f"exceed max subscription count limitation of {_MOST_TOPICS} per session"),)
        for name in wanted:
            if is_wanted:
                self.following.symbols[self.symbols[name]] = name
            else:
                self.following.symbols.pop(self.symbols[name], None)
        return (compact({"id": asked.get("id"), "type": "ack"}),) if asked.get("response") else ()

    def changed(self, book: RestingBook, change: Change) -> Sequence[Frame]:
        """One `trade.l2update`; every level carries the number of its own change."""
        name = self.following.symbols[book.symbol]
        bids = _numbered(book, change.bids, change.first_id, change.last_id)
        asks = _numbered(book, change.asks, change.first_id + len(bids), change.last_id)
        data = {
            "changes": {"asks": asks, "bids": bids}, "sequenceEnd": change.last_id, "sequenceStart": change.first_id, "symbol": name,
            "time": change.ts_ms,
        }  # fmt: skip
        return (compact({"type": "message", "topic": f"{_TOPIC}:{name}", "subject": "trade.l2update", "data": data}),)


def _numbered(book: RestingBook, rows: Rows, first: int, last: int) -> list[list[str]]:
    return [[*pair, str(min(first + i, last))] for i, pair in enumerate(texts(book, rows))]


def _error(asked: dict[str, Any], code: int, problem: str) -> str:
    return compact({"id": asked.get("id"), "type": "error", "code": code, "data": problem})


def _requests(books: Books, now_ms: Callable[[], int]) -> dict[str, Respond]:
    symbols = Markets(books, spelled)
    return {
        "POST /api/v1/bullet-public": _bullet,
        "GET /api/v1/market/orderbook/level2_{depth}": lambda query: _level2(books, symbols, now_ms(), query),
        "GET /api/v3/market/orderbook/level2": lambda query: _level2(books, symbols, now_ms(), query),
    }


def _bullet(query: Mapping[str, str]) -> dict[str, Any]:
    server = {
        "endpoint": f"{query[OWN_ADDRESS].replace('http', 'ws', 1)}/endpoint", "encrypt": False, "protocol": "websocket",
        "pingInterval": 18_000, "pingTimeout": 10_000,
    }  # fmt: skip
    return {"code": "200000", "data": {"token": _TOKEN, "instanceServers": [server]}}


def _level2(books: Books, symbols: Mapping[str, str], now_ms: int, query: Mapping[str, str]) -> dict[str, Any]:
    depth, symbol = query.get("depth", str(EVERYTHING)), symbols.get(query.get("symbol", ""))
    if symbol is None:
        raise Refusal(200, {"code": "400100", "msg": "This pair is not provided at present"})
    if depth not in ("20", "100", str(EVERYTHING)):
        raise Refusal(404, {"code": "404", "msg": "Not Found"})
    book = books[symbol]
    bids, asks = top(book, int(depth))
    data = {"time": now_ms, "sequence": str(book.last_id), "bids": texts(book, bids), "asks": texts(book, asks)}
    return {"code": "200000", "data": data}


def _limited(payload: Frame) -> Sequence[Frame]:
    asked = request(payload)
    if asked.get("type") != "subscribe":
        return ()
    return (_error(asked, 509, f"exceed max subscription count limitation of {_MOST_TOPICS} per session"),)


STREAM = StreamService("kucoin", lambda books, path, _now_ms: KucoinWire(books, path), _requests, is_shared=True, limited=_limited)
