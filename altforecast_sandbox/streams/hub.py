"""The hub: keeps the followed books of all venues moving and sends every change to the connections that follow it.

What belongs here: time, deliveries and the faults on the way. What does not: books (`order_flow`), wire forms (one module per
venue) and sockets (`connection`).
"""

from __future__ import annotations

import asyncio
import heapq
import math
import random
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from altforecast_sandbox.base_path import Points, path_of
from altforecast_sandbox.book_habits import updates_per_second
from altforecast_sandbox.clock import Clock
from altforecast_sandbox.faults import Switchboard
from altforecast_sandbox.market import Market
from altforecast_sandbox.resting import Change, RestingBook
from altforecast_sandbox.stream_faults import ONCE
from altforecast_sandbox.streams.connection import Connection
from altforecast_sandbox.streams.planting import Planter
from altforecast_sandbox.streams.registry import STREAMS
from altforecast_sandbox.streams.venue_books import VenueBooks
from altforecast_sandbox.streams.wire import Frame
from altforecast_sandbox.switches import Fault

TICK_S = 0.01
_BEAT_MS = 1_000
_LATE_MS = 2_000
"""A book that is later than this (the process stood still) goes on from now instead of catching up."""
_GOING_AWAY, _TRY_LATER = 1001, 1013
_MOST_MESSAGE = 1 << 20


@dataclass(frozen=True)
class FlowOptions:
    """How the books of the sandbox behave as a whole."""

    book_rate: float = 0.2
    """Factor on each venue's own rate of updates."""
    extra_symbols: int = 0
    plants_per_hour: float = 0.0
    base_points: Points | None = None
    """A recorded path of Bitcoin instead of the seeded market."""


class Hub:
    """All venues' books and connections; `tick` does whatever is due at the clock's present."""

    def __init__(self, market: Market, clock: Clock, board: Switchboard, options: FlowOptions = FlowOptions()) -> None:
        self.path = path_of(market, options.base_points, lambda: _ms(clock))
        self.books = {venue: self._venue_books(market.seed, venue, clock, board, options) for venue in STREAMS}
        self.planter = Planter(market.seed, options.plants_per_hour, self.books, self._usdt_price, self.publish)
        self.connections: set[Connection] = set()
        self.counts: Counter[str] = Counter()
        """`changes`, `frames` and `cut_off` (clients that did not follow) so far."""
        self._clock, self._board, self._rate = clock, board, options.book_rate
        self._followers: dict[tuple[str, str], list[Connection]] = {}
        self._due: list[tuple[float, str, str]] = []
        self._gaps: dict[tuple[str, str], random.Random] = {}
        self._seed = market.seed
        self._beat_ms = 0
        self._task: asyncio.Task[None] | None = None

    def _venue_books(self, seed: int, venue: str, clock: Clock, board: Switchboard, options: FlowOptions) -> VenueBooks:
        def venue_ms() -> int:
            return _ms(clock) + round(board.skew_s(venue) * 1000)

        return VenueBooks(seed, venue, self.path, venue_ms, board.stream, options.extra_symbols)

    def _usdt_price(self, coin: str) -> float:
        return math.exp(self.path.log_usdt(coin, _ms(self._clock)))

    def now_ms(self) -> int:
        """The sandbox's present."""
        return _ms(self._clock)

    async def run(self) -> None:
        """Ticks until cancelled."""
        while True:
            self.tick()
            await asyncio.sleep(TICK_S)

    def tick(self) -> None:
        """Everything that is due: faults that strike connections, changes, plants, heartbeats."""
        now = _ms(self._clock)
        if self._board.stream.faults:
            self._strike(now)
        while self._due and self._due[0][0] <= now:
            due, venue, symbol = heapq.heappop(self._due)
            if (venue, symbol) in self._followers:
                self.publish(venue, symbol, int(due if now - due < _LATE_MS else now))
                self._schedule(venue, symbol, due if now - due < _LATE_MS else now)
        # after what was due before now: times of a book do not go back
        self.planter.tick(now)
        if now - self._beat_ms >= _BEAT_MS:
            self._beat_ms = now
            for connection in list(self.connections):
                self._send(connection, connection.wire.beat(self.books[connection.venue].now_ms()))

    def publish(self, venue: str, symbol: str, now_ms: int) -> int:
        """Change a book now and send the change; returns its event time [ms]."""
        skew_ms = round(self._board.skew_s(venue) * 1000)
        change = self.books[venue].step(symbol, now_ms + skew_ms)
        self.counts["changes"] += 1
        self._deliver(venue, self.books[venue].flow(symbol).book, change)
        return change.ts_ms

    def _schedule(self, venue: str, symbol: str, after_ms: float) -> None:
        key = (venue, symbol)
        if key not in self._gaps:
            self._gaps[key] = random.Random(f"gaps {self._seed} {venue} {symbol}")
        mean_ms = 1000.0 / updates_per_second(venue, symbol.split("-")[0], self._rate)
        heapq.heappush(self._due, (after_ms + mean_ms * (0.5 + self._gaps[key].random()), venue, symbol))

    def _deliver(self, venue: str, book: RestingBook, change: Change) -> None:
        service, stream = STREAMS[venue], self._board.stream
        is_faulty = bool(stream.faults)
        is_lost = is_faulty and stream.strikes(venue, "gap", change.symbol) is not None
        spoil = service.spoil_checksum if is_faulty else None
        if spoil is not None and stream.strikes(venue, "checksum_error", change.symbol) is None:
            spoil = None
        noise = _garbage(change.last_id) if is_faulty and stream.strikes(venue, "garbage", change.symbol) else None
        made: dict[Hashable, Sequence[Frame]] = {}
        for connection in list(self._followers.get((venue, change.symbol), ())):
            asked = connection.wire.following.symbols.get(change.symbol)
            if not service.is_shared:
                frames = connection.wire.changed(book, change)
            elif asked in made:
                frames = made[asked]
            else:
                frames = made[asked] = connection.wire.changed(book, change)
            if is_lost:
                continue
            if spoil is not None:
                frames = [spoil(frame) for frame in frames]
            self._send(connection, [noise, *frames] if noise is not None else frames, change.symbol)

    def _send(self, connection: Connection, frames: Sequence[Frame], symbol: str = "") -> None:
        stream = self._board.stream
        if stream.faults:
            if stream.is_silent(connection.venue, symbol, _ms(self._clock) / 1000):
                return
            frames = [frame for frame in frames if stream.strikes(connection.venue, "dropped_frame", symbol) is None]
        if frames:
            self.counts["frames"] += len(frames)
            if not connection.send(frames):
                self.counts["cut_off"] += 1

    def _strike(self, now_ms: int) -> None:
        """Faults that close connections."""
        stream = self._board.stream
        for fault in list(stream.faults):
            if fault.kind not in (*ONCE, "flap"):
                continue
            if fault.kind == "flap":
                fault.at_s = now_ms / 1000 if fault.at_s is None else fault.at_s
                if now_ms / 1000 - fault.at_s < fault.value:
                    continue
                fault.at_s = now_ms / 1000
            if fault.kind == "reconnect_moved":
                self.path.moved_log += math.log1p(fault.value)
            self._close_all(fault)
            stream.use(fault, fault.service)

    def _close_all(self, fault: Fault) -> None:
        for connection in [c for c in self.connections if fault.is_for(c.venue, fault.symbol)]:
            self._forget(connection)
            connection.close(_GOING_AWAY)

    async def accept(self, request: web.Request) -> web.WebSocketResponse:
        """One connection from its handshake to its end."""
        venue = request.path.split("/")[1]
        socket = web.WebSocketResponse(compress=False, max_msg_size=_MOST_MESSAGE)
        await socket.prepare(request)
        books = self.books[venue]
        wire = STREAMS[venue].connect(books, request.path_qs[len(venue) + 1 :], books.now_ms())
        connection = Connection(venue, socket, request.transport, wire)
        writer = asyncio.create_task(connection.write())
        self.connections.add(connection)
        try:
            self._send(connection, wire.opened())
            async for message in socket:
                self._received(connection, message.data)
        finally:
            self._forget(connection)
            if not connection.is_over:
                writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
        return socket

    def _received(self, connection: Connection, payload: Frame) -> None:
        if connection.is_over:
            return
        refusal = self._limited(connection, payload)
        if refusal is None:
            refusal = connection.wire.received(payload, self.books[connection.venue].now_ms())
        self._send(connection, refusal)
        self._note(connection)

    def _limited(self, connection: Connection, payload: Frame) -> Sequence[Frame] | None:
        """The venue's refusal while a fault limits subscriptions; None when the frame is none or nothing limits."""
        stream, limited = self._board.stream, STREAMS[connection.venue].limited
        fault = stream.find(connection.venue, "subscribe_limit") if stream.faults else None
        if fault is None:
            return None
        if limited is None:
            stream.use(fault, connection.venue)
            self._forget(connection)
            connection.close(_TRY_LATER)
            return ()
        said = limited(payload)
        if not said:
            return None
        stream.use(fault, connection.venue)
        return said

    def _note(self, connection: Connection) -> None:
        """Bring the index of followers up to what a connection follows now."""
        if connection.is_over:
            return
        now = frozenset(connection.wire.following.symbols)
        if now == connection.known:
            return
        venue, followed = connection.venue, self.books[connection.venue].followed
        for symbol in sorted(now - connection.known):
            followers = self._followers.setdefault((venue, symbol), [])
            followers.append(connection)
            followed[symbol] = len(followers)
            if len(followers) == 1 and not any(entry[1:] == (venue, symbol) for entry in self._due):
                self._schedule(venue, symbol, _ms(self._clock))
        for symbol in connection.known - now:
            self._leave(connection, symbol)
        connection.known = now

    def _forget(self, connection: Connection) -> None:
        self.connections.discard(connection)
        for symbol in connection.known:
            self._leave(connection, symbol)
        connection.known = frozenset()

    def _leave(self, connection: Connection, symbol: str) -> None:
        key, followed = (connection.venue, symbol), self.books[connection.venue].followed
        followers = self._followers.get(key, [])
        if connection in followers:
            followers.remove(connection)
        if followers:
            followed[symbol] = len(followers)
        else:
            self._followers.pop(key, None)
            followed.pop(symbol, None)

    def middleware(self) -> Any:
        """The aiohttp middleware that takes WebSocket handshakes below `/<venue>`."""

        @web.middleware
        async def take(request: web.Request, handler: Callable[[web.Request], Any]) -> web.StreamResponse:
            is_socket = request.headers.get("Upgrade", "").lower() == "websocket"
            if is_socket and request.path.split("/")[1] in STREAMS:
                return await self.accept(request)
            answer: web.StreamResponse = await handler(request)
            return answer

        return take

    def attach(self, app: web.Application) -> None:
        """Run as long as the application does."""

        async def start(_: web.Application) -> None:
            self._task = asyncio.create_task(self.run())
            self._task.add_done_callback(_end_loudly)

        async def stop(_: web.Application) -> None:
            if self._task is not None:
                self._task.cancel()
            for connection in list(self.connections):
                connection.abort()

        app.on_startup.append(start)
        app.on_shutdown.append(stop)


def _end_loudly(task: asyncio.Task[None]) -> None:
    """A bug in the hub must not leave a silent sandbox behind."""
    if not task.cancelled() and task.exception() is not None:
        task.get_loop().call_exception_handler({"message": "the sandbox's order flow stopped", "exception": task.exception(), "task": task})
        raise SystemExit(1)


def _garbage(number: int) -> Frame:
    """A frame that no venue sends: text that is no JSON, or bytes that are neither gzip nor protobuf."""
    rng = random.Random(number)
    noise = bytes(rng.randrange(256) for _ in range(60))
    return f'{{"broken": {noise.hex()}' if rng.random() < 0.5 else b"\x1f\x8b\x08" + noise


def _ms(clock: Clock) -> int:
    return int(clock().timestamp() * 1000)
