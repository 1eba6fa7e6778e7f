"""What the sessions share whose venues send changes over the socket and the book itself over REST.

What belongs here: keeping changes until the snapshot is there, joining both, and taking a new snapshot before the known
part of a book runs out. What does not: any venue's words, and what every session shares (`stream`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Sequence
from http import HTTPStatus
from typing import ClassVar, NamedTuple

from altforecast.books import Book, Level
from altforecast_io.exchanges.sessions.session import NOTHING, FaultReason, Fetch, Output, relocate
from altforecast_io.exchanges.sessions.stream import NS_PER_S, SNAPSHOT_WITHIN_NS, UNREADABLE, Line, StreamSession
from altforecast_io.exchanges.sessions.window import Window

MAX_KEPT = 1000
"""Messages kept per book while its snapshot is awaited; one more is a fault."""
MAX_FETCHES = 5
"""Snapshots under way per connection; the others wait, and their time begins when they are asked for."""
TRIES = 3
QUIET_NS = 2 * NS_PER_S
"""A market without changes for so long after the subscription gets its snapshot anyway."""
REFRESH_EVERY_NS = 10 * NS_PER_S
"""A book takes a new snapshot at most so often, and a connection takes one a second: venues weigh deep ones heavily."""
MIN_LEVELS = 10
"""Fewer known levels than these on a side of a cut book are a fault."""
_LIMITED = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.IM_A_TEAPOT, HTTPStatus.FORBIDDEN)
_REFUSED = (HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND)


class Delta(NamedTuple):
    """One message of changes; it covers the venue's numbers `first` to `last`."""

    first: int
    last: int
    bids: Sequence[Level]
    asks: Sequence[Level]
    ts_event_ms: int | None


class Snapshot(NamedTuple):
    """A whole book as REST tells it."""

    last: int
    bids: Sequence[Level]
    asks: Sequence[Level]


class Refusal(ValueError):
    """The body of an answer says that the market does not exist or may not be asked for."""


class JoinedLine(Line):
    """A book, the changes kept for its snapshot, and the part of it that is known."""

    __slots__ = ("asked_ns", "is_flowing", "is_joined", "kept", "tries", "window")

    def __init__(self, book: Book, market: str, max_levels: int) -> None:
        super().__init__(book, market)
        self.window = Window(max_levels)
        self.kept: list[Delta] | None = []
        """Changes since the snapshot was wanted; None while none is wanted."""
        self.is_joined = False
        self.is_flowing = False
        """Whether a change was applied after the newest snapshot: from then on every number must follow."""
        self.tries = 0
        self.asked_ns = 0


class JoinedSession(StreamSession):
    """Changes with numbers `first` to `last` on a snapshot with one number; each change must begin where the last ended."""

    snapshot_levels: ClassVar[int]
    """Levels per side that the snapshot shows at most."""

    def __init__(self, symbols: Sequence[str], base_url: str | None = None) -> None:
        super().__init__(symbols, base_url)
        self._waiting: deque[str] = deque()
        self._under_way: set[str] = set()
        self._opened_ns = 0
        self._refreshed_ns = 0

    def opened(self, now_ns: int) -> Sequence[Output]:
        """Subscribe; snapshots are asked for when changes arrive, or a little later where none do."""
        frames = super().opened(now_ns)
        self._opened_ns = now_ns
        for line in self._lines.values():
            line.due_ns = None
        return frames

    def answered(self, key: str, status: int, body: bytes, recv_ns: int) -> Sequence[Output]:
        """A snapshot: joined with what was kept, asked for again where it is too old, a fault after three tries."""
        if self._is_over:
            return NOTHING
        self._under_way.discard(key)
        line = self._lines.get(key)
        found: list[Output] = []
        if isinstance(line, JoinedLine) and line.kept is not None:
            found += self._judge(line, status, body, recv_ns)
        if not self._is_over:
            found += self._ask(recv_ns)
        return found

    def tick(self, now_ns: int) -> Sequence[Output]:
        """As every session, and snapshots that wait for their turn."""
        found = list(super().tick(now_ns))
        if self._is_over or not self._opened_ns:
            return found
        is_late = now_ns - self._opened_ns >= QUIET_NS
        for line in self._lines.values():
            if isinstance(line, JoinedLine) and line.kept is not None and (line.kept or is_late):
                self._want(line)
        return found + self._ask(now_ns)

    @abstractmethod
    def _snapshot_url(self, market: str) -> str:
        """The venue's address of the snapshot of a market."""

    @abstractmethod
    def _snapshot(self, body: bytes) -> Snapshot:
        """Read a snapshot; raises Refusal, or one of UNREADABLE."""

    def _line(self, book: Book) -> JoinedLine:
        return JoinedLine(book, self._market(book.symbol), 2 * self.snapshot_levels)

    def _delta(self, line: Line, delta: Delta, recv_ns: int) -> Sequence[Output]:
        """Apply one message of changes, or keep it until there is something to apply it to."""
        assert isinstance(line, JoinedLine)  # every line of this session is made by `_line`
        if line.kept is not None:
            refused = self._keep(line, delta, recv_ns)
            if refused or not line.is_joined:
                return refused
        book = line.book
        first, last, bids, asks, ts_event_ms = delta
        number = book.sequence or 0
        if first != number + 1:
            if line.is_flowing or first > number + 1:
                return self._break(FaultReason.GAP, line, f"expected {number + 1}, got {first}")
            if last <= number:
                return NOTHING
        line.is_flowing = True
        book.sequence = last
        book.apply(bids, asks)
        line.window.trim(book)
        if line.window.is_below(book, self.snapshot_levels // 2):
            return self._shallow(line, delta, recv_ns)
        return self._changed(line, recv_ns, ts_event_ms)

    def _keep(self, line: JoinedLine, delta: Delta, recv_ns: int) -> Sequence[Output]:
        assert line.kept is not None
        if len(line.kept) < MAX_KEPT:
            line.kept.append(delta)
        elif line.is_joined:
            line.kept = None
        else:
            return self._break(FaultReason.SNAPSHOT, line, f"no snapshot within {MAX_KEPT} messages")
        if len(line.kept or ()) == 1 and not line.tries:
            self._want(line)
            return self._ask(recv_ns)
        return NOTHING

    def _shallow(self, line: JoinedLine, delta: Delta, recv_ns: int) -> Sequence[Output]:
        if line.window.is_below(line.book, min(MIN_LEVELS, self.snapshot_levels // 4)):
            return self._break(FaultReason.DEPTH, line, f"{len(line.book.bid_keys)} bids and {len(line.book.ask_keys)} asks are left")
        found = list(self._changed(line, recv_ns, delta.ts_event_ms))
        is_due = recv_ns - line.asked_ns >= REFRESH_EVERY_NS and recv_ns - self._refreshed_ns >= NS_PER_S
        if is_due and line.kept is None and line.market in self._lines:
            line.kept, line.tries, self._refreshed_ns = [], 0, recv_ns
            self._want(line)
            found += self._ask(recv_ns)
        return found

    def _want(self, line: JoinedLine) -> None:
        if line.market not in self._under_way and line.market not in self._waiting:
            self._waiting.append(line.market)

    def _ask(self, now_ns: int) -> list[Output]:
        found: list[Output] = []
        while self._waiting and len(self._under_way) < MAX_FETCHES:
            line = self._lines.get(self._waiting.popleft())
            if isinstance(line, JoinedLine) and line.kept is not None:
                self._under_way.add(line.market)
                line.asked_ns = now_ns
                line.tries += 1
                if not line.is_joined and line.due_ns is None:
                    line.due_ns = now_ns + SNAPSHOT_WITHIN_NS
                found.append(Fetch(line.market, relocate(self._snapshot_url(line.market), self.base_url)))
        return found

    def _judge(self, line: JoinedLine, status: int, body: bytes, recv_ns: int) -> Sequence[Output]:
        if status in _LIMITED:
            return self._end(FaultReason.LIMITED, f"HTTP {status} for the snapshot of {line.market}")
        if status in _REFUSED:
            return self._refused(line.market, body[:120].decode("utf-8", "replace"))
        try:
            if status != HTTPStatus.OK:
                raise ValueError(f"HTTP {status}")
            snapshot = self._snapshot(body)
        except Refusal as why:
            return self._refused(line.market, str(why)[:120])
        except UNREADABLE as why:
            return self._again(line, f"{type(why).__name__}: {why}"[:120])
        return self._join(line, snapshot, recv_ns)

    def _again(self, line: JoinedLine, why: str) -> Sequence[Output]:
        """Another try at the next tick, a second later at most."""
        if line.tries < TRIES:
            return NOTHING
        if line.is_joined:
            line.kept = None
            return NOTHING
        return self._break(FaultReason.SNAPSHOT, line, why)

    def _join(self, line: JoinedLine, snapshot: Snapshot, recv_ns: int) -> Sequence[Output]:
        book, number = line.book, snapshot.last
        newer = [delta for delta in line.kept or () if delta.last > number]
        if (newer and newer[0].first > number + 1) or (not newer and line.is_joined and number < (book.sequence or 0)):
            return self._again(line, f"snapshot {number} is older than what was kept")
        book.load(snapshot.bids, snapshot.asks)
        line.window.start(book, self.snapshot_levels)
        for delta in newer:
            if delta is not newer[0] and delta.first != number + 1:
                return self._break(FaultReason.GAP, line, f"expected {number + 1}, got {delta.first}")
            number = delta.last
            book.apply(delta.bids, delta.asks)
        line.window.trim(book)
        book.sequence, line.kept, line.is_joined, line.is_flowing, line.tries = number, None, True, bool(newer), 0
        book.n_updates += len(newer)
        return self._changed(line, recv_ns, newer[-1].ts_event_ms if newer else None)
