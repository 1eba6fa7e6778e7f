"""The bus: the same tests over memory and a real Redis, and Redis going away."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from altforecast.errors import InputError, StorageError
from altforecast_io.bus import BOOKS, DEAD_LETTERS, FEED_MAX, PAYLOAD_MAX, Bus, BusHealth, MemoryBus, Message, Policy, open_bus

pytestmark = pytest.mark.anyio
FEED = "opportunities_feed"
_numbers = itertools.count()


def redis_url() -> str:
    """The Redis at hand, database 15; skips where none answers."""
    try:
        socket.create_connection(("127.0.0.1", 6379), timeout=1).close()
    except OSError:
        pytest.skip("no Redis at 127.0.0.1:6379")
    return "redis://127.0.0.1:6379/15"


async def remove_keys(url: str, namespace: str) -> None:
    """Nothing of a test stays in a Redis that others use."""
    from redis.asyncio import Redis

    async with Redis.from_url(url) as client:
        keys = [key async for key in client.scan_iter(f"{namespace}:*")]
        if keys:
            await client.delete(*keys)


@pytest.fixture(params=["memory", "redis"])
async def bus(request: pytest.FixtureRequest) -> AsyncIterator[Bus]:
    """One bus; its Redis form with a namespace of its own."""
    url = redis_url() if request.param == "redis" else ""
    namespace = f"test-{os.getpid()}-{next(_numbers)}"
    async with open_bus(url, namespace, dead_letters_max=5) as opened:
        yield opened
    if url:
        await remove_keys(url, namespace)


async def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Wait for something that is about to happen."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


async def settled(bus: Bus, topic: str, n: int) -> list[Message]:
    """The feed as soon as it holds `n` entries."""
    async with asyncio.timeout(10):
        while len(found := await bus.recent(topic, FEED_MAX)) < n:
            await asyncio.sleep(0.01)
    return found


async def settled_state(bus: Bus, expected: dict[str, bytes]) -> None:
    """Wait for the whole state to be as expected."""
    async with asyncio.timeout(10):
        while await bus.state(BOOKS) != expected:
            await asyncio.sleep(0.01)


async def take(messages: AsyncIterator[Message], n: int) -> list[Message]:
    """The next `n` messages."""
    async with asyncio.timeout(10):
        return [await anext(messages) for _ in range(n)]


async def test_append_keeps_order_and_ascending_ids(bus: Bus) -> None:
    for i in range(20):
        await bus.append(FEED, b"%d" % i)
    found = await settled(bus, FEED, 20)
    assert [m.payload for m in found] == [b"%d" % i for i in range(20)]
    ids = [tuple(map(int, m.id.split("-"))) for m in found]
    assert ids == sorted(set(ids))


async def test_recent_gives_newest_and_what_came_after_an_id(bus: Bus) -> None:
    for i in range(10):
        await bus.append(FEED, b"%d" % i)
    found = await settled(bus, FEED, 10)
    assert await bus.recent(FEED, 3) == found[-3:]
    assert await bus.recent(FEED, 100, after_id=found[6].id) == found[7:]
    assert await bus.recent(FEED, 0) == []


async def test_recent_refuses_an_id_of_another_form(bus: Bus) -> None:
    with pytest.raises(InputError, match="last_id"):
        await bus.recent(FEED, 5, after_id="(x")


async def test_append_drops_the_oldest_beyond_the_bound(bus: Bus) -> None:
    for i in range(FEED_MAX + 1000):
        await bus.append(FEED, b"%d" % i)
    await asyncio.sleep(0.5)
    found = await bus.recent(FEED, 10 * FEED_MAX)
    assert found[-1].payload == b"%d" % (FEED_MAX + 999)
    # Redis trims whole nodes of 100 entries.
    assert FEED_MAX <= len(found) <= FEED_MAX + 100


async def test_put_many_keeps_the_latest_and_removes_empty_values(bus: Bus) -> None:
    await bus.put_many(BOOKS, {"a": b"1", "b": b"1"})
    await bus.put_many(BOOKS, {"a": b"2", "c": b"3"})
    await bus.put_many(BOOKS, {"b": b""})
    await settled_state(bus, {"a": b"2", "c": b"3"})


async def test_topics_of_the_wrong_kind_are_refused(bus: Bus) -> None:
    with pytest.raises(InputError):
        await bus.append(BOOKS, b"1")
    with pytest.raises(InputError):
        await bus.put_many(FEED, {"a": b"1"})


async def test_follow_gets_what_is_written_afterwards(bus: Bus) -> None:
    await bus.append(FEED, b"before")
    await settled(bus, FEED, 1)
    async with bus.follow(FEED) as messages:
        for i in range(5):
            await bus.append(FEED, b"%d" % i)
        assert [m.payload for m in await take(messages, 5)] == [b"0", b"1", b"2", b"3", b"4"]


async def test_follow_drop_oldest_loses_the_oldest_and_counts(bus: Bus) -> None:
    def lost() -> float:
        return REGISTRY.get_sample_value("bus_dropped_total", {"type": FEED, "strategy": "drop_oldest"}) or 0.0

    before = lost()
    async with bus.follow(FEED, Policy.DROP_OLDEST, 3) as messages:
        for i in range(10):
            await bus.append(FEED, b"%d" % i)
        await until(lambda: lost() - before == 7)
        assert [m.payload for m in await take(messages, 3)] == [b"7", b"8", b"9"]


async def test_follow_keep_latest_gives_each_key_once(bus: Bus) -> None:
    async with bus.follow(BOOKS, Policy.KEEP_LATEST, 100) as messages:
        for i in range(5):
            await bus.put_many(BOOKS, {"a": b"%d" % i, "b": b"%d" % (10 + i)})
        await settled_state(bus, {"a": b"4", "b": b"14"})
        seen: dict[str, bytes] = {}
        async with asyncio.timeout(10):
            while seen != {"a": b"4", "b": b"14"}:
                message = await anext(messages)
                seen[message.key] = message.payload
        await bus.put_many(BOOKS, {"a": b""})
        (removed,) = await take(messages, 1)
        assert (removed.key, removed.payload) == ("a", b"")


async def test_follow_block_loses_nothing(bus: Bus) -> None:
    async with bus.follow(FEED, Policy.BLOCK, 2) as messages:

        async def write() -> None:
            for i in range(50):
                await bus.append(FEED, b"%d" % i)

        writing = asyncio.create_task(write())
        got = await take(messages, 50)
        await writing
    assert [m.payload for m in got] == [b"%d" % i for i in range(50)]


async def test_follow_block_frees_the_writer_when_the_reader_leaves() -> None:
    bus = MemoryBus()
    async with bus.follow(FEED, Policy.BLOCK, 1):
        await bus.append(FEED, b"0")
        writing = asyncio.create_task(bus.append(FEED, b"1"))
        await asyncio.sleep(0.02)
        assert not writing.done()
    async with asyncio.timeout(5):
        await writing


async def test_follow_two_readers_one_slow(bus: Bus) -> None:
    async with bus.follow(FEED, Policy.DROP_OLDEST, 1), bus.follow(FEED) as quick:
        for i in range(100):
            await bus.append(FEED, b"%d" % i)
        assert len(await take(quick, 100)) == 100


async def test_health_counts_what_waits_and_what_was_lost() -> None:
    bus = MemoryBus()
    assert bus.health() == BusHealth("memory", True, 0, 0)
    async with bus.follow(FEED, size=2), bus.follow(BOOKS, Policy.KEEP_LATEST):
        for n in range(5):
            await bus.append(FEED, b"%d" % n)
            await bus.put_many(BOOKS, {"a": b"%d" % n})
        assert bus.health() == BusHealth("memory", True, 3, 3)


async def test_bury_keeps_the_newest_dead_letters(bus: Bus) -> None:
    before = REGISTRY.get_sample_value("bus_dlq_total", {"type": FEED}) or 0.0
    for i in range(300):
        await bus.bury(FEED, b"%d" % i, "no JSON")
    await asyncio.sleep(0.3)
    dead = await bus.recent(DEAD_LETTERS, 1000)
    # Redis trims whole nodes of 100 entries.
    assert 5 <= len(dead) <= 105
    assert dead[-1].payload == b"opportunities_feed\nno JSON\n299"
    assert (REGISTRY.get_sample_value("bus_dlq_total", {"type": FEED}) or 0.0) - before == 300


async def test_append_buries_what_is_too_large(bus: Bus) -> None:
    await bus.append(FEED, b"x" * (PAYLOAD_MAX + 1))
    (dead,) = await settled(bus, DEAD_LETTERS, 1)
    assert dead.payload.startswith(b"opportunities_feed\npayload too large\nxxx")
    assert await bus.recent(FEED, 5) == []


async def test_is_fed_only_while_someone_writes() -> None:
    url, namespace = redis_url(), f"test-{os.getpid()}-{next(_numbers)}"
    async with open_bus(url, namespace) as reader:
        await reader.bury(FEED, b"x", "a reader's dead letter is no sign of life")
        await settled(reader, DEAD_LETTERS, 1)
        assert not await reader.is_fed()
        async with open_bus(url, namespace) as writer:
            await writer.append(FEED, b"1")
            await settled(reader, FEED, 1)
            assert await reader.is_fed()
        assert not await reader.is_fed()
    await remove_keys(url, namespace)


async def test_a_new_writer_replaces_the_state_of_the_one_before() -> None:
    url, namespace = redis_url(), f"test-{os.getpid()}-{next(_numbers)}"
    async with open_bus(url, namespace) as reader, AsyncExitStack() as stack:
        async with open_bus(url, namespace) as old:
            await old.put_many(BOOKS, {"a": b"1", "b": b"1"})
        await settled_state(reader, {"a": b"1", "b": b"1"})
        changes = await stack.enter_async_context(reader.follow(BOOKS, Policy.KEEP_LATEST))
        async with open_bus(url, namespace) as new:
            await new.put_many(BOOKS, {"b": b"2"})
            await settled_state(reader, {"b": b"2"})
            told = {m.key: m.payload for m in await take(changes, 2)}
        assert told == {"a": b"", "b": b"2"}
    await remove_keys(url, namespace)


async def test_environments_never_mix() -> None:
    url, namespace = redis_url(), f"test-{os.getpid()}-{next(_numbers)}"
    async with open_bus(url, f"{namespace}:live") as live, open_bus(url, f"{namespace}:sandbox") as sandbox:
        await live.append(FEED, b"1")
        await live.put_many(BOOKS, {"a": b"1"})
        await settled(live, FEED, 1)
        assert await sandbox.recent(FEED, 5) == []
        assert await sandbox.state(BOOKS) == {}
        assert not await sandbox.is_fed()
    await remove_keys(url, namespace)


class OwnRedis:
    """A Redis server that a test may stop."""

    def __init__(self, folder: Path) -> None:
        if shutil.which("redis-server") is None:
            pytest.skip("redis-server is not installed")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.folder = folder
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Start and wait until the port is open."""
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self.folder)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        async with asyncio.timeout(10):
            while True:
                try:
                    socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                    return
                except OSError:
                    await asyncio.sleep(0.02)

    def stop(self) -> None:
        """Kill it: nothing was saved."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


async def following(writer: Bus, feed: AsyncIterator[Message]) -> None:
    """Append until a follower that began while Redis was away has found its place in the feed."""
    first = asyncio.ensure_future(anext(feed))
    async with asyncio.timeout(10):
        while not first.done():
            await writer.append(FEED, b"mark")
            await asyncio.sleep(0.05)


async def test_redis_that_goes_away_never_blocks_and_is_fed_again(tmp_path: Path) -> None:
    server = OwnRedis(tmp_path)
    try:
        async with open_bus(server.url, "t") as writer, open_bus(server.url, "t") as reader:
            await asyncio.wait_for(writer.append(FEED, b"0"), 0.5)
            with pytest.raises(StorageError, match="REDIS_URL"):
                await reader.state(BOOKS)
            async with reader.follow(FEED) as feed, reader.follow(BOOKS, Policy.KEEP_LATEST) as changes:
                await server.start()
                await writer.put_many(BOOKS, {"a": b"1", "b": b"1"})
                await settled_state(reader, {"a": b"1", "b": b"1"})
                await following(writer, feed)
                server.stop()
                for i in range(1, FEED_MAX + 500):
                    await asyncio.wait_for(writer.append(FEED, b"%d" % i), 0.5)
                await asyncio.wait_for(writer.put_many(BOOKS, {"a": b"2"}), 0.5)
                with pytest.raises(StorageError, match="does not answer"):
                    await reader.recent(FEED, 1)
                away = writer.health()
                assert (away.kind, away.is_connected) == ("redis", False)
                assert away.n_queued >= FEED_MAX
                assert away.n_dropped > 0
                await server.start()
                # Redis came back empty: the state is whole again, and the feed holds the newest.
                await settled_state(reader, {"a": b"2", "b": b"1"})
                kept = await settled(reader, FEED, FEED_MAX)
                assert kept[-1].payload == b"%d" % (FEED_MAX + 499)
                async with asyncio.timeout(10):
                    while (await anext(feed)).payload in (b"0", b"mark"):
                        pass
                seen: dict[str, bytes] = {}
                async with asyncio.timeout(10):
                    while seen.get("a") != b"2":
                        message = await anext(changes)
                        seen[message.key] = message.payload
    finally:
        server.stop()
