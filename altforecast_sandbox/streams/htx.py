"""HTX: market by price in gzip, what moved in the best levels numbered prevSeqNum to seqNum, and snapshots on request.

What belongs here: HTX's `mbp` topics on the feed address. What does not: other venues and REST (`exchanges.htx`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from altforecast_sandbox.exchanges.htx import spelled
from altforecast_sandbox.resting import Change, RestingBook, Rows
from altforecast_sandbox.streams.sent_window import SentWindow, Sides, top
from altforecast_sandbox.streams.venue_wire import VenueWire, compact, packed, plain, request
from altforecast_sandbox.streams.wire import Books, Frame, StreamService, no_requests

DEPTHS = ("5", "20", "150", "400")
_FEED = "/feed"
_PING_MS = 5_000
_VERBS = {"sub": "subbed", "unsub": "unsubbed", "req": "rep"}


class HtxWire(VenueWire):
    """A connection; incremental books are served below `/feed` alone, and one depth per market: the newest wins."""

    def __init__(self, books: Books, path: str, now_ms: int) -> None:
        super().__init__(books, spelled)
        self._is_feed = urlsplit(path).path.rstrip("/").endswith(_FEED)
        self._pinged_ms = now_ms

    def received(self, payload: Frame, now_ms: int) -> Sequence[Frame]:
        """Answer sub, unsub, req and ping; a pong is taken silently."""
        asked = request(payload)
        if "pong" in asked:
            return ()
        if "ping" in asked:
            return (packed(compact({"pong": asked["ping"]})),)
        verb = next((v for v in _VERBS if v in asked), None)
        if verb is None:
            return (self._refused(asked, now_ms, "invalid request"),)
        topic = str(asked[verb])
        parts = topic.split(".")
        if not self._is_feed or len(parts) != 4 or (parts[0], parts[2]) != ("market", "mbp") or parts[3] not in DEPTHS:
            return (self._refused(asked, now_ms, f"invalid topic {topic}"),)
        if parts[1] not in self.symbols:
            return (self._refused(asked, now_ms, f"invalid mbp.{parts[3]}.symbol {parts[1]}"),)
        return (self._done(verb, topic, self.symbols[parts[1]], int(parts[3]), asked, now_ms),)

    def _done(self, verb: str, topic: str, symbol: str, depth: int, asked: dict[str, Any], now_ms: int) -> bytes:
        book = self.books[symbol]
        answer = {"id": asked.get("id"), "status": "ok", _VERBS[verb]: topic, "ts": now_ms}
        if verb == "sub":
            self.following.symbols[symbol] = (topic, SentWindow(book, depth))
        elif verb == "unsub":
            self.following.symbols.pop(symbol, None)
        else:
            followed, window = self.following.symbols.get(symbol, ("", None))
            # A follower gets its own window, numbered as its updates are: the next update continues it.
            if followed == topic:
                return packed(compact(answer)[:-1] + f',"data":{_book(book, window.sent, window.last_id)}}}')
            return packed(compact(answer)[:-1] + f',"data":{_book(book, top(book, depth), book.last_id)}}}')
        return packed(compact(answer))

    def _refused(self, asked: dict[str, Any], now_ms: int, problem: str) -> bytes:
        return packed(compact({"ts": now_ms, "status": "error", "err-code": "bad-request", "err-msg": problem, "id": asked.get("id")}))

    def changed(self, book: RestingBook, change: Change) -> Sequence[Frame]:
        """What moved in the window; nothing where only deeper levels moved."""
        topic, window = self.following.symbols[book.symbol]
        moved = window.moved(book)
        if not any(moved):
            return ()
        before, window.last_id = window.last_id, change.last_id
        tick = _book(book, moved, change.last_id, before)
        return (packed(f'{{"ch":"{topic}","ts":{change.ts_ms},"tick":{tick}}}'),)

    def beat(self, now_ms: int) -> Sequence[Frame]:
        """A ping every 5 s."""
        if now_ms - self._pinged_ms < _PING_MS:
            return ()
        self._pinged_ms = now_ms
        return (packed(f'{{"ping":{now_ms}}}'),)


def _book(book: RestingBook, sides: Sides, seq: int, prev: int | None = None) -> str:
    before = "" if prev is None else f'"prevSeqNum":{prev},'
    return f'{{"seqNum":{seq},{before}"bids":{_rows(book, sides[0])},"asks":{_rows(book, sides[1])}}}'


def _rows(book: RestingBook, rows: Rows) -> str:
    return f"[{','.join(f'[{plain(book.price(ticks))},{plain(book.size(lots))}]' for ticks, lots in rows)}]"


def _limited(payload: Frame) -> Sequence[Frame]:
    asked = request(payload)
    if "sub" not in asked:
        return ()
    told = f"429 too many request topic is {asked['sub']}"
    return (packed(compact({"status": "error", "err-code": "bad-request", "err-msg": told, "id": asked.get("id")})),)


STREAM = StreamService("htx", HtxWire, no_requests, limited=_limited)
