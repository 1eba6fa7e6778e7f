"""The interface of a session: one connection to one venue, as a state machine that is told what arrived.

What belongs here: the interface, what a session may ask for, and what every session shares. What does not: any venue
and any I/O: the same session runs on a live socket, on a recording and in tests, and depends on its arguments alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit, urlunsplit

from altforecast.books import Book, BookState


class FaultReason(StrEnum):
    """Why a book, or all books of a connection, may no longer be used."""

    BAD_FRAME = "bad_frame"
    """A frame could not be read (broken JSON, gzip or protobuf, a missing field, a price that is no number)."""
    GAP = "gap"
    """The venue's sequence has a hole."""
    CHECKSUM = "checksum"
    CROSSED = "crossed"
    STALE = "stale"
    RECONCILE = "reconcile"
    """The REST book differs from ours where both should agree."""
    DEPTH = "depth"
    """Too few levels are left of a book that was complete."""
    REFUSED = "refused"
    """The venue refused the subscription of a symbol."""
    LIMITED = "limited"
    """The venue says that we ask too much."""
    DISCONNECTED = "disconnected"
    SNAPSHOT = "snapshot"
    """The REST snapshot could not be had or does not join the stream."""
    CLOCK = "clock"
    """Event times run away from ours."""


class Open(NamedTuple):
    """Open the WebSocket at this address; asked for once, before anything is sent."""

    url: str


class Send(NamedTuple):
    """Send this frame."""

    payload: str | bytes


class Fetch(NamedTuple):
    """Make this HTTP request and hand the answer to `answered` under `key`; at most one per key is under way."""

    key: str
    url: str
    method: str = "GET"


class Close(NamedTuple):
    """Close the connection and begin anew (the venue announced it, or asked for it)."""

    why: str


class Fault(NamedTuple):
    """A rule was broken: the session has cleared the book (of `symbol`, or all) already; the feed rebuilds the connection.

    REFUSED with a symbol concerns that symbol alone: the connection goes on for the others.
    """

    reason: FaultReason
    symbol: str | None
    detail: str


Output = Book | Open | Send | Fetch | Close | Fault
"""What a session gives back; a Book means that this book changed. It is `live`, or `syncing` while it is crossed and must not be used."""
NOTHING: tuple[Output, ...] = ()


class Session(Protocol):
    """One connection's protocol state; after a Fault that is not REFUSED it is thrown away and made anew."""

    venue: str
    books: Mapping[str, Book]
    """Books by canonical symbol; the objects live as long as the session."""

    def begin(self) -> Sequence[Output]:
        """The first call: an Open, or a Fetch whose answer leads to one."""
        ...

    def opened(self, now_ns: int) -> Sequence[Output]:
        """The socket is open: subscriptions to send."""
        ...

    def received(self, payload: str | bytes, recv_ns: int) -> Sequence[Output]:
        """One frame arrived at `recv_ns` [ns since 1970]. Never raises: what cannot be read is a BAD_FRAME fault."""
        ...

    def answered(self, key: str, status: int, body: bytes, recv_ns: int) -> Sequence[Output]:
        """The answer to a Fetch; status 0 means that there was none. Never raises."""
        ...

    def tick(self, now_ns: int) -> Sequence[Output]:
        """Called about once a second: pings that are due, snapshots that are late, reconciliation."""
        ...


def relocate(url: str, base_url: str | None) -> str:
    """An address of a venue, moved to its stand-in: scheme and host replaced by `base_url`, path and query kept.

    base_url: `http://127.0.0.1:PORT/<venue>` or None for the real venue; `wss` and `ws` become `ws`.
    """
    if base_url is None:
        return url
    asked, there = urlsplit(url), urlsplit(base_url)
    is_socket = asked.scheme in ("ws", "wss")
    scheme = ("wss" if there.scheme == "https" else "ws") if is_socket else there.scheme
    return urlunsplit((scheme, there.netloc, there.path.rstrip("/") + asked.path, asked.query, ""))


def withdraw(books: Mapping[str, Book], state: BookState) -> None:
    """Clear every book of a connection."""
    for book in books.values():
        book.clear(state)
