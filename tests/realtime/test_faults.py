"""Bad days of all fourteen venues over both feeds, against the sandbox: what is withdrawn, when, and that the right books come back."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from altforecast.book_health import HealthRules
from altforecast.books import BookState
from altforecast.symbols import VENUES
from altforecast_io.exchanges.sessions.session import FaultReason
from tests.realtime.sandbox_venues import QUICK, Sandbox, sandbox, symbol_of
from tests.realtime.venue_toy import until

pytestmark = pytest.mark.anyio
BOTH = pytest.mark.parametrize("kind", ["native", "ccxt"])
UNNUMBERED = frozenset({"bitstamp"})
"""Nothing is numbered: only the venue's REST book tells that a message is missing."""
WHOLE_BOOKS = frozenset({"bingx"})
"""Every message is a whole book: a lost one is healed by the next."""
NONE_WRONG = dict.fromkeys(VENUES, 0)


@BOTH
async def test_all_venues_reach_the_right_books(kind: str) -> None:
    async with sandbox(book_rate=15.0) as on:
        on.start(kind)
        await on.all_live()
        assert await on.compared() == NONE_WRONG


@BOTH
async def test_dropped_frame_is_found_by_the_next_message(kind: str) -> None:
    async with sandbox(book_rate=15.0) as on:
        on.start(kind)
        await on.all_live()
        on.clock.stop()
        await asyncio.sleep(0.3)
        found, wrong = await dropped(on), {venue: on.wrong_levels(venue) for venue in VENUES}
        on.clock.go()
        assert set(VENUES) - found <= UNNUMBERED | WHOLE_BOOKS
        assert [wrong[venue] for venue in WHOLE_BOOKS] == [0]
        await on.all_live(sorted(set(VENUES) - UNNUMBERED))
        compared = await on.compared(sorted(set(VENUES) - UNNUMBERED))
        assert set(compared.values()) == {0}, compared


async def dropped(on: Sandbox) -> set[str]:
    """Drops one frame of each venue, sends the next change, and tells whose book was withdrawn by it."""
    books = {venue: on.book(venue) for venue in VENUES}
    for venue in VENUES:
        on.add("dropped_frame", venue, times=1)
        on.publish(venue)
        on.publish(venue)
    await asyncio.sleep(0.5)
    return {venue for venue, book in books.items() if book.state is not BookState.LIVE}


@BOTH
async def test_dropped_frame_without_numbers_is_found_within_a_minute(kind: str) -> None:
    patient = HealthRules(stale_after_s=3600.0)
    async with sandbox(book_rate=1.0, speed=20.0, rules=patient, pace=replace(QUICK, first_s=5.0, watchdog_s=3600.0)) as on:
        on.start(kind, sorted(UNNUMBERED))
        await on.all_live(sorted(UNNUMBERED))
        for venue in UNNUMBERED:
            book, began, record = on.book(venue), on.clock.now_ns(), on.board.venues[venue]
            # nothing but the venue's REST book can tell: no later change crosses the book or heals it
            on.add("gap", venue)
            await until(lambda record=record: record.last_fault, 30.0)  # type: ignore[misc]
            on.switches.stream.faults.clear()
            assert record.last_fault is not None
            assert record.last_fault.fault.reason is FaultReason.RECONCILE
            # a minute, and what the machine takes for it on a clock that runs twenty times as fast
            assert on.clock.now_ns() - began < 100e9
            assert book.state is not BookState.LIVE
            await until(lambda book=book, venue=venue: on.book(venue) is not book)  # type: ignore[misc]
            await on.all_live([venue])
            assert await on.compared([venue]) == {venue: 0}


@BOTH
async def test_reconnect_with_a_moved_market_serves_no_wrong_level(kind: str) -> None:
    async with sandbox(book_rate=15.0) as on:
        on.start(kind)
        await on.all_live()
        before = {venue: on.book(venue) for venue in VENUES}
        mids = {venue: on.book(venue).best_bid for venue in VENUES}
        on.add("reconnect_moved", times=1)
        await until(lambda: all(on.book(venue) is not before[venue] for venue in VENUES) or None)
        await on.all_live()
        assert await on.compared() == NONE_WRONG
        moved = [(on.book(venue).best_bid or 0.0) / (mids[venue] or 1.0) for venue in VENUES]
        assert min(moved) > 1.01


@BOTH
@pytest.mark.parametrize("half", [VENUES[::2], VENUES[1::2]], ids=["even", "odd"])
async def test_silence_withdraws_the_silent_and_nobody_else(kind: str, half: tuple[str, ...]) -> None:
    async with sandbox(book_rate=10.0, rules=HealthRules(stale_after_s=1.5, stale_gaps=0.0)) as on:
        on.start(kind)
        await on.all_live()
        loud = {venue: on.book(venue) for venue in VENUES if venue not in half}
        silent = {venue: on.book(venue) for venue in half}
        for venue in half:
            on.add("silence", venue, value=3600.0)
        await until(lambda: all(book.state is not BookState.LIVE for book in silent.values()) or None)
        faults = {venue: on.board.venues[venue].last_fault for venue in half}
        assert {venue: fault and fault.fault.reason.value for venue, fault in faults.items()} == dict.fromkeys(half, "stale")
        assert all(fault and fault.at_ns - silent[venue].ts_ingest_ns >= 1.5e9 for venue, fault in faults.items())
        assert {venue for venue, book in loud.items() if book.state is BookState.LIVE and on.book(venue) is book} == set(loud)


@BOTH
async def test_garbage_withdraws_and_the_right_book_comes_back(kind: str) -> None:
    async with sandbox(book_rate=15.0) as on:
        on.start(kind)
        await on.all_live()
        before = {venue: on.book(venue) for venue in VENUES}
        for venue in VENUES:
            on.add("garbage", venue, times=1)
        await until(lambda: not {venue for venue in VENUES if on.book(venue) is before[venue]} or None)
        await on.all_live()
        assert await on.compared() == NONE_WRONG


@BOTH
async def test_wrong_checksum_withdraws(kind: str) -> None:
    async with sandbox(book_rate=15.0) as on:
        venues = ["bitget", "bitfinex", "kraken"]
        on.start(kind, venues)
        await on.all_live(venues)
        for venue in venues:
            on.add("checksum_error", venue, times=1)
        await until(lambda: all("checksum" in on.board.venues[venue].reconnects for venue in venues) or None)
        await on.all_live(venues)
        compared = await on.compared(venues)
        assert set(compared.values()) == {0}, compared


async def test_venue_that_refuses_connections_for_ever_touches_no_other() -> None:
    async with sandbox(book_rate=15.0) as on:
        on.base_url, address = "http://127.0.0.1:1", on.base_url
        on.start("native", ["okx"])
        on.base_url = address
        others = [venue for venue in VENUES if venue != "okx"]
        on.start("native", others)
        await on.all_live(others)
        books = {venue: on.book(venue) for venue in others}
        await until(lambda: on.board.venues["okx"].reconnects["disconnected"] >= 8 or None)
        assert {venue for venue in others if on.book(venue) is books[venue] and venue in on.live()} == set(others)
        assert [on.board.venues[venue].reconnects.total() for venue in others] == [0] * len(others)


async def test_refused_symbol_leaves_its_neighbours_alone() -> None:
    async with sandbox(book_rate=15.0) as on:
        on.start("native", VENUES, ["NOPE-USDT", "ETH-USDT"])
        await until(lambda: not {v for v in VENUES if "NOPE-USDT" not in on.board.venues[v].refused} or None, 20)
        await on.all_live()
        assert {v for v in VENUES if on.board.books[v, "ETH-USDT"].state is BookState.LIVE} == set(VENUES)


def test_symbol_of_is_followed_where_it_is_traded() -> None:
    assert {symbol_of(venue) for venue in VENUES} == {"BTC-USD", "BTC-USDT"}
