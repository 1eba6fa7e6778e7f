"""The part of a book that is really known: from the best price to the worst one that a cut snapshot showed.

What belongs here: keeping a book inside that part and telling how deep it is. What does not: asking for more.
"""

from __future__ import annotations

from math import inf

from altforecast.books import Book


class Window:
    """Bounds below which (asks: above which) nothing is known, because the snapshot ended there.

    Without it, a book that wandered off its snapshot would show the few deep levels that changed as if they were all.
    """

    __slots__ = ("ask_floor", "bid_floor", "max_levels")

    def __init__(self, max_levels: int) -> None:
        self.max_levels = max_levels
        """Levels kept per side; what lies deeper is dropped and counts as unknown."""
        self.bid_floor = self.ask_floor = -inf
        """Worst known key of each side (asks negated); -inf while everything is known."""

    def start(self, book: Book, asked: int | None) -> None:
        """After a snapshot of at most `asked` levels per side; None where the venue sends all of them."""
        full = inf if asked is None else asked
        self.bid_floor = book.bid_keys[0] if len(book.bid_keys) >= full else -inf
        self.ask_floor = book.ask_keys[0] if len(book.ask_keys) >= full else -inf
        self.trim(book)

    def trim(self, book: Book) -> None:
        """Drop what lies outside; the book never holds more than `max_levels` per side afterwards."""
        keys, most = book.bid_keys, self.max_levels
        if keys and (keys[0] < self.bid_floor or len(keys) > most):
            self.bid_floor = self._cut(keys, book.bid_sizes, self.bid_floor)
        keys = book.ask_keys
        if keys and (keys[0] < self.ask_floor or len(keys) > most):
            self.ask_floor = self._cut(keys, book.ask_sizes, self.ask_floor)

    def is_below(self, book: Book, levels: int) -> bool:
        """Whether fewer than `levels` levels are left of a side of which not all is known."""
        return (len(book.bid_keys) < levels and self.bid_floor > -inf) or (len(book.ask_keys) < levels and self.ask_floor > -inf)

    def _cut(self, keys: list[float], sizes: list[float], floor: float) -> float:
        surplus = len(keys) - self.max_levels
        if surplus > 0 and keys[surplus] > floor:
            floor = keys[surplus]
        outside = 0
        while outside < len(keys) and keys[outside] < floor:
            outside += 1
        del keys[:outside], sizes[:outside]
        return floor
