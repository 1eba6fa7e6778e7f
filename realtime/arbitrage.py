"""Drives the scanner: when changed books are looked at, and who is told of what was found.

What belongs here: coalescing, cadences, the way of events to bus and landing. What does not: finding and judging
(`altforecast.scanner`), books (`board`).
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

import orjson
import structlog

from altforecast.arbitrage_cut import CutEdge, cut_row
from altforecast.book_health import NS_PER_S
from altforecast.books import Book
from altforecast.capture_chance import CaptureChance
from altforecast.opportunities import OpportunityEvent, OpportunityEventKind, opportunity_row
from altforecast.params import ARBITRAGE, ArbitrageParams
from altforecast.scanner import Scanner
from altforecast.trading_terms import TradingTerms
from altforecast_io.bus import OPPORTUNITIES, OPPORTUNITIES_FEED, SPREADS, Bus
from altforecast_io.settings import Settings
from realtime import metrics

OUTBOX_MAX = 2048
"""Events that wait for the bus; the oldest are dropped and counted."""
MINUTE_NS = 60 * NS_PER_S
SOONEST_S = 0.001
"""What is due already is looked at after this, so that a due time that does not move cannot keep the loop busy."""
BEAT_S = 0.1
"""How often the engine looks whether the loop stood still."""
OPENINGS_KEPT = 100_000
"""Openings of the last minute that are remembered for the rate."""
log = structlog.get_logger(__name__)


class Scans(Protocol):
    """What the engine needs of `altforecast.scanner.Scanner`."""

    chance: CaptureChance

    def set_book(self, book: Book) -> None:
        """A book takes the place of the one with the same venue and symbol."""

    def mark(self, book: Book) -> None:
        """A book changed."""

    def drop(self, venue: str, symbol: str | None = None) -> None:
        """A book, or all of a venue, is withdrawn."""

    def evaluate(self, now_ns: int) -> Sequence[OpportunityEvent]:
        """What changed books mean for opportunities."""

    def next_due_ns(self) -> int | None:
        """When it should be asked even if no book changes."""

    def cut(self, now_ns: int) -> Sequence[CutEdge]:
        """The coherent cut over all books."""

    def close(self, now_ns: int) -> Sequence[OpportunityEvent]:
        """Close every open opportunity with reason `shutdown`."""


class Sink(Protocol):
    """Who keeps events for ever."""

    def note(self, event: OpportunityEvent) -> None:
        """One event. Must not block."""


class Engine:
    """Evaluates changed books at most once per `coalesce_ms`, and tells bus and sink of every event, in order.

    When the loop stood still for longer than books may lie apart, frames that waited in sockets meanwhile are stamped as fresh. So
    every book is set aside then, for as long as the stall took (what waited is read in the meantime), and is used again from its
    next message on.
    """

    def __init__(
        self,
        scanner: Scans,
        bus: Bus,
        *,
        coalesce_ms: float = 1.0,
        cut_sec: float = 5.0,
        max_skew_ms: float = ARBITRAGE.max_skew_ms,
        sink: Sink | None = None,
        clock_ns: Callable[[], int] = time.time_ns,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.scanner, self._bus, self._sink = scanner, bus, sink
        self._coalesce_s, self._cut_s, self._clock_ns, self._sleep = coalesce_ms / 1000, cut_sec, clock_ns, sleep
        self._loop = asyncio.get_running_loop()
        self._last_scan = 0.0
        self._scan: asyncio.Handle | None = None
        self._due: asyncio.TimerHandle | None = None
        self._due_ns = 0
        self._outbox: deque[OpportunityEvent] = deque()
        self._has_mail = asyncio.Event()
        self._openings: deque[int] = deque(maxlen=OPENINGS_KEPT)
        self._bug: BaseException | None = None
        self._open: set[str] = set()
        self._venues: set[str] = set()
        self._skew_s, self._monotonic = max_skew_ms / 1000, monotonic
        self._awake_at, self._held_until, self._is_held = monotonic(), 0.0, False
        self._beat: asyncio.TimerHandle = self._loop.call_later(BEAT_S, self._beats)
        self.n_stalls = 0
        """How often all books were set aside."""
        self.last_evaluation_ns = 0

    @property
    def n_open(self) -> int:
        """Opportunities that are open now."""
        return len(self._open)

    # ---- books

    def set_book(self, book: Book) -> None:
        """See board.Listener."""
        self._venues.add(book.venue)
        if not self._is_held:
            self.scanner.set_book(book)

    def mark(self, book: Book) -> None:
        """See board.Listener."""
        if self._is_held:
            return
        self.scanner.mark(book)
        if self._scan is None:
            self._plan()

    def drop(self, venue: str, symbol: str | None) -> None:
        """See board.Listener."""
        self.scanner.drop(venue, symbol)
        if self._scan is None:
            self._plan()

    def _plan(self) -> None:
        """At once after a quiet time, else when the time since the last evaluation is over."""
        wait = self._last_scan + self._coalesce_s - self._loop.time()
        self._scan = self._loop.call_soon(self.evaluate) if wait <= 0 else self._loop.call_later(wait, self.evaluate)

    # ---- stalls

    def _beats(self) -> None:
        self._beat = self._loop.call_later(BEAT_S, self._beats)
        if self._look_for_stall() and self._scan is None:
            self._plan()

    def _look_for_stall(self) -> bool:
        """Set every book aside after a stall, and end that when its time is over; whether books were set aside just now."""
        now = self._monotonic()
        stalled_s, self._awake_at = now - self._awake_at - BEAT_S, now
        if stalled_s <= self._skew_s:
            self._is_held = self._is_held and now < self._held_until
            return False
        self._is_held, self._held_until = True, now + stalled_s
        self.n_stalls += 1
        log.warning("books_set_aside", stalled_s=round(stalled_s, 2))
        for venue in sorted(self._venues):
            self.scanner.drop(venue)
        return True

    # ---- evaluation

    def evaluate(self) -> None:
        """Look at what changed now; a bug ends `publish_events`."""
        self._scan = None
        began = self._loop.time()
        try:
            self._look_for_stall()
            now = self.last_evaluation_ns = self._clock_ns()
            self._tell(self.scanner.evaluate(now), now)
            self._plan_captures(now)
        except Exception as error:
            self._bug = error
            self._has_mail.set()
        self._last_scan = self._loop.time()
        metrics.EVALUATIONS.inc()
        metrics.EVALUATION_SECONDS.observe(self._last_scan - began)

    def _plan_captures(self, now: int) -> None:
        due = self.scanner.next_due_ns()
        if due is None or (self._due is not None and self._due_ns == due):
            return
        if self._due is not None:
            self._due.cancel()
        self._due_ns = due
        self._due = self._loop.call_later(max((due - now) / NS_PER_S, SOONEST_S), self._capture)

    def _capture(self) -> None:
        self._due = None
        if self._scan is None:
            self.evaluate()

    def _tell(self, events: Sequence[OpportunityEvent], now: int) -> None:
        for event in events:
            if event.kind is OpportunityEventKind.OPENED:
                self._open.add(event.opportunity.id)
                self._openings.append(now)
                # at its opening the peak is the edge of the size that counts
                metrics.NET_EDGE.observe(event.peak_edge_pct)
            elif event.kind is OpportunityEventKind.CLOSED:
                self._open.discard(event.opportunity.id)
            if self._sink is not None:
                self._sink.note(event)
            if len(self._outbox) >= OUTBOX_MAX:
                self._outbox.popleft()
                metrics.DROPPED.labels("drop_oldest").inc()
            self._outbox.append(event)
        if events:
            self._has_mail.set()

    # ---- telling

    async def publish_events(self) -> None:
        """Write events to the bus until cancelled; raises what a bug of the scanner raised."""
        while True:
            await self._has_mail.wait()
            self._has_mail.clear()
            if self._bug is not None:
                raise self._bug
            await self.flush()

    async def flush(self) -> None:
        """Write everything that waits to the bus, in order."""
        state: dict[str, bytes] = {}
        while self._outbox:
            event = self._outbox.popleft()
            payload = orjson.dumps(opportunity_row(event))
            await self._bus.append(OPPORTUNITIES_FEED, payload)
            # the later `updated` of a closed opportunity only delivers its captures: it must not come back as open
            state[event.opportunity.id] = payload if event.opportunity.id in self._open else b""
        if state:
            await self._bus.put_many(OPPORTUNITIES, state)

    async def publish_cuts(self) -> None:
        """Write the coherent cut to the bus at its cadence until cancelled."""
        while True:
            await self._sleep(self._cut_s)
            now = self._clock_ns()
            await self._bus.put_many(SPREADS, {"cut": orjson.dumps(cut_row(self.scanner.cut(now), now))})
            while self._openings and now - self._openings[0] > MINUTE_NS:
                self._openings.popleft()
            self._measure()

    def _measure(self) -> None:
        metrics.OPPORTUNITIES.set(len(self._openings))
        told = self.scanner.chance.calibration()
        if told is not None:
            metrics.CHANCE_OUTCOMES.set(told.n)
            metrics.CHANCE_BRIER.set(told.brier)
            metrics.CHANCE_BASE_BRIER.set(told.base_brier)

    def health(self) -> dict[str, Any]:
        """For the health of the process: good while no bug stopped the evaluation."""
        return {
            "ok": self._bug is None,
            "open": self.n_open,
            "opened_last_minute": len(self._openings),
            "waiting": len(self._outbox),
            "stalls": self.n_stalls,
        }

    async def stop(self) -> None:
        """Close the ledger with reason `shutdown` and write what is left."""
        for handle in (self._scan, self._due, self._beat):
            if handle is not None:
                handle.cancel()
        now = self._clock_ns()
        self._tell(self.scanner.close(now), now)
        await self.flush()


def terms_of(settings: Settings) -> TradingTerms:
    """Fees as set; transfer terms come later, from the store (`transfer_terms`)."""
    return TradingTerms(settings.taker_fees_bps, settings.taker_fee_bps, settings.transfer_terms_max_age_hours)


def params_of(settings: Settings) -> ArbitrageParams:
    """The numbers of the engine as set."""
    return replace(
        ARBITRAGE,
        target_size_usdt=settings.target_size_usdt,
        min_net_edge_pct=settings.min_net_edge_pct,
        slippage_bps=settings.slippage_bps,
        withdraw_cost_usdt=settings.withdraw_cost_usdt,
        sane_edge_pct=settings.sane_edge_pct,
        stale_after_ms=settings.book_stale_after_sec * 1000,
        max_skew_ms=float(settings.book_max_skew_ms),
    )


def open_engine(settings: Settings, terms: TradingTerms, bus: Bus, sink: Sink | None) -> Engine:
    """The engine as set, with an empty ledger."""
    scanner = Scanner(terms, params_of(settings))
    return Engine(
        scanner, bus, coalesce_ms=settings.scan_coalesce_ms, cut_sec=settings.scan_cut_sec, max_skew_ms=settings.book_max_skew_ms, sink=sink
    )
