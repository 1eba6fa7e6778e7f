"""The native feed: one session, one WebSocket, and nothing between a frame and its book.

What belongs here: the I/O of one connection that a session describes. What does not: protocols
(`altforecast_io.exchanges.sessions`), when to connect again (`feeds`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import aiohttp
from aiohttp import WSMsgType

from altforecast.book_health import NS_PER_S, Step
from altforecast.books import Book
from altforecast.errors import BusyError
from altforecast_io.exchanges.feed_limits import FeedLimits
from altforecast_io.exchanges.sessions.session import Close, Fault, FaultReason, Fetch, Open, Output, Send, Session
from altforecast_io.recordings import Direction, body_payload
from realtime.feeds import ASKED, NETWORK_ERRORS, PLANNED, Connection, Dial, Ended, Shard

MAX_MESSAGE = 32 * 1024 * 1024
"""Largest frame [bytes]: whole books come as one; a larger one ends the connection."""
MAX_BODY = 32 * 1024 * 1024
"""Largest answer to an HTTP request [bytes]; a larger one counts as none."""
OUTBOX_MAX = 10_000
"""Frames that may wait to be sent; a session that asks for more has a bug."""
FRAMES_PER_TURN = 64
"""Frames of a burst that are handled before others get their turn."""

OpenSession = Callable[[str, Sequence[str], str | None], Session]


class NativeConnection:
    """One life of one connection."""

    def __init__(self, shard: Shard, session: Session, limits: FeedLimits, turns: asyncio.Semaphore) -> None:
        self._shard, self._session, self._limits, self._turns = shard, session, limits, turns
        self._tools, self._link, self._board = shard.tools, shard.link, shard.tools.board
        loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[Ended] = loop.create_future()
        self._url: asyncio.Future[str] = loop.create_future()
        self._outbox: deque[str | bytes] = deque()
        self._has_mail = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._opened_at = 0.0
        self._bug: BaseException | None = None
        self._board.adopt(self._link, session.books)

    async def live(self) -> Ended:
        """See Connection."""
        try:
            self._tap(self._tools.clock_ns(), "begin", ",".join(self._session.books))
            self._act(self._session.begin())
            first: set[asyncio.Future[Any]] = {self._url, self._ended}
            await asyncio.wait(first, timeout=self._tools.pace.connect_s, return_when=asyncio.FIRST_COMPLETED)
            if self._url.done():
                await self._connect(self._url.result())
            elif not self._ended.done():
                self._disconnect("no address within the time limit")
            return await self._ended
        finally:
            await self._stop()

    def break_off(self, fault: Fault) -> None:
        """See Connection."""
        self._end(Ended(fault.reason.value, fault))

    async def _connect(self, url: str) -> None:
        pace = self._tools.pace
        try:
            socket = await asyncio.wait_for(
                self._tools.http.ws_connect(url, autoping=True, compress=0, max_msg_size=MAX_MESSAGE), timeout=pace.connect_s
            )
        except NETWORK_ERRORS as error:
            self._disconnect(f"{type(error).__name__}: {error}")
            return
        try:
            now = self._tools.clock_ns()
            self._tap(now, "open", url)
            self._link.last_frame_ns = now
            self._opened_at = self._tools.monotonic()
            self._board.step(self._link, Step.OPENED)
            self._start(self._read(socket))
            self._start(self._send(socket))
            self._start(self._tick())
            self._act(self._session.opened(now))
            await asyncio.wait({self._ended})
        finally:
            self._tap(self._tools.clock_ns(), "close", self._why())
            await _close(socket)

    async def _read(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        """Frames to books: the hot path of the process."""
        receive, received, changed = socket.receive, self._session.received, self._board.changed
        clock_ns, link, ended, tap = self._tools.clock_ns, self._link, self._ended, self._tools.tap
        turn = 0
        while True:
            message = await receive()
            if message.type is not WSMsgType.TEXT and message.type is not WSMsgType.BINARY:
                self._disconnect(f"closed with code {socket.close_code}" if socket.exception() is None else str(socket.exception()))
                return
            now = clock_ns()
            link.frames += 1
            link.last_frame_ns = now
            if tap is not None:
                tap.frame(now, link.venue, link.name, "received", message.data)
            for output in received(message.data, now):
                if type(output) is Book:
                    changed(output)
                else:
                    self._act((output,))
                if ended.done():
                    return
            turn += 1
            if turn == FRAMES_PER_TURN:
                turn = 0
                await asyncio.sleep(0)

    async def _send(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        while True:
            while self._outbox:
                payload = self._outbox.popleft()
                self._tap(self._tools.clock_ns(), "sent", payload)
                try:
                    await (socket.send_str(payload) if isinstance(payload, str) else socket.send_bytes(payload))
                except NETWORK_ERRORS as error:
                    self._disconnect(f"{type(error).__name__}: {error}")
                    return
                if self._limits.send_pause_s:
                    await self._tools.sleep(self._limits.send_pause_s)
            self._has_mail.clear()
            await self._has_mail.wait()

    async def _tick(self) -> None:
        pace = self._tools.pace
        while not self._ended.done():
            await self._tools.sleep(pace.tick_s)
            now = self._tools.clock_ns()
            silence_s = (now - self._link.last_frame_ns) / NS_PER_S
            if silence_s > pace.watchdog_s:
                self.break_off(Fault(FaultReason.STALE, None, f"no frame for {silence_s:.0f} s"))
            elif self._shard.is_old(self._tools.monotonic() - self._opened_at):
                self._end(Ended(PLANNED))
            else:
                self._act(self._session.tick(now))

    def _act(self, outputs: Sequence[Output]) -> None:
        """Do what the session asked for; nothing more after the end."""
        for output in outputs:
            if self._ended.done():
                return
            match output:
                case Book():
                    self._board.changed(output)
                case Send(payload):
                    self._post(payload)
                case Fetch():
                    self._start(self._fetch(output))
                case Open(url):
                    if not self._url.done():
                        self._url.set_result(url)
                case Close():
                    self._end(Ended(ASKED))
                case Fault(reason, symbol, _):
                    if reason is not FaultReason.REFUSED or symbol is None:
                        self.break_off(output)
                    elif not self._shard.refuse(output):
                        self._end(Ended(FaultReason.REFUSED.value))

    def _post(self, payload: str | bytes) -> None:
        if len(self._outbox) >= OUTBOX_MAX:
            raise BusyError(f"{self._link.venue}#{self._link.name}: {OUTBOX_MAX} frames wait to be sent")
        self._outbox.append(payload)
        self._has_mail.set()

    async def _fetch(self, asked: Fetch) -> None:
        async with self._turns:
            if self._ended.done():
                return
            status, body = await self._answer(asked)
        now = self._tools.clock_ns()
        if self._tools.tap is not None:
            self._tap(now, "body", body_payload(asked.key, status, body))
        if not self._ended.done():
            self._act(self._session.answered(asked.key, status, body, now))

    async def _answer(self, asked: Fetch) -> tuple[int, bytes]:
        """Status and body; status 0 where there is no usable answer."""
        timeout = aiohttp.ClientTimeout(total=self._tools.pace.fetch_s)
        try:
            async with self._tools.http.request(asked.method, asked.url, timeout=timeout) as answer:
                body = bytearray()
                async for chunk in answer.content.iter_chunked(1 << 16):
                    body += chunk
                    if len(body) > MAX_BODY:
                        return 0, b""
                return answer.status, bytes(body)
        except NETWORK_ERRORS:
            return 0, b""

    def _why(self) -> str:
        is_told = self._ended.done() and not self._ended.cancelled() and self._ended.exception() is None
        return self._ended.result().reason if is_told else "stopped"

    def _disconnect(self, detail: str) -> None:
        self.break_off(Fault(FaultReason.DISCONNECTED, None, detail[:200]))

    def _end(self, ended: Ended) -> None:
        """The first reason counts; the books are withdrawn before anything else happens."""
        if not self._ended.done():
            self._ended.set_result(ended)
            self._board.withdraw(self._link, ended.fault)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name=f"feed:{self._link.venue}#{self._link.name}")
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            # a bug must not be taken for a fault of the venue: it comes out of `live`
            self._bug = error
            if not self._ended.done():
                self._ended.set_exception(error)

    async def _stop(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._url.cancel()
        if self._bug is not None:
            raise self._bug

    def _tap(self, now_ns: int, direction: Direction, payload: str | bytes) -> None:
        if self._tools.tap is not None:
            self._tools.tap.frame(now_ns, self._link.venue, self._link.name, direction, payload)


async def _close(socket: aiohttp.ClientWebSocketResponse) -> None:
    try:
        await asyncio.wait_for(socket.close(), timeout=2.0)
    except NETWORK_ERRORS:
        return


def native_dial(limits: FeedLimits, base_url: str | None, open_session: OpenSession) -> Dial:
    """Makes connections of the native feed; base_url: the stand-in's address, None for the real venue."""
    turns = asyncio.Semaphore(limits.fetches_at_once)

    def dial(shard: Shard, symbols: Sequence[str]) -> Connection:
        return NativeConnection(shard, open_session(shard.venue, symbols, base_url), limits, turns)

    return dial
