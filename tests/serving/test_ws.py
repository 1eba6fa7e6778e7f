"""WebSockets over a real server: many clients, slow ones, keys, heartbeats, going on after a break."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import orjson
import pytest
import uvicorn
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from altforecast_io.bus import BOOKS, FEED_MAX, MemoryBus, Message
from altforecast_io.logs import hush_protocols
from altforecast_io.settings import Settings
from altforecast_serving import fanout
from altforecast_serving.app import create_app
from altforecast_serving.fanout import Books, Channel, Client, Events, Part
from altforecast_serving.wires import frame_of
from tests.serving.live_rows import book, opportunity, put_books, write

pytestmark = pytest.mark.anyio
ALL: frozenset[str] = frozenset()


class Server:
    """The real app on a real port, in this loop."""

    def __init__(self, settings: Settings, bus: MemoryBus) -> None:
        self.app, self.bus = create_app(settings, bus=bus), bus
        self.url = ""

    async def wait_for_clients(self, n: int) -> None:
        """Return when so many are connected."""
        async with asyncio.timeout(20):
            while self.app.state.services.hub.n_clients != n:
                await asyncio.sleep(0.01)


@asynccontextmanager
async def serving(settings: Settings, **config: Any) -> AsyncIterator[Server]:
    server = Server(settings, MemoryBus())
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    running = uvicorn.Server(uvicorn.Config(server.app, log_config=None, lifespan="on", timeout_graceful_shutdown=1, **config))
    task = asyncio.create_task(running.serve([listener]))
    server.url = f"ws://127.0.0.1:{listener.getsockname()[1]}"
    async with asyncio.timeout(20):
        while not running.started:
            await asyncio.sleep(0.01)
    try:
        yield server
    finally:
        running.should_exit = True
        await asyncio.wait([task], timeout=10)
        listener.close()


async def told(client: ClientConnection, kind: str) -> dict[str, Any]:
    """The next message of a kind; heartbeats between are passed over."""
    async with asyncio.timeout(10):
        while True:
            message: dict[str, Any] = json.loads(await client.recv())
            if message["type"] == kind:
                return message


async def closed(client: ClientConnection) -> tuple[int, str]:
    """How the server ended it."""
    with suppress(ConnectionClosed):
        async with asyncio.timeout(10):
            while True:
                await client.recv()
    return client.close_code or 0, client.close_reason or ""


async def test_opportunities_begin_with_what_is_open(make_settings: Callable[..., Settings]) -> None:
    async with serving(make_settings(ws_publish_hz=20)) as server:
        await write(server.bus, opportunity("a"), opportunity("b"), opportunity("b", event="closed"))
        await asyncio.sleep(0.1)
        async with connect(f"{server.url}/ws/opportunities") as client:
            first = await told(client, "snapshot")
            assert [row["id"] for row in first["open"]] == ["a"]
            await write(server.bus, opportunity("c"), opportunity("a", event="closed"))
            later = await told(client, "events")
            assert [(row["id"], row["event"]) for row in later["events"]] == [("c", "opened"), ("a", "closed")]
            assert later["dropped"] == 0


async def test_opportunities_go_on_after_a_break(make_settings: Callable[..., Settings]) -> None:
    async with serving(make_settings(ws_publish_hz=20)) as server:
        async with connect(f"{server.url}/ws/opportunities") as client:
            await told(client, "snapshot")
            await write(server.bus, opportunity("a"))
            last_id = (await told(client, "events"))["last_id"]
        await write(server.bus, opportunity("b"), opportunity("c"))
        await asyncio.sleep(0.1)
        async with connect(f"{server.url}/ws/opportunities?last_id={last_id}") as client:
            assert [row["id"] for row in (await told(client, "events"))["events"]] == ["b", "c"]
        async with connect(f"{server.url}/ws/opportunities?last_id=1-1") as client:
            assert {row["id"] for row in (await told(client, "snapshot"))["open"]} == {"a", "b", "c"}


async def test_books_keep_the_latest_and_only_what_was_asked(make_settings: Callable[..., Settings]) -> None:
    async with serving(make_settings(ws_publish_hz=5)) as server:
        await put_books(server.bus, book("okx", "BTC-USDT"), book("kraken", "BTC-USDT"), book("okx", "ETH-USDT"))
        await asyncio.sleep(0.1)
        async with connect(f"{server.url}/ws/books?symbols=btcusdt&venues=okx") as client:
            assert [(b["exchange"], b["symbol"]) for b in (await told(client, "snapshot"))["books"]] == [("okx", "BTC-USDT")]
            await asyncio.sleep(0.25)
            for price in range(50):
                await put_books(server.bus, book("okx", "BTC-USDT", price), book("kraken", "BTC-USDT", price))
            seen = [b["bids"][0][0] for b in (await told(client, "books"))["books"]]
            assert len(seen) == 1
            while seen[-1] != 49:
                seen += [b["bids"][0][0] for b in (await told(client, "books"))["books"]]
            assert len(seen) <= 3
            await server.bus.put_many(BOOKS, {"okx BTC-USDT": b""})
            assert (await told(client, "books"))["removed"] == ["okx BTC-USDT"]


async def test_many_clients_all_get_the_same_and_a_stalled_one_delays_nobody(
    make_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fanout, "DRAIN_S", 1.0)
    monkeypatch.setattr(Channel.__init__, "__defaults__", (1.0, *Channel.__init__.__defaults__[1:]))  # type: ignore[index]
    async with serving(make_settings(ws_publish_hz=20)) as server:
        server.app.state.services.hub.opportunities.drain_s = 1.0
        stalled = await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]), limit=1024)
        stalled[1].write(
            b"GET /ws/opportunities HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        clients = [await connect(f"{server.url}/ws/opportunities") for _ in range(100)]
        await server.wait_for_clients(101)
        names = [f"o{i}" for i in range(40)]

        async def read(client: ClientConnection) -> list[str]:
            found: list[str] = []
            while len(found) < len(names):
                found += [row["id"] for row in (await told(client, "events"))["events"]]
            return found

        reading = [asyncio.create_task(read(client)) for client in clients]
        for name in names:
            await write(server.bus, opportunity(name, note="x" * 200_000))
            await asyncio.sleep(0.03)
        async with asyncio.timeout(30):
            assert await asyncio.gather(*reading) == [names] * 100
        # The stalled one was cut off, the others are all there.
        await server.wait_for_clients(100)
        stalled[1].close()
        await asyncio.gather(*(client.close() for client in clients))


async def test_a_key_is_asked_for_where_the_api_asks_for_one(
    make_settings: Callable[..., Settings], make_key: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    secret = make_key("read")
    caplog.set_level(logging.DEBUG)
    hush_protocols()
    async with serving(make_settings(api_requires_key=True)) as server:
        async with connect(f"{server.url}/ws/opportunities") as client:
            code, reason = await closed(client)
            assert code == 1008
            assert "needs a key" in reason
        async with connect(f"{server.url}/ws/books?key=wrong-{secret}") as client:
            assert (await closed(client))[0] == 1008
        async with connect(f"{server.url}/ws/opportunities?key={secret}") as client:
            await told(client, "snapshot")
        async with connect(f"{server.url}/ws/books", additional_headers={"X-API-Key": secret}) as client:
            await told(client, "snapshot")
    lines = [r.getMessage() for r in caplog.records if not r.name.startswith("websockets.client")]
    assert any("/ws/opportunities" in line for line in lines), "the server logs addresses, which this test reads"
    assert not [line for line in lines if secret in line]


async def test_more_clients_than_allowed_are_refused(make_settings: Callable[..., Settings]) -> None:
    async with serving(make_settings(ws_max_clients=2)) as server:
        async with connect(f"{server.url}/ws/books") as one, connect(f"{server.url}/ws/opportunities") as two:
            await told(one, "snapshot")
            await told(two, "snapshot")
            async with connect(f"{server.url}/ws/books") as third:
                code, reason = await closed(third)
                assert (code, reason.startswith("2 clients")) == (1013, True)
        await server.wait_for_clients(0)
        async with connect(f"{server.url}/ws/books") as again:
            await told(again, "snapshot")


@pytest.mark.parametrize("path", ["books?venues=nasdaq", "books?symbols=%20x%20y", "opportunities?last_id=x", "books?nope=1"])
async def test_bad_parameters_are_named(make_settings: Callable[..., Settings], path: str) -> None:
    async with serving(make_settings()) as server, connect(f"{server.url}/ws/{path}") as client:
        code, reason = await closed(client)
        assert code == 1008
        assert reason.split(":")[0] in ("venue", "symbol", "last_id", "nope")


async def test_a_client_that_talks_too_much_is_cut_off(make_settings: Callable[..., Settings]) -> None:
    async with serving(make_settings()) as server, connect(f"{server.url}/ws/books") as client:
        for _ in range(100):
            await client.send("hello")
        assert (await closed(client))[0] == 1008


async def test_heartbeats_and_the_end_of_the_feed(make_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fanout, "HEARTBEAT_S", 0.05)
    monkeypatch.setattr(fanout, "FEED_CHECK_S", 0.05)
    async with serving(make_settings(ws_publish_hz=20)) as server:
        await put_books(server.bus, book("okx", "BTC-USDT"))
        await asyncio.sleep(0.1)
        async with connect(f"{server.url}/ws/books") as client:
            assert len((await told(client, "snapshot"))["books"]) == 1
            assert (await told(client, "heartbeat"))["is_fed"] is True

            async def nobody() -> bool:
                return False

            monkeypatch.setattr(server.bus, "is_fed", nobody)
            assert (await told(client, "books"))["removed"] == ["okx BTC-USDT"]
            assert (await told(client, "heartbeat"))["is_fed"] is False
        async with connect(f"{server.url}/ws/books") as client:
            assert (await told(client, "snapshot"))["is_fed"] is False
            monkeypatch.undo()
            await put_books(server.bus, book("okx", "BTC-USDT"))
            while len((await told(client, "snapshot"))["books"]) != 1:
                pass


async def test_pings_of_the_client_are_answered_between_our_frames(make_settings: Callable[..., Settings]) -> None:
    async with serving(make_settings(ws_publish_hz=20)) as server, connect(f"{server.url}/ws/opportunities") as client:
        await told(client, "snapshot")
        for i in range(20):
            await write(server.bus, opportunity(f"o{i}", note="x" * 70_000))
            async with asyncio.timeout(5):
                await (await client.ping())
        seen = 0
        while seen < 20:
            seen += len((await told(client, "events"))["events"])


@pytest.mark.parametrize(("protocol", "wire"), [("auto", "DirectWire"), ("websockets-sansio", "DirectWire"), ("websockets", "SendWire")])
async def test_each_protocol_of_the_server_gets_its_wire(make_settings: Callable[..., Settings], protocol: Any, wire: str) -> None:
    async with serving(make_settings(ws_publish_hz=20), ws=protocol) as server, connect(f"{server.url}/ws/opportunities") as client:
        await told(client, "snapshot")
        (served,) = server.app.state.services.hub.opportunities.clients
        assert type(served.wire).__name__ == wire
        await write(server.bus, opportunity("a"))
        assert (await told(client, "events"))["events"][0]["id"] == "a"
        await client.close()
        await server.wait_for_clients(0)


def test_other_servers_are_written_to_through_send(make_settings: Callable[..., Settings]) -> None:
    app = create_app(make_settings(ws_publish_hz=20), bus=MemoryBus())
    with TestClient(app) as http:
        with http.websocket_connect("/ws/opportunities") as client:
            assert client.receive_json()["type"] == "snapshot"
            http.portal.call(write, app.state.services.bus, opportunity("a"))  # type: ignore[union-attr]
            assert client.receive_json()["events"][0]["id"] == "a"
        with http.websocket_connect("/ws/books?venues=nasdaq") as client, pytest.raises(WebSocketDisconnect) as error:
            client.receive_json()
        assert error.value.code == 1008


class FakeWire:
    """A socket that may stall."""

    def __init__(self) -> None:
        self.is_free, self.was_cut = True, False
        self.got: list[dict[str, Any]] = []

    def write(self, text: bytes, frame: bytes) -> None:
        assert frame.endswith(text)
        self.got.append(json.loads(text))

    def cut(self) -> None:
        self.was_cut = True


async def test_channel_serialises_once_for_all_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    events, made = Events(), itertools.count()
    channel = Channel("test", events)
    original = events.since

    def counted(position: int, of: frozenset[str]) -> Part:
        next(made)
        return original(position, of)

    monkeypatch.setattr(events, "since", counted)
    clients = [Client(FakeWire()) for _ in range(300)]
    for client in clients:
        channel.join(client, 0.0)
    for i in range(5):
        events.add(Message(f"1-{i + 1}", "", b'{"n":%d}' % i))
        await channel.tick(float(i))
    assert next(made) == 5
    assert all([m.get("events") for m in c.wire.got[1:]] == [[{"n": i}] for i in range(5)] for c in clients)  # type: ignore[attr-defined]


async def test_channel_tells_a_slow_client_how_much_it_lost() -> None:
    events = Events()
    channel, slow = Channel("test", events, drain_s=1e9), Client(FakeWire())
    wire = slow.wire
    assert isinstance(wire, FakeWire)
    channel.join(slow, 0.0)
    wire.is_free = False
    for i in range(FEED_MAX + 52):
        events.add(Message(f"1-{i + 1}", "", b"%d" % i))
        if i % 100 == 0:
            await channel.tick(float(i))
    assert len(wire.got) == 1
    wire.is_free = True
    await channel.tick(1e6)
    assert wire.got[-1]["dropped"] == 52
    assert wire.got[-1]["events"] == list(range(52, FEED_MAX + 52))
    await channel.tick(1e6)
    assert len(wire.got) == 2


async def test_channel_gives_a_slow_client_the_newest_of_each_book() -> None:
    books = Books()
    channel, slow = Channel("test", books, drain_s=1e9), Client(FakeWire())
    wire = slow.wire
    assert isinstance(wire, FakeWire)
    channel.join(slow, 0.0)
    wire.is_free = False
    for i in range(100):
        books.put(Message("", "okx A-B", b"%d" % i))
        books.put(Message("", "okx C-D", b"" if i == 99 else b"%d" % i))
        await channel.tick(float(i))
    wire.is_free = True
    await channel.tick(100.0)
    assert wire.got[1:] == [{"type": "books", "last_id": "200", "removed": ["okx C-D"], "books": [99]}]


async def test_channel_cuts_off_who_does_not_drain() -> None:
    channel, stuck = Channel("test", Events(), drain_s=10.0), Client(FakeWire())
    wire = stuck.wire
    assert isinstance(wire, FakeWire)
    channel.join(stuck, 0.0)
    wire.is_free = False
    await channel.tick(1.0)
    await channel.tick(10.9)
    assert not wire.was_cut
    await channel.tick(11.1)
    assert wire.was_cut
    assert not channel.clients


def test_books_forget_removed_ones_within_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fanout, "GONE_MAX", 10)
    books = Books()
    for i in range(30):
        books.put(Message("", f"okx S{i}", b"1"))
        books.put(Message("", f"okx S{i}", b""))
    assert len(books._changed) <= 11
    assert json.loads(books.since(1, ALL).text or b"")["type"] == "snapshot"


def test_books_too_many_for_one_message_come_in_parts() -> None:
    books = Books()
    for i in range(700):
        books.put(Message("", f"okx S{i}", orjson.dumps({"n": i, "note": "x" * 2000})))
    part, seen, n_parts = books.snapshot(ALL), [], 0
    assert json.loads(part.text or b"")["type"] == "snapshot"
    while part.text is not None:
        assert len(part.text) < 300_000
        seen += [b["n"] for b in json.loads(part.text)["books"]]
        n_parts, part = n_parts + 1, books.since(part.position, ALL)
    assert seen == list(range(700))
    assert n_parts == 6


@pytest.mark.parametrize("n", [0, 125, 126, 65_535, 65_536])
def test_frame_of_is_what_a_client_reads(n: int) -> None:
    from websockets.client import ClientProtocol
    from websockets.frames import Frame, Opcode
    from websockets.protocol import OPEN
    from websockets.uri import parse_uri

    client = ClientProtocol(parse_uri("ws://x/"), state=OPEN)
    client.receive_data(frame_of(b"a" * n))
    (frame,) = client.events_received()
    assert isinstance(frame, Frame)
    assert (frame.opcode, bytes(frame.data), frame.fin) == (Opcode.TEXT, b"a" * n, True)
