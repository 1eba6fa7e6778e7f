"""Recording alone: feeds and recorder without engine, bus and API.

What belongs here: putting them together for a while, and telling how it goes. What does not: the realtime process (`books`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import aiohttp
import structlog

from altforecast.book_health import HealthRules
from altforecast.errors import InputError
from altforecast_io.exchanges.feed_limits import limits_of
from altforecast_io.exchanges.sessions.registry import SESSION_VENUES, open_session
from altforecast_io.settings import Settings
from realtime.board import Board, keep_looking
from realtime.feed_plan import NOT_RECORDED, plan_feeds
from realtime.feeds import Feed, Pace, Tools
from realtime.native_feed import native_dial
from realtime.recorder import Recorder

TELL_S = 1.0
log = structlog.get_logger(__name__)


class Progress(NamedTuple):
    """How a recording goes."""

    seconds: float
    frames: int
    lost: int
    size: int
    """Bytes on disk."""
    books_live: int
    error: str
    left_out: tuple[str, ...] = ()
    """Venues that are followed over ccxt and therefore not recorded."""


async def record(
    settings: Settings, folder: Path, seconds: float, stop: asyncio.Event, tell: Callable[[Progress], None], pace: Pace | None = None
) -> Progress:
    """Record the native feeds of BOOK_VENUES for some seconds (0: until `stop`); returns what was recorded.

    Raises InputError where no venue can be followed: recordings hold wire frames, so venues that only ccxt reaches are left out.
    """
    wanted = plan_feeds(settings, SESSION_VENUES, lambda _: True)
    planned = [p for p in wanted if p.feed == "native"]
    left_out = tuple(p.venue for p in wanted if p.feed == "ccxt")
    if not planned:
        why = f"none can be recorded here (EXCHANGE_BASE_URLS, BOOK_SYMBOLS, BOOK_FEEDS){f'; {NOT_RECORDED}' if left_out else ''}"
        raise InputError("--venues", ",".join(settings.book_venues), why)
    for venue in left_out:
        log.warning("feed_not_recorded", venue=venue, why=NOT_RECORDED)
    recorder = Recorder(folder, retention_hours=settings.record_retention_hours, max_mb=settings.record_max_mb)
    board = Board(HealthRules(stale_after_s=settings.book_stale_after_sec))
    began = time.monotonic()

    def progress() -> Progress:
        live = sum(1 for _ in board.live_books())
        return Progress(time.monotonic() - began, recorder.n_frames, recorder.n_lost, recorder.size, live, recorder.error, left_out)

    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), trust_env=True) as http:
        tools = Tools(board, http, pace or Pace(), recorder)
        feeds = [
            Feed(p.venue, p.feed, p.symbols, limits_of(p.venue), tools, native_dial(limits_of(p.venue), p.base_url, open_session))
            for p in planned
        ]
        async with asyncio.TaskGroup() as tasks:
            work = [tasks.create_task(feed.run()) for feed in feeds]
            work += [tasks.create_task(recorder.run()), tasks.create_task(keep_looking(board))]
            while not stop.is_set() and (not seconds or time.monotonic() - began < seconds):
                left = seconds - (time.monotonic() - began) if seconds else TELL_S
                await _wait(stop, min(TELL_S, max(left, 0.01)))
                tell(progress())
            done = progress()
            for task in work:
                task.cancel()
        await recorder.close()
    return done._replace(frames=recorder.n_frames, lost=recorder.n_lost, size=recorder.size, error=recorder.error)


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return
