"""Native sessions against the stand-ins: both sides were written from the same sources by different hands."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from altforecast.books import BookState
from altforecast_io.exchanges.sessions.registry import NATIVE_VENUES
from altforecast_io.exchanges.sessions.session import Fault, FaultReason
from altforecast_sandbox.streams.hub import FlowOptions
from altforecast_sandbox.streams.registry import STREAMS
from tests.io.stream_clients import StandIn, stand_in, true_rows
from tests.realtime.session_driver import Driven, driven

pytestmark = pytest.mark.anyio
SYMBOLS = ["BTC-USDT", "DOGE-USDT", "ETH-BTC"]
FAST = FlowOptions(book_rate=40.0)
_UPDATES = 90


async def until(condition: Callable[[], bool], running: Driven, seconds: float = 20.0) -> None:
    """Wait for something; a fault that is no refusal ends the wait."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)
            assert all(isinstance(f, Fault) and f.reason is FaultReason.REFUSED for f in running.faults), running.faults


def is_equal(running: Driven, server: StandIn, venue: str, symbol: str) -> bool:
    book = running.session.books[symbol]
    return (book.bids(20), book.asks(20)) == true_rows(server.book(venue, symbol))


def test_registry_every_native_venue_has_a_wire() -> None:
    assert set(STREAMS) == set(NATIVE_VENUES)


@pytest.mark.parametrize("venue", NATIVE_VENUES)
async def test_session_reaches_the_true_top_twenty(venue: str) -> None:
    async with stand_in(FAST) as server, driven(venue, SYMBOLS, server.url(venue)) as running:
        books = running.session.books
        await until(lambda: all(book.state is BookState.LIVE for book in books.values()), running)
        seen = running.n_updates
        await until(lambda: running.n_updates > seen + _UPDATES, running)
        server.stop_flow()
        await until(lambda: all(is_equal(running, server, venue, symbol) for symbol in SYMBOLS), running, 5.0)
        for symbol, book in books.items():
            assert book.state is BookState.LIVE
            assert book.ts_event_ms in (server.book(venue, symbol).ts_ms, None)
            assert len(book.bids(20)) == 20


@pytest.mark.parametrize("venue", NATIVE_VENUES)
async def test_session_unknown_symbol_is_refused_and_the_others_go_on(venue: str) -> None:
    async with stand_in(FAST) as server, driven(venue, ["BTC-USDT", "NOSUCH-USDT"], server.url(venue)) as running:
        await until(lambda: bool(running.faults) and running.session.books["BTC-USDT"].state is BookState.LIVE, running)
        assert [(fault.reason, fault.symbol) for fault in running.faults if isinstance(fault, Fault)] == [
            (FaultReason.REFUSED, "NOSUCH-USDT")
        ]
        seen = running.n_updates
        await until(lambda: running.n_updates > seen + 5, running)


@pytest.mark.parametrize("venue", [v for v in NATIVE_VENUES if v not in ("bingx", "bitstamp")])
async def test_session_lost_change_is_a_fault_and_no_book_is_left(venue: str) -> None:
    async with stand_in(FAST) as server, driven(venue, ["BTC-USDT"], server.url(venue)) as running:
        book = running.session.books["BTC-USDT"]
        await until(lambda: running.n_updates > 5 and book.state is BookState.LIVE, running)
        server.fault(venue, "gap", times=1)
        async with asyncio.timeout(10):
            while not running.faults:
                await asyncio.sleep(0.02)
        (fault, *_) = running.faults
        assert isinstance(fault, Fault)
        assert fault.reason in (FaultReason.GAP, FaultReason.CHECKSUM)
        assert (book.state, book.bids(1)) == (BookState.SUSPECT, [])


@pytest.mark.parametrize("venue", [v for v in NATIVE_VENUES if STREAMS[v].limited is not None])
async def test_session_told_that_it_asks_too_much_is_limited(venue: str) -> None:
    async with stand_in(FAST) as server:
        server.fault(venue, "subscribe_limit", times=1)
        async with driven(venue, ["BTC-USDT", "ETH-USDT"], server.url(venue)) as running:
            async with asyncio.timeout(10):
                while not running.faults:
                    await asyncio.sleep(0.02)
        (fault, *_) = running.faults
        assert isinstance(fault, Fault)
        assert fault.reason is FaultReason.LIMITED


@pytest.mark.parametrize("venue", [v for v in NATIVE_VENUES if STREAMS[v].spoil_checksum is not None])
async def test_session_spoiled_checksum_withdraws_the_book(venue: str) -> None:
    async with stand_in(FAST) as server, driven(venue, ["BTC-USDT"], server.url(venue)) as running:
        book = running.session.books["BTC-USDT"]
        await until(lambda: running.n_updates > 5 and book.checksum_ok is True, running)
        server.fault(venue, "checksum_error", times=1)
        async with asyncio.timeout(10):
            while not running.faults:
                await asyncio.sleep(0.02)
        (fault, *_) = running.faults
        assert isinstance(fault, Fault)
        assert (fault.reason, book.state, book.bids(1)) == (FaultReason.CHECKSUM, BookState.SUSPECT, [])
