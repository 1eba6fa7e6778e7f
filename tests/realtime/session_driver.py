"""A tiny driver of native sessions: one socket, one HTTP client, and nothing clever.

What belongs here: carrying a session's wishes out in tests. What does not: reconnecting, health, or anything of `realtime`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import aiohttp

from altforecast.books import Book
from altforecast_io.exchanges.sessions.registry import open_session
from altforecast_io.exchanges.sessions.session import Close, Fault, Fetch, Open, Output, Send, Session


class Driven:
    """A running session and what it said."""

    def __init__(self, session: Session, http: aiohttp.ClientSession) -> None:
        self.session, self._http = session, http
        self.faults: list[Fault | Close] = []
        self.n_updates = 0
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Until the socket ends or a fault other than a refusal comes."""
        await self._do(self.session.begin())
        while self._socket is None:
            await asyncio.sleep(0.01)
        await self._do(self.session.opened(time.time_ns()))
        self._spawn(self._tick())
        async for message in self._socket:
            await self._do(self.session.received(message.data, time.time_ns()))

    def _spawn(self, work: object) -> None:
        task = asyncio.ensure_future(work)  # type: ignore[arg-type]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(0.2)
            await self._do(self.session.tick(time.time_ns()))

    async def _do(self, outputs: Sequence[Output]) -> None:
        for output in outputs:
            if isinstance(output, Book):
                self.n_updates += 1
            elif isinstance(output, Open):
                self._socket = await self._http.ws_connect(output.url)
            elif isinstance(output, Send):
                assert self._socket is not None
                send = self._socket.send_str if isinstance(output.payload, str) else self._socket.send_bytes
                await send(output.payload)  # type: ignore[arg-type]
            elif isinstance(output, Fetch):
                self._spawn(self._fetch(output))
            else:
                self.faults.append(output)

    async def _fetch(self, wanted: Fetch) -> None:
        async with self._http.request(wanted.method, wanted.url) as response:
            body = await response.read()
        await self._do(self.session.answered(wanted.key, response.status, body, time.time_ns()))

    def end(self) -> None:
        """Stop whatever still runs."""
        for task in self._tasks:
            task.cancel()


@asynccontextmanager
async def driven(venue: str, symbols: Sequence[str], base_url: str) -> AsyncIterator[Driven]:
    """A session of a venue, connected to a stand-in and running."""
    async with aiohttp.ClientSession() as http:
        running = Driven(open_session(venue, symbols, base_url), http)
        task = asyncio.create_task(running.run())
        try:
            yield running
        finally:
            running.end()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
