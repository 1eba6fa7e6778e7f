"""The best levels of a book as one connection knows them, and how they moved since they were last sent.

What belongs here: what enters, changes and leaves one connection's window. What does not: any venue's form, and windows that
many connections share (`window`).
"""

from __future__ import annotations

from altforecast_sandbox.resting import RestingBook, Rows

Sides = tuple[Rows, Rows]
"""Bids and asks, each best first."""
EVERYTHING = 100_000
"""A depth that no book reaches."""


def top(book: RestingBook, depth: int) -> Sides:
    """The best `depth` levels of both sides."""
    return book.top_bids(depth), book.top_asks(depth)


class SentWindow:
    """What one connection was last told of one book's best `depth` levels."""

    def __init__(self, book: RestingBook, depth: int) -> None:
        self.depth = depth
        self.last_id = book.last_id
        """Update id up to which the connection was told."""
        self._sent = top(book, depth)

    @property
    def sent(self) -> Sides:
        """The levels as the connection must know them."""
        return self._sent

    def moved(self, book: RestingBook) -> Sides:
        """Levels that entered or changed, and with 0 lots those that left, since the last call; empty where nothing moved.

        `last_id` is left alone: the caller numbers what it sends.
        """
        before, self._sent = self._sent, top(book, self.depth)
        return _difference(before[0], self._sent[0]), _difference(before[1], self._sent[1])


def _difference(before: Rows, after: Rows) -> Rows:
    if before == after:
        return ()
    old, new = dict(before), dict(after)
    gone = tuple((ticks, 0) for ticks, _ in before if ticks not in new)
    return gone + tuple((ticks, lots) for ticks, lots in after if old.get(ticks) != lots)
