"""What a venue trades on its spot market, in our names.

What belongs here: the list of symbols. What does not: prices and bars (`ohlcv`), fees.
"""

from __future__ import annotations

from dataclasses import dataclass

from altforecast.errors import InputError
from altforecast.symbols import parse_symbol
from altforecast_io.exchanges.connection import VenueClient


@dataclass(frozen=True, order=True)
class Market:
    """One spot market of a venue."""

    symbol: str
    base: str
    quote: str
    is_active: bool


def list_markets(client: VenueClient) -> list[Market]:
    """Spot markets of an open venue, sorted by symbol; names that are no canonical symbol (odd tickers) are left out.

    A venue that does not say whether a market trades counts as trading it.
    """
    found = []
    for market in client.exchange.markets.values():
        if not market["spot"]:
            continue
        try:
            symbol = parse_symbol(market["symbol"])
        except InputError:
            continue
        base, quote = symbol.split("-")[:2]
        found.append(Market(symbol, base, quote, market.get("active") is not False))
    return sorted(found)
