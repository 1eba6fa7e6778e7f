"""The bus between the realtime process and those who read it: bounded feeds and keep-latest state.

What belongs here: the protocol, its policies, mailboxes, metrics and the in-process bus. What does not: Redis
(`bus_redis`) and what the topics carry.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, Protocol

from prometheus_client import Counter

from altforecast.errors import InputError, SettingsError
from altforecast_io.clock import utc_now

FEED_MAX = 2048
"""Entries that a feed keeps; older ones are dropped."""
STATE_MAX = 20_000
"""Keys that one state topic may hold; a further new key is refused into the dead letters."""
PAYLOAD_MAX = 1_000_000
"""Largest payload [bytes]; larger ones go to the dead letters."""
OPPORTUNITIES_FEED = "opportunities_feed"
OPPORTUNITIES, BOOKS, VENUE_STATES, SPREADS = "opportunities", "books", "venues", "spreads"
DEAD_LETTERS = "dead_letters_feed"

ENQUEUED = Counter("bus_enqueued_total", "Messages handed to the bus", ["type", "strategy"])
DROPPED = Counter("bus_dropped_total", "Messages that a reader did not get, by policy", ["type", "strategy"])
DELIVERED = Counter("bus_delivered_total", "Messages handed to readers, by what reads", ["type", "handlers"])
DEAD = Counter("bus_dlq_total", "Messages put into the dead letters", ["type"])
DEAD_EVENTS = Counter("events_dead_letter_total", "Messages put into the dead letters, all topics together")


class Policy(StrEnum):
    """What happens when a reader is slower than the writer."""

    BLOCK = "block"
    """The writer waits (in process), or reading pauses and what the bounded feed drops meanwhile is counted (Redis)."""
    DROP_OLDEST = "drop_oldest"
    KEEP_LATEST = "keep_latest"
    """Only the newest message of each key waits."""


@dataclass(frozen=True, slots=True)
class Message:
    """One entry of a feed (`key` is empty) or one change of a state topic (`id` is empty; an empty payload removes the key)."""

    id: str
    """`<number>-<number>`, ascending within a feed; unequal after a restart of the writer."""
    key: str
    payload: bytes


class BusHealth(NamedTuple):
    """A bus as one process sees it."""

    kind: str
    """memory | redis"""
    is_connected: bool
    n_queued: int
    """Messages that wait: for a reader (in process) or to be sent (Redis)."""
    n_dropped: int
    """Messages that a queue of this process lost because it was full [count]; replaced values of `keep_latest` are none."""


class Bus(Protocol):
    """What writers and readers see; names ending in `_feed` are feeds, all others keep-latest state with one writer each."""

    async def put_many(self, topic: str, values: Mapping[str, bytes]) -> None:
        """Set keys of a state topic; an empty value removes its key. Never waits for the network."""

    async def state(self, topic: str) -> dict[str, bytes]:
        """All keys and values of a state topic. Raises StorageError when the bus cannot be reached."""

    async def append(self, topic: str, payload: bytes) -> None:
        """Add to a feed of at most FEED_MAX entries, dropping the oldest. Never waits for the network."""

    async def recent(self, topic: str, n: int, after_id: str = "") -> list[Message]:
        """The newest `n` entries of a feed (those after `after_id` where given), oldest first. Raises StorageError when unreachable."""

    def follow(
        self, topic: str, policy: Policy = Policy.DROP_OLDEST, size: int = FEED_MAX, reader: str = "reader"
    ) -> AbstractAsyncContextManager[AsyncIterator[Message]]:
        """What is written from entering the context on; `size` bounds what waits. Read `state` inside it for a gapless start.

        reader: a name for the metrics, from a small fixed set.
        """

    async def bury(self, topic: str, payload: bytes, reason: str) -> None:
        """Keep a message that nobody could use among the dead letters (newest BUS_DLQ_MAX); the reason must hold no secret."""

    async def is_fed(self) -> bool:
        """Whether a realtime process is writing to this bus now. Raises StorageError when the bus cannot be reached."""

    def health(self) -> BusHealth:
        """How it does from this process; asks nobody."""


class Mailbox:
    """Messages that wait for one reader, bounded by a policy; an async iterator that ends after `close`."""

    def __init__(self, topic: str, policy: Policy, size: int, reader: str = "reader") -> None:
        if size < 1:
            raise InputError("size", size, "must be at least 1")
        self.topic, self.policy, self.size, self.reader = topic, policy, size, reader
        self.n_dropped = 0
        self._waiting: deque[Message] = deque()
        self._latest: dict[str, Message] = {}
        self._filled = asyncio.Event()
        self._emptied = asyncio.Event()
        self._is_closed = False

    def __len__(self) -> int:
        return len(self._latest) if self.policy is Policy.KEEP_LATEST else len(self._waiting)

    async def put(self, message: Message) -> None:
        """Leave a message; waits for room only under `block`, and returns at once when closed."""
        while self.policy is Policy.BLOCK and len(self._waiting) >= self.size and not self._is_closed:
            self._emptied.clear()
            await self._emptied.wait()
        self.offer(message)

    def offer(self, message: Message) -> None:
        """Leave a message without waiting; a full mailbox loses its oldest, which is counted."""
        if self._is_closed:
            return
        if self.policy is Policy.KEEP_LATEST:
            if message.key in self._latest:
                self.lose(1)
            elif len(self._latest) >= self.size:
                del self._latest[next(iter(self._latest))]
                self.lose(1)
            self._latest[message.key] = message
        else:
            if len(self._waiting) >= self.size:
                self._waiting.popleft()
                self.lose(1)
            self._waiting.append(message)
        self._filled.set()

    def lose(self, n: int) -> None:
        """Count messages that this reader will not get."""
        self.n_dropped += n
        DROPPED.labels(self.topic, self.policy.value).inc(n)

    def close(self) -> None:
        """End the iteration and free a writer that waits."""
        self._is_closed = True
        self._filled.set()
        self._emptied.set()

    def __aiter__(self) -> Mailbox:
        return self

    async def __anext__(self) -> Message:
        while not len(self):
            if self._is_closed:
                raise StopAsyncIteration
            self._filled.clear()
            await self._filled.wait()
        message = self._latest.pop(next(iter(self._latest))) if self.policy is Policy.KEEP_LATEST else self._waiting.popleft()
        self._emptied.set()
        DELIVERED.labels(self.topic, self.reader).inc()
        return message


class MemoryBus:
    """The bus within one process and one event loop."""

    def __init__(self, dead_letters_max: int = 1000, clock: Callable[[], datetime] = utc_now) -> None:
        self._feeds: dict[str, deque[Message]] = defaultdict(lambda: deque(maxlen=FEED_MAX))
        self._feeds[DEAD_LETTERS] = deque(maxlen=dead_letters_max)
        self._states: dict[str, dict[str, bytes]] = defaultdict(dict)
        self._boxes: dict[str, list[Mailbox]] = defaultdict(list)
        self._epoch = int(clock().timestamp() * 1000)
        self._n = 0

    async def put_many(self, topic: str, values: Mapping[str, bytes]) -> None:
        """See Bus."""
        check_topic(topic, is_feed=False)
        ENQUEUED.labels(topic, Policy.KEEP_LATEST.value).inc(len(values))
        state = self._states[topic]
        for key, value in values.items():
            refusal = _refusal(state, key, value)
            if refusal:
                await self.bury(topic, value, refusal)
                continue
            if value:
                state[key] = value
            else:
                state.pop(key, None)
            await self._tell(topic, Message("", key, value))

    async def state(self, topic: str) -> dict[str, bytes]:
        """See Bus."""
        check_topic(topic, is_feed=False)
        return dict(self._states.get(topic, {}))

    async def append(self, topic: str, payload: bytes) -> None:
        """See Bus."""
        check_topic(topic, is_feed=True)
        ENQUEUED.labels(topic, Policy.DROP_OLDEST.value).inc()
        if len(payload) > PAYLOAD_MAX:
            await self.bury(topic, payload, "payload too large")
            return
        self._n += 1
        message = Message(f"{self._epoch}-{self._n}", "", payload)
        self._feeds[topic].append(message)
        await self._tell(topic, message)

    async def recent(self, topic: str, n: int, after_id: str = "") -> list[Message]:
        """See Bus."""
        check_topic(topic, is_feed=True)
        since = parse_id(after_id)
        kept = [m for m in self._feeds.get(topic, ()) if parse_id(m.id) > since]
        return kept[-n:] if n > 0 else []

    @asynccontextmanager
    async def follow(
        self, topic: str, policy: Policy = Policy.DROP_OLDEST, size: int = FEED_MAX, reader: str = "reader"
    ) -> AsyncIterator[AsyncIterator[Message]]:
        """See Bus."""
        box = Mailbox(topic, policy, size, reader)
        self._boxes[topic].append(box)
        try:
            yield box
        finally:
            self._boxes[topic].remove(box)
            box.close()

    async def bury(self, topic: str, payload: bytes, reason: str) -> None:
        """See Bus."""
        count_dead(topic)
        self._n += 1
        self._feeds[DEAD_LETTERS].append(Message(f"{self._epoch}-{self._n}", "", dead_letter(topic, payload, reason)))

    async def is_fed(self) -> bool:
        """True: whoever holds this bus is the realtime process, or was given it by one."""
        return True

    def health(self) -> BusHealth:
        """See Bus; what readers lost who left is in the metrics alone."""
        boxes = [box for boxes in self._boxes.values() for box in boxes]
        dropped = sum(box.n_dropped for box in boxes if box.policy is not Policy.KEEP_LATEST)
        return BusHealth("memory", True, sum(map(len, boxes)), dropped)

    async def _tell(self, topic: str, message: Message) -> None:
        for box in tuple(self._boxes.get(topic, ())):
            if box.policy is Policy.BLOCK:
                await box.put(message)
            else:
                box.offer(message)


def check_topic(topic: str, *, is_feed: bool) -> None:
    """Feeds are appended to, state is put; raises InputError for the wrong kind."""
    if topic.endswith("_feed") != is_feed:
        raise InputError("topic", topic, "is no feed" if is_feed else "is a feed, not a state topic")


def parse_id(text: str) -> tuple[int, int]:
    """Both numbers of a message id; an empty text is before all. Raises InputError for anything else."""
    if not text:
        return (-1, -1)
    first, dash, second = text.partition("-")
    if not (dash and first.isascii() and first.isdigit() and second.isascii() and second.isdigit() and len(text) <= 40):
        raise InputError("last_id", text, "must look like 1700000000000-1")
    return int(first), int(second)


def dead_letter(topic: str, payload: bytes, reason: str) -> bytes:
    """The kept form of a dead letter: topic, reason and the first kilobyte of the payload, one line each."""
    return b"\n".join((topic.encode(), reason.replace("\n", " ").encode(), payload[:1024]))


def count_dead(topic: str) -> None:
    """Count one dead letter."""
    DEAD.labels(topic).inc()
    DEAD_EVENTS.inc()


def _refusal(state: Mapping[str, bytes], key: str, value: bytes) -> str:
    if len(value) > PAYLOAD_MAX:
        return "payload too large"
    if value and key not in state and len(state) >= STATE_MAX:
        return "too many keys"
    return ""


def bus_namespace(environment: str) -> str:
    """What every key of an environment's bus begins with: sandbox and live never mix in one Redis."""
    return f"altforecast:{environment}"


@asynccontextmanager
async def open_bus(
    redis_url: str, namespace: str, *, dead_letters_max: int = 1000, jitter: Callable[[], float] = random.random
) -> AsyncIterator[Bus]:
    """The bus of one environment: on Redis where an address is given, else in this process.

    namespace: begins every key, and holds the environment's name, so that sandbox and live never mix. Raises
    SettingsError where the Redis client is not installed; a Redis that does not answer is met when it is used.
    """
    if not redis_url:
        yield MemoryBus(dead_letters_max)
        return
    try:
        from altforecast_io.bus_redis import RedisBus
    except ImportError:
        raise SettingsError("REDIS_URL is set but the package redis is not installed: pip install 'altforecast[scale]'") from None
    bus = RedisBus(redis_url, namespace, jitter=jitter, dead_letters_max=dead_letters_max)
    try:
        yield bus
    finally:
        await bus.close()
