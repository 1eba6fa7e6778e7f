"""A resting order book of the sandbox in whole ticks and lots, and how it changes.

What belongs here: exact state of one simulated book. What does not: why it changes (`order_flow`) and its wire forms (`streams`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

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
    """One venue's true book of one symbol: what a correct client must show."""

    symbol: str
    price_digits: int
    amount_digits: int
    last_id: int = 0
    ts_ms: int = 0
    bids: dict[int, int] = field(default_factory=dict)
    asks: dict[int, int] = field(default_factory=dict)

    def apply(self, change: Change) -> None:
        """Take a change over; lots 0 removes a level."""
        for side, rows in ((self.bids, change.bids), (self.asks, change.asks)):
            for ticks, lots in rows:
                if lots:
                    side[ticks] = lots
                else:
                    side.pop(ticks, None)
        self.last_id, self.ts_ms = change.last_id, change.ts_ms

    def top_bids(self, n: int) -> Rows:
        """The best `n` bids, best first."""
        return tuple(sorted(self.bids.items(), reverse=True)[:n])

    def top_asks(self, n: int) -> Rows:
        """The best `n` asks, best first."""
        return tuple(sorted(self.asks.items())[:n])

    def price(self, ticks: int) -> str:
        """A price as venues print it, all decimals."""
        return _fixed(ticks, self.price_digits)

    def size(self, lots: int) -> str:
        """A size as venues print it, all decimals."""
        return _fixed(lots, self.amount_digits)


def _fixed(value: int, places: int) -> str:
    if places == 0:
        return str(value)
    text = f"{value:0{places + 1}d}"
    return f"{text[:-places]}.{text[-places:]}"
