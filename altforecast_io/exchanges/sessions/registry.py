"""Which venues have a session of their own, and how to open one.

What belongs here: the names, and the import of one venue at its first use. What does not: protocols, and venues that
only ccxt reaches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import cast

from altforecast.errors import InputError, UnknownNameError
from altforecast_io.exchanges.sessions.session import Session

NATIVE_VENUES = (
    "binance", "okx", "bybit", "gate", "kucoin", "bitget", "mexc", "htx",
    "kraken", "coinbase", "bitfinex", "cryptocom", "bingx", "bitstamp",
)  # fmt: skip
"""Each has a module of its name beside this one, with `open_session(symbols, base_url=None)`."""
RESERVE_VENUES = ("whitebit", "upbit")
"""The same, for venues without a stand-in: followed over ccxt unless BOOK_FEEDS asks for native."""
SESSION_VENUES = NATIVE_VENUES + RESERVE_VENUES


def open_session(venue: str, symbols: Sequence[str], base_url: str | None = None) -> Session:
    """A session of one connection for canonical symbols (`BTC-USDT`); base_url: the stand-in, None for the real venue.

    Raises UnknownNameError for a venue without a session, InputError for no symbols or one symbol twice.
    """
    if venue not in SESSION_VENUES:
        raise UnknownNameError("exchange", venue, "no venue with a native order book feed", SESSION_VENUES)
    if not symbols or len(set(symbols)) != len(symbols):
        raise InputError("symbols", list(symbols), "needs one symbol at least and none of them twice")
    module = import_module(f"altforecast_io.exchanges.sessions.{venue}")
    make = cast("Callable[[Sequence[str], str | None], Session]", module.open_session)
    return make(symbols, base_url)
