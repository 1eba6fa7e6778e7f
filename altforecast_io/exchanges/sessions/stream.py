"""What the sessions share whose venues send every book over the socket alone or nearly so.

What belongs here: faults and what they clear, snapshots that are late, pings, crossed books, frames that cannot be read.
What does not: any venue's words, and joining deltas with a REST snapshot.
"""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar

import msgspec

from altforecast.books import Book, BookState
from altforecast_io.exchanges.sessions.session import NOTHING, Fault, FaultReason, Open, Output, Send, relocate, withdraw

NS_PER_S = 1_000_000_000
SNAPSHOT_WITHIN_NS = 10 * NS_PER_S
"""A book that is not complete so long after its subscription is a fault."""
CROSSED_WITHIN_NS = NS_PER_S // 2
"""A book that stays crossed so long is a fault even if no further message arrives."""
MAX_INFLATED = 8_000_000
"""Longest text that a compressed frame may hold [bytes]; more is a bad frame."""
GZIP_MAGIC = b"\x1f\x8b"

Number = Annotated[float, msgspec.Meta(ge=0, le=1e300)]
"""A price or size; with `strict=False` its text form too. NaN, negative and infinite numbers are refused by the decoder."""

UNREADABLE = (msgspec.MsgspecError, ValueError, OverflowError, RecursionError, zlib.error)
"""What a frame can raise; anything else is a bug and ends the process."""


class Line:
    """One book of a connection and what must be remembered to judge it."""

    __slots__ = ("book", "crossed_at_ns", "due_ns", "is_complete", "market", "n_crossed")

    def __init__(self, book: Book, market: str) -> None:
        self.book, self.market = book, market
        self.due_ns: int | None = None
        """When the book must be complete [ns]; None before the subscription and once it is."""
        self.is_complete = False
        self.crossed_at_ns: int | None = None
        """Since when it has been crossed [ns]; None while it is not."""
        self.n_crossed = 0
        """Messages that left it crossed, one after another [count]."""


class StreamSession(ABC):
    """A session whose lines are found by the venue's own name of the market; a broken line is dropped and never repaired."""

    venue: ClassVar[str]
    url: ClassVar[str]
    ping_every_ns: ClassVar[int] = 0
    """How often to send `ping` [ns]; 0 where the venue asks or wants none."""
    crossed_messages: ClassVar[int] = 1
    """Messages that may leave a book crossed; it is not live in the meantime [count]."""

    def __init__(self, symbols: Sequence[str], base_url: str | None = None) -> None:
        self.base_url = base_url
        self.books: Mapping[str, Book] = {symbol: Book(self.venue, symbol) for symbol in symbols}
        self._lines = {line.market: line for line in (self._line(book) for book in self.books.values())}
        self._is_over = False
        self._pinged_ns = 0

    def begin(self) -> Sequence[Output]:
        """Ask for the socket."""
        return (Open(relocate(self.url, self.base_url)),)

    def opened(self, now_ns: int) -> Sequence[Output]:
        """Subscribe; every book must be complete within 10 s."""
        self._pinged_ns = now_ns
        for line in self._lines.values():
            line.book.state = BookState.SYNCING
            line.due_ns = now_ns + SNAPSHOT_WITHIN_NS
        return self._subscribe()

    def received(self, payload: str | bytes, recv_ns: int) -> Sequence[Output]:
        """One frame; what cannot be read withdraws every book, for nobody knows which one it was about."""
        if self._is_over:
            return NOTHING
        try:
            return self._read(payload, recv_ns)
        except UNREADABLE as why:
            return self._end(FaultReason.BAD_FRAME, f"{type(why).__name__}: {why}"[:200])

    def answered(self, key: str, status: int, body: bytes, recv_ns: int) -> Sequence[Output]:  # noqa: ARG002
        """No HTTP is asked for by default."""
        return NOTHING

    def tick(self, now_ns: int) -> Sequence[Output]:
        """Late snapshots, books that stay crossed, pings."""
        if self._is_over:
            return NOTHING
        found: list[Output] = []
        for line in list(self._lines.values()):
            if line.due_ns is not None and now_ns > line.due_ns:
                found += self._break(FaultReason.SNAPSHOT, line, "no complete book within 10 s")
            elif line.crossed_at_ns is not None and now_ns - line.crossed_at_ns > CROSSED_WITHIN_NS:
                found += self._break(FaultReason.CROSSED, line, f"bid {line.book.best_bid} >= ask {line.book.best_ask}")
        if self.ping_every_ns and now_ns - self._pinged_ns >= self.ping_every_ns:
            self._pinged_ns = now_ns
            found.append(Send(self._ping()))
        return found

    @abstractmethod
    def _subscribe(self) -> Sequence[Output]:
        """Frames to send on an open socket."""

    @abstractmethod
    def _read(self, payload: str | bytes, recv_ns: int) -> Sequence[Output]:
        """Act on one frame; raises one of UNREADABLE for what cannot be read."""

    @abstractmethod
    def _market(self, symbol: str) -> str:
        """The venue's own name of a canonical symbol."""

    def _line(self, book: Book) -> Line:
        return Line(book, self._market(book.symbol))

    def _ping(self) -> str:
        return "ping"

    def _changed(self, line: Line, recv_ns: int, ts_event_ms: int | None) -> Sequence[Output]:
        """After an update: the book. A crossed one is not live, so nobody uses it, and if it stays crossed it is a fault."""
        book = line.book
        book.ts_event_ms, book.ts_ingest_ns = ts_event_ms, recv_ns
        book.n_updates += 1
        line.due_ns, line.is_complete = None, True
        bids, asks = book.bid_keys, book.ask_keys
        if bids and asks and bids[-1] >= -asks[-1]:
            return self._crossed(line, recv_ns)
        line.crossed_at_ns, line.n_crossed = None, 0
        book.state = BookState.LIVE
        return (book,)

    def _crossed(self, line: Line, recv_ns: int) -> Sequence[Output]:
        line.n_crossed += 1
        if line.crossed_at_ns is None:
            line.crossed_at_ns = recv_ns
        if line.n_crossed > self.crossed_messages or recv_ns - line.crossed_at_ns > CROSSED_WITHIN_NS:
            return self._break(FaultReason.CROSSED, line, f"bid {line.book.best_bid} >= ask {line.book.best_ask}")
        line.book.state = BookState.SYNCING
        return (line.book,)

    def _break(self, reason: FaultReason, line: Line, detail: str) -> Sequence[Output]:
        """Withdraw one book: it is cleared, and later frames about it are not heard."""
        line.book.clear(BookState.SUSPECT)
        self._lines.pop(line.market, None)
        return (Fault(reason, line.book.symbol, detail),)

    def _end(self, reason: FaultReason, detail: str) -> Sequence[Output]:
        """Withdraw every book of the connection; nothing is heard afterwards."""
        withdraw(self.books, BookState.SUSPECT)
        self._lines.clear()
        self._is_over = True
        return (Fault(reason, None, detail),)

    def _refused(self, market: str | None, detail: str) -> Sequence[Output]:
        """The venue refused one market, or said no without saying to what; a market that is not ours changes nothing."""
        if market is None:
            return self._end(FaultReason.REFUSED, detail)
        line = self._lines.get(market)
        return NOTHING if line is None else self._break(FaultReason.REFUSED, line, detail)

    def _objected(self, detail: str, is_limit: bool, market: str | None = None) -> Sequence[Output]:
        """An error message of the venue: too much asked for, or a refusal."""
        return self._end(FaultReason.LIMITED, detail) if is_limit else self._refused(market, detail)

    def _named_in(self, text: str) -> str | None:
        """The longest name of a market of ours that stands in `text`; None without any."""
        lower = text.lower()
        return max((m for m in self._lines if m.lower() in lower), key=len, default=None)


def sounds_limited(text: str) -> bool:
    """Whether a venue's message says that we ask too much."""
    lower = text.lower()
    return any(words in lower for words in ("too many", "too frequent", "rate limit", "ratelimit", "too_many", "msg rate"))


def inflate(payload: str | bytes) -> str | bytes:
    """The text of a frame that may be compressed with gzip; other frames come back unchanged.

    Raises zlib.error for broken data and ValueError for cut or oversized data.
    """
    if isinstance(payload, str) or payload[:2] != GZIP_MAGIC:
        return payload
    reader = zlib.decompressobj(wbits=31)
    text = reader.decompress(payload, MAX_INFLATED)
    if not reader.eof:
        raise ValueError(f"gzip frame of {len(payload)} bytes is cut or too long")
    return text
