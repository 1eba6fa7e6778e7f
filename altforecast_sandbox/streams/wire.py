"""The interface of a venue's wire: the server side of one WebSocket connection, without any I/O.

What belongs here: the interface and what every wire shares. What does not: any venue, sockets, faults (`hub`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from altforecast_sandbox.resting import Change, RestingBook

Frame = str | bytes
Books = Mapping[str, RestingBook]
"""A venue's true books by canonical symbol."""
Respond = Callable[[Mapping[str, str]], Any]
"""From the query parameters (path parameters and `OWN_ADDRESS` included) of a GET or POST to the JSON body; may raise `desk.Refusal`."""

OWN_ADDRESS = "_address"
"""Name under which the hub puts the stand-in's own `http://127.0.0.1:PORT/<venue>` among the query parameters."""


@dataclass
class Following:
    """What one connection subscribed to: canonical symbol -> whatever the wire needs to serve it (channel, depth, id)."""

    symbols: dict[str, Any] = field(default_factory=dict)


class Wire(Protocol):
    """One accepted connection of one venue."""

    following: Following

    def opened(self) -> Sequence[Frame]:
        """Frames that greet a new connection."""
        ...

    def received(self, payload: Frame, now_ms: int) -> Sequence[Frame]:
        """Answer a client's frame (subscribe, ping, request): acknowledgements and, where the venue sends them, snapshots."""
        ...

    def changed(self, book: RestingBook, change: Change) -> Sequence[Frame]:
        """Frames for one change of a book that this connection follows; `book` already contains it."""
        ...

    def beat(self, now_ms: int) -> Sequence[Frame]:
        """Called about once a second: heartbeats and pings that the venue sends by itself."""
        ...


class QuietWire:
    """A wire that greets nobody and sends nothing by itself; venues that do override it."""

    def __init__(self, books: Books) -> None:
        self.following = Following()
        self.books = books

    def opened(self) -> Sequence[Frame]:
        """No greeting."""
        return ()

    def beat(self, now_ms: int) -> Sequence[Frame]:  # noqa: ARG002
        """No heartbeat."""
        return ()


def no_requests(books: Books, now_ms: Callable[[], int]) -> Mapping[str, Respond]:  # noqa: ARG001
    """For venues whose order books need no REST request."""
    return {}


@dataclass(frozen=True)
class StreamService:
    """A venue's streaming side: how to greet a connection, and REST requests that only order books need."""

    name: str
    connect: Callable[[Books, str, int], Wire]
    """Makes the wire of a new connection from the books, the path below `/<venue>` with its query string, and the time [ms]."""
    requests: Callable[[Books, Callable[[], int]], Mapping[str, Respond]]
    """`METHOD /path/{name}` (aiohttp pattern) -> answer; the second argument tells the venue's time [ms]."""
    spoil_checksum: Callable[[Frame], Frame] | None = None
    """The same frame with a wrong checksum; None where the venue sends none."""
    is_shared: bool = False
    """Whether the frames of a change depend on the book and `following.symbols[symbol]` (hashable) alone: then they are made once."""
    limited: Callable[[Frame], Sequence[Frame]] | None = None
    """What the venue says to a subscription beyond its limits (nothing to other frames); None: the connection is closed."""
