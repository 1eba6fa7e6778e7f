"""What each venue allows on its order book streams: connections, subscriptions, lives, and which quotes it trades.

What belongs here: facts about streams, as data with their source. What does not: protocols (`sessions`), keeping the
limits (`realtime.feeds`), candles (`venues`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from altforecast.errors import UnknownNameError

FeedKind = Literal["native", "ccxt"]
HOUR_S = 3600.0
_TETHER = frozenset({"USDT", "USDC", "BTC"})
_DOLLAR = frozenset({"USD", "USDT", "USDC", "BTC"})


@dataclass(frozen=True)
class FeedLimits:
    """One venue's streams."""

    slug: str
    quotes: frozenset[str]
    """Quotes that the venue trades; symbols with another quote are not asked for."""
    symbols_per_connection: int
    """[count]"""
    connects_per_s: float = 1.0
    """Sustained rate of new connections [1/s]."""
    connect_burst: int = 5
    """New connections at once [count]."""
    send_pause_s: float = 0.0
    """Pause after each frame that we send [s]."""
    ccxt_batch: int = 50
    """Symbols in one subscription of the ccxt feed [count]."""
    fetches_at_once: int = 4
    """HTTP requests under way together [count]."""
    max_age_s: float = 23 * HOUR_S
    """Age at which a connection is replaced as planned, before the venue ends it [s]."""
    default_feed: FeedKind = "native"
    crossed_messages: int = 1
    """Messages for which a book may stay crossed: more where one frame carries one order [count]."""
    absent: frozenset[str] = frozenset()
    """Symbols that the venue is known not to have although it has the quote."""
    note: str = ""
    """Where the figures come from: D vendor documentation, C ccxt source, A assumed (careful), M measured offline."""


_ALL = (
    FeedLimits("binance", _TETHER, 200, connects_per_s=0.5, connect_burst=20, send_pause_s=0.25, ccxt_batch=100,
               note="D: 300 connects in 5 min per address, 5 frames/s in, 1024 streams and 24 h per connection; C: 200 streams"),
    FeedLimits("okx", _TETHER, 50, connects_per_s=2.0, connect_burst=3, send_pause_s=0.1,
               note="D: 3 connects/s per address, 480 operations/h per connection, 64 kB per subscribe frame"),
    FeedLimits("bybit", _TETHER, 50, connects_per_s=1.5, connect_burst=20, send_pause_s=0.05, ccxt_batch=10,
               note="D: 500 connects in 5 min, 10 topics per subscribe on spot"),
    FeedLimits("gate", _TETHER, 50, connects_per_s=1.0, send_pause_s=0.05, ccxt_batch=1,
               note="A: 300 connections per address; C: one book per call"),
    FeedLimits("kucoin", _TETHER, 100, connects_per_s=0.5, connect_burst=10, send_pause_s=0.1, ccxt_batch=100,
               note="D: 30 connects/min, 100 topics per subscribe, 400 per connection, token lives 24 h"),
    FeedLimits("bitget", _TETHER, 50, connects_per_s=1.0, send_pause_s=0.1,
               note="D: 300 connects in 5 min, 240 subscribes/h, 10 frames/s, fewer than 50 channels advised, 24 h"),
    FeedLimits("mexc", _TETHER, 30, connects_per_s=1.0, send_pause_s=0.1, ccxt_batch=1,
               note="D: 30 subscriptions and 24 h per connection; C: not split by ccxt; one book per call"),
    FeedLimits("htx", _TETHER, 50, connects_per_s=1.0, send_pause_s=0.05, ccxt_batch=1,
               note="A; D: 50 requests per 2 s; one book per call"),
    FeedLimits("kraken", _DOLLAR, 50, connects_per_s=0.2, connect_burst=10, send_pause_s=0.1,
               note="D: about 150 connects in 10 min per address (Cloudflare)"),
    FeedLimits("coinbase", frozenset({"USD", "USDT", "BTC"}), 30, connects_per_s=1.0, send_pause_s=0.15, ccxt_batch=30,
               note="D: 8 frames/s in while unauthenticated, 8 connects/s; its USDC books are its USD books"),
    FeedLimits("bitfinex", _DOLLAR, 25, connects_per_s=1 / 3, connect_burst=5, send_pause_s=0.05, ccxt_batch=1, crossed_messages=25,
               note="D: 20 connects/min, 25 channels per connection; one level per frame, so a sweep is crossed for some frames"),
    FeedLimits("cryptocom", _DOLLAR, 100, connects_per_s=1.0, send_pause_s=0.15,
               note="D: 1 s between connect and first frame advised, 100 frames/s, 400 subscriptions"),
    FeedLimits("bingx", _TETHER - {"BTC"}, 50, connects_per_s=1.0, send_pause_s=0.1, ccxt_batch=1,
               note="D: 200 subscriptions, 60 connections; one book per call"),
    FeedLimits("bitstamp", _DOLLAR, 50, connects_per_s=0.5, send_pause_s=0.05, ccxt_batch=1, max_age_s=80 * 24 * HOUR_S,
               note="D: 90 days per connection; one book per call"),
    FeedLimits("gemini", frozenset({"USD", "USDT", "BTC"}), 30, connects_per_s=1.0, default_feed="ccxt", note="A; reserve, dollar quotes"),
    FeedLimits("upbit", frozenset({"KRW", "USDT", "BTC"}), 15, connects_per_s=1.0, default_feed="ccxt", ccxt_batch=1,
               note="D: 5 connects/s; reserve; 15-30 levels"),
    FeedLimits("whitebit", _TETHER, 50, connects_per_s=1.0, default_feed="ccxt", ccxt_batch=1, note="A; reserve"),
    FeedLimits("bitmart", _TETHER, 50, connects_per_s=1.0, default_feed="ccxt", ccxt_batch=20,
               note="A; reserve; the pinned ccxt may not know it"),
)  # fmt: skip
LIMITS: Mapping[str, FeedLimits] = MappingProxyType({limits.slug: limits for limits in _ALL})


def limits_of(venue: str) -> FeedLimits:
    """Limits of a venue; raises UnknownNameError that lists all."""
    found = LIMITS.get(venue)
    if found is None:
        raise UnknownNameError("exchange", venue, "no venue that we keep order books of", LIMITS)
    return found


def symbols_on(limits: FeedLimits, wanted: Iterable[str], traded: Collection[str] | None = None) -> tuple[str, ...]:
    """The wanted symbols that a venue has, in their order: those it trades where that is known, else by its quotes."""
    if traded is not None:
        return tuple(s for s in wanted if s in traded)
    return tuple(s for s in wanted if s.split("-")[1] in limits.quotes and s not in limits.absent)


def shards(limits: FeedLimits, symbols: Sequence[str]) -> list[tuple[str, ...]]:
    """The symbols split evenly over as few connections as the venue allows; empty without symbols."""
    count = -(-len(symbols) // limits.symbols_per_connection)
    return [tuple(symbols[n::count]) for n in range(count)]


def planned_age_s(limits: FeedLimits, shard: int) -> float:
    """Age at which connection number `shard` is replaced [s]: staggered, so that a venue's connections never end together."""
    return limits.max_age_s * (1.0 - 0.05 * (shard % 10))
