"""Where a book stands in the scanner: its venue's costs, its best prices after fees, and whom it is compared with.

What belongs here: slots, groups of books of one symbol, when books may be compared. What does not: what a comparison
yields (`spatial`, `triangles`).
"""

from __future__ import annotations

from altforecast.books import Book, BookState
from altforecast.opportunity_ledger import What

INFINITE = float("inf")
WITHDRAWN, STALE, SKEW = "book_withdrawn", "stale", "skew"
NS_PER_MS = 1_000_000
ROUNDING = 1.0 - 1e-12
"""The cheap check lets pass what rounding could hide."""


class Group:
    """All books of one symbol; the best prices after fees stand side by side for the cheap check."""

    __slots__ = ("base", "buys", "others", "quote", "sells", "slots", "symbol")

    def __init__(self, symbol: str) -> None:
        self.symbol = symbol
        self.base, self.quote = symbol.split("-")[:2]
        self.slots: list[Slot] = []
        self.sells: list[float] = []
        """Best bid / (1 + fee) by slot; 0 while the book may not be used."""
        self.buys: list[float] = []
        """Best ask x (1 + fee) by slot; infinite while the book may not be used."""
        self.others: list[Group] = []
        """Groups of the same coin in other convertible quotes."""

    def add(self, book: Book, fee: float) -> Slot:
        """A place for a book."""
        slot = Slot(book, fee, self)
        self.slots.append(slot)
        self.sells.append(0.0)
        self.buys.append(INFINITE)
        return slot


def least_ratio(floor_pct: float, most: float) -> float:
    """The sells / buys that a pair needs at least to reach the smallest net edge by D34.

    floor_pct: gross edge beyond the fees that an opportunity needs [percent]; most: the highest fee there is.
    (1 + a)(1 + b)(1 + floor) exceeds 1 + a + b + floor by products of the fees: the ratio gives the
    largest of them away, so nothing is missed.
    """
    floor = floor_pct / 100.0
    return (1.0 + floor - most * most - (2.0 * most + most * most) * abs(floor)) * ROUNDING


class Target:
    """Something that may become an opportunity: an ordered pair of books, or a cycle of three."""

    __slots__ = ("is_open", "slots", "what")

    def __init__(self, what: What, slots: tuple[Slot, ...]) -> None:
        self.what, self.slots = what, slots
        self.is_open = False


class Slot:
    """One book in the scanner."""

    __slots__ = (
        "book",
        "fee",
        "group",
        "hot",
        "is_conversion",
        "k_buy",
        "k_sell",
        "least_lag",
        "opens",
        "place",
        "seat",
        "top",
        "triangles",
        "venue",
    )

    def __init__(self, book: Book, fee: float, group: Group) -> None:
        self.book, self.fee, self.group, self.venue = book, fee, group, book.venue
        self.k_sell, self.k_buy = 1.0 / (1.0 + fee), 1.0 + fee
        self.place = len(group.slots)
        """Number in the group."""
        self.opens: dict[Target, None] = {}
        """Open opportunities that this book takes part in."""
        self.seat = 0
        """Number among the books of its venue."""
        self.top = (0.0, INFINITE)
        self.triangles: list[tuple[int, int, int, Target]] = []
        self.hot = False
        """Whether a triangle through this book passed the cheap check when last looked at."""
        self.is_conversion = False
        """Whether it converts one quote into another."""
        self.least_lag: float | None = None
        """Least receive time minus event time that was seen [ms]."""

    def refresh(self) -> bool:
        """Take over the book's best prices; whether they changed."""
        book = self.book
        bids, asks = book.bid_keys, book.ask_keys
        is_usable = book.state is BookState.LIVE and bids and asks and bids[-1] < -asks[-1]
        top = (bids[-1], -asks[-1]) if is_usable else (0.0, INFINITE)
        if book.ts_event_ms is not None:
            lag = book.ts_ingest_ns / NS_PER_MS - book.ts_event_ms
            if self.least_lag is None or lag < self.least_lag:
                self.least_lag = lag
        if top == self.top:
            return False
        self.top = top
        self.group.sells[self.place] = top[0] * self.k_sell
        self.group.buys[self.place] = top[1] * self.k_buy
        return True


def trouble(book: Book, oldest_ns: int) -> str:
    """Why a book may not be used now; empty where it may. Crossed books and books without a side count as withdrawn."""
    if book.state is not BookState.LIVE or not book.bid_keys or not book.ask_keys or book.bid_keys[-1] >= -book.ask_keys[-1]:
        return WITHDRAWN
    return STALE if book.ts_ingest_ns < oldest_ns else ""


def pair_trouble(one: Book, other: Book, oldest_ns: int, max_skew_ns: float) -> str:
    """Why two books may not be compared now; empty where they may."""
    found = trouble(one, oldest_ns) or trouble(other, oldest_ns)
    return found or (SKEW if abs(one.ts_ingest_ns - other.ts_ingest_ns) > max_skew_ns else "")
