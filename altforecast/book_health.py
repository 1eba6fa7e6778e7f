"""Whether a book may be trusted: the rules that withdraw it, and the states a connection goes through.

What belongs here: crossed, stale, lagging and shallow books, skew between two books, state transitions, as pure
functions of times that are passed in. What does not: books themselves (`books`) and acting on a verdict (`realtime.board`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from statistics import median
from types import MappingProxyType

from altforecast.books import Book, BookState

NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000
GAPS_KEPT = 32
"""Gaps between updates from which the usual pace of a pair is known; older ones are forgotten."""
MIN_GAPS = 5
"""With fewer gaps the pace of a pair is unknown and the fixed limit alone holds."""
LAG_BUCKETS = 10
LAG_BUCKET_NS = 60 * NS_PER_S
"""The smallest lag is that of the last ten minutes, in steps of one."""


@dataclass(frozen=True, slots=True)
class HealthRules:
    """Limits of a healthy book."""

    stale_after_s: float = 10.0
    """Silence that withdraws a book [s], longer for pairs that are usually quiet."""
    stale_gaps: float = 20.0
    """The same in usual gaps of the pair [1]."""
    heartbeat_patience: float = 60.0
    """A silent book on a living connection is withdrawn after this many times the limit [1]."""
    crossed_messages: int = 1
    """Messages for which a book may stay crossed [count]."""
    crossed_after_s: float = 0.5
    """Time for which a book may stay crossed [s]."""
    min_levels: int = 5
    """Levels per side below which a book that was deep is too shallow [count]."""
    clock_limit_s: float = 5.0
    """Lag above the usual one at which event times run away from ours [s]."""
    clock_after_s: float = 5.0
    """How long event times must stay away before it is a fault [s]."""


class Finding(StrEnum):
    """A broken rule."""

    CROSSED = "crossed"
    STALE = "stale"
    DEPTH = "depth"
    CLOCK = "clock"


def silence_limit_s(rules: HealthRules, gaps_s: Iterable[float]) -> float:
    """Silence that a pair may keep [s]: the fixed limit, or 20 of its median gaps where those are longer.

    gaps_s: observed gaps between updates [s]; fewer than five leave the fixed limit.
    """
    known = list(gaps_s)
    usual = rules.stale_gaps * median(known) if len(known) >= MIN_GAPS else 0.0
    return max(rules.stale_after_s, usual)


def is_stale(silence_s: float, limit_s: float, connection_silence_s: float, rules: HealthRules) -> bool:
    """Whether a book has been silent too long.

    silence_s: since the last update of the book.  limit_s: from `silence_limit_s`.  connection_silence_s: since any frame
    of its connection (heartbeats count): while that lives, a quiet pair is given `heartbeat_patience` times the limit.
    """
    if silence_s <= limit_s:
        return False
    return connection_silence_s > rules.stale_after_s or silence_s > limit_s * rules.heartbeat_patience


def is_crossed_too_long(messages: int, since_s: float, rules: HealthRules) -> bool:
    """Whether a crossed book must go: crossed in more messages than allowed, or for longer than allowed.

    messages: consecutive messages after which it was crossed; 0 means that it is not crossed now.
    """
    return messages > rules.crossed_messages or (messages > 0 and since_s > rules.crossed_after_s)


def is_too_shallow(levels: int, deepest: int, rules: HealthRules) -> bool:
    """Whether a side lost its depth: fewer levels than allowed where it once had at least twice that many."""
    return levels < rules.min_levels and deepest >= 2 * rules.min_levels


def skew_ms(one: Book, other: Book) -> float:
    """Distance of the receive times of two books [ms]."""
    return abs(one.ts_ingest_ns - other.ts_ingest_ns) / NS_PER_MS


class LagClock:
    """Delay of event times against ours, relative to the smallest delay of the last ten minutes.

    The two clocks need not agree: their difference is in every delay and so in the smallest one as well.
    """

    __slots__ = ("_away_since_ns", "_bucket", "_floors", "last_raw_ms")

    def __init__(self) -> None:
        self.last_raw_ms: float | None = None
        """Receive time minus event time of the last update [ms]; None while the venue told no event time."""
        self._floors: deque[float] = deque(maxlen=LAG_BUCKETS)
        self._bucket = -1
        self._away_since_ns: int | None = None

    def note(self, ts_ingest_ns: int, ts_event_ms: int | None) -> None:
        """One update; an update without event time says nothing."""
        if ts_event_ms is None:
            return
        raw = ts_ingest_ns / NS_PER_MS - ts_event_ms
        self.last_raw_ms = raw
        bucket = ts_ingest_ns // LAG_BUCKET_NS
        if bucket != self._bucket:
            self._bucket = bucket
            self._floors.append(raw)
        elif raw < self._floors[-1]:
            self._floors[-1] = raw

    @property
    def floor_ms(self) -> float | None:
        """Smallest delay of the last ten minutes [ms]: clock difference plus the shortest way; None without event times."""
        return min(self._floors) if self._floors else None

    @property
    def lag_ms(self) -> float | None:
        """Delay of the last update above the smallest one [ms]; None without event times."""
        if self.last_raw_ms is None:
            return None
        return self.last_raw_ms - min(self._floors)

    def is_running_away(self, now_ns: int, rules: HealthRules) -> bool:
        """Whether event times have stayed away from ours for too long; asked regularly."""
        lag = self.lag_ms
        if lag is None or lag <= rules.clock_limit_s * 1000:
            self._away_since_ns = None
            return False
        if self._away_since_ns is None:
            self._away_since_ns = now_ns
        return now_ns - self._away_since_ns >= rules.clock_after_s * NS_PER_S


class BookWatch:
    """What is remembered of one book to judge it; `note` after every update, `finding` now and then."""

    __slots__ = ("_crossed_at_ns", "_deepest", "_last_ingest_ns", "_last_updates", "book", "crossed_messages", "gaps_s", "rules")

    def __init__(self, book: Book, rules: HealthRules, gaps_s: Iterable[float] = ()) -> None:
        self.book, self.rules = book, rules
        self.gaps_s: deque[float] = deque(gaps_s, maxlen=GAPS_KEPT)
        """Mean gaps between updates seen from one look to the next [s]; handed on when a connection is made anew."""
        self.crossed_messages = 0
        self._crossed_at_ns = 0
        self._deepest = 0
        self._last_ingest_ns = 0
        self._last_updates = 0

    def note(self) -> bool:
        """After an update: whether the book is crossed longer than it may be."""
        book = self.book
        bids, asks = book.bid_keys, book.ask_keys
        if bids and asks and bids[-1] >= -asks[-1]:
            self.crossed_messages += 1
            if self.crossed_messages == 1:
                self._crossed_at_ns = book.ts_ingest_ns
            return is_crossed_too_long(self.crossed_messages, (book.ts_ingest_ns - self._crossed_at_ns) / NS_PER_S, self.rules)
        self.crossed_messages = 0
        return False

    def finding(self, now_ns: int, connection_silence_s: float) -> tuple[Finding, str] | None:
        """The rule that a live book breaks now, with the measured value; None for a good or not yet live book."""
        book, rules = self.book, self.rules
        if book.state is not BookState.LIVE:
            return None
        self._learn_pace()
        crossed_s = (now_ns - self._crossed_at_ns) / NS_PER_S
        if is_crossed_too_long(self.crossed_messages, crossed_s, rules):
            return Finding.CROSSED, f"bid {book.best_bid} >= ask {book.best_ask} for {crossed_s:.1f} s"
        levels = min(len(book.bid_keys), len(book.ask_keys))
        self._deepest = max(self._deepest, levels)
        if is_too_shallow(levels, self._deepest, rules):
            return Finding.DEPTH, f"{levels} levels left of {self._deepest}"
        silence_s = (now_ns - book.ts_ingest_ns) / NS_PER_S
        if silence_s > rules.stale_after_s and is_stale(silence_s, silence_limit_s(rules, self.gaps_s), connection_silence_s, rules):
            return Finding.STALE, f"silent for {silence_s:.1f} s"
        return None

    def _learn_pace(self) -> None:
        book = self.book
        fresh = book.n_updates - self._last_updates
        if fresh <= 0:
            return
        if self._last_updates:
            self.gaps_s.append((book.ts_ingest_ns - self._last_ingest_ns) / NS_PER_S / fresh)
        self._last_updates, self._last_ingest_ns = book.n_updates, book.ts_ingest_ns


class Step(StrEnum):
    """What happened to a connection."""

    DIALLED = "dialled"
    OPENED = "opened"
    COMPLETE = "complete"
    """A first book is complete."""
    FAULT = "fault"
    CLOSED = "closed"


_STEPS: Mapping[Step, tuple[frozenset[BookState], BookState]] = MappingProxyType(
    {
        Step.DIALLED: (frozenset({BookState.BACKOFF, BookState.CONNECTING}), BookState.CONNECTING),
        Step.OPENED: (frozenset({BookState.CONNECTING}), BookState.SYNCING),
        Step.COMPLETE: (frozenset({BookState.SYNCING, BookState.LIVE}), BookState.LIVE),
        Step.FAULT: (frozenset({BookState.CONNECTING, BookState.SYNCING, BookState.LIVE, BookState.SUSPECT}), BookState.SUSPECT),
        Step.CLOSED: (frozenset(BookState), BookState.BACKOFF),
    }
)


def advance(state: BookState, step: Step) -> BookState:
    """The state that follows; a step that cannot happen in `state` leaves it unchanged (a withdrawn book never turns live)."""
    sources, target = _STEPS[step]
    return target if state in sources else state


_RANK = {
    state: n for n, state in enumerate((BookState.LIVE, BookState.SYNCING, BookState.CONNECTING, BookState.SUSPECT, BookState.BACKOFF))
}


def best_state(states: Iterable[BookState]) -> BookState | None:
    """The state of a whole venue: that of its best connection; None without any."""
    return min(states, key=_RANK.__getitem__, default=None)


def clock_offset_ms(floors_ms: Iterable[float | None], least: int = 3) -> float | None:
    """How far our clock is from the venues' [ms], as far as one-way delays can tell; None with fewer than `least` venues.

    floors_ms: smallest delay per venue. A delay is never negative, so a negative median means that our clock is behind by
    at least that much; a positive one is an upper bound of how far it is ahead (the way itself is in it).
    """
    known = [floor for floor in floors_ms if floor is not None]
    return median(known) if len(known) >= least else None
