"""Feeds over a toy venue: reconnects, refusals, watchdogs, isolation, ends."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from altforecast.book_health import HealthRules
from altforecast.books import BookState
from altforecast_io.exchanges.feed_limits import FeedLimits
from realtime.board import Board, keep_looking
from realtime.feeds import Feed, Pace, Tools, full_jitter
from realtime.native_feed import native_dial
from realtime.token_bucket import TokenBucket
from tests.realtime.venue_toy import ToySession, ToyVenues, http_client, toy_venues, until

pytestmark = pytest.mark.anyio
QUICK = Pace(first_s=0.01, longest_s=0.05, good_s=60, limited_s=0.05, refused_s=3600, watchdog_s=20, tick_s=0.02, connect_s=2, fetch_s=2)
LIMITS = FeedLimits("toy", frozenset({"USD"}), 2, connects_per_s=1000, connect_burst=1000)


class Recorded:
    """A tap that keeps what it is told."""

    def __init__(self) -> None:
        self.frames: list[tuple[str, str, str | bytes]] = []

    def frame(self, recv_ns: int, venue: str, conn: str, direction: str, payload: str | bytes) -> None:
        assert recv_ns > 1e18
        self.frames.append((conn, direction, payload))


class Stage:
    """Running feeds over toy venues."""

    def __init__(self, toys: ToyVenues, tools: Tools, tasks: asyncio.TaskGroup) -> None:
        self.toys, self.tools, self.board, self._tasks = toys, tools, tools.board, tasks
        self.running: list[asyncio.Task[None]] = []

    def start(self, venue: str, symbols: Sequence[str], limits: FeedLimits = LIMITS) -> Feed:
        dial = native_dial(limits, f"{self.toys.base_url}/{venue}", ToySession)
        feed = Feed(venue, "native", symbols, limits, self.tools, dial)
        self.running.append(self._tasks.create_task(feed.run()))
        return feed

    def live(self, venue: str) -> list[str]:
        return sorted(b.symbol for b in self.board.live_books(venue))

    def reconnects(self, venue: str) -> dict[str, int]:
        return dict(self.board.venues[venue].reconnects)


@asynccontextmanager
async def stage(pace: Pace = QUICK, rules: HealthRules | None = None, tap: Recorded | None = None) -> AsyncIterator[Stage]:
    """Toy venues, a board that looks, and feeds; all of it is over afterwards."""
    before = asyncio.all_tasks()
    async with toy_venues() as toys, http_client() as http:
        board = Board(rules or HealthRules())
        async with asyncio.TaskGroup() as tasks:
            made = Stage(toys, Tools(board, http, pace, tap, random.Random(7)), tasks)
            looking = tasks.create_task(keep_looking(board, lambda _: asyncio.sleep(0.01)))
            yield made
            for task in (*made.running, looking):
                task.cancel()
    await asyncio.sleep(0)
    assert {t for t in asyncio.all_tasks() - before if not t.done()} == set(), "nothing is left running"


async def test_feed_splits_symbols_and_all_go_live() -> None:
    async with stage() as on:
        on.start("toy", ["A-USD", "B-USD", "C-USD"])
        await until(lambda: len(on.live("toy")) == 3)
        assert len(on.toys.sockets["toy"]) == 2
        assert on.reconnects("toy") == {}


async def test_feed_gap_withdraws_at_once_and_starts_anew() -> None:
    async with stage(replace(QUICK, first_s=0.5, longest_s=0.5)) as on:
        on.start("toy", ["A-USD", "B-USD", "C-USD"])
        await until(lambda: len(on.live("toy")) == 3)
        first = on.board.books["toy", "A-USD"]
        for socket in on.toys.sockets["toy"]:
            await socket.send_str("A-USD 2")
            await socket.send_str("A-USD 4")
            break
        await until(lambda: first.state is not BookState.LIVE)
        assert first.bid_keys == []
        assert "B-USD" in on.live("toy"), "the other connection goes on"
        await until(lambda: len(on.live("toy")) == 3)
        assert on.board.books["toy", "A-USD"] is not first
        assert on.reconnects("toy") == {"gap": 1}


async def test_feed_asks_again_only_after_a_pause_for_a_refused_symbol() -> None:
    async with stage(replace(QUICK, refused_s=0.3)) as on:
        on.toys.unknown = {"B-USD"}
        on.start("toy", ["A-USD", "B-USD"])
        await until(lambda: on.live("toy") == ["A-USD"])
        await until(lambda: "B-USD" in on.board.venues["toy"].refused)
        assert on.toys.followed["toy"].count("B-USD") == 1
        await until(lambda: on.toys.followed["toy"].count("B-USD") == 2)
        on.toys.unknown = set()
        await until(lambda: on.live("toy") == ["A-USD", "B-USD"])
        assert on.toys.followed["toy"].count("A-USD") == 1, "its neighbour was never disturbed"
        assert on.board.venues["toy"].refused == {}


async def test_feed_without_any_frame_is_made_anew_by_its_watchdog() -> None:
    async with stage(replace(QUICK, watchdog_s=0.2)) as on:
        on.start("toy", ["A-USD"])
        await until(lambda: on.reconnects("toy").get("stale", 0) >= 1)


async def test_feed_silent_venue_is_withdrawn_while_the_other_stays_live() -> None:
    async with stage(rules=HealthRules(stale_after_s=0.3)) as on:
        on.start("quiet", ["A-USD"], replace(LIMITS, connects_per_s=0.01, connect_burst=1))
        on.start("loud", ["A-USD"])
        await until(lambda: on.live("quiet") and on.live("loud"))
        number = 1
        while on.live("quiet"):
            number += 1
            await on.toys.tell("loud", f"A-USD {number}")
            await asyncio.sleep(0.02)
        assert on.live("loud") == ["A-USD"]
        assert on.reconnects("loud") == {}
        assert on.board.venues["quiet"].last_fault is not None
        assert on.board.venues["quiet"].last_fault.fault.reason == "stale"


async def test_feed_planned_and_asked_reconnects_are_no_faults() -> None:
    async with stage() as on:
        feed = on.start("toy", ["A-USD"])
        await until(lambda: on.live("toy"))
        feed.shards[0].age_s = 0.0
        await until(lambda: on.reconnects("toy").get("planned", 0) >= 2)
        feed.shards[0].age_s = 3600.0
        await until(lambda: on.live("toy"))
        await on.toys.tell("toy", "close")
        await until(lambda: on.reconnects("toy").get("asked", 0) == 1)
        assert len(on.board.faults) == 0


async def test_feed_one_venue_refusing_for_ever_touches_no_other() -> None:
    async with stage() as on:
        on.toys.refusing = {"bad"}
        on.start("bad", ["A-USD"])
        on.start("good", ["A-USD"])
        await until(lambda: on.toys.n_connects.get("bad", 0) >= 5)
        assert on.live("good") == ["A-USD"]
        assert on.toys.n_connects["good"] == 1
        assert on.board.venues["bad"].reconnects["disconnected"] >= 4


async def test_feed_bug_ends_the_process() -> None:
    async def meet_a_bug() -> None:
        async with stage() as on:
            on.start("toy", ["A-USD"])
            await until(lambda: on.live("toy"))
            await on.toys.tell("toy", "bug")
            await asyncio.sleep(5)

    with pytest.raises(ExceptionGroup) as caught:
        await meet_a_bug()
    assert caught.group_contains(ZeroDivisionError)


async def test_feed_tells_the_tap_everything_in_order() -> None:
    tap = Recorded()
    async with stage(tap=tap) as on:
        on.start("toy", ["A-USD"])
        await until(lambda: on.live("toy"))
    assert [(conn, direction) for conn, direction, _ in tap.frames] == [
        ("0", "begin"), ("0", "body"), ("0", "open"), ("0", "sent"), ("0", "received"), ("0", "close"),
    ]  # fmt: skip
    payloads = [payload for _, direction, payload in tap.frames if direction != "open"]
    assert payloads == ["A-USD", "time\n200\n0", "follow A-USD", "A-USD 1", "stopped"]


async def test_feed_burst_is_counted_to_the_last_frame() -> None:
    async with stage() as on:
        on.start("toy", ["A-USD"])
        await until(lambda: on.live("toy"))
        for number in range(2, 10_002):
            await on.toys.tell("toy", f"A-USD {number}")
        await until(lambda: on.board.venues["toy"].frames == 10_001)
        assert on.board.books["toy", "A-USD"].sequence == 10_001


def test_full_jitter_doubles_to_its_limit_and_fills_the_whole_range() -> None:
    rng = random.Random(1)
    for failures, longest in ((0, 1.0), (1, 2.0), (5, 32.0), (6, 60.0), (500, 60.0)):
        drawn = [full_jitter(failures, Pace(), rng) for _ in range(500)]
        assert 0.98 * longest < max(drawn) <= longest
        assert min(drawn) < 0.02 * longest


async def test_token_bucket_gives_a_burst_then_the_rate() -> None:
    now, waits = 0.0, []

    async def sleep(seconds: float) -> None:
        nonlocal now
        waits.append(round(seconds, 6))
        now += seconds

    bucket = TokenBucket(2.0, 3, lambda: now, sleep)
    for _ in range(6):
        await bucket.take()
    assert waits == [0.5, 0.5, 0.5]
    now += 100.0
    for _ in range(3):
        await bucket.take()
    assert len(waits) == 3
