"""A resting order book of the sandbox in whole ticks and lots, and how it changes.

What belongs here: exact state of one simulated book. What does not: why it changes (`order_flow`) and its wire forms (`streams`).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

_REMEMBERED = 1 << 16
"""Printed numbers kept: the same prices and sizes are sent again and again."""
Rows = tuple[tuple[int, int], ...]
"""(price in ticks, size in lots), best first; lots 0 means that the level is gone."""


@dataclass(frozen=True, slots=True)
class Change:
    """One change of one book: the levels it touched and the update ids it covers."""

    symbol: str
    first_id: int
    last_id: int
    """`first_id` follows the `last_id` of the change before without a hole."""
    ts_ms: int
    bids: Rows
    asks: Rows


@dataclass(slots=True)
class RestingBook:
    """One venue's true book of one symbol: what a correct client must show.

    `bids` and `asks` are changed by `apply` alone.
    """

    symbol: str
    price_digits: int
    amount_digits: int
    last_id: int = 0
    ts_ms: int = 0
    micro: int = 0
    """Time of the last change [us since 1970], always after that of the change before: venues that number nothing else tell it."""
    bids: dict[int, int] = field(default_factory=dict)
    asks: dict[int, int] = field(default_factory=dict)
    bid_ticks: list[int] = field(default_factory=list)
    """Prices of the bids, ascending: the best is the last."""
    ask_ticks: list[int] = field(default_factory=list)
    """Prices of the asks, ascending: the best is the first."""
    windows: dict[int, Any] = field(default_factory=dict, compare=False, repr=False)
    """What `streams.window` remembers, by depth."""

    def __post_init__(self) -> None:
        self.bid_ticks, self.ask_ticks = sorted(self.bids), sorted(self.asks)
        self.micro = self.micro or self.ts_ms * 1000

    def apply(self, change: Change) -> None:
        """Take a change over; lots 0 removes a level."""
        for side, ticks_of, rows in ((self.bids, self.bid_ticks, change.bids), (self.asks, self.ask_ticks, change.asks)):
            for ticks, lots in rows:
                if lots:
                    if ticks not in side:
                        insort(ticks_of, ticks)
                    side[ticks] = lots
                elif side.pop(ticks, None) is not None:
                    del ticks_of[bisect_left(ticks_of, ticks)]
        self.last_id, self.ts_ms, self.micro = change.last_id, change.ts_ms, max(change.ts_ms * 1000, self.micro + 1)

    def top_bids(self, n: int) -> Rows:
        """The best `n` bids, best first."""
        return tuple([(ticks, self.bids[ticks]) for ticks in self.bid_ticks[: -n - 1 : -1]]) if n > 0 else ()

    def top_asks(self, n: int) -> Rows:
        """The best `n` asks, best first."""
        return tuple([(ticks, self.asks[ticks]) for ticks in self.ask_ticks[:n]]) if n > 0 else ()

    def price(self, ticks: int) -> str:
        """A price as venues print it, all decimals."""
        return _fixed(ticks, self.price_digits)

    def size(self, lots: int) -> str:
        """A size as venues print it, all decimals."""
        return _fixed(lots, self.amount_digits)


@lru_cache(maxsize=_REMEMBERED)
def _fixed(value: int, places: int) -> str:
    if places == 0:
        return str(value)
    text = f"{value:0{places + 1}d}"
    return f"{text[:-places]}.{text[-places:]}"
