"""A toy venue for tests of feeds: numbered updates as text, a server that can be told to misbehave.

What belongs here: one invented protocol, both sides. What does not: protocols of real venues.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web

from altforecast.books import Book, BookState
from altforecast_io.exchanges.sessions.session import Close, Fault, FaultReason, Fetch, Open, Output, Send, relocate, withdraw


class ToySession:
    """`SYMBOL n` is update n of a symbol; holes are faults; `refused SYMBOL`, `close` and `bug` say what they are."""

    def __init__(self, venue: str, symbols: Sequence[str], base_url: str | None) -> None:
        self.venue, self._url = venue, relocate("wss://toy.example/ws", base_url)
        self.books = {s: Book(venue, s) for s in symbols}

    def begin(self) -> Sequence[Output]:
        return (Fetch("time", self._url.replace("ws://", "http://").replace("/ws", "/time")),)

    def answered(self, key: str, status: int, body: bytes, recv_ns: int) -> Sequence[Output]:
        if status != 200:
            return (self._fault(FaultReason.SNAPSHOT, None, f"status {status}"),)
        return (Open(self._url),)

    def opened(self, now_ns: int) -> Sequence[Output]:
        return [Send(f"follow {symbol}") for symbol in self.books]

    def received(self, payload: str | bytes, recv_ns: int) -> Sequence[Output]:
        words = str(payload).split()
        if words[0] == "bug":
            raise ZeroDivisionError("a bug of ours")
        if words[0] == "close":
            return (Close("maintenance"),)
        if words[0] == "refused":
            self.books[words[1]].clear(BookState.SUSPECT)
            return (Fault(FaultReason.REFUSED, words[1], "unknown symbol"),)
        book, number = self.books[words[0]], int(words[1])
        if book.sequence is not None and number != book.sequence + 1:
            return (self._fault(FaultReason.GAP, words[0], f"{book.sequence} is followed by {number}"),)
        book.load([(100.0 - n, number) for n in range(12)], [(101.0 + n, number) for n in range(12)])
        book.state, book.sequence, book.ts_ingest_ns = BookState.LIVE, number, recv_ns
        book.n_updates += 1
        return (book,)

    def tick(self, now_ns: int) -> Sequence[Output]:
        return ()

    def _fault(self, reason: FaultReason, symbol: str | None, detail: str) -> Fault:
        withdraw(self.books, BookState.SUSPECT)
        return Fault(reason, symbol, detail)


class ToyVenues:
    """One server for any number of toy venues."""

    def __init__(self) -> None:
        self.base_url = ""
        self.sockets: dict[str, list[web.WebSocketResponse]] = {}
        self.followed: dict[str, list[str]] = {}
        """Everything that was ever asked for, per venue."""
        self.n_connects: dict[str, int] = {}
        self.refusing: set[str] = set()
        """Venues that refuse connections."""
        self.unknown: set[str] = set()
        """Symbols that do not exist."""
        self.n_sent = 0

    async def follow(self, request: web.Request) -> web.StreamResponse:
        venue = request.match_info["venue"]
        self.n_connects[venue] = self.n_connects.get(venue, 0) + 1
        if venue in self.refusing:
            raise web.HTTPServiceUnavailable
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.sockets.setdefault(venue, []).append(socket)
        async for message in socket:
            symbol = message.data.split()[1]
            self.followed.setdefault(venue, []).append(symbol)
            await socket.send_str(f"refused {symbol}" if symbol in self.unknown else f"{symbol} 1")
        self.sockets[venue].remove(socket)
        return socket

    async def tell(self, venue: str, text: str) -> None:
        """A frame on every connection of a venue."""
        for socket in self.sockets.get(venue, []):
            await socket.send_str(text)


@asynccontextmanager
async def toy_venues() -> AsyncIterator[ToyVenues]:
    """A running server."""
    toys = ToyVenues()

    async def time(_: web.Request) -> web.Response:
        return web.Response(text="0")

    app = web.Application()
    app.add_routes([web.get("/{venue}/ws", toys.follow), web.get("/{venue}/time", time)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    toys.base_url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield toys
    finally:
        await runner.cleanup()


async def until(condition: object, seconds: float = 10.0) -> None:
    """Wait until a function gives something true; fails with its last value after the time."""
    assert callable(condition)
    end = asyncio.get_running_loop().time() + seconds
    while not (last := condition()):
        assert asyncio.get_running_loop().time() < end, f"still {last!r} after {seconds} s"
        await asyncio.sleep(0.005)


@asynccontextmanager
async def http_client() -> AsyncIterator[aiohttp.ClientSession]:
    """A client whose closing is waited for."""
    async with aiohttp.ClientSession() as session:
        yield session
