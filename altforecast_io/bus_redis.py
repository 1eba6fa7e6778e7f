"""The bus on Redis: streams for feeds, hashes with change notices for keep-latest state.

What belongs here: the Redis form of `bus.Bus`, its writer and its readers. What does not: policies and mailboxes
(`bus`), and who writes which topic.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from altforecast.errors import StorageError
from altforecast_io.bus import (
    DEAD_LETTERS,
    DROPPED,
    ENQUEUED,
    FEED_MAX,
    PAYLOAD_MAX,
    STATE_MAX,
    BusHealth,
    Mailbox,
    Message,
    Policy,
    check_topic,
    count_dead,
    dead_letter,
    parse_id,
)
from altforecast_io.clock import utc_now

NOTICES_MAX = 512
"""Change notices kept per state topic; a reader that misses some reads the whole state again."""
BATCH = 256
"""Feed entries sent or read at once."""
BEAT_S = 3.0
"""How often an idle writer says that it lives."""
ALIVE_S = 15.0
"""State of a writer that is silent for this long is gone: it expires in Redis."""
TIMEOUT_S = 2.0
BLOCK_MS = 1000
"""How long one read waits for news; shorter than the time-out."""
FIRST_DELAY_S, LONGEST_DELAY_S = 0.1, 5.0
DOWN = (RedisError, OSError, asyncio.TimeoutError)
_AGAIN = Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,))
"""A pooled connection may have died unnoticed: each command tries a second one at once."""
log = structlog.get_logger(__name__)


class RedisBus:
    """See bus.Bus. Writing goes to bounded memory and one writer task sends it, so it never waits for Redis.

    While Redis is away feeds keep the newest FEED_MAX entries each (older ones are counted as dropped) and state its
    newest values; both are sent after the reconnect. Entries sent twice then are recognised by readers and dropped.
    """

    def __init__(self, url: str, namespace: str, *, jitter: Callable[[], float], dead_letters_max: int = 1000,
                 clock: Callable[[], datetime] = utc_now) -> None:  # fmt: skip
        self._client: Any = Redis.from_url(
            url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S, retry=_AGAIN, max_connections=256
        )
        self._namespace, self._jitter = namespace, jitter
        self._limits = {DEAD_LETTERS: dead_letters_max}
        self._epoch = int(clock().timestamp() * 1000)
        self._n: dict[str, int] = defaultdict(int)
        self._entries: dict[str, deque[dict[str, bytes]]] = {}
        self._owned: dict[str, dict[str, bytes]] = defaultdict(dict)
        self._changed: dict[str, dict[str, None]] = defaultdict(dict)
        self._unsent_states: set[str] = set()
        self._work = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None
        self._is_feeding = False
        """Only a process that writes topics is a sign of life; dead letters come from readers too."""
        self.is_connected = False
        """Whether the writer's last exchange with Redis worked."""
        self.n_dropped = 0

    async def close(self) -> None:
        """Send what waits (at most TIMEOUT_S long), say that this writer is gone and close the connections."""
        if self._writer is not None:
            with contextlib.suppress(*DOWN):
                await asyncio.wait_for(self._drain(), TIMEOUT_S)
            await _stop(self._writer)
            if self._is_feeding:
                with contextlib.suppress(*DOWN):
                    await asyncio.wait_for(self._client.delete(self._key("alive")), TIMEOUT_S)
        await self._client.aclose()

    # ---- writing

    async def put_many(self, topic: str, values: Mapping[str, bytes]) -> None:
        """See Bus."""
        check_topic(topic, is_feed=False)
        ENQUEUED.labels(topic, Policy.KEEP_LATEST.value).inc(len(values))
        self._is_feeding = True
        if topic not in self._owned:
            self._unsent_states.add(topic)
        owned, changed = self._owned[topic], self._changed[topic]
        for key, value in values.items():
            if len(value) > PAYLOAD_MAX or (value and key not in owned and len(owned) >= STATE_MAX):
                await self.bury(topic, value, "payload too large" if len(value) > PAYLOAD_MAX else "too many keys")
                continue
            if value:
                owned[key] = value
            else:
                owned.pop(key, None)
            changed[key] = None
        self._wake()

    async def append(self, topic: str, payload: bytes) -> None:
        """See Bus."""
        check_topic(topic, is_feed=True)
        ENQUEUED.labels(topic, Policy.DROP_OLDEST.value).inc()
        self._is_feeding = True
        if len(payload) > PAYLOAD_MAX:
            await self.bury(topic, payload, "payload too large")
        else:
            self._enqueue(topic, payload)

    async def bury(self, topic: str, payload: bytes, reason: str) -> None:
        """See Bus."""
        count_dead(topic)
        self._enqueue(DEAD_LETTERS, dead_letter(topic, payload, reason))

    def _enqueue(self, topic: str, payload: bytes) -> None:
        self._n[topic] += 1
        waiting = self._entries.setdefault(topic, deque())
        if len(waiting) >= self._limit(topic):
            waiting.popleft()
            self.n_dropped += 1
            DROPPED.labels(topic, "redis_down").inc()
        waiting.append({"p": payload, "n": f"{self._epoch}:{self._n[topic]}".encode()})
        self._wake()

    def _wake(self) -> None:
        if self._writer is None:
            self._writer = asyncio.get_running_loop().create_task(self._write_forever(), name="bus-writer")
        elif self._writer.done() and not self._writer.cancelled():
            # A bug in the writer must not pass for a Redis that is away.
            self._writer.result()
        self._work.set()

    async def _write_forever(self) -> None:
        delay = FIRST_DELAY_S
        while True:
            try:
                await self._drain()
                delay = FIRST_DELAY_S
                self._work.clear()
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._work.wait(), BEAT_S)
            except DOWN as error:
                if self.is_connected or delay == FIRST_DELAY_S:
                    log.warning("bus_down", error=type(error).__name__)
                self.is_connected = False
                # Redis may come back empty: all own state is sent again.
                self._unsent_states.update(self._owned)
                await asyncio.sleep(delay * (1.0 - self._jitter() / 2.0))
                delay = min(delay * 2.0, LONGEST_DELAY_S)

    async def _drain(self) -> None:
        await self._send_once()
        while any(self._entries.values()) or any(self._changed.values()):
            await self._send_once()

    async def _send_once(self) -> None:
        """One transaction: changed state, notices, feed entries and the sign of life; on failure everything waits as before."""
        changed, self._changed = self._changed, defaultdict(dict)
        whole, self._unsent_states = self._unsent_states, set()
        sent = {topic: min(BATCH, len(waiting)) for topic, waiting in self._entries.items()}
        batch = {topic: [waiting[i] for i in range(sent[topic])] for topic, waiting in self._entries.items()}
        try:
            async with self._client.pipeline(transaction=True) as pipe:
                for topic in dict.fromkeys((*whole, *changed)):
                    self._add_state(pipe, topic, changed.get(topic, {}), is_whole=topic in whole)
                for topic, entries in batch.items():
                    for entry in entries:
                        pipe.xadd(self._key(topic), entry, maxlen=self._limit(topic), approximate=True)
                for topic in self._owned:
                    pipe.pexpire(self._key(topic), int(ALIVE_S * 1000))
                if self._is_feeding:
                    pipe.set(self._key("alive"), str(self._epoch), px=int(ALIVE_S * 1000))
                await pipe.execute()
        except BaseException:
            self._unsent_states |= whole
            for topic, keys in changed.items():
                self._changed[topic] = keys | self._changed[topic]
            raise
        self.is_connected = True
        for topic, entries in batch.items():
            waiting = self._entries[topic]
            # While sending, a full queue may have dropped some of these already.
            last = entries[-1] if entries else None
            while last is not None and waiting and _number(waiting[0]) <= _number(last):
                waiting.popleft()

    def _add_state(self, pipe: Any, topic: str, changed: Mapping[str, None], *, is_whole: bool) -> None:
        owned, key = self._owned[topic], self._key(topic)
        keys = owned if is_whole else changed
        values = {k: owned[k] for k in keys if k in owned}
        removed = [k for k in changed if k not in owned]
        if is_whole:
            pipe.delete(key)
        if values:
            pipe.hset(key, mapping=values)
        if removed and not is_whole:
            pipe.hdel(key, *removed)
        self._n[topic] += 1
        notice = {"k": "" if is_whole else "\n".join(changed), "n": f"{self._epoch}:{self._n[topic]}"}
        pipe.xadd(self._notices(topic), notice, maxlen=NOTICES_MAX, approximate=True)
        pipe.pexpire(self._notices(topic), 86_400_000)

    # ---- reading

    async def state(self, topic: str) -> dict[str, bytes]:
        """See Bus."""
        check_topic(topic, is_feed=False)
        found: dict[bytes, bytes] = await _asked(self._client.hgetall(self._key(topic)))
        return {k.decode(): v for k, v in found.items()}

    async def recent(self, topic: str, n: int, after_id: str = "") -> list[Message]:
        """See Bus."""
        check_topic(topic, is_feed=True)
        parse_id(after_id)
        if n <= 0:
            return []
        found = await _asked(self._client.xrevrange(self._key(topic), min=f"({after_id}" if after_id else "-", count=n))
        return [Message(i.decode(), "", fields[b"p"]) for i, fields in reversed(found)]

    async def is_fed(self) -> bool:
        """See Bus."""
        return bool(await _asked(self._client.exists(self._key("alive"))))

    def health(self) -> BusHealth:
        """See Bus; a process that has not written yet counts as connected."""
        queued = sum(map(len, self._entries.values())) + sum(map(len, self._changed.values()))
        return BusHealth("redis", self.is_connected or self._writer is None, queued, self.n_dropped)

    @asynccontextmanager
    async def follow(
        self, topic: str, policy: Policy = Policy.DROP_OLDEST, size: int = FEED_MAX, reader: str = "reader"
    ) -> AsyncIterator[AsyncIterator[Message]]:
        """See Bus. While Redis is away nothing arrives; then feeds go on where they were and state is told anew."""
        box = Mailbox(topic, policy, size, reader)
        stream = _Reader(self._client, self._key(topic), self._notices(topic), box)
        await stream.start()
        task = asyncio.create_task(stream.run(self._jitter), name=f"bus-reader:{topic}")
        task.add_done_callback(lambda _: box.close())
        try:
            yield box
        finally:
            await _stop(task)
            if not task.cancelled():
                task.result()

    def _limit(self, topic: str) -> int:
        return self._limits.get(topic, FEED_MAX)

    def _key(self, topic: str) -> str:
        return f"{self._namespace}:{topic}"

    def _notices(self, topic: str) -> str:
        return f"{self._namespace}:{topic}:notices"


class _Reader:
    """One follower's position in a stream (a feed, or the notices of a state topic)."""

    def __init__(self, client: Any, key: str, notices: str, box: Mailbox) -> None:
        self._client, self._key, self._box = client, key, box
        self._is_feed = box.topic.endswith("_feed")
        self._stream = key if self._is_feed else notices
        self._last_id = ""
        self._last: tuple[str, int] | None = None
        self._must_reload = False
        self._known: set[str] = set()

    async def start(self) -> None:
        """Stand at the end of the stream; a Redis that is away is met again in `run`."""
        try:
            await self._find_end()
        except DOWN:
            self._must_reload = not self._is_feed

    async def run(self, jitter: Callable[[], float]) -> None:
        """Read until cancelled, with growing pauses while Redis is away."""
        delay = FIRST_DELAY_S
        while True:
            try:
                if not self._last_id:
                    await self._find_end()
                await self._read()
                delay = FIRST_DELAY_S
            except DOWN:
                self._must_reload = not self._is_feed
                await asyncio.sleep(delay * (1.0 - jitter() / 2.0))
                delay = min(delay * 2.0, LONGEST_DELAY_S)

    async def _find_end(self) -> None:
        newest = await self._client.xrevrange(self._stream, count=1)
        self._last_id = newest[0][0].decode() if newest else "0-0"
        if newest:
            self._count_gap(newest[0][1][b"n"])
        if not self._is_feed:
            self._known = {k.decode() for k in await self._client.hkeys(self._key)}

    async def _read(self) -> None:
        if self._must_reload:
            await self._reload()
        found = await self._client.xread({self._stream: self._last_id}, count=BATCH, block=BLOCK_MS)
        for _, entries in _streams(found):
            if self._is_feed:
                for entry_id, fields in entries:
                    if self._count_gap(fields[b"n"]):
                        await self._box.put(Message(entry_id.decode(), "", fields[b"p"]))
                    self._last_id = entry_id.decode()
            else:
                await self._follow_notices(entries)

    async def _follow_notices(self, entries: list[tuple[bytes, dict[bytes, bytes]]]) -> None:
        keys: dict[str, None] = {}
        for _, fields in entries:
            self._count_gap(fields[b"n"])
            if not fields[b"k"]:
                self._must_reload = True
            else:
                keys.update(dict.fromkeys(fields[b"k"].decode().split("\n")))
        self._last_id = entries[-1][0].decode()
        if self._must_reload:
            await self._reload()
        elif keys:
            values = await self._client.hmget(self._key, list(keys))
            for key, value in zip(keys, values, strict=True):
                await self._tell(key, value or b"")

    async def _reload(self) -> None:
        found = {k.decode(): v for k, v in (await self._client.hgetall(self._key)).items()}
        for key in self._known - found.keys():
            await self._tell(key, b"")
        for key, value in found.items():
            await self._tell(key, value)
        self._must_reload = False

    async def _tell(self, key: str, value: bytes) -> None:
        if value:
            self._known.add(key)
        else:
            self._known.discard(key)
        await self._box.put(Message("", key, value))

    def _count_gap(self, number: bytes) -> bool:
        """Whether this entry is new; entries that the stream dropped before we read them are counted as lost."""
        epoch, _, text = number.decode().partition(":")
        n, before = int(text), self._last
        is_same = before is not None and before[0] == epoch
        if is_same and before is not None and n <= before[1]:
            return False
        if is_same and before is not None and n > before[1] + 1:
            if self._is_feed:
                self._box.lose(n - before[1] - 1)
            else:
                self._must_reload = True
        self._last = (epoch, n)
        return True


def _streams(found: Any) -> list[tuple[Any, list[tuple[bytes, dict[bytes, bytes]]]]]:
    """The answer of XREAD in both protocol forms."""
    if isinstance(found, dict):
        return [(k, v[0] if v and isinstance(v[0], list) and v[0] and isinstance(v[0][0], (list, tuple)) else v) for k, v in found.items()]
    return list(found or ())


def _number(entry: Mapping[str, bytes]) -> int:
    return int(entry["n"].partition(b":")[2])


async def _stop(task: asyncio.Task[None]) -> None:
    """Cancel until it ends: the client waits with asyncio.wait_for, which may swallow a cancellation before Python 3.12."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=0.05)


async def _asked(answer: Any) -> Any:
    try:
        return await answer
    except DOWN as error:
        raise StorageError(f"the bus on Redis does not answer ({type(error).__name__}); see REDIS_URL") from None
