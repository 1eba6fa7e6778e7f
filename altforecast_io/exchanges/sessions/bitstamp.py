"""Session of Bitstamp: all changes of `diff_order_book`, which has no sequence, joined with and compared to REST books.

What belongs here: Bitstamp's public WebSocket v2 and the moments at which it is compared. What does not: what all
sessions share (`stream`).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from altforecast.books import Book
from altforecast_io.exchanges.sessions.session import NOTHING, Close, FaultReason, Fetch, Output, Send, relocate
from altforecast_io.exchanges.sessions.stream import NS_PER_S, UNREADABLE, Line, Number, StreamSession, sounds_limited

DEPTH = 5_000
"""Levels kept per side; Bitstamp sends all of them, and what lies deeper is dropped."""
COMPARED_LEVELS = 20
MAX_KEPT = 2_000
"""Changes kept per book for a join or a comparison; one more ends it (a join is then a fault, a comparison comes later)."""
ASK_AGAIN_NS = 2 * NS_PER_S
RECONCILE_EVERY_NS = 50 * NS_PER_S
"""From one comparison to the start of the next, which takes at most 5 s more."""
REST_DELAY_NS = 3 * NS_PER_S
"""Changes are kept so long before the REST book is asked for, which may be that old."""
SETTLED_NS = 2 * NS_PER_S
"""Silence after which every change up to the REST book's time has arrived."""
UNCOMPARED_WITHIN_NS = 180 * NS_PER_S
"""A book that could not be compared for so long is a fault."""
_PREFIX = "diff_order_book_"
NO_DATA = msgspec.Raw(b"{}")


class _Change(msgspec.Struct, gc=False):
    microtimestamp: int
    bids: list[tuple[Number, Number]]
    asks: list[tuple[Number, Number]]


class _Data(msgspec.Struct, gc=False):
    microtimestamp: int | None = None
    bids: list[tuple[Number, Number]] | None = None
    asks: list[tuple[Number, Number]] | None = None
    code: int | None = None
    message: str = ""


class _Frame(msgspec.Struct, gc=False):
    event: str
    channel: str = ""
    data: msgspec.Raw = NO_DATA
    """Read only where it is needed: some events carry text or nothing."""


_decode = msgspec.json.Decoder(_Frame, strict=False).decode
_decode_data = msgspec.json.Decoder(_Data, strict=False).decode
_decode_book = msgspec.json.Decoder(_Change, strict=False).decode


class BitstampLine(Line):
    """A book of Bitstamp, the changes kept for its next join or comparison, and when that is due."""

    __slots__ = ("asked_ns", "compared_ns", "joined", "kept", "kept_after", "next_ns", "rest", "subscribed_ns")

    def __init__(self, book: Book, market: str) -> None:
        super().__init__(book, market)
        self.kept: list[_Change] | None = []
        """None while nothing is due."""
        self.kept_after = 0
        """The time of the book when keeping began [us since 1970]."""
        self.joined = 0
        """The time of the REST book that the book began with [us since 1970]."""
        self.rest: _Change | None = None
        """The REST book that waits until ours has reached its time."""
        self.next_ns: int | None = None
        """When to ask REST, or to begin keeping changes where none are kept [ns]; None while an answer is awaited."""
        self.asked_ns = self.subscribed_ns = self.compared_ns = 0

    def keep(self, change: _Change) -> bool:
        """Keep a change where that is due; False when there is no room."""
        if self.kept is None:
            return True
        if len(self.kept) >= MAX_KEPT:
            return False
        self.kept.append(change)
        return True


class BitstampSession(StreamSession):
    """Rules: times never go back; no change crosses the book; the best 20 levels equal those of the REST book within 60 s.

    There is no sequence: a lost change of the best 20 levels shows when prices meet it or at the next comparison, one that lies
    deeper only when it comes near. Several changes may tell the same time: those of a REST book's own time are applied to it once
    more, which changes nothing where it holds them.
    """

    venue = "bitstamp"
    url = "wss://ws.bitstamp.net"
    ping_every_ns = 15 * NS_PER_S
    crossed_messages = 0

    def _market(self, symbol: str) -> str:
        return symbol.replace("-", "").lower()

    def _line(self, book: Book) -> BitstampLine:
        return BitstampLine(book, self._market(book.symbol))

    def _ping(self) -> str:
        return '{"event":"bts:heartbeat"}'

    def _subscribe(self) -> Sequence[Output]:
        return [Send(f'{{"event":"bts:subscribe","data":{{"channel":"{_PREFIX}{market}"}}}}') for market in self._lines]

    def _read(self, payload: str | bytes, recv_ns: int) -> Sequence[Output]:
        frame = _decode(payload)
        line = self._lines.get(frame.channel.removeprefix(_PREFIX))
        if frame.event == "data" and isinstance(line, BitstampLine):
            data = _decode_data(frame.data)
            if data.microtimestamp is None or data.bids is None or data.asks is None:
                raise ValueError("a change without time or levels")
            return self._updated(line, _Change(data.microtimestamp, data.bids, data.asks), recv_ns)
        if frame.event == "bts:subscription_succeeded" and isinstance(line, BitstampLine):
            line.subscribed_ns = recv_ns
            return (self._fetch(line, recv_ns),)
        if frame.event == "bts:request_reconnect":
            return (Close("the venue asks to reconnect"),)
        if frame.event == "bts:error":
            detail = _decode_data(frame.data).message
            return self._objected(detail, sounds_limited(detail), line.market if line else self._named_in(detail))
        return NOTHING

    def answered(self, key: str, status: int, body: bytes, recv_ns: int) -> Sequence[Output]:
        """The REST book of one market, for the join or for a comparison; what cannot be read is asked for again."""
        line = self._lines.get(key.partition(":")[2])
        if self._is_over or not isinstance(line, BitstampLine) or line.kept is None:
            return NOTHING
        if status == 429:
            return self._end(FaultReason.LIMITED, f"HTTP 429 for {key}")
        if status == 404:
            return self._refused(line.market, f"HTTP 404 for {key}")
        line.next_ns = recv_ns + ASK_AGAIN_NS
        try:
            rest = _decode_book(body) if status == 200 else None
        except UNREADABLE:
            rest = None
        if rest is None:
            return NOTHING
        if not line.is_complete:
            return self._joined(line, rest, recv_ns)
        if rest.microtimestamp < line.kept_after:
            return NOTHING
        line.rest, line.asked_ns, line.next_ns = rest, recv_ns, None
        return self._compared(line, recv_ns)

    def tick(self, now_ns: int) -> Sequence[Output]:
        """Also ask REST again for what is due, begin comparisons and end those that waited for silence."""
        found = list(super().tick(now_ns))
        for line in [line for line in self._lines.values() if isinstance(line, BitstampLine)]:
            if line.rest is not None and now_ns - line.asked_ns >= SETTLED_NS:
                found += self._compared(line, now_ns, is_settled=True)
            elif line.is_complete and now_ns - line.compared_ns > UNCOMPARED_WITHIN_NS:
                found += self._break(FaultReason.RECONCILE, line, "could not be compared with a REST book for 180 s")
            elif line.next_ns is not None and now_ns >= line.next_ns:
                found += self._begun(line, now_ns)
        return found

    def _begun(self, line: BitstampLine, now_ns: int) -> Sequence[Output]:
        if line.kept is not None:
            return (self._fetch(line, now_ns),)
        line.kept, line.kept_after = [], line.book.sequence or 0
        line.next_ns = now_ns + REST_DELAY_NS
        return NOTHING

    def _fetch(self, line: BitstampLine, now_ns: int) -> Fetch:
        line.next_ns, line.asked_ns = None, now_ns
        url = f"https://www.bitstamp.net/api/v2/order_book/{line.market}/"
        return Fetch(f"book:{line.market}", relocate(url, self.base_url))

    def _updated(self, line: BitstampLine, change: _Change, recv_ns: int) -> Sequence[Output]:
        if not line.keep(change):
            if not line.is_complete:
                return self._break(FaultReason.SNAPSHOT, line, f"{MAX_KEPT} changes without a snapshot")
            self._rest_until(line, recv_ns + RECONCILE_EVERY_NS)
        if not line.is_complete:
            return NOTHING
        book = line.book
        last = book.sequence or 0
        if change.microtimestamp < last:
            if last == line.joined:
                # the REST book was ahead of the socket and holds it
                return NOTHING
            return self._break(FaultReason.GAP, line, f"time {change.microtimestamp} after {last}")
        self._apply(line, change)
        outputs = self._changed(line, recv_ns, change.microtimestamp // 1000)
        if line.rest is not None and line.market in self._lines:
            return [*outputs, *self._compared(line, recv_ns)]
        return outputs

    def _joined(self, line: BitstampLine, rest: _Change, recv_ns: int) -> Sequence[Output]:
        """The first book: the REST book and the changes after it, if no change can be missing between the two."""
        kept = line.kept or []
        is_covered = kept[0].microtimestamp <= rest.microtimestamp if kept else line.asked_ns - line.subscribed_ns >= ASK_AGAIN_NS
        if not is_covered:
            return NOTHING
        line.book.load(rest.bids, rest.asks)
        line.book.sequence = line.joined = rest.microtimestamp
        for change in kept:
            if change.microtimestamp >= rest.microtimestamp:
                self._apply(line, change)
        line.compared_ns = recv_ns
        place = sorted(self.books).index(line.book.symbol)
        self._rest_until(line, recv_ns + RECONCILE_EVERY_NS * (place + 1) // len(self.books))
        return self._changed(line, recv_ns, (line.book.sequence or 0) // 1000)

    def _apply(self, line: BitstampLine, change: _Change) -> None:
        line.book.apply(change.bids, change.asks)
        line.book.cut(DEPTH)
        line.book.sequence = change.microtimestamp

    def _compared(self, line: BitstampLine, now_ns: int, is_settled: bool = False) -> Sequence[Output]:
        """Compare with the REST book brought to our time, as soon as ours is past its time or nothing more comes."""
        rest, book = line.rest, line.book
        if rest is None or not (is_settled or (book.sequence or 0) > rest.microtimestamp):
            return NOTHING
        twin = Book(self.venue, book.symbol)
        twin.load(rest.bids, rest.asks)
        for change in line.kept or ():
            if change.microtimestamp >= rest.microtimestamp:
                twin.apply(change.bids, change.asks)
        line.compared_ns = now_ns
        self._rest_until(line, now_ns + RECONCILE_EVERY_NS)
        for side, own, told in (("bid", book.bids, twin.bids), ("ask", book.asks, twin.asks)):
            wrong = [pair for pair in zip(own(COMPARED_LEVELS), told(COMPARED_LEVELS), strict=False) if pair[0] != pair[1]]
            if wrong or len(own(COMPARED_LEVELS)) != len(told(COMPARED_LEVELS)):
                return self._break(FaultReason.RECONCILE, line, f"{side}s differ from REST: {wrong[:1]}")
        return NOTHING

    def _rest_until(self, line: BitstampLine, next_ns: int) -> None:
        line.kept, line.rest, line.next_ns = None, None, next_ns


def open_session(symbols: Sequence[str], base_url: str | None = None) -> BitstampSession:
    """A session of Bitstamp for canonical symbols.

    base_url: a stand-in's address, None for the venue itself.
    """
    return BitstampSession(symbols, base_url)
