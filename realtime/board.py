"""The board of all order books: which there are, whether they may be used, and what went wrong with each venue.

What belongs here: books, connections, counters, faults, health sweeps. What does not: sockets (`feeds`), what books are
worth (`arbitrage`), showing them (`publishing`).
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

from altforecast.book_health import NS_PER_MS, NS_PER_S, BookWatch, Finding, HealthRules, LagClock, Step, advance, best_state
from altforecast.books import Book, BookState
from altforecast_io.exchanges.feed_limits import LIMITS
from altforecast_io.exchanges.sessions.session import Fault, FaultReason
from realtime import metrics

SWEEP_S = 0.25
FAULTS_KEPT = 500
"""Faults of all venues that are remembered; older ones are forgotten."""
RATE_OVER_S = 5.0
"""Message rates are those of about the last five seconds [s]."""
_REASONS = {
    Finding.CROSSED: FaultReason.CROSSED,
    Finding.STALE: FaultReason.STALE,
    Finding.DEPTH: FaultReason.DEPTH,
    Finding.CLOCK: FaultReason.CLOCK,
}


class Listener(Protocol):
    """Who uses books: told of every new, changed and withdrawn one."""

    def set_book(self, book: Book) -> None:
        """A book takes the place of the one with the same venue and symbol."""

    def mark(self, book: Book) -> None:
        """A live book changed; called for every update, so it must be quick."""

    def drop(self, venue: str, symbol: str | None) -> None:
        """A book, or all of a venue, may no longer be used."""


class PastFault(NamedTuple):
    """A fault and when it was seen [ns since 1970]."""

    at_ns: int
    venue: str
    fault: Fault


class Link:
    """One connection of a venue as the board knows it; its feed counts frames into it."""

    __slots__ = ("books", "break_off", "frames", "last_frame_ns", "live_since_ns", "name", "state", "venue")

    def __init__(self, venue: str, name: str, break_off: Callable[[Fault], None]) -> None:
        self.venue, self.name = venue, name
        self.break_off = break_off
        """Ends the connection because of a fault that the board found."""
        self.state = BookState.CONNECTING
        self.frames = 0
        self.last_frame_ns = 0
        self.live_since_ns: int | None = None
        """When the first book of this connection was complete; None before."""
        self.books: Mapping[str, Book] = {}


class _Watched(NamedTuple):
    watch: BookWatch
    link: Link
    venue: VenueRecord


@dataclass
class VenueRecord:
    """What is known of one venue."""

    venue: str
    feed: str
    """native | ccxt | off"""
    symbols: tuple[str, ...] = ()
    note: str = ""
    links: dict[str, Link] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    """Symbols that the venue refused, with its words."""
    reconnects: Counter[str] = field(default_factory=Counter)
    gaps: int = 0
    last_fault: PastFault | None = None
    clock: LagClock = field(default_factory=LagClock)
    messages_per_s: float = 0.0
    counted: int = 0
    """Frames already in the counter."""
    counted_ns: int = 0

    @property
    def frames(self) -> int:
        """Frames received over the living connections since they were made known."""
        return sum(link.frames for link in self.links.values())

    @property
    def state(self) -> BookState | None:
        """State of the best connection; None without any."""
        return best_state(link.state for link in self.links.values())


class Board:
    """All books. Not thread-safe; everything happens in one loop."""

    def __init__(self, rules: HealthRules, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self.rules, self.clock_ns = rules, clock_ns
        self.venues: dict[str, VenueRecord] = {}
        self.books: dict[tuple[str, str], Book] = {}
        self.faults: deque[PastFault] = deque(maxlen=FAULTS_KEPT)
        self.dirty: set[Book] = set()
        """Books that changed or were withdrawn since `take_dirty`; at most one entry per book."""
        self._watched: dict[Book, _Watched] = {}
        self._listener: Listener | None = None

    def listen(self, listener: Listener | None) -> None:
        """Tell this listener of all books, those that exist already included; there is one, or none."""
        self._listener = listener
        if listener is not None:
            for book in self.books.values():
                listener.set_book(book)

    # ---- venues and connections

    def open_venue(self, venue: str, feed: str, symbols: Sequence[str] = (), note: str = "") -> VenueRecord:
        """Make a venue known; feed `off` with the reason as note for one that is not followed."""
        record = self.venues[venue] = VenueRecord(venue, feed, tuple(symbols), note, counted_ns=self.clock_ns())
        return record

    def link(self, venue: str, name: str, break_off: Callable[[Fault], None]) -> Link:
        """A new connection of a venue that is known already."""
        link = self.venues[venue].links[name] = Link(venue, name, break_off)
        return link

    def adopt(self, link: Link, books: Mapping[str, Book]) -> None:
        """The books of a new session take the places of those of the one before."""
        record = self.venues[link.venue]
        rules = replace(self.rules, crossed_messages=_crossed_messages(link.venue, self.rules))
        for symbol, book in books.items():
            self._forget(link.venue, symbol)
            old = self._watched.pop(self.books[link.venue, symbol], None) if (link.venue, symbol) in self.books else None
            self.books[link.venue, symbol] = book
            self._watched[book] = _Watched(BookWatch(book, rules, old.watch.gaps_s if old else ()), link, record)
            if self._listener is not None:
                self._listener.set_book(book)
        link.books = books

    def step(self, link: Link, step: Step) -> None:
        """Something happened to a connection."""
        link.state = advance(link.state, step)
        if step is Step.DIALLED:
            link.live_since_ns = None
        elif step is Step.COMPLETE and link.live_since_ns is None:
            link.live_since_ns = self.clock_ns()

    # ---- updates

    def changed(self, book: Book) -> None:
        """A book was updated; books of a session that was thrown away already are ignored. One that is not live (crossed for
        now) is only shown and judged again, so that nothing that rests on it stays open."""
        found = self._watched.get(book)
        if found is None:
            return
        watch, link, venue = found
        if book.state is not BookState.LIVE:
            self.dirty.add(book)
            if self._listener is not None:
                self._listener.mark(book)
            return
        if link.state is not BookState.LIVE:
            self.step(link, Step.COMPLETE)
        venue.clock.note(book.ts_ingest_ns, book.ts_event_ms)
        self.dirty.add(book)
        if watch.note():
            link.break_off(Fault(FaultReason.CROSSED, book.symbol, f"bid {book.best_bid} >= ask {book.best_ask}"))
        elif self._listener is not None:
            self._listener.mark(book)

    def withdraw(self, link: Link, fault: Fault | None) -> None:
        """Nothing of a connection may be used any more: its books are emptied at once and a fault, if it is one, is remembered."""
        self.step(link, Step.FAULT)
        if fault is not None:
            self.note_fault(link.venue, fault)
        for symbol, book in link.books.items():
            book.clear(BookState.SUSPECT)
            self._drop(book.venue, symbol, book)

    def refuse(self, link: Link, fault: Fault) -> None:
        """The venue refused one symbol; its other books go on."""
        assert fault.symbol is not None
        self.note_fault(link.venue, fault)
        self.venues[link.venue].refused[fault.symbol] = fault.detail
        book = link.books.get(fault.symbol)
        if book is not None:
            book.clear(BookState.SUSPECT)
            self._drop(link.venue, fault.symbol, book)

    def closed(self, link: Link, reason: str) -> None:
        """A connection ended and will be made anew."""
        self.step(link, Step.CLOSED)
        self.venues[link.venue].reconnects[reason] += 1
        metrics.RECONNECTS.labels(link.venue, reason).inc()
        for book in link.books.values():
            book.clear(BookState.BACKOFF)

    def note_fault(self, venue: str, fault: Fault) -> None:
        """Remember and count a fault."""
        record = self.venues[venue]
        record.last_fault = PastFault(self.clock_ns(), venue, fault)
        self.faults.append(record.last_fault)
        if fault.reason is FaultReason.GAP:
            record.gaps += 1
            metrics.GAPS.labels(venue).inc()
        elif fault.reason is FaultReason.CROSSED:
            metrics.CROSSED.labels(venue).inc()
        elif fault.reason is FaultReason.CLOCK:
            # the new connection is judged by the clock as it is from now on
            record.clock = LagClock()

    def _drop(self, venue: str, symbol: str, book: Book) -> None:
        self.dirty.add(book)
        if self._listener is not None:
            self._listener.drop(venue, symbol)

    def _forget(self, venue: str, symbol: str) -> None:
        self.venues[venue].refused.pop(symbol, None)

    # ---- looks

    def sweep(self) -> None:
        """Look at every live book and venue clock; broken rules end their connection."""
        now = self.clock_ns()
        broken: dict[Link, Fault] = {}
        for book, (watch, link, _) in self._watched.items():
            found = watch.finding(now, (now - link.last_frame_ns) / NS_PER_S)
            if found is not None:
                broken.setdefault(link, Fault(_REASONS[found[0]], book.symbol, found[1]))
        for record in self.venues.values():
            self._look_at_venue(record, now, broken)
        for link, fault in broken.items():
            link.break_off(fault)

    def _look_at_venue(self, record: VenueRecord, now: int, broken: dict[Link, Fault]) -> None:
        if record.clock.is_running_away(now, self.rules):
            fault = Fault(FaultReason.CLOCK, None, f"event times lag {record.clock.lag_ms:.0f} ms above the usual delay")
            broken.update((link, fault) for link in record.links.values() if link.state is BookState.LIVE)
        frames = record.frames
        elapsed = (now - record.counted_ns) / NS_PER_S
        if elapsed > 0 and record.feed != "off":
            fresh = max(frames - record.counted, 0)
            weight = min(elapsed / RATE_OVER_S, 1.0)
            record.messages_per_s += weight * (fresh / elapsed - record.messages_per_s)
            record.counted, record.counted_ns = frames, now
            metrics.MESSAGES.labels(record.venue).inc(fresh)
            metrics.LIVE_BOOKS.labels(record.venue).set(self.count_live(record.venue))
            age = self.age_ms(record.venue, now)
            if age is not None:
                metrics.BOOK_AGE.labels(record.venue).set(age)
            if record.clock.lag_ms is not None and fresh:
                metrics.MD_LAG.labels(record.venue).observe(record.clock.lag_ms)

    def live_books(self, venue: str | None = None) -> Iterable[Book]:
        """Books that may be used, of one venue or all."""
        if venue is None:
            return (b for b in self.books.values() if b.state is BookState.LIVE)
        links = self.venues[venue].links.values()
        return (b for link in links for b in link.books.values() if b.state is BookState.LIVE)

    def count_live(self, venue: str) -> int:
        """Number of usable books of a venue."""
        return sum(1 for _ in self.live_books(venue))

    def age_ms(self, venue: str, now_ns: int) -> float | None:
        """Time since the last update of the most silent live book [ms]; None without live books."""
        oldest = min((b.ts_ingest_ns for b in self.live_books(venue)), default=None)
        return None if oldest is None else (now_ns - oldest) / NS_PER_MS

    def take_dirty(self) -> set[Book]:
        """Books that changed or were withdrawn since the last call; books that were replaced meanwhile are left out."""
        taken, self.dirty = self.dirty, set()
        return {book for book in taken if self.books.get((book.venue, book.symbol)) is book}


def _crossed_messages(venue: str, rules: HealthRules) -> int:
    limits = LIMITS.get(venue)
    return max(rules.crossed_messages, limits.crossed_messages if limits else 0)


async def keep_looking(board: Board, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
    """Sweep for ever."""
    while True:
        await sleep(SWEEP_S)
        board.sweep()
