"""The ccxt feed: no frame of a burst is lost, nothing escapes into ccxt's receive loop, faults end the instance."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

from altforecast.book_health import HealthRules
from altforecast.books import BookState
from altforecast_io.exchanges.feed_limits import LIMITS
from altforecast_io.exchanges.sessions.session import FaultReason
from altforecast_sandbox.switches import Fault
from realtime.board import Board
from realtime.ccxt_feed import CcxtConnection
from realtime.ccxt_guard import BOOK_READERS, MESSAGE_READERS, SequenceGuard, disagreement, kraken_checksum
from realtime.ccxt_source import Source, is_known, load_pro
from realtime.feeds import Feed, Pace, Shard, Tools
from tests.realtime.sandbox_venues import sandbox
from tests.realtime.venue_toy import http_client, until

pytestmark = pytest.mark.anyio
QUICK = Pace(first_s=0.01, longest_s=0.05, tick_s=0.05)
BURST = 10_000


class BybitServer:
    """Bybit's spot stream of one symbol, as bytes of our choice."""

    def __init__(self) -> None:
        self.base_url = ""
        self.sockets: list[web.WebSocketResponse] = []
        self.n_connects = 0

    async def follow(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.n_connects += 1
        async for message in socket:
            asked = json.loads(message.data)
            if asked["op"] == "subscribe":
                await socket.send_json({"success": True, "ret_msg": "subscribe", "op": "subscribe", "req_id": asked.get("req_id", "")})
                levels = {"b": [[f"{100 - n}.0", "1"] for n in range(50)], "a": [[f"{101 + n}.0", "1"] for n in range(50)]}
                await socket.send_json(self.frame(1, "snapshot", **levels))
                self.sockets.append(socket)
        return socket

    @staticmethod
    def frame(number: int, kind: str = "delta", **levels: list[list[str]]) -> dict[str, Any]:
        """One message of the book."""
        return {
            "topic": "orderbook.200.BTCUSDT", "type": kind, "ts": 1_800_000_000_000 + number, "cts": 1_800_000_000_000 + number,
            "data": {"s": "BTCUSDT", "b": [], "a": [], "u": number, "seq": 10 * number} | levels,
        }  # fmt: skip


class Stage:
    """A feed over the server."""

    def __init__(self, server: BybitServer, board: Board, feed: Feed) -> None:
        self.server, self.board, self.feed = server, board, feed

    @property
    def is_live(self) -> bool:
        return self.board.count_live("bybit") == 1

    async def send(self, frame: dict[str, Any] | str | bytes) -> None:
        """One frame on the newest connection."""
        socket = self.server.sockets[-1]
        if isinstance(frame, bytes):
            await socket.send_bytes(frame)
        else:
            await socket.send_str(frame if isinstance(frame, str) else json.dumps(frame))


@asynccontextmanager
async def stage() -> AsyncIterator[Stage]:
    """A bybit feed over ccxt against the server; nothing is left running afterwards."""
    before = asyncio.all_tasks()
    server = BybitServer()
    app = web.Application()
    app.add_routes([web.get("/bybit/v5/public/spot", server.follow)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.base_url = f"http://127.0.0.1:{runner.addresses[0][1]}/bybit"
    source = Source("bybit", server.base_url)
    exchange = load_pro().bybit()
    source.markets["BTC/USDT"] = exchange.safe_market_structure(
        {"id": "BTCUSDT", "symbol": "BTC/USDT", "base": "BTC", "quote": "USDT", "spot": True, "type": "spot", "active": True}
    )
    await exchange.close()
    async with http_client() as http:
        board = Board(HealthRules())
        limits = replace(LIMITS["bybit"], connects_per_s=1000.0, connect_burst=1000)

        def dial(shard: Shard, symbols: Any) -> CcxtConnection:
            return CcxtConnection(shard, source, symbols, limits)

        feed = Feed("bybit", "ccxt", ["BTC-USDT"], limits, Tools(board, http, QUICK, rng=random.Random(7)), dial)
        running = asyncio.create_task(feed.run())
        made = Stage(server, board, feed)
        try:
            await until(lambda: made.is_live)
            yield made
        finally:
            running.cancel()
            await asyncio.wait({running})
            await runner.cleanup()
    for _ in range(3):
        await asyncio.sleep(0)
    assert {t.get_name() for t in asyncio.all_tasks() - before if not t.done()} == set(), "nothing is left running"


async def test_burst_through_the_pinned_pair_is_counted_to_the_last_frame() -> None:
    async with stage() as on:
        for number in range(2, BURST + 2):
            await on.send(on.server.frame(number, b=[["99.0", str(number)]]))
        await until(lambda: on.board.venues["bybit"].frames >= BURST + 2, 30)
        book = on.board.books["bybit", "BTC-USDT"]
        assert book.bids(2) == [(100.0, 1.0), (99.0, float(BURST + 1))]
        assert on.server.n_connects == 1
        assert book.n_updates == BURST + 1


async def test_gap_withdraws_by_the_next_message_and_a_fresh_instance_follows() -> None:
    async with stage() as on:
        first = on.board.books["bybit", "BTC-USDT"]
        await on.send(on.server.frame(2))
        await on.send(on.server.frame(4, b=[["100.5", "1"]]))
        await until(lambda: first.state is not BookState.LIVE)
        assert first.bid_keys == []
        await until(lambda: on.is_live)
        assert on.server.n_connects == 2
        assert on.board.venues["bybit"].gaps == 1


GARBAGE = ('{"topic": "orderbook.200.BTCUSDT", "type": "delta", "data": {"b": [[]]}}', "{broken", b"\x1f\x8b\x08broken")


@pytest.mark.parametrize("garbage", GARBAGE, ids=("fields", "json", "gzip"))
async def test_garbage_is_a_fault_and_never_the_end_of_the_receive_loop(garbage: str | bytes) -> None:
    async with stage() as on:
        await on.send(garbage)
        await until(lambda: on.server.n_connects == 2)
        await until(lambda: on.is_live)
        assert set(on.board.venues["bybit"].reconnects) <= {"bad_frame", "disconnected"}


async def test_closed_by_the_venue_is_followed_by_a_fresh_instance() -> None:
    async with stage() as on:
        await on.server.sockets[-1].close()
        await until(lambda: on.server.n_connects == 2 and on.is_live)
        assert on.board.venues["bybit"].reconnects["disconnected"] == 1


@pytest.mark.parametrize("venue", sorted(LIMITS))
def test_is_known_says_which_venues_this_ccxt_has(venue: str) -> None:
    assert is_known(venue) is (venue != "bitmart")


MESSAGES: dict[str, list[dict[str, Any]]] = {
    "binance": [{"e": "depthUpdate", "s": "B", "U": a, "u": b} for a, b in ((1, 5), (6, 6), (8, 9))],
    "okx": [
        {"arg": {"channel": "books", "instId": "B"}, "action": "snapshot", "data": [{"prevSeqId": -1, "seqId": 7}]},
        {"arg": {"channel": "books", "instId": "B"}, "action": "update", "data": [{"prevSeqId": 7, "seqId": 9}]},
        {"arg": {"channel": "books", "instId": "B"}, "action": "update", "data": [{"prevSeqId": 11, "seqId": 12}]},
    ],
    "kucoin": [{"topic": "t", "data": {"sequenceStart": a, "sequenceEnd": b}} for a, b in ((1, 3), (4, 4), (6, 6))],
    "mexc": [{"channel": "c", "publicAggreDepths": {"fromVersion": str(a), "toVersion": str(b)}} for a, b in ((1, 3), (4, 4), (6, 6))],
    "htx": [{"ch": "c", "tick": {"prevSeqNum": a, "seqNum": b}} for a, b in ((1, 3), (3, 4), (5, 6))],
    "gate": [{"result": {"s": "ob.B", "full": True, "u": 3}}, *({"result": {"s": "ob.B", "U": n, "u": n}} for n in (4, 6))],
    "bybit": [{"topic": "t", "type": kind, "data": {"u": u}} for kind, u in (("snapshot", 3), ("delta", 4), ("delta", 6))],
    "cryptocom": [
        {"instrument_name": "B", "data": [{"u": 3}]},
        {"instrument_name": "B", "data": [{"pu": 3, "u": 4}]},
        {"instrument_name": "B", "data": [{"pu": 5, "u": 6}]},
    ],
    "coinbase": [{"sequence_num": n} for n in (0, 1, 3)],
}  # fmt: skip


@pytest.mark.parametrize("venue", sorted(MESSAGES))
def test_sequence_guard_finds_a_dropped_message(venue: str) -> None:
    guard = SequenceGuard(MESSAGE_READERS if venue in MESSAGE_READERS else BOOK_READERS, venue)
    first, second, late = MESSAGES[venue]
    assert guard.hole(first) is None
    assert guard.hole(second) is None
    assert guard.hole(late) is not None


def test_sequence_guard_says_nothing_of_other_messages() -> None:
    for venue in MESSAGES:
        guard = SequenceGuard(BOOK_READERS, venue)
        for message in ({"event": "subscribe"}, [], "pong", None, {"data": None}):
            assert guard.hole(message) is None


def test_kraken_checksum_of_the_documented_example() -> None:
    asks = [
        (0.05005, 0.00000500), (0.05010, 0.00000500), (0.05015, 0.00000500), (0.05020, 0.00000500), (0.05025, 0.00000500),
        (0.05030, 0.00000500), (0.05035, 0.00000500), (0.05040, 0.00000500), (0.05045, 0.00000500), (0.05050, 0.00000500),
    ]  # fmt: skip
    bids = [
        (0.05000, 0.00000500), (0.04995, 0.00000500), (0.04990, 0.00000500), (0.04980, 0.00000500), (0.04975, 0.00000500),
        (0.04970, 0.00000500), (0.04965, 0.00000500), (0.04960, 0.00000500), (0.04955, 0.00000500), (0.04950, 0.00000500),
    ]  # fmt: skip
    assert kraken_checksum(bids, asks, 5, 8) == 974947235


def test_disagreement_counts_what_no_change_in_between_explains() -> None:
    before, after = [(100.0, 1.0), (99.0, 2.0)], [(100.0, 3.0), (99.0, 2.0)]
    assert disagreement(before, after, [(100.0, 3.0), (99.0, 2.0)]) == 0
    assert disagreement(before, after, [(100.0, 1.0), (99.5, 2.0), (99.0, 2.0)]) == 1
    assert disagreement(before, after, [(100.0, 1.0), (98.0, 2.0)]) == 2, "one that we lack, and one that lingers"
    assert disagreement(before, after, [(100.0, 1.0)]) == 0, "beyond its reach the venue tells nothing"


@pytest.mark.parametrize("kind", ["server_error", "html"])
async def test_book_that_rest_never_confirms_is_given_up_after_three_minutes(kind: str) -> None:
    """Bitstamp numbers nothing: a book that is never compared could be wrong for ever."""
    pace = replace(QUICK, first_s=60.0, longest_s=60.0, watchdog_s=3600.0)
    async with sandbox(book_rate=0.2, speed=60.0, rules=HealthRules(stale_after_s=3600.0), pace=pace) as on:
        on.start("ccxt", ["bitstamp"])
        await on.all_live(["bitstamp"])
        book, began, record = on.book("bitstamp"), on.clock.now_ns(), on.board.venues["bitstamp"]
        on.switches.set(Fault("bitstamp", kind, path="order_book"))
        await until(lambda: record.last_fault, 30.0)
        assert record.last_fault is not None
        assert (record.last_fault.fault.reason, record.last_fault.fault.symbol) == (FaultReason.RECONCILE, "BTC-USD")
        assert record.last_fault.fault.detail == "not compared for 180 s"
        assert 110e9 < on.clock.now_ns() - began < 300e9
        assert book.state is not BookState.LIVE
        on.switches.clear()
        await until(lambda: on.book("bitstamp") is not book)
        await on.all_live(["bitstamp"])
