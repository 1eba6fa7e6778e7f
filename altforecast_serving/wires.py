"""How frames reach a WebSocket client without waiting for it.

What belongs here: writing prebuilt frames to the server's transport, and the slower way where there is none.
What does not: what is sent when (`fanout`).
"""

from __future__ import annotations

import asyncio
from typing import Any, Protocol
from urllib.parse import parse_qsl, urlencode

from starlette.types import ASGIApp, Receive, Scope, Send

MAX_BACKLOG = 65_536
"""Bytes that may wait in our own memory for a client before it counts as slow; more waits in the kernel."""
TRANSPORT = "altforecast.transport"
SECRET = "altforecast.key"


class Wire(Protocol):
    """One client's socket as the fan-out sees it."""

    @property
    def is_free(self) -> bool:
        """Whether what was written before is on its way."""

    def write(self, text: bytes, frame: bytes) -> None:
        """Send one text message; `frame` is the same, framed."""

    def cut(self) -> None:
        """End the connection at once."""


class DirectWire:
    """Writes whole frames to the transport: one frame is one write, so the server's own frames (pings, close) never mix with ours."""

    def __init__(self, transport: asyncio.WriteTransport) -> None:
        self._transport = transport

    @property
    def is_free(self) -> bool:
        """See Wire."""
        return self._transport.get_write_buffer_size() < MAX_BACKLOG

    def write(self, text: bytes, frame: bytes) -> None:  # noqa: ARG002
        """See Wire."""
        if not self._transport.is_closing():
            self._transport.write(frame)

    def cut(self) -> None:
        """See Wire."""
        self._transport.abort()


class SendWire:
    """Through the ASGI `send`, for servers whose transport is out of reach; one message at a time, sent by `run`."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._texts: asyncio.Queue[bytes] = asyncio.Queue(maxsize=2)
        self._is_sending = False
        self.was_cut = asyncio.Event()

    @property
    def is_free(self) -> bool:
        """See Wire."""
        return self._texts.empty() and not self._is_sending

    def write(self, text: bytes, frame: bytes) -> None:  # noqa: ARG002
        """See Wire; a message for which there is no room is a bug of the caller, who must ask `is_free`."""
        self._texts.put_nowait(text)

    def cut(self) -> None:
        """See Wire."""
        self.was_cut.set()

    async def run(self) -> None:
        """Send what is written until cancelled."""
        while True:
            text = await self._texts.get()
            self._is_sending = True
            await self._send({"type": "websocket.send", "text": text.decode()})
            self._is_sending = False


class OuterSocket:
    """The outermost layer: notes the transport of a WebSocket, and takes `?key=` out of the address before anyone can log it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection; HTTP passes through."""
        if scope["type"] == "websocket":
            scope[TRANSPORT] = transport_of(send)
            scope[SECRET] = _take_secret(scope)
        await self._app(scope, receive, send)


def frame_of(text: bytes) -> bytes:
    """One unfragmented text frame of a server: no mask, no compression (RFC 6455, 5.2)."""
    n = len(text)
    if n < 126:
        return bytes((0x81, n)) + text
    if n < 65536:
        return b"\x81\x7e" + n.to_bytes(2, "big") + text
    return b"\x81\x7f" + n.to_bytes(8, "big") + text


def transport_of(send: Any) -> asyncio.WriteTransport | None:
    """The transport behind the `send` of uvicorn's sans-I/O protocol (its default); None behind any other.

    uvicorn's older protocol writes its handshake later than it says, so that a frame written directly could come before it.
    """
    protocol = getattr(send, "__self__", None)
    if type(protocol).__module__ != "uvicorn.protocols.websockets.websockets_sansio_impl":
        return None
    transport = getattr(protocol, "transport", None)
    return transport if hasattr(transport, "get_write_buffer_size") else None


def _take_secret(scope: Scope) -> str | None:
    """The value of `key` in the query, which is changed in place: the server logs the address from this very object."""
    pairs = parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
    found = [value for name, value in pairs if name == "key"]
    if found:
        scope["query_string"] = urlencode([p for p in pairs if p[0] != "key"]).encode()
    return found[0] if found else None
