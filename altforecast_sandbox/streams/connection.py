"""One WebSocket connection of a stand-in: frames wait in a bounded queue until the client takes them.

What belongs here: queue, writing, closing. What does not: what is sent (`hub`, the wires).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from aiohttp import WSMsgType, web

from altforecast_sandbox.streams.wire import Frame, Wire

MOST_WAITING = 4_096
"""Frames; a client that lets more wait is cut off, as venues do."""
_CLOSE_S = 2.0


class Connection:
    """An accepted connection, its wire and what waits to be sent."""

    def __init__(self, venue: str, socket: web.WebSocketResponse, transport: asyncio.Transport | None, wire: Wire) -> None:
        self.venue, self.wire = venue, wire
        self.known: frozenset[str] = frozenset()
        """The symbols that the hub has noted as followed."""
        self.is_over = False
        self._socket, self._transport = socket, transport
        self._waiting: deque[Frame] = deque()
        self._wake = asyncio.Event()
        self._close_code: int | None = None

    @property
    def n_waiting(self) -> int:
        """Frames not taken yet."""
        return len(self._waiting)

    def send(self, frames: Sequence[Frame]) -> bool:
        """Queue frames; False when the client does not follow: the connection is cut off without a farewell."""
        if self.is_over:
            return True
        self._waiting.extend(frames)
        if len(self._waiting) > MOST_WAITING:
            self.abort()
            return False
        self._wake.set()
        return True

    def close(self, code: int) -> None:
        """Close properly; what waits is dropped."""
        self.is_over, self._close_code = True, code
        self._waiting.clear()
        self._wake.set()

    def abort(self) -> None:
        """Drop the connection at once."""
        self.is_over = True
        self._waiting.clear()
        if self._transport is not None:
            self._transport.abort()
        self._wake.set()

    async def write(self) -> None:
        """Sends what waits until the connection is closed or cancelled."""
        try:
            while not self.is_over:
                await self._wake.wait()
                self._wake.clear()
                while self._waiting:
                    await self._send_one(self._waiting.popleft())
            if self._close_code is not None:
                async with asyncio.timeout(_CLOSE_S):
                    await self._socket.close(code=self._close_code)
        except (ConnectionError, RuntimeError, TimeoutError):
            # the other side is gone; the reading half ends the connection
            self.abort()

    async def _send_one(self, frame: Frame) -> None:
        if isinstance(frame, str):
            await self._socket.send_frame(frame.encode(), WSMsgType.TEXT)
        else:
            await self._socket.send_frame(frame, WSMsgType.BINARY)
