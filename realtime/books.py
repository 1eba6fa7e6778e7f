"""The order book half of the process: feeds, board, engine and publishing as one thing that starts and stops.

What belongs here: putting them together, and their end in order. What does not: what they do, HTTP (`app`).
"""

from __future__ import annotations

import asyncio
import gc
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import structlog

from altforecast.book_health import HealthRules, clock_offset_ms
from altforecast.opportunity_history import cut_rows
from altforecast.trading_terms import TradingTerms
from altforecast_io.bus import Bus
from altforecast_io.clock import utc_now
from altforecast_io.exchanges.feed_limits import limits_of
from altforecast_io.exchanges.sessions.registry import SESSION_VENUES, open_session
from altforecast_io.settings import Settings
from realtime.arbitrage import Engine, open_engine, terms_of
from realtime.board import Board, keep_looking
from realtime.ccxt_feed import ccxt_dial
from realtime.ccxt_source import is_known
from realtime.feed_plan import NOT_RECORDED, Planned, plan_feeds
from realtime.feeds import Feed, Pace, Tools
from realtime.landing_writer import LandingWriter
from realtime.native_feed import native_dial
from realtime.publishing import Publisher
from realtime.recorder import Recorder
from realtime.supervise import backoff, supervise

STOP_S = 5.0
"""How long the feeds may take to end; after it they are left to the end of the process."""
SETTLED_S = 30.0
"""Venues that are not live after it are waited for no longer; what exists then is taken for lasting, and collections leave it alone."""
LOOK_S = 0.5
GC_THRESHOLDS = (50_000, 50, 100)
"""Rarer collections: a full one stops the loop for as long as everything takes to be looked at."""
BEHIND_MS = -50.0
"""A clock that seems to be behind the venues by more than this is wrong: no message arrives before it is sent."""
log = structlog.get_logger(__name__)


class BookSide:
    """Everything that has to do with books in this process."""

    def __init__(self, settings: Settings, bus: Bus, http: aiohttp.ClientSession, engine: Engine | None, landing: LandingWriter) -> None:
        self.settings, self.bus, self.engine, self.landing = settings, bus, engine, landing
        self.recorder = _recorder(settings) if settings.record_frames else None
        self.board = Board(HealthRules(stale_after_s=settings.book_stale_after_sec))
        if engine is not None:
            self.board.listen(engine)
        self._http = http
        self._feeds: list[Feed] = []
        self._running: list[asyncio.Task[None]] = []
        self._beside: list[asyncio.Task[None]] = []
        self.fees_bps: Mapping[str, float] = {}
        self.terms: TradingTerms | None = None
        """Fees and transfers that the engine uses; None without an engine."""
        self._publisher: Publisher | None = None
        self.is_settled = False
        """Whether the start is over: first connections, snapshots and imports may stop the loop for longer than running may."""

    def start(self, tasks: asyncio.TaskGroup, pace: Pace | None = None) -> None:
        """Start feeds and everything beside them; a bug in any of them ends the task group."""
        tools = Tools(self.board, self._http, pace or Pace(), self.recorder)
        for planned in plan_feeds(self.settings, SESSION_VENUES, is_known):
            self._open(planned, tools)
        self._publisher = Publisher(self.board, self.bus, hz=self.settings.ws_publish_hz, fees_bps=self.fees_bps)
        self._running = [tasks.create_task(feed.run(), name=f"feed:{feed.venue}") for feed in self._feeds]
        works: list[tuple[str, Callable[[], Awaitable[None]]]] = [
            ("board", lambda: keep_looking(self.board)),
            ("publisher", self._publisher.run),
            ("landing", self.landing.run),
            ("settle", self._settle),
        ]
        if self.engine is not None:
            works += [("arbitrage-events", self.engine.publish_events), ("arbitrage-cuts", self.engine.publish_cuts)]
        if self.settings.book_cut_sec > 0:
            works.append(("cuts", self._keep_cuts))
        if self.recorder is not None:
            works.append(("recorder", self.recorder.run))
        self._beside = [tasks.create_task(_supervised(name, work), name=name) for name, work in works]

    def _open(self, planned: Planned, tools: Tools) -> None:
        if planned.feed == "off":
            self.board.open_venue(planned.venue, "off", note=planned.note)
            return
        limits = limits_of(planned.venue)
        if planned.feed == "native":
            dial = native_dial(limits, planned.base_url, open_session)
        else:
            dial = ccxt_dial(planned.venue, limits, planned.base_url)
        note = planned.note
        if planned.feed == "ccxt" and self.recorder is not None:
            note = "; ".join(part for part in (note, NOT_RECORDED) if part)
            log.warning("feed_not_recorded", venue=planned.venue, why=NOT_RECORDED)
        self._feeds.append(Feed(planned.venue, planned.feed, planned.symbols, limits, tools, dial))
        self.board.venues[planned.venue].note = note

    async def stop(self) -> None:
        """End in order: engine (its ledger closes with reason shutdown), feeds, writers, then what the bus shows."""
        if self.engine is not None:
            # first, and deaf from now on: the end of the feeds withdraws every book, which is not why anything closes
            self.board.listen(None)
            await self.engine.stop()
        await _end(self._running, "feeds")
        await _end(self._beside, "books")
        await self.landing.close()
        if self.recorder is not None:
            await self.recorder.close()
        if self._publisher is not None:
            await self._publisher.clear()

    async def _settle(self) -> None:
        """The end of the start: every venue is live, or the time for it is over."""
        gc.set_threshold(*GC_THRESHOLDS)
        for _ in range(round(SETTLED_S / LOOK_S)):
            await asyncio.sleep(LOOK_S)
            if all(self.board.count_live(record.venue) for record in self.board.venues.values() if record.feed != "off"):
                break
        # without a collection: it would stop the loop for longer than a book may be late, and what it would free is little
        gc.freeze()
        self.is_settled = True
        log.info("books_settled", books_live=sum(1 for _ in self.board.live_books()))

    async def _keep_cuts(self) -> None:
        while True:
            await asyncio.sleep(self.settings.book_cut_sec)
            self.landing.note_cut(cut_rows(self.board.live_books(), self.board.clock_ns()))

    def health(self) -> dict[str, dict[str, Any]]:
        """Components `books`, `arbitrage` and `time_sync`."""
        followed = [record for record in self.board.venues.values() if record.feed != "off"]
        live = sum(1 for record in followed if self.board.count_live(record.venue))
        found: dict[str, dict[str, Any]] = {
            "books": {
                # one venue that is down is its own affair and shown with it; most of them down is ours
                "ok": not followed or 2 * live > len(followed),
                "venues": len(followed),
                "venues_live": live,
                "books_live": sum(1 for _ in self.board.live_books()),
            }
        }
        if self.engine is not None:
            found["arbitrage"] = self.engine.health()
        found["landing"] = self.landing.health()
        if self.recorder is not None:
            found["recorder"] = self.recorder.health()
        drift = clock_offset_ms(record.clock.floor_ms for record in followed)
        if drift is not None:
            # one way only: a negative drift is certain, a positive one holds the way of the messages as well
            is_good = BEHIND_MS <= drift <= self.settings.max_time_drift_ms
            found["time_sync"] = {"ok": is_good, "drift_ms": round(drift, 1), "basis": "event times of order books, one way"}
        return found


@asynccontextmanager
async def open_books(settings: Settings, bus: Bus) -> AsyncIterator[BookSide | None]:
    """The order book half, not started; None where BOOK_VENUES is empty. `stop` it before leaving."""
    if not settings.book_venues:
        yield None
        return
    landing = LandingWriter(settings.lake_dir, utc_now)
    terms = terms_of(settings)
    engine = open_engine(settings, terms, bus, landing) if settings.arbitrage_enable else None
    connector = aiohttp.TCPConnector(limit=0, ttl_dns_cache=60)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=True) as http:
        side = BookSide(settings, bus, http, engine, landing)
        side.terms = terms if engine is not None else None
        side.fees_bps = {venue: round(terms.taker_fee(venue) * 1e4, 4) for venue in settings.book_venues}
        yield side


def _recorder(settings: Settings) -> Recorder:
    folder = settings.home / "recordings"
    return Recorder(folder, retention_hours=settings.record_retention_hours, max_mb=settings.record_max_mb)


async def _supervised(name: str, work: Callable[[], Awaitable[None]]) -> None:
    async def once(_: Callable[[], None]) -> None:
        await work()

    await supervise(name, once, delays=lambda: backoff(random.random))


async def _end(tasks: Sequence[asyncio.Task[None]], name: str) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        _, late = await asyncio.wait(tasks, timeout=STOP_S)
        if late:
            log.error("stop_deadline_passed", part=name, seconds=STOP_S)
