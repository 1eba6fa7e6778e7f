"""Pushing changes to many WebSocket clients: each publication is serialised once and shared.

What belongs here: what has changed since a client was last served, ticks, slow clients. What does not: frames on the wire
(`wires`), who may connect (`routes.sockets`).

A client is served from where it stands: everything newer goes into one frame, and clients that stand at the same place
share it. A client whose socket does not drain is left out until it does (books: it then gets the newest of each; events:
those that fell out of the bounded history are counted and it is told how many), and is cut off after `drain_s`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, TypeVar

import orjson
from prometheus_client import Counter, Gauge

from altforecast.errors import StorageError
from altforecast_io.bus import BOOKS, FEED_MAX, OPPORTUNITIES, OPPORTUNITIES_FEED, Bus, Message, Policy, parse_id
from altforecast_serving.queries.arbitrage import book_matches
from altforecast_serving.wires import Wire, frame_of

DRAIN_S = 10.0
"""A client that takes nothing for this long is cut off [s]."""
HEARTBEAT_S = 5.0
"""A client hears something at least this often [s]."""
FEED_CHECK_S = 2.0
"""How often it is asked whether a realtime process still writes."""
MAX_MESSAGE_BYTES = 262_144
"""A longer message is sent in parts, one a tick: many clients refuse more than a megabyte."""
BEGINNING = -1
"""Position of a client that gets a snapshot next."""
AT_ONCE = 128
"""Clients written to before other tasks get their turn."""
GONE_MAX = 4096
"""Removed keys that are remembered for clients that have not heard; beyond it those clients get a new snapshot."""

T = TypeVar("T")
CLIENTS = Gauge("ws_clients", "WebSocket clients connected", ["channel"])
DELIVERED = Counter("ws_deliveries_total", "Frames handed to WebSocket clients", ["channel"])
DROPPED = Counter("ws_dropped_total", "Events that a slow client did not get", ["channel"])
CUT_OFF = Counter("ws_cut_off_total", "Clients cut off because they did not drain", ["channel"])


class Part(NamedTuple):
    """One message, and where a client stands that got it."""

    text: bytes | None
    """None where nothing of interest changed."""
    position: int
    lost: int = 0
    """Changes that are not kept any more."""


class Source(Protocol):
    """What a channel sends: a history of changes numbered by ascending positions."""

    @property
    def position(self) -> int:
        """Number of the newest change."""

    def since(self, position: int, of: frozenset[str]) -> Part:
        """The changes after a position, or the first of them."""

    def snapshot(self, of: frozenset[str]) -> Part:
        """Everything as it stands, or the first part of it."""


@dataclass(eq=False)
class Client:
    """One connection: where it stands and since when it has been waiting."""

    wire: Wire
    of: frozenset[str] = frozenset()
    """What it asked for: `symbol:BTC-USDT`, `venue:okx`; empty asks for all."""
    position: int = 0
    waits_since: float | None = None
    heard_at: float = 0.0


class Events:
    """Opportunity events: the newest FEED_MAX, and what is open."""

    def __init__(self) -> None:
        self.position = 0
        self._kept: deque[Message] = deque(maxlen=FEED_MAX)
        self._open: dict[str, bytes] = {}

    def add(self, message: Message) -> None:
        """One more event; one that is known already is left out."""
        if self._kept and parse_id(message.id) <= parse_id(self._kept[-1].id):
            return
        self._kept.append(message)
        self.position += 1

    def put(self, change: Message) -> None:
        """What is open changed."""
        if change.payload:
            self._open[change.key] = change.payload
        else:
            self._open.pop(change.key, None)

    def clear(self) -> None:
        """Nothing is known to be open any more."""
        self._open.clear()

    @property
    def last_id(self) -> str:
        """Id of the newest event, empty before the first."""
        return self._kept[-1].id if self._kept else ""

    def since(self, position: int, of: frozenset[str]) -> Part:  # noqa: ARG002
        """See Source."""
        n_missing = self.position - position
        if n_missing <= 0:
            return Part(None, self.position)
        lost = max(0, n_missing - len(self._kept))
        first = len(self._kept) - (n_missing - lost)
        events = _fitting(self._kept[i] for i in range(first, len(self._kept)))
        text = _message("events", events[-1].id, b'"dropped":%d,"events":' % lost, (m.payload for m in events))
        return Part(text, position + lost + len(events), lost)

    def snapshot(self, of: frozenset[str]) -> Part:  # noqa: ARG002
        """See Source; the newest that fit into one message, `n_open` says how many there are."""
        rows = _fitting(Message("", "", text) for text in reversed(self._open.values()))
        text = _message("snapshot", self.last_id, b'"n_open":%d,"open":' % len(self._open), (m.payload for m in rows))
        return Part(text, self.position)

    def position_of(self, last_id: str) -> int | None:
        """Where a client that saw this event last stands; None where it is not known any more. Raises InputError for no id."""
        wanted = parse_id(last_id)
        for i, message in enumerate(reversed(self._kept)):
            found = parse_id(message.id)
            if found == wanted:
                return self.position - i
            if found < wanted:
                return None
        return None


class Books:
    """Order books: the newest of each, and when it last changed."""

    def __init__(self) -> None:
        self.position = 0
        self._books: dict[str, bytes] = {}
        self._changed: dict[str, int] = {}
        """Key -> number of its last change, in order of that number; also keys that were removed."""
        self._forgotten = 0
        self._n_gone = 0

    def put(self, change: Message) -> None:
        """A book changed or was removed."""
        self.position += 1
        was_gone = change.key in self._changed and change.key not in self._books
        self._changed.pop(change.key, None)
        self._changed[change.key] = self.position
        if change.payload:
            self._books[change.key] = change.payload
            self._n_gone -= was_gone
        else:
            self._books.pop(change.key, None)
            self._n_gone += not was_gone
        if self._n_gone > GONE_MAX:
            self._forget_gone()

    def clear(self) -> None:
        """Remove every book."""
        for key in tuple(self._books):
            self.put(Message("", key, b""))

    def _forget_gone(self) -> None:
        self._changed = {key: n for key, n in self._changed.items() if key in self._books}
        self._n_gone, self._forgotten = 0, self.position

    def since(self, position: int, of: frozenset[str]) -> Part:
        """See Source."""
        if position < self._forgotten:
            return self.snapshot(of)
        return self._part("books", position, of)

    def snapshot(self, of: frozenset[str]) -> Part:
        """See Source; what does not fit follows as changes."""
        return self._part("snapshot", 0, of)

    def _part(self, kind: str, position: int, of: frozenset[str]) -> Part:
        """Keys that changed after a position, the one unchanged for longest first."""
        newer = []
        for key in reversed(self._changed):
            if self._changed[key] <= position:
                break
            newer.append(key)
        wanted = [Message("", key, self._books.get(key, b"")) for key in _chosen(reversed(newer), of)]
        fitting = _fitting(wanted)
        reached = self.position if len(fitting) == len(wanted) else self._changed[fitting[-1].key]
        if not fitting and kind != "snapshot":
            return Part(None, reached)
        gone = [m.key for m in fitting if not m.payload] if kind != "snapshot" else []
        before = b'"removed":%s,"books":' % orjson.dumps(gone)
        return Part(_message(kind, str(reached), before, (m.payload for m in fitting if m.payload)), reached)


def _fitting(messages: Iterable[Message]) -> list[Message]:
    """The first messages that together are no longer than MAX_MESSAGE_BYTES, and at least one."""
    found: list[Message] = []
    size = 0
    for message in messages:
        size += len(message.payload) + 1
        if found and size > MAX_MESSAGE_BYTES:
            break
        found.append(message)
    return found


def _chosen(keys: Iterable[str], of: frozenset[str]) -> list[str]:
    symbols = frozenset(w.removeprefix("symbol:") for w in of if w.startswith("symbol:"))
    venues = frozenset(w.removeprefix("venue:") for w in of if w.startswith("venue:"))
    return [k for k in keys if book_matches(k, symbols, venues)]


def _message(kind: str, last_id: str, before: bytes, rows: Iterable[bytes]) -> bytes:
    """One message as JSON; the rows are JSON already and are not parsed again."""
    return b'{"type":"%s","last_id":"%s",%s[%s]}' % (kind.encode(), last_id.encode(), before, b",".join(rows))


@dataclass(eq=False)
class Channel:
    """All clients of one source. `tick` serves those that may be written to."""

    name: str
    source: Source
    drain_s: float = DRAIN_S
    clients: dict[Client, None] = field(default_factory=dict)
    is_fed: bool = True
    """Whether a realtime process writes, as heartbeats say."""

    def join(self, client: Client, now: float, position: int | None = None) -> None:
        """Begin to serve a client: what it missed since `position`, or a snapshot. It gets its first message at once."""
        part = self.source.snapshot(client.of) if position is None else self.source.since(position, client.of)
        text = part.text or self._heartbeat()
        if not self.is_fed:
            # Instead of what an ended writer left behind.
            text = b'{"type":"snapshot","last_id":"","is_fed":false,"open":[],"n_open":0,"books":[],"removed":[]}'
        client.position, client.heard_at = part.position, now
        client.wire.write(text, frame_of(text))
        self.clients[client] = None
        CLIENTS.labels(self.name).set(len(self.clients))

    def leave(self, client: Client) -> None:
        """Stop serving a client; nothing happens where it was not served."""
        self.clients.pop(client, None)
        CLIENTS.labels(self.name).set(len(self.clients))

    async def tick(self, now: float) -> None:
        """Serve every client once; never waits for one of them."""
        made: dict[tuple[int, frozenset[str]], tuple[Part, bytes]] = {}
        position = self.source.position
        for i, client in enumerate(tuple(self.clients)):
            if i % AT_ONCE == AT_ONCE - 1:
                await asyncio.sleep(0)
                if self.source.position != position:
                    made, position = {}, self.source.position
            self._serve(client, now, made)

    def _serve(self, client: Client, now: float, made: dict[tuple[int, frozenset[str]], tuple[Part, bytes]]) -> None:
        if not client.wire.is_free:
            client.waits_since = now if client.waits_since is None else client.waits_since
            if now - client.waits_since > self.drain_s:
                CUT_OFF.labels(self.name).inc()
                self.leave(client)
                client.wire.cut()
            return
        client.waits_since = None
        where = (client.position, client.of)
        if where not in made:
            is_new = client.position == BEGINNING
            part = self.source.snapshot(client.of) if is_new else self.source.since(client.position, client.of)
            made[where] = (part, frame_of(part.text or b""))
        (text, client.position, lost), frame = made[where]
        if text is None:
            if now - client.heard_at < HEARTBEAT_S:
                return
            text = self._heartbeat()
            frame = frame_of(text)
        client.heard_at = now
        client.wire.write(text, frame)
        DELIVERED.labels(self.name).inc()
        if lost:
            DROPPED.labels(self.name).inc(lost)

    def _heartbeat(self) -> bytes:
        return b'{"type":"heartbeat","is_fed":%s}' % (b"true" if self.is_fed else b"false")

    def note_fed(self, is_fed: bool) -> None:
        """Tell every client at the next tick whether a realtime process writes, where that changed; a new one begins anew."""
        if is_fed != self.is_fed:
            self.is_fed = is_fed
            for client in self.clients:
                client.heard_at = float("-inf")
                client.position = BEGINNING if is_fed else client.position


class Hub:
    """The channels of one app, fed by the bus."""

    def __init__(self, bus: Bus | None, *, hz: float, max_clients: int, clock: Callable[[], float], drain_s: float = DRAIN_S) -> None:
        self.bus, self.max_clients, self.clock = bus, max_clients, clock
        self._period_s = 1.0 / hz
        self.events, self.books = Events(), Books()
        self.opportunities = Channel("opportunities", self.events, drain_s)
        self.book_channel = Channel("books", self.books, drain_s)
        self.ready = asyncio.Event()
        """What was there at the start has been read, or could not be."""
        self._note_fed(bus is not None)

    @property
    def n_clients(self) -> int:
        """Clients of all channels."""
        return len(self.opportunities.clients) + len(self.book_channel.clients)

    @property
    def is_full(self) -> bool:
        """Whether the next client must be refused."""
        return self.n_clients >= self.max_clients

    async def run(self) -> None:
        """Follow the bus and serve clients until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._tick_forever())
            if self.bus is None:
                self.ready.set()
            else:
                tasks.create_task(self._watch_feed(self.bus))
                tasks.create_task(self._follow_events(self.bus))
                tasks.create_task(self._follow_state(self.bus, OPPORTUNITIES, self.events.put))
                tasks.create_task(self._follow_state(self.bus, BOOKS, self.books.put))

    async def _tick_forever(self) -> None:
        while True:
            began = self.clock()
            for channel in (self.opportunities, self.book_channel):
                if channel.clients:
                    await channel.tick(self.clock())
            await asyncio.sleep(max(0.001, self._period_s - (self.clock() - began)))

    async def _watch_feed(self, bus: Bus) -> None:
        before = True
        while True:
            now = await _tolerant(bus.is_fed(), False)
            # After a break state is read again first: what comes back is told once it has been seen twice.
            self._note_fed(now and before)
            before = now
            await asyncio.sleep(FEED_CHECK_S)

    def _note_fed(self, is_fed: bool) -> None:
        if not is_fed and self.opportunities.is_fed:
            # What a writer left behind is old from now on.
            self.events.clear()
            self.books.clear()
        self.opportunities.note_fed(is_fed)
        self.book_channel.note_fed(is_fed)

    async def _follow_events(self, bus: Bus) -> None:
        async with bus.follow(OPPORTUNITIES_FEED, Policy.DROP_OLDEST, FEED_MAX, reader="fanout") as messages:
            for message in await _tolerant(bus.recent(OPPORTUNITIES_FEED, FEED_MAX), []):
                self.events.add(message)
            async for message in messages:
                self.events.add(message)

    async def _follow_state(self, bus: Bus, topic: str, put: Callable[[Message], None]) -> None:
        async with bus.follow(topic, Policy.KEEP_LATEST, 20_000, reader="fanout") as changes:
            for key, value in (await _tolerant(bus.state(topic), {})).items():
                put(Message("", key, value))
            if topic == OPPORTUNITIES:
                self.ready.set()
            async for change in changes:
                put(change)


async def _tolerant(answer: Awaitable[T], otherwise: T) -> T:
    """The answer of the bus, or something else while it cannot be reached: followers are told everything when it is back."""
    try:
        return await answer
    except StorageError:
        return otherwise
