"""Replay: recorded frames through the sessions and the scanner of the live system, with the recording as the only clock.

What belongs here: driving sessions and scanners by frames. What does not: reading recordings (`recordings`,
`foreign_recordings`), what is counted on the way (`replay_account`) and choosing parameters (callers).

The same frames give the same books, events and digest on every machine: order is that of the file, time is `recv_ns`, sessions
tick at whole seconds of the recording, and books that changed are scanned a fixed time after the first of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import parse_qs, urlsplit

from altforecast.books import Book, BookState
from altforecast.opportunities import OpportunityEvent
from altforecast_io.exchanges.sessions.session import Fault, FaultReason, Fetch, Output, Session, withdraw
from altforecast_io.recordings import Frame, answer_of
from altforecast_io.replay_account import ReplayAccount

TICK_NS = 1_000_000_000
LONGEST_SILENCE_NS = 3_600 * TICK_NS
"""Over a longer silence in the recording no ticks are made up."""
OpenSession = Callable[[str, Sequence[str]], Session]
"""Makes a session for a venue and canonical symbols."""
OnEvent = Callable[[int, OpportunityEvent], None]
"""Is told of every event, with the position of the scanner it came from."""


class Scans(Protocol):
    """The part of a scanner that a replay drives."""

    def set_book(self, book: Book) -> None:
        """A book exists."""

    def drop(self, venue: str, symbol: str | None) -> None:
        """A book, or all books of a venue, may no longer be used."""

    def mark(self, book: Book) -> None:
        """A book changed."""

    def evaluate(self, now_ns: int) -> Sequence[OpportunityEvent]:
        """What became of opportunities."""

    def next_due_ns(self) -> int | None:
        """When it wants to be evaluated though no book changes."""


@dataclass
class _Line:
    """One connection of the recording."""

    session: Session
    is_open: bool = False
    asked: dict[str, str] = field(default_factory=dict)
    """Fetches without an answer: key -> address."""
    held: list[Frame] = field(default_factory=list)
    """Answers of foreign recordings that came before today's session asked; it gets them at the tick after it did."""


class Replay:
    """One pass over frames; drives any number of scanners over the same books."""

    def __init__(
        self,
        open_session: OpenSession,
        scanners: Sequence[Scans] = (),
        *,
        symbols: Sequence[str] = (),
        coalesce_ms: float = 1.0,
        on_event: OnEvent | None = None,
    ) -> None:
        """symbols: those of sessions whose recording does not name them; coalesce_ms: delay from a change to its scan."""
        self.account = ReplayAccount()
        self._open_session, self._scanners, self._symbols = open_session, tuple(scanners), tuple(symbols)
        self._coalesce_ns, self._on_event = int(coalesce_ms * 1_000_000), on_event
        self._lines: dict[tuple[str, str], _Line] = {}
        self._changed_ns: int | None = None
        self._due_ns: int | None = None
        self._muted = False
        self._next_tick_ns = 0
        self._now_ns = 0

    def run(self, frames: Iterable[Frame], count_from_ns: int = 0) -> ReplayAccount:
        """Replay all frames and give the account; a frame that no session can take is counted.

        count_from_ns: what comes before only makes the books; account, digest and events begin there.
        """
        self._muted = count_from_ns > 0
        for frame in frames:
            if self._muted and frame.recv_ns >= count_from_ns:
                self._muted, self.account = False, ReplayAccount()
            self.feed(frame)
        return self.finish()

    def feed(self, frame: Frame) -> None:
        """One frame; a frame that is older than the one before counts as if it came with it."""
        self._now_ns = now = max(frame.recv_ns, self._now_ns)
        if now >= self._next_tick_ns:
            self._tick(now)
        self._catch_up(now)
        self.account.frame(frame)
        line = self._line_of(frame)
        if line is None:
            return
        match frame.direction:
            case "received":
                if not self.account.is_quote(frame):
                    self._act(frame, line, line.session.received(frame.payload, now))
            case "body":
                self._answer(frame, line)
            case "open":
                line.is_open = True
                self._act(frame, line, line.session.opened(now))
            case "close":
                self._end(frame, line)

    def finish(self) -> ReplayAccount:
        """Scan what is left; the replay can go on afterwards."""
        if self._changed_ns is not None:
            self._catch_up(self._changed_ns + self._coalesce_ns)
        return self.account

    @property
    def books(self) -> list[Book]:
        """Books of all sessions that are alive, in the order in which they were made."""
        return [book for line in self._lines.values() for book in line.session.books.values()]

    def _line_of(self, frame: Frame) -> _Line | None:
        """The connection of a frame, made where the frame begins one; None where it cannot be joined."""
        key = frame.venue, frame.conn
        line = self._lines.get(key)
        if frame.direction == "begin":
            return self._begin(frame, str(frame.payload).split(","))
        is_again = line is not None and frame.direction == "open" and line.is_open
        if (line is None or is_again) and self._symbols and frame.direction in ("open", "body"):
            return self._begin(frame, self._symbols)
        if line is None and frame.direction in ("received", "body"):
            self.account.n_unjoined += 1
        return line

    def _begin(self, frame: Frame, symbols: Sequence[str]) -> _Line:
        key = frame.venue, frame.conn
        if key in self._lines:
            self._end(frame, self._lines[key])
        line = self._lines[key] = _Line(self._open_session(frame.venue, tuple(symbols)))
        for book in line.session.books.values():
            for scanner in self._scanners:
                scanner.set_book(book)
        self._act(frame, line, line.session.begin())
        return line

    def _answer(self, frame: Frame, line: _Line) -> None:
        answer = answer_of(frame)
        key = answer.key
        if not key or "://" in key:
            wanted = next((k for k, url in line.asked.items() if not key or subject(url) == subject(key)), None)
            if wanted is None:
                line.held.append(frame)
                return
            key = wanted
        line.asked.pop(key, None)
        self._act(frame, line, line.session.answered(key, answer.status, answer.body, self._now_ns))

    def _act(self, frame: Frame, line: _Line, outputs: Sequence[Output]) -> None:
        """Take what a session gave back; what it wants to send was sent when the recording was made."""
        for output in outputs:
            if isinstance(output, Book):
                self._change(output)
            elif isinstance(output, Fetch):
                line.asked[output.key] = output.url
            elif isinstance(output, Fault):
                self._fail(frame, line, output)

    def _change(self, book: Book) -> None:
        self.account.book(book, self._now_ns)
        if self._scanners:
            for scanner in self._scanners:
                scanner.mark(book)
            if self._changed_ns is None:
                self._changed_ns = self._now_ns

    def _fail(self, frame: Frame, line: _Line, fault: Fault) -> None:
        self.account.fault(frame.venue, fault)
        if fault.reason is not FaultReason.REFUSED or fault.symbol is None:
            self._lines.pop((frame.venue, frame.conn), None)
            self._withdraw(line, BookState.SUSPECT)
        else:
            for scanner in self._scanners:
                scanner.drop(line.session.venue, fault.symbol)

    def _end(self, frame: Frame, line: _Line) -> None:
        self._lines.pop((frame.venue, frame.conn), None)
        self._withdraw(line, BookState.BACKOFF)

    def _withdraw(self, line: _Line, state: BookState) -> None:
        withdraw(line.session.books, state)
        for book in line.session.books.values():
            self.account.withdrawn(book, self._now_ns)
            for scanner in self._scanners:
                scanner.drop(book.venue, book.symbol)
        if self._scanners and self._changed_ns is None:
            self._changed_ns = self._now_ns

    def _tick(self, now: int) -> None:
        due = self._next_tick_ns
        if now - due > LONGEST_SILENCE_NS:
            due = now // TICK_NS * TICK_NS
        while due <= now:
            self._catch_up(due)
            for (venue, conn), line in list(self._lines.items()):
                if line.is_open:
                    self._act(Frame(due, venue, conn, "since", ""), line, line.session.tick(due))
                held, line.held = line.held, []
                for answer in held:
                    self._answer(answer, line)
            self._evaluate(due)
            due += TICK_NS
        self._next_tick_ns = due

    def _catch_up(self, now: int) -> None:
        """Evaluations that were due by now, in order of their time."""
        while True:
            scan = None if self._changed_ns is None else self._changed_ns + self._coalesce_ns
            times = [t for t in (scan, self._due_ns) if t is not None and t <= now]
            if not times:
                return
            at = min(times)
            if scan is not None and scan <= at:
                self._changed_ns = None
            self._evaluate(at)
            if self._due_ns is not None and self._due_ns <= at:
                self._due_ns = None  # what a scanner could not settle at its time waits for the next change

    def _evaluate(self, at_ns: int) -> None:
        for i, scanner in enumerate(self._scanners):
            for event in scanner.evaluate(at_ns):
                self.account.event(i, event)
                if self._on_event is not None and not self._muted:
                    self._on_event(i, event)
        self._due_ns = min((due for s in self._scanners if (due := s.next_due_ns()) is not None), default=None)


def subject(url: str) -> str:
    """What an address asks about: its `symbol` parameter or its last path segment, without case and separators."""
    parts = urlsplit(url)
    named = parse_qs(parts.query)
    found = next(
        (named[k][0] for k in ("symbol", "currency_pair", "instId", "pair") if k in named), parts.path.rstrip("/").rpartition("/")[2]
    )
    return found.replace("-", "").replace("_", "").lower()
