"""The stand-ins' streams: deliveries, planted opportunities, faults, and what the real ccxt.pro classes make of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import aiohttp
import pytest

from altforecast.errors import InputError
from altforecast.symbols import VENUES
from altforecast_sandbox.coins import PAIRS
from altforecast_sandbox.faults import Bodies, Fault, Switchboard
from altforecast_sandbox.plants import spatial, triangular
from altforecast_sandbox.streams.connection import MOST_WAITING, Connection
from altforecast_sandbox.streams.hub import FlowOptions, Hub
from altforecast_sandbox.streams.registry import STREAMS
from tests.io.stream_clients import (
    MARKET,
    assert_ccxt_reaches_the_book,
    frames_until,
    socket_of,
    stand_in,
    true_rows,
    until,
)

pytestmark = pytest.mark.anyio
T0 = int(datetime(2026, 3, 5, 9, 0, tzinfo=UTC).timestamp() * 1000)
OKX = "/okx/ws/v5/public"
TRIANGLE = (("BTC-USDT", "ask"), ("ETH-BTC", "ask"), ("ETH-USDT", "bid"))


@pytest.fixture
def anyio_backend() -> str:
    """The streams run on asyncio."""
    return "asyncio"


def subscription(*symbols: str) -> str:
    """What a client of OKX sends."""
    return json.dumps({"op": "subscribe", "args": [{"channel": "books", "instId": s} for s in symbols]})


def is_update(frame: Any) -> bool:
    """Whether it is a change of a book of OKX."""
    return isinstance(frame, dict) and frame.get("action") == "update"


class SteppedClock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = datetime.fromtimestamp(T0 / 1000, UTC)

    def __call__(self) -> datetime:
        """The time it shows."""
        return self.now

    def move(self, ms: int) -> None:
        """Let time pass."""
        self.now += timedelta(milliseconds=ms)


def follow_all(hub: Hub, venue: str, symbols: tuple[str, ...]) -> list[Any]:
    """Follow books without a socket; the frames arrive in the list."""
    books = hub.books[venue]
    wire = STREAMS[venue].connect(books, "", hub.now_ms())
    connection = Connection(venue, None, None, wire)  # type: ignore[arg-type]
    hub.connections.add(connection)
    hub._received(connection, subscription(*symbols))
    return connection._waiting  # type: ignore[return-value]


def test_hub_publishes_plants_and_tells_the_truth() -> None:
    clock = SteppedClock()
    hub = Hub(MARKET, clock, Switchboard({}), FlowOptions(book_rate=1.0))
    frames = follow_all(hub, "okx", ("BTC-USDT", "ETH-BTC", "ETH-USDT"))
    hub.planter.add(triangular(T0 + 500, T0 + 900, "okx", 20.0))
    hub.planter.add(spatial(T0 + 500, T0 + 900, "SOL-USDT", "okx", "bybit", 20.0))
    for _ in range(150):
        clock.move(10)
        hub.tick()
    (row,) = hub.planter.rows()
    assert (row["kind"], row["start_ms"], row["end_ms"]) == ("triangular", T0 + 500, T0 + 900)
    assert hub.planter.n_unseen == 1, "nobody follows SOL-USDT"
    assert row["net_edge_pct"] >= 0.2
    stamps = [int(json.loads(f)["data"][0]["ts"]) for f in frames if '"update"' in f]
    assert stamps == sorted(stamps)
    assert {T0 + 500, T0 + 900} <= set(stamps)
    with pytest.raises(InputError, match="no such book"):
        hub.planter.add(spatial(T0, T0 + 1, "SOL-USD", "okx", "bybit", 5.0))


def test_hub_times_of_a_book_go_on_whatever_changes_it() -> None:
    """Changes that were due before a plant and are made late."""
    clock = SteppedClock()
    hub = Hub(MARKET, clock, Switchboard({}), FlowOptions(book_rate=100.0))
    frames = follow_all(hub, "okx", ("BTC-USDT", "ETH-BTC", "ETH-USDT"))
    for n in range(20):
        hub.planter.add(triangular(T0 + 100 * n + 7, T0 + 100 * n + 57, "okx", 20.0))
    for _ in range(60):
        clock.move(33)
        hub.tick()
    assert len(hub.planter.rows()) > 10
    stamps = [(u["arg"]["instId"], int(u["data"][0]["ts"])) for u in (json.loads(f) for f in frames if '"update"' in f)]
    assert sorted(stamps) == sorted(stamps, key=lambda stamp: stamp[0])


# ---------------------------------------------------------------- the hub


def test_hub_same_clock_same_frames() -> None:
    def frames() -> list[str]:
        clock = SteppedClock()
        hub = Hub(MARKET, clock, Switchboard({}), FlowOptions(book_rate=1.0))
        seen = follow_all(hub, "okx", ("BTC-USDT", "SOL-USDT"))
        for _ in range(200):
            clock.move(10)
            hub.tick()
        return list(seen)

    first = frames()
    assert first == frames()
    assert len(first) > 20


def test_hub_encodes_a_change_once_for_equal_subscriptions(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, n = SteppedClock(), 0
    hub = Hub(MARKET, clock, Switchboard({}), FlowOptions(book_rate=1.0))
    queues = [follow_all(hub, "okx", ("BTC-USDT",)) for _ in range(3)]
    kind = type(next(iter(hub.connections)).wire)
    original: Callable[..., Any] = kind.changed

    def counted(*words: Any) -> Any:
        nonlocal n
        n += 1
        return original(*words)

    monkeypatch.setattr(kind, "changed", counted)
    for _ in range(100):
        clock.move(10)
        hub.tick()
    assert n == hub.counts["changes"] > 3
    assert list(queues[0]) == list(queues[1]) == list(queues[2])


def test_hub_cuts_off_a_client_that_does_not_follow() -> None:
    clock = SteppedClock()
    hub = Hub(MARKET, clock, Switchboard({}), FlowOptions(book_rate=40.0))
    waiting = follow_all(hub, "okx", ("BTC-USDT", "ETH-USDT"))
    most = 0
    for _ in range(1_000):
        clock.move(10)
        hub.tick()
        most = max(most, len(waiting))
        if hub.counts["cut_off"]:
            break
    assert hub.counts["cut_off"] == 1
    assert most <= MOST_WAITING
    assert len(waiting) == 0


def test_streams_of_all_venues_are_there() -> None:
    assert set(STREAMS) == set(VENUES)


async def test_hub_books_without_followers_stand_still() -> None:
    async with stand_in() as server:
        book = server.book("okx", "BTC-USDT")
        async with socket_of(server.base_url, OKX) as socket:
            await socket.send_str(subscription("BTC-USDT"))
            await frames_until(socket, is_update)
        assert await until(lambda: not server.hub.books["okx"].followed)
        before = book.last_id
        await asyncio.sleep(0.3)
        assert book.last_id == before


async def test_routes_truth_plants_on_request() -> None:
    async with stand_in() as server, aiohttp.ClientSession() as session, socket_of(server.base_url, OKX) as socket:
        await socket.send_str(subscription("BTC-USDT", "ETH-BTC", "ETH-USDT"))
        await frames_until(socket, is_update)
        async with session.post(server.base_url + "/_truth", json={"venue": "okx", "edge_bps": 15, "lifetime_ms": 200}) as answer:
            assert answer.status == 200
        async with session.post(server.base_url + "/_truth", json={"venue": "nowhere", "edge_bps": 15}) as answer:
            assert answer.status == 422

        async def rows() -> Any:
            async with session.get(server.base_url + "/_truth") as answer:
                return (await answer.json())["plants"]

        for _ in range(100):
            if (found := await rows()) and found[0]["end_ms"]:
                break
            await asyncio.sleep(0.02)
        assert 190 <= found[0]["end_ms"] - found[0]["start_ms"] <= 1_000


# ---------------------------------------------------------------- faults


@pytest.fixture
def okx_frames() -> Callable[..., list[Any]]:
    """Frames of one followed book of OKX under a fault that is set after one second, by simulated time."""

    def run(kind: str, seconds: float = 2.0, service: str = "okx", **more: Any) -> list[Any]:
        clock = SteppedClock()
        board = Switchboard({venue: Bodies((429, {}), {}) for venue in VENUES})
        hub = Hub(MARKET, clock, board, FlowOptions(book_rate=1.0))
        frames = follow_all(hub, "okx", ("BTC-USDT",))
        for i in range(int((1 + seconds) * 100)):
            if i == 100:
                frames.append("FAULT")
                board.set(Fault(service, kind, **more))
            clock.move(10)
            hub.tick()
        return [json.loads(f) if isinstance(f, str) and f[0] == "{" and "broken" not in f else f for f in frames]

    return run


def holes(frames: list[Any]) -> int:
    """How often an update does not follow the one before."""
    data = [f["data"][0] for f in frames if isinstance(f, dict) and "action" in f]
    return sum(b["prevSeqId"] != a["seqId"] for a, b in pairwise(data))


def test_fault_none_leaves_no_hole(okx_frames: Callable[..., list[Any]]) -> None:
    assert holes(okx_frames("latency", service="okx")) == 0


@pytest.mark.parametrize("kind", ["gap", "dropped_frame"])
def test_fault_lost_changes_leave_one_hole(okx_frames: Callable[..., list[Any]], kind: str) -> None:
    assert holes(okx_frames(kind, times=3)) == 1
    assert holes(okx_frames(kind, times=3, symbol="ETH-USDT")) == 0
    assert holes(okx_frames(kind, times=3, service="bybit")) == 0


def test_fault_silence_ends(okx_frames: Callable[..., list[Any]]) -> None:
    frames = okx_frames("silence", value=1.0)
    at = frames.index("FAULT")
    before, after = (int(f["data"][0]["ts"]) for f in (frames[at - 1], frames[at + 1]))
    assert 1_000 <= after - before < 1_500
    assert holes(frames) == 1


def test_fault_crossed_changes_cross_the_book(okx_frames: Callable[..., list[Any]]) -> None:
    frames = okx_frames("crossed", times=2)
    bids: dict[float, float] = {}
    asks: dict[float, float] = {}
    n_crossed = 0
    for frame in (f for f in frames if isinstance(f, dict) and "action" in f):
        for side, rows in ((bids, frame["data"][0]["bids"]), (asks, frame["data"][0]["asks"])):
            for price, size, *_ in rows:
                side.pop(float(price), None) if float(size) == 0 else side.update({float(price): float(size)})
        n_crossed += max(bids) >= min(asks)
    assert n_crossed == 2
    assert holes(frames) == 0


def test_fault_checksum_error_spoils_so_many_frames(okx_frames: Callable[..., list[Any]]) -> None:
    good, bad = okx_frames("latency"), okx_frames("checksum_error", times=4)
    sums = [[f["data"][0]["checksum"] for f in frames if is_update(f)] for frames in (good, bad)]
    assert sum(a != b for a, b in zip(*sums, strict=True)) == 4


def test_fault_slow_clock_puts_event_times_behind(okx_frames: Callable[..., list[Any]]) -> None:
    frames = okx_frames("slow_clock", value=7.0)
    at = frames.index("FAULT")
    before, after = (int(f["data"][0]["ts"]) for f in (frames[at - 1], frames[at + 1]))
    assert -7_000 <= after - before < -6_500


def test_fault_garbage_adds_unreadable_frames(okx_frames: Callable[..., list[Any]]) -> None:
    frames = okx_frames("garbage", times=5)
    assert sum(isinstance(f, bytes) or "broken" in f for f in frames if not isinstance(f, dict)) == 5
    assert holes(frames) == 0


@pytest.mark.parametrize(("kind", "moved"), [("midnight_rotation", 0.0), ("reconnect_moved", 0.015), ("flap", 0.0)])
async def test_fault_closings(kind: str, moved: float) -> None:
    async with (
        stand_in() as server,
        socket_of(server.base_url, OKX) as socket,
        socket_of(server.base_url, "/bybit/v5/public/spot") as other,
    ):
        await socket.send_str(subscription("BTC-USDT"))
        await frames_until(socket, is_update)
        before = true_rows(server.book("okx", "BTC-USDT"))[0][0][0]
        server.fault("okx", kind, times=1, value=0.1 if kind == "flap" else 0.0)
        with pytest.raises(AssertionError, match="8 1001"):
            await frames_until(socket, lambda _: False)
        assert socket.close_code == 1001
        await other.send_json({"op": "ping"})
        assert (await frames_until(other, lambda f: f["ret_msg"] == "pong"))[-1]["success"]
        async with socket_of(server.base_url, OKX) as again:
            await again.send_str(subscription("BTC-USDT"))
            for _ in range(3):  # the spread is wide at first
                await frames_until(again, is_update)
            after = true_rows(server.book("okx", "BTC-USDT"))[0][0][0]
        assert after / before - 1 == pytest.approx(moved, abs=0.003)


async def test_fault_refuse_subscription_says_what_the_venue_says() -> None:
    async with stand_in() as server, socket_of(server.base_url, OKX) as socket:
        server.fault("okx", "refuse_subscription", symbol="SOL-USDT")
        await socket.send_str(subscription("SOL-USDT", "BTC-USDT", "NO-SUCH"))
        frames = await frames_until(socket, is_update)
        assert [f["code"] for f in frames if f.get("event") == "error"] == ["60018", "60018"]
        assert any(f["arg"]["instId"] == "BTC-USDT" for f in frames if f.get("action") == "snapshot")


async def test_fault_limits_refuse_connections_and_subscriptions() -> None:
    async with stand_in() as server:
        server.fault("okx", "rate_limit", times=1)
        with pytest.raises(aiohttp.WSServerHandshakeError, match="429"):
            async with socket_of(server.base_url, OKX):
                pass
        server.fault("okx", "subscribe_limit", times=1)
        async with socket_of(server.base_url, OKX) as socket:
            await socket.send_str(subscription("BTC-USDT"))
            assert (await frames_until(socket, lambda _: True))[0]["code"] == "60014"
            await socket.send_str(subscription("BTC-USDT"))
            await frames_until(socket, is_update)
        server.fault("binance", "subscribe_limit", times=1)
        async with socket_of(server.base_url, "/binance/ws") as socket:
            await socket.send_json({"method": "SUBSCRIBE", "params": ["btcusdt@depth"], "id": 1})
            assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE


async def test_fault_switch_over_http() -> None:
    async with stand_in() as server, aiohttp.ClientSession() as session:
        async with session.post(
            server.base_url + "/_faults", json={"service": "okx", "kind": "gap", "times": 2, "symbol": "BTC-USDT"}
        ) as answer:
            assert (await answer.json())["faults"][0]["symbol"] == "BTC-USDT"
        async with session.post(server.base_url + "/_faults", json={"service": "okx", "kind": "earthquake"}) as answer:
            assert answer.status == 422
        async with session.delete(server.base_url + "/_faults") as answer:
            assert (await answer.json())["faults"] == []


# ---------------------------------------------------------------- the wires


@pytest.mark.parametrize(
    ("venue", "limit", "n"), [("binance", None, 20), ("okx", None, 20), ("bybit", None, 20), ("kraken", 25, 20), ("bitstamp", None, 20)]
)
async def test_ccxt_reaches_the_true_book(venue: str, limit: int | None, n: int) -> None:
    await assert_ccxt_reaches_the_book(venue, ["BTC-USDT", "SOL-USDT", "ETH-BTC"], n, limit, updates=6)


async def test_two_clients_see_the_same_changes() -> None:
    async with stand_in() as server, socket_of(server.base_url, OKX) as one, socket_of(server.base_url, OKX) as two:
        for socket in (one, two):
            await socket.send_str(subscription("BTC-USDT"))
        first, second = [], []
        for socket, seen in ((one, first), (two, second)):
            frames = await frames_until(socket, lambda f, seen=seen: is_update(f) and (seen.append(f) or len(seen) == 12))
            assert frames
        common = {f["data"][0]["seqId"] for f in first} & {f["data"][0]["seqId"] for f in second}
        assert len(common) >= 9
        assert [f for f in first if f["data"][0]["seqId"] in common] == [f for f in second if f["data"][0]["seqId"] in common]


async def test_wires_refuse_wrong_symbols_their_own_way() -> None:
    async with stand_in() as server, aiohttp.ClientSession() as session:
        for path, asked, expected in (
            ("/bybit/v5/public/spot", {"op": "subscribe", "args": ["orderbook.50.NOPE"]}, "handler not found,topic:orderbook.50.NOPE"),
            (
                "/kraken/v2",
                {"method": "subscribe", "params": {"channel": "book", "symbol": ["NO/PE"]}},
                "Currency pair not supported NO/PE",
            ),
            ("/bitstamp", {"event": "bts:subscribe", "data": {"channel": "diff_order_book_nope"}}, "Bad subscription string."),
        ):
            async with socket_of(server.base_url, path) as socket:
                await socket.send_json(asked)
                await frames_until(socket, lambda f, expected=expected: expected in json.dumps(f))
        async with session.get(server.base_url + "/binance/api/v3/depth?symbol=NOPE") as answer:
            assert (answer.status, (await answer.json())["code"]) == (400, -1121)
        async with session.get(server.base_url + "/bitstamp/api/v2/order_book/nope/") as answer:
            assert answer.status == 404


async def test_extra_symbols_are_listed_and_have_books() -> None:
    async with stand_in(FlowOptions(1.0, extra_symbols=4)) as server, aiohttp.ClientSession() as session:
        async with session.get(server.base_url + "/binance/api/v3/exchangeInfo") as answer:
            listed = {row["symbol"] for row in (await answer.json())["symbols"]}
        assert {"S001USDT", "S004USDT", "USDCUSDT"} <= listed
        assert "S005USDT" not in listed
        async with session.get(server.base_url + "/binance/api/v3/depth?symbol=S004USDT&limit=7") as answer:
            assert len((await answer.json())["bids"]) == 7
        assert len(PAIRS) == 18, "bars stay what they were"
