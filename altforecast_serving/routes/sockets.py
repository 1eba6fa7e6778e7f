"""`/ws/opportunities` and `/ws/books`: changes as they happen, over WebSockets.

What belongs here: who may connect, what a client may ask, its life. What does not: serving many at once (`fanout`), frames
(`wires`).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable

from fastapi import APIRouter
from starlette.websockets import WebSocket, WebSocketDisconnect

from altforecast.errors import InputError
from altforecast.symbols import parse_symbol
from altforecast_serving.auth import admit_socket
from altforecast_serving.dependencies import Services
from altforecast_serving.errors import RateLimitedError, UnauthorizedError
from altforecast_serving.fanout import Channel, Client, Hub
from altforecast_serving.routes.arbitrage import known_venue
from altforecast_serving.wires import TRANSPORT, DirectWire, SendWire

router = APIRouter()
POLICY, TRY_LATER = 1008, 1013
MAX_WORDS = 64
"""Symbols and venues that one client may name."""
MAX_MESSAGES_PER_MINUTE = 60
"""A client that talks more is cut off: nothing it can say needs more."""
MAX_MESSAGE_CHARS = 1024


@router.websocket("/ws/opportunities")
async def stream_opportunities(socket: WebSocket) -> None:
    """What is open now, then every event; `?last_id=` goes on where a connection broke off."""

    def begin(hub: Hub) -> tuple[Channel, frozenset[str], int | None]:
        _known_parameters(socket, {"last_id"})
        last_id = socket.query_params.get("last_id", "")
        return hub.opportunities, frozenset(), hub.events.position_of(last_id) if last_id else None

    await _serve(socket, begin)


@router.websocket("/ws/books")
async def stream_books(socket: WebSocket) -> None:
    """Every book as it stands, then those that change; `?symbols=&venues=` chooses, comma separated."""

    def begin(hub: Hub) -> tuple[Channel, frozenset[str], int | None]:
        _known_parameters(socket, {"symbols", "venues", "last_id"})
        symbols = (f"symbol:{parse_symbol(w)}" for w in _words(socket, "symbols"))
        venues = (f"venue:{known_venue(w)}" for w in _words(socket, "venues"))
        return hub.book_channel, frozenset((*symbols, *venues)), None

    await _serve(socket, begin)


def _known_parameters(socket: WebSocket, known: set[str]) -> None:
    for name in socket.query_params:
        if name not in known:
            raise InputError(name[:64], socket.query_params[name][:64], "unknown parameter", sorted(known))


def _words(socket: WebSocket, name: str) -> list[str]:
    found = [w.strip() for w in socket.query_params.get(name, "").split(",") if w.strip()]
    if len(found) > MAX_WORDS:
        raise InputError(name, len(found), f"at most {MAX_WORDS}")
    return found


async def _serve(socket: WebSocket, begin: Callable[[Hub], tuple[Channel, frozenset[str], int | None]]) -> None:
    """One client from its handshake to its end."""
    services: Services = socket.app.state.services
    hub = services.hub
    await socket.accept()
    try:
        await admit_socket(socket, services)
        channel, wanted, position = begin(hub)
    except (UnauthorizedError, InputError, RateLimitedError) as error:
        await socket.close(TRY_LATER if isinstance(error, RateLimitedError) else POLICY, _reason(str(error)))
        return
    if hub.is_full:
        await socket.close(TRY_LATER, f"{hub.max_clients} clients are connected already; try again later")
        return
    await hub.ready.wait()
    transport = socket.scope.get(TRANSPORT)
    wire = DirectWire(transport) if transport is not None else SendWire(socket._send)
    client = Client(wire, wanted)
    channel.join(client, hub.clock(), position)
    try:
        await _until_over(socket, wire)
    finally:
        channel.leave(client)


async def _until_over(socket: WebSocket, wire: DirectWire | SendWire) -> None:
    """Wait for the end of the connection; a wire that needs a sender gets one."""
    tasks: list[asyncio.Future[object]] = [asyncio.ensure_future(_listen(socket))]
    if isinstance(wire, SendWire):
        tasks += [asyncio.ensure_future(wire.run()), asyncio.ensure_future(wire.was_cut.wait())]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    except (WebSocketDisconnect, OSError):
        return
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled():
                task.exception()  # looked at, or it would be logged as forgotten
    with contextlib.suppress(RuntimeError):
        await socket.close(POLICY, "too slow, or too many messages")


async def _listen(socket: WebSocket) -> None:
    """Take in what the client says (nothing is expected of it) until it goes, or says too much."""
    said, since = 0, time.monotonic()
    while True:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1005))
        if time.monotonic() - since > 60:
            said, since = 0, time.monotonic()
        said += 1
        if said > MAX_MESSAGES_PER_MINUTE or len(message.get("text") or message.get("bytes") or "") > MAX_MESSAGE_CHARS:
            return


def _reason(text: str) -> str:
    """A close reason holds at most 123 bytes."""
    return text.encode()[:120].decode(errors="ignore")
