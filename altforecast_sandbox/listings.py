"""What each venue lists: the pairs that have bars, pairs that have order books alone, and synthetic pairs for load tests.

What belongs here: which symbol is traded where and how it is quoted. What does not: prices.
"""

from __future__ import annotations

import random
from functools import cache

from altforecast_sandbox.coins import PAIRS, Pair

DOLLAR_VENUES = ("kraken", "coinbase", "bitfinex", "bitstamp", "cryptocom")
USDC_VENUES = ("binance", "okx", "bybit", "bitget", "gate", "kucoin")
MOST_EXTRA = 400
_USDC_PAIRS = (Pair("USDC-USDT", 4, 1), Pair("BTC-USDC", 2, 5), Pair("ETH-USDC", 2, 4))
_TETHER = Pair("USDT-USD", 4, 1)
_CHEAPEST, _DEAREST = 0.2, 400.0


def book_only_pairs(venue: str) -> tuple[Pair, ...]:
    """Pairs of a venue that have an order book but no bars."""
    dollars = (_TETHER,) if venue in DOLLAR_VENUES else ()
    return dollars + (_USDC_PAIRS if venue in USDC_VENUES else ())


def bar_pairs(venue: str) -> tuple[Pair, ...]:
    """Pairs of a venue that have bars (and books)."""
    return tuple(p for p in PAIRS.values() if p.quote != "USD" or venue in DOLLAR_VENUES)


def listed_pairs(venue: str, extra_symbols: int = 0) -> tuple[Pair, ...]:
    """Everything a venue lists, with the first `extra_symbols` synthetic pairs."""
    return bar_pairs(venue) + book_only_pairs(venue) + extra_pairs(extra_symbols)


@cache
def extra_pairs(n: int) -> tuple[Pair, ...]:
    """The synthetic pairs `S001-USDT` ... that every venue lists in load tests; at most 400."""
    made = []
    for i in range(1, min(n, MOST_EXTRA) + 1):
        name = f"S{i:03d}"
        digits = 2 if extra_price_usdt(name) >= 50 else 3 if extra_price_usdt(name) >= 5 else 5
        made.append(Pair(f"{name}-USDT", digits, 2))
    return tuple(made)


def extra_price_usdt(coin: str) -> float:
    """The price around which a synthetic coin swings."""
    return float(_CHEAPEST * (_DEAREST / _CHEAPEST) ** random.Random(coin).random())
