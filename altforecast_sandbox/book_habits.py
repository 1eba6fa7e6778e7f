"""How each venue's order books behave: how often they change, how deep and how wide they are.

What belongs here: constants per venue, measured where recordings exist. What does not: the books (`order_flow`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class BookHabits:
    """One venue's books."""

    per_second: float
    """Mean updates per second and symbol; Bitfinex sends one message per level, so fewer updates make its rate of messages."""
    levels: int
    """Levels a side at most; at least 60 fewer are kept where that leaves 20."""
    half_spread_bps: float
    """Of BTC and ETH; three times as much for other coins."""
    churn: tuple[int, int] = (3, 10)
    """Fewest and most levels per side that an update touches besides moving the best price."""
    id_span: int = 1
    """How many update ids one update covers at most."""


BOOK_HABITS: Mapping[str, BookHabits] = MappingProxyType(
    {
        "binance": BookHabits(1.5, 400, 0.3, (4, 18), id_span=30),
        "okx": BookHabits(8.9, 320, 0.35),
        "bybit": BookHabits(13.8, 200, 0.35),
        "gate": BookHabits(0.6, 300, 0.5, (6, 18), id_span=12),
        "kucoin": BookHabits(14.3, 100, 0.5, (2, 4), id_span=6),
        "bitget": BookHabits(1.8, 200, 0.5, (4, 14)),
        "mexc": BookHabits(5.0, 200, 0.5, id_span=8),
        "htx": BookHabits(1.0, 120, 0.6, (6, 16)),
        "kraken": BookHabits(14.4, 120, 0.6, (2, 5)),
        "coinbase": BookHabits(31.6, 200, 0.4, (2, 4)),
        "bitfinex": BookHabits(1.5, 80, 0.8, (1, 3)),
        "cryptocom": BookHabits(5.0, 120, 0.6),
        "bingx": BookHabits(2.0, 100, 0.6),
        "bitstamp": BookHabits(3.3, 200, 0.8, (3, 8)),
    }
)
BUSY_COINS: Mapping[str, float] = MappingProxyType({"binance": 10.0})
"""Updates per second of BTC and ETH where they differ from the mean: Binance sends every 100 ms."""
LEAST_PER_SECOND = 0.5
"""However slow the sandbox is asked to be, a book that is followed changes at least every two seconds or so."""


def updates_per_second(venue: str, base: str, factor: float) -> float:
    """Mean rate of one book at a factor on the venue's own."""
    own = BUSY_COINS.get(venue, 0.0) if base in ("BTC", "ETH") else 0.0
    return max((own or BOOK_HABITS[venue].per_second) * factor, LEAST_PER_SECOND)
