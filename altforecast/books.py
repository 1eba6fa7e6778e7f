"""Order books as parallel sorted lists: what one venue says rests there now.

What belongs here: one book, its levels, how they change and how deep they are. What does not: whether a book may be
trusted (`book_health`), wire forms (`altforecast_io.exchanges.sessions`) and what books are worth (`arbitrage`).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from enum import StrEnum

Level = tuple[float, float]
"""Price [quote] and size [base] of one level."""


class BookState(StrEnum):
    """Whether a book may be used; only `live` may."""

    CONNECTING = "connecting"
    """No connection yet."""
    SYNCING = "syncing"
    """Connected; no complete book yet."""
    LIVE = "live"
    SUSPECT = "suspect"
    """A rule was broken: withdrawn, its connection is being rebuilt."""
    BACKOFF = "backoff"
    """Waiting before the next try."""


class Book:
    """One order book of one venue; float prices and sizes, the best level at the END of each list.

    Asks are kept under negated prices, so that both sides ascend towards the best and share one search. Not thread-safe.
    """

    __slots__ = (
        "ask_keys",
        "ask_sizes",
        "bid_keys",
        "bid_sizes",
        "checksum_ok",
        "n_updates",
        "sequence",
        "state",
        "symbol",
        "ts_event_ms",
        "ts_ingest_ns",
        "venue",
    )

    def __init__(self, venue: str, symbol: str) -> None:
        self.venue, self.symbol = venue, symbol
        self.state = BookState.CONNECTING
        self.bid_keys: list[float] = []
        self.bid_sizes: list[float] = []
        self.ask_keys: list[float] = []
        """Negated ask prices."""
        self.ask_sizes: list[float] = []
        self.sequence: int | None = None
        """The venue's own number of the last update; None where it has none."""
        self.checksum_ok: bool | None = None
        """Result of the last checksum; None where none was checked."""
        self.ts_event_ms: int | None = None
        """The venue's time of the last update [ms since 1970]; None where it sends none."""
        self.ts_ingest_ns = 0
        """Our receive time of the last update [ns since 1970]."""
        self.n_updates = 0
        """Updates applied since the book was made; never goes back."""

    def clear(self, state: BookState) -> None:
        """Forget every level at once: nothing of a withdrawn book may be used."""
        for side in (self.bid_keys, self.bid_sizes, self.ask_keys, self.ask_sizes):
            side.clear()
        self.state, self.sequence, self.checksum_ok = state, None, None

    def load(self, bids: Iterable[Level], asks: Iterable[Level]) -> None:
        """Replace all levels, in any order; levels of size 0 are dropped."""
        self.bid_keys[:], self.bid_sizes[:] = _columns(sorted((p, s) for p, s in bids if s > 0.0))
        self.ask_keys[:], self.ask_sizes[:] = _columns(sorted((-p, s) for p, s in asks if s > 0.0))

    def apply(self, bids: Iterable[Level], asks: Iterable[Level]) -> None:
        """Set levels to new sizes; size 0 removes a level, and removing an absent level changes nothing."""
        keys, sizes = self.bid_keys, self.bid_sizes
        for price, size in bids:
            i = bisect_left(keys, price)
            if i < len(keys) and keys[i] == price:
                if size > 0.0:
                    sizes[i] = size
                else:
                    del keys[i], sizes[i]
            elif size > 0.0:
                keys.insert(i, price)
                sizes.insert(i, size)
        keys, sizes = self.ask_keys, self.ask_sizes
        for price, size in asks:
            key = -price
            i = bisect_left(keys, key)
            if i < len(keys) and keys[i] == key:
                if size > 0.0:
                    sizes[i] = size
                else:
                    del keys[i], sizes[i]
            elif size > 0.0:
                keys.insert(i, key)
                sizes.insert(i, size)

    def cut(self, depth: int) -> None:
        """Keep the best `depth` levels of each side (venues that send a window never remove what falls out of it)."""
        for side in (self.bid_keys, self.bid_sizes, self.ask_keys, self.ask_sizes):
            if len(side) > depth:
                del side[:-depth]

    @property
    def best_bid(self) -> float | None:
        """Highest bid [quote]; None without bids."""
        return self.bid_keys[-1] if self.bid_keys else None

    @property
    def best_ask(self) -> float | None:
        """Lowest ask [quote]; None without asks."""
        return -self.ask_keys[-1] if self.ask_keys else None

    @property
    def is_crossed(self) -> bool:
        """Whether the best bid reaches the best ask; False while a side is empty."""
        return bool(self.bid_keys and self.ask_keys) and self.bid_keys[-1] >= -self.ask_keys[-1]

    def top(self, n: int) -> tuple[list[float], list[float], list[float], list[float]]:
        """Prices and sizes of the best `n` bids, then of the best `n` asks, each best first: the cheapest way out of a book."""
        last = -n - 1
        ask_prices = [-key for key in self.ask_keys[:last:-1]]
        return self.bid_keys[:last:-1], self.bid_sizes[:last:-1], ask_prices, self.ask_sizes[:last:-1]

    def bids(self, n: int) -> list[Level]:
        """The best `n` bids, best first."""
        return list(zip(self.bid_keys[: -n - 1 : -1], self.bid_sizes[: -n - 1 : -1], strict=True))

    def asks(self, n: int) -> list[Level]:
        """The best `n` asks, best first."""
        return [(-k, s) for k, s in zip(self.ask_keys[: -n - 1 : -1], self.ask_sizes[: -n - 1 : -1], strict=True)]


def _columns(rows: Sequence[Level]) -> tuple[list[float], list[float]]:
    return [r[0] for r in rows], [r[1] for r in rows]
