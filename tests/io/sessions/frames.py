"""Reading recorded frames and feeding them to sessions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from altforecast.books import Book, BookState
from altforecast_io.exchanges.sessions.session import Fault, FaultReason, Output, Session

SECOND = 1_000_000_000


def recorded(path: Path) -> Iterator[tuple[int, str]]:
    """Receive time [ns] and text of every frame received in a recording; sent frames and connects are left out."""
    with path.open() as lines:
        for line in lines:
            stamp, colon, text = line.rstrip("\n").partition(": ")
            if colon and not stamp.startswith(("wss:", "https:")):
                yield int(float(stamp) * SECOND), text


def recorded_answers(path: Path) -> dict[str, bytes]:
    """Last part of the address of every HTTP answer in a recording -> its body."""
    found = {}
    with path.open() as lines:
        for line in lines:
            if line.startswith("https:") and " -> " in line:
                url, _, rest = line.rstrip("\n").partition(" -> ")
                found[url.rstrip("/").rsplit("/", 1)[-1]] = rest.partition(": ")[2].encode()
    return found


def started(session: Session, now_ns: int = SECOND) -> Session:
    """The session with an open socket."""
    session.begin()
    session.opened(now_ns)
    return session


def faults(outputs: Sequence[Output]) -> list[tuple[FaultReason, str | None]]:
    """Reason and symbol of every fault among outputs."""
    return [(output.reason, output.symbol) for output in outputs if isinstance(output, Fault)]


def is_changed(outputs: Sequence[Output]) -> bool:
    """Whether the outputs hold a book and no fault."""
    return any(isinstance(output, Book) for output in outputs) and not faults(outputs)


def is_withheld(outputs: Sequence[Output]) -> bool:
    """Whether one book was told to be crossed: changed, and not to be used."""
    return len(outputs) == 1 and isinstance(outputs[0], Book) and outputs[0].is_crossed and outputs[0].state is BookState.SYNCING
