"""Random order books and scanners over them.

What belongs here: their making. What does not: tests.
"""

from __future__ import annotations

import random

from altforecast.books import Book, BookState

NOW_NS = 1_700_000_000_000_000_000


def fill(book: Book, rng: random.Random, mid: float, levels: int = 8, ns: int = NOW_NS, spread: float = 0.0004) -> Book:
    """Load a live book around `mid`; sizes are lognormal, at most one level is thin."""
    half = mid * spread * rng.uniform(0.2, 1.0)
    bids, asks, bid, ask = [], [], mid - half, mid + half
    for _ in range(levels):
        bids.append((bid, rng.lognormvariate(0.0, 1.0) * 3000.0 / mid / 3))
        asks.append((ask, rng.lognormvariate(0.0, 1.0) * 3000.0 / mid / 3))
        bid -= mid * rng.uniform(0.00005, 0.0006)
        ask += mid * rng.uniform(0.00005, 0.0006)
    book.load(bids, asks)
    book.state, book.ts_ingest_ns = BookState.LIVE, ns
    book.n_updates += 1
    return book


def make(venue: str, symbol: str, rng: random.Random, mid: float, levels: int = 8, ns: int = NOW_NS) -> Book:
    """A new live book."""
    return fill(Book(venue, symbol), rng, mid, levels, ns)


def flat(venue: str, symbol: str, bid: float, ask: float, size: float = 100.0, ns: int = NOW_NS) -> Book:
    """A live book of two levels a side, the second far away."""
    book = Book(venue, symbol)
    book.load([(bid, size), (bid * 0.9, size)], [(ask, size), (ask * 1.1, size)])
    book.state, book.ts_ingest_ns = BookState.LIVE, ns
    return book
