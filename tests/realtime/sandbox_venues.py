"""All sandbox venues in this process, and feeds over them: the stage of the tests of faults.

What belongs here: starting both sides, a clock that can stand still, comparing books with the truth. What does not: tests.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from aiohttp import web

from altforecast.book_health import HealthRules
from altforecast.books import Book, BookState
from altforecast.symbols import VENUES
from altforecast_io.exchanges.feed_limits import limits_of
from altforecast_io.exchanges.sessions.registry import open_session
from altforecast_sandbox.clock import real_clock
from altforecast_sandbox.market import Market
from altforecast_sandbox.resting import RestingBook
from altforecast_sandbox.services import BOARD, HUB, create_app
from altforecast_sandbox.streams.hub import FlowOptions
from altforecast_sandbox.switches import Fault
from realtime.board import Board, keep_looking
from realtime.ccxt_feed import ccxt_dial
from realtime.feeds import Feed, Pace, Tools
from realtime.native_feed import native_dial
from tests.realtime.venue_toy import http_client, until

DOLLAR = ("kraken", "coinbase", "bitfinex", "bitstamp")
QUICK = Pace(first_s=0.05, longest_s=0.3, limited_s=0.1, tick_s=0.2, connect_s=5, fetch_s=5)
TOP = 20
ARRIVAL_LOOKS = 15
"""Looks at 0.3 s each until what was sent has arrived."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def symbol_of(venue: str) -> str:
    """The symbol whose book is compared."""
    return "BTC-USD" if venue in DOLLAR else "BTC-USDT"


class StoppableClock:
    """A clock for both sides, `speed` times as fast as the real one, which can stand still: then no book of the sandbox changes."""

    def __init__(self, speed: float) -> None:
        self.speed = speed
        self._stopped_at: datetime | None = None
        self._real, self._ours = real_clock(), real_clock()

    def __call__(self) -> datetime:
        return self._stopped_at or self._ours + (real_clock() - self._real) * self.speed

    def now_ns(self) -> int:
        """The same [ns since 1970]."""
        return round((self() - EPOCH) / timedelta(microseconds=1)) * 1000

    async def sleep(self, seconds: float) -> None:
        """So long on this clock."""
        await asyncio.sleep(seconds / self.speed)

    def stop(self) -> None:
        """Stand still."""
        self._stopped_at = self()

    def go(self) -> None:
        """Go on from where it stood."""
        assert self._stopped_at is not None
        self._real, self._ours, self._stopped_at = real_clock(), self._stopped_at, None


class Sandbox:
    """Venues, feeds over them and their board."""

    def __init__(self, app: web.Application, clock: StoppableClock, base_url: str, tools: Tools, tasks: asyncio.TaskGroup) -> None:
        self.hub, self.switches, self.clock, self.base_url = app[HUB], app[BOARD], clock, base_url
        self.tools, self.board, self._tasks = tools, tools.board, tasks
        self.running: list[asyncio.Task[None]] = []

    def start(self, kind: str, venues: Sequence[str] = VENUES, symbols: Sequence[str] = ()) -> None:
        """Follow one book (or these) of each venue."""
        for venue in venues:
            limits = replace(limits_of(venue), connects_per_s=100.0, connect_burst=100, send_pause_s=0.0)
            address = f"{self.base_url}/{venue}"
            dial = native_dial(limits, address, open_session) if kind == "native" else ccxt_dial(venue, limits, address)
            feed = Feed(venue, kind, symbols or [symbol_of(venue)], limits, self.tools, dial)
            self.running.append(self._tasks.create_task(feed.run()))

    def add(self, kind: str, venue: str = "*", value: float = 0.0, times: int | None = None) -> None:
        """A fault switch of the streams."""
        self.switches.stream.add(Fault(venue, kind, value, times))

    def book(self, venue: str) -> Book:
        """Our book."""
        return self.board.books[venue, symbol_of(venue)]

    def truth(self, venue: str) -> RestingBook:
        """The venue's own book."""
        return self.hub.books[venue].flow(symbol_of(venue)).book

    def publish(self, venue: str) -> None:
        """One change of the compared book now."""
        self.hub.publish(venue, symbol_of(venue), self.hub.now_ms())

    def live(self) -> set[str]:
        """Venues with a live book."""
        return {venue for venue in self.board.venues if self.board.count_live(venue)}

    async def all_live(self, venues: Sequence[str] = VENUES, seconds: float = 30.0) -> None:
        """Wait until every venue has a live book."""
        await until(lambda: not (set(venues) - self.live()) or None, seconds)

    def wrong_levels(self, venue: str) -> int | None:
        """Levels of the best twenty of each side that are not the venue's; None where our book is not live."""
        ours, true = self.book(venue), self.truth(venue)
        if ours.state is not BookState.LIVE:
            return None
        bids = [(float(true.price(t)), float(true.size(n))) for t, n in true.top_bids(TOP)]
        asks = [(float(true.price(t)), float(true.size(n))) for t, n in true.top_asks(TOP)]
        return sum(a != b for a, b in zip(ours.bids(TOP), bids, strict=True)) + sum(
            a != b for a, b in zip(ours.asks(TOP), asks, strict=True)
        )

    async def compared(self, venues: Sequence[str] = VENUES) -> dict[str, int | None]:
        """Wrong levels per venue, while time stands still and everything sent has arrived.

        What was sent before the stop may take longer to arrive on a busy machine; a level that is wrong for good stays wrong.
        """
        self.clock.stop()
        for _ in range(ARRIVAL_LOOKS):
            await asyncio.sleep(0.3)
            found = {venue: self.wrong_levels(venue) for venue in venues}
            if not any(found.values()):
                break
        self.clock.go()
        return found


@asynccontextmanager
async def sandbox(
    *, pace: Pace = QUICK, rules: HealthRules | None = None, book_rate: float = 1.0, speed: float = 1.0
) -> AsyncIterator[Sandbox]:
    """Everything running; afterwards nothing is."""
    before = asyncio.all_tasks()
    clock = StoppableClock(speed)
    app = create_app(Market(7), clock, FlowOptions(book_rate=book_rate))
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    base_url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    async with http_client() as http:
        board = Board(rules or HealthRules(), clock.now_ns)
        tools = Tools(board, http, pace, None, random.Random(7), clock.now_ns, lambda: clock.now_ns() / 1e9, clock.sleep)
        async with asyncio.TaskGroup() as tasks:
            made = Sandbox(app, clock, base_url, tools, tasks)
            looking = tasks.create_task(keep_looking(board, lambda _: asyncio.sleep(0.05)))
            try:
                yield made
            finally:
                for task in (*made.running, looking):
                    task.cancel()
    await runner.cleanup()
    for _ in range(5):
        await asyncio.sleep(0.01)
    left = {t.get_coro().__qualname__ for t in asyncio.all_tasks() - before if not t.done()}  # type: ignore[union-attr]
    assert left == set(), "nothing is left running"
