"""A day of fourteen venues recorded and replayed: the replay holds the books that were live, faults and reconnects included."""

from __future__ import annotations

import asyncio
from itertools import islice
from pathlib import Path

import pytest

from altforecast.books import Book, BookState
from altforecast.errors import InputError
from altforecast.symbols import VENUES
from altforecast_io.exchanges.sessions.registry import open_session
from altforecast_io.recordings import read_range, recording_files
from altforecast_io.replay import Replay
from altforecast_io.replay_account import top
from altforecast_io.settings import Settings
from realtime.recorder import Recorder
from realtime.recording import Progress, record
from tests.realtime.sandbox_venues import sandbox

pytestmark = pytest.mark.anyio


def tops(books: list[Book]) -> dict[tuple[str, str], bytes]:
    return {(b.venue, b.symbol): top(b) for b in books if b.state is BookState.LIVE}


async def test_replay_holds_the_books_that_were_live(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, retention_hours=1e6, max_mb=100)
    async with sandbox(book_rate=15.0) as on:
        on.tools.tap = recorder
        on.start("native")
        await on.all_live()
        on.add("gap", "okx", times=1)
        on.add("gap", "binance", times=1)
        await asyncio.sleep(1.0)
        await on.all_live()
        live = tops(list(on.board.live_books()))
        await recorder.write()  # takes what has passed before anything else can
        n_frames = recorder.n_frames
        await recorder.close()
    assert {venue for venue, _ in live} == set(VENUES)
    replay = Replay(open_session)
    account = replay.run(islice(read_range(recording_files(tmp_path)), n_frames))
    assert tops(replay.books) == live
    assert account.n_unjoined == 0
    assert account.faults["gap"] >= 1
    assert account.directions["begin"] > len(VENUES)


async def test_record_writes_feeds_alone(tmp_path: Path) -> None:
    told: list[Progress] = []
    async with sandbox(book_rate=15.0) as on:
        urls = ",".join(f"{venue}={on.base_url}/{venue}" for venue in VENUES)
        settings = Settings.load(
            base=tmp_path, environment="sandbox", exchange_base_urls_text=urls, book_venues="okx,kraken,bybit",
            book_symbols="BTC-USDT,BTC-USD", book_feeds_text="bybit=ccxt",
        )  # fmt: skip
        done = await record(settings, tmp_path / "out", 2.5, asyncio.Event(), told.append)
    assert done.frames > 20
    assert done.books_live >= 2
    assert (done.lost, done.error, done.left_out) == (0, "", ("bybit",))
    assert told[-1].size > 0
    account = Replay(open_session).run(read_range(recording_files(tmp_path / "out")))
    assert {name.split()[0] for name in account.updates} == {"okx", "kraken"}
    assert account.n_frames == done.frames


async def test_record_without_a_venue_says_so(tmp_path: Path) -> None:
    settings = Settings.load(base=tmp_path, environment="sandbox")
    with pytest.raises(InputError, match="none can be recorded"):
        await record(settings, tmp_path, 1, asyncio.Event(), lambda _: None)


async def test_record_of_ccxt_feeds_alone_is_refused(tmp_path: Path) -> None:
    settings = Settings.load(base=tmp_path, book_venues="okx", book_feeds_text="all=ccxt")
    with pytest.raises(InputError, match="ccxt feed: not recorded"):
        await record(settings, tmp_path, 1, asyncio.Event(), lambda _: None)


async def test_ccxt_feed_writes_nothing_that_could_not_be_replayed(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, retention_hours=1e6, max_mb=100)
    async with sandbox(book_rate=15.0) as on:
        on.tools.tap = recorder
        on.start("ccxt", ["okx"])
        on.start("native", ["bybit"])
        await on.all_live(["okx", "bybit"])
        await recorder.close()
    account = Replay(open_session).run(read_range(recording_files(tmp_path)))
    assert {name.split()[0] for name in account.updates} == {"bybit"}
    assert account.n_unjoined == 0
