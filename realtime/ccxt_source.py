"""Guarded ccxt.pro instances of one venue: its class, its address, and markets that all instances share.

What belongs here: making instances and loading markets. What does not: connections (`ccxt_feed`), checks (`ccxt_guard`). ccxt
is imported at its first use.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from altforecast.symbols import ccxt_symbol
from altforecast_io.exchanges.sessions.session import relocate
from altforecast_io.exchanges.venues import VENUES_BY_SLUG

TIMEOUT_MS = 10_000


def load_pro() -> Any:
    """The ccxt.pro package: 100 MB, so imported only where a ccxt feed is used."""
    import ccxt.pro

    return ccxt.pro


def is_known(venue: str) -> bool:
    """Whether this version of ccxt.pro has the venue."""
    return hasattr(load_pro(), _ccxt_id(venue))


class Source:
    """What all connections of one venue share: its class, its address and its trimmed markets."""

    def __init__(self, venue: str, base_url: str | None, timeout_ms: int = TIMEOUT_MS) -> None:
        self.venue, self.base_url, self._timeout_ms = venue, base_url, timeout_ms
        self.markets: dict[str, Any] = {}
        """Markets of the followed symbols by ccxt's name, without what the venue said literally."""
        self._turn = asyncio.Lock()

    def make(self, hooks: Hooks | None = None) -> Any:
        """A fresh instance that shares the markets."""
        kind = getattr(load_pro(), _ccxt_id(self.venue))
        options = {"defaultType": "spot", **_market_options(self.venue)}
        exchange = (_guarded(kind, hooks) if hooks else kind)({"enableRateLimit": True, "timeout": self._timeout_ms, "options": options})
        exchange.aiohttp_trust_env = True
        if self.base_url:
            exchange.urls["api"] = _relocated(exchange.urls["api"], self.base_url)
        if self.markets:
            exchange.set_markets(list(self.markets.values()))
        return exchange

    async def load(self, symbols: Sequence[str]) -> None:
        """Have the markets of these symbols, as far as the venue trades them; raises ccxt's errors."""
        wanted = {ccxt_symbol(s) for s in symbols}
        async with self._turn:
            if wanted <= self.markets.keys():
                return
            exchange = self.make()
            try:
                exchange.markets = None
                await exchange.load_markets()
                self.markets |= {name: {**exchange.markets[name], "info": {}} for name in wanted if name in exchange.markets}
            finally:
                await exchange.close()


class Hooks:
    """What a guarded instance tells its connection; replaced by the connection."""

    def message(self, message: Any) -> None:
        """A parsed message of any kind."""

    def book_message(self, message: Any) -> None:
        """A parsed order book message, before ccxt handles it."""

    def attach(self, client: Any) -> None:
        """A new socket client of ccxt."""


def _guarded(base: Any, hooks: Hooks) -> Any:
    class Guarded(base):  # type: ignore[misc]
        def client(self, url: str) -> Any:
            is_new = url not in (self.clients or {})
            client = super().client(url)
            if is_new:
                hooks.attach(client)
            return client

        def handle_message(self, client: Any, message: Any) -> Any:
            hooks.message(message)
            return super().handle_message(client, message)

        def handle_order_book(self, client: Any, message: Any, *rest: Any) -> Any:
            hooks.book_message(message)
            return super().handle_order_book(client, message, *rest)

    Guarded.__name__ = base.__name__
    return Guarded


def _ccxt_id(venue: str) -> str:
    known = VENUES_BY_SLUG.get(venue)
    return known.ccxt_id if known else venue


def _market_options(venue: str) -> Mapping[str, Any]:
    known = VENUES_BY_SLUG.get(venue)
    return known.market_options if known else {}


def _relocated(api: Any, base_url: str) -> Any:
    if isinstance(api, Mapping):
        return {key: _relocated(leaf, base_url) for key, leaf in api.items()}
    return relocate(str(api), base_url)
