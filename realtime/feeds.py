"""Feeds: every venue's order books kept alive for ever, whatever way they come in.

What belongs here: shards of symbols, dialling, back-off, planned reconnects, refused symbols. What does not: what happens
on a connection (`native_feed`, `ccxt_feed`), limits (`altforecast_io.exchanges.feed_limits`), judging books (`board`).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import aiohttp
import structlog

from altforecast.book_health import NS_PER_S, Step
from altforecast_io.exchanges.feed_limits import FeedLimits, planned_age_s, shards
from altforecast_io.exchanges.sessions.session import Fault, FaultReason
from altforecast_io.recordings import Direction
from realtime.board import Board, Link
from realtime.token_bucket import TokenBucket

PLANNED = "planned"
ASKED = "asked"
"""The venue, or its session, asked for a new connection."""
NETWORK_ERRORS = (aiohttp.ClientError, OSError, TimeoutError)
"""What may go wrong outside; anything else is a bug of ours."""
log = structlog.get_logger(__name__)


class Tap(Protocol):
    """Who records frames."""

    def frame(self, recv_ns: int, venue: str, conn: str, direction: Direction, payload: str | bytes) -> None:
        """One frame; directions and payloads as in `altforecast_io.recordings`. Must not block."""


@dataclass(frozen=True)
class Pace:
    """Delays of all feeds [s]; tests make them short."""

    first_s: float = 1.0
    """Longest first delay after a failure; it doubles up to `longest_s`, and the wait is drawn evenly from 0 to it."""
    longest_s: float = 60.0
    good_s: float = 60.0
    """A connection that was live for this long starts the delays anew."""
    limited_s: float = 30.0
    """At least this long after the venue said that we ask too much."""
    refused_s: float = 3600.0
    """Until a refused symbol is asked for again."""
    watchdog_s: float = 20.0
    """A connection without any frame for this long is made anew."""
    tick_s: float = 1.0
    connect_s: float = 15.0
    fetch_s: float = 10.0


@dataclass
class Tools:
    """What every feed works with."""

    board: Board
    http: aiohttp.ClientSession
    pace: Pace = field(default_factory=Pace)
    tap: Tap | None = None
    rng: random.Random = field(default_factory=random.Random)
    clock_ns: Callable[[], int] = time.time_ns
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


class Ended(NamedTuple):
    """Why a connection ended: a fault, or a reason that is none (`planned`, `asked`)."""

    reason: str
    fault: Fault | None = None


class Connection(Protocol):
    """One connection from dialling to its end."""

    async def live(self) -> Ended:
        """Connect and follow the books until something ends it; network errors are an end, not an exception."""

    def break_off(self, fault: Fault) -> None:
        """Withdraw all books at once and end with this fault."""


Dial = Callable[["Shard", Sequence[str]], Connection]


class Shard:
    """Some symbols of one venue that share a connection, which is made anew whenever it ends.

    Symbols that the venue refuses move to the venue's shard of exiles, which asks for them again after a long pause.
    """

    def __init__(
        self,
        venue: str,
        name: str,
        symbols: Sequence[str],
        tools: Tools,
        bucket: TokenBucket,
        dial: Dial,
        *,
        age_s: float,
        exiles: Shard | None,
    ) -> None:
        self.venue, self.name, self.tools, self.age_s = venue, name, tools, age_s
        self.symbols = list(symbols)
        self.link: Link = tools.board.link(venue, name, self._break_off)
        self._bucket, self._dial, self._exiles = bucket, dial, exiles
        self._refused_at: dict[str, float] = {}
        self._has_symbols = asyncio.Event()
        self._current: Connection | None = None
        self._failures = 0

    async def run(self) -> None:
        """Keep the books alive until cancelled; an ordinary shard that lost all its symbols ends. Raises what a bug raises."""
        while True:
            wanted = await self._wanted()
            if not wanted:
                return
            await self._bucket.take()
            self.tools.board.step(self.link, Step.DIALLED)
            self._current = self._dial(self, wanted)
            try:
                ended = await self._current.live()
            finally:
                self._current = None
                self.tools.board.withdraw(self.link, None)
            self.tools.board.closed(self.link, ended.reason)
            await self._pause(ended)

    def refuse(self, fault: Fault) -> bool:
        """Take a refused symbol out; whether any is left on this connection."""
        assert fault.symbol is not None
        self.tools.board.refuse(self.link, fault)
        log.warning("book_refused", venue=self.venue, symbol=fault.symbol, detail=fault.detail)
        if self._exiles is None:
            self._refused_at[fault.symbol] = self.tools.monotonic()
            return any(s not in self._refused_at for s in self.symbols)
        if fault.symbol in self.symbols:
            self.symbols.remove(fault.symbol)
            self._exiles.take(fault.symbol)
        return bool(self.symbols)

    def take(self, symbol: str) -> None:
        """An exile arrives; it is asked for after the long pause."""
        if symbol not in self.symbols:
            self.symbols.append(symbol)
        self._refused_at[symbol] = self.tools.monotonic()
        self._has_symbols.set()

    def is_old(self, age_s: float) -> bool:
        """Whether a connection of this age is due to be replaced: by plan, or to ask for refused symbols again."""
        return age_s >= self.age_s or (bool(self._refused_at) and age_s >= self.tools.pace.refused_s)

    async def _wanted(self) -> Sequence[str]:
        if self._exiles is not None:
            return tuple(self.symbols)
        while True:
            await self._has_symbols.wait()
            now = self.tools.monotonic()
            for symbol, since in list(self._refused_at.items()):
                if now - since >= self.tools.pace.refused_s:
                    del self._refused_at[symbol]
            due = tuple(s for s in self.symbols if s not in self._refused_at)
            if due:
                return due
            await self.tools.sleep(min(self._refused_at.values()) + self.tools.pace.refused_s - now)

    async def _pause(self, ended: Ended) -> None:
        pace, live_since = self.tools.pace, self.link.live_since_ns
        if live_since is not None and self.tools.clock_ns() - live_since >= pace.good_s * NS_PER_S:
            self._failures = 0
        if ended.reason == PLANNED:
            return
        wait = full_jitter(self._failures, pace, self.tools.rng)
        self._failures += 1
        if ended.reason == FaultReason.LIMITED:
            wait += pace.limited_s
        detail = f"{ended.fault.symbol or ''} {ended.fault.detail}".strip() if ended.fault else ""
        log.info("feed_reconnects", venue=self.venue, connection=self.name, reason=ended.reason, detail=detail, wait_s=round(wait, 2))
        await self.tools.sleep(wait)

    def _break_off(self, fault: Fault) -> None:
        if self._current is not None:
            self._current.break_off(fault)


class Feed:
    """All shards of one venue."""

    def __init__(self, venue: str, kind: str, symbols: Sequence[str], limits: FeedLimits, tools: Tools, dial: Dial) -> None:
        self.venue, self.kind = venue, kind
        tools.board.open_venue(venue, kind, symbols)
        bucket = TokenBucket(limits.connects_per_s, limits.connect_burst, tools.monotonic, tools.sleep)
        exiles = Shard(venue, "x", (), tools, bucket, dial, age_s=limits.max_age_s, exiles=None)
        self.shards = [
            Shard(venue, str(n), part, tools, bucket, dial, age_s=planned_age_s(limits, n), exiles=exiles)
            for n, part in enumerate(shards(limits, symbols))
        ]
        self._exiles = exiles

    async def run(self) -> None:
        """Until cancelled; one task per connection. Raises only for a bug."""
        async with asyncio.TaskGroup() as tasks:
            for shard in (*self.shards, self._exiles):
                tasks.create_task(shard.run(), name=f"feed:{self.venue}#{shard.name}")


def full_jitter(failures: int, pace: Pace, rng: random.Random) -> float:
    """Delay before the next try [s] after so many failures: even between 0 and the doubled first delay, at most the longest."""
    return rng.uniform(0.0, min(pace.longest_s, pace.first_s * 2.0 ** min(failures, 30)))
