"""What we know of each venue's bars: ccxt id, page sizes, native timeframes, reach of history, quiet intervals.

What belongs here: facts about venues, as data. What does not: calling them (`connection`, `ohlcv`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from altforecast.errors import UnknownNameError
from altforecast.symbols import parse_venue
from altforecast.types import Timeframe

ALL = frozenset(Timeframe)
_NO_4H = ALL - {Timeframe.H4}
TELLS_TRANSFERS = ("kucoin", "htx", "bitget", "whitebit")
"""Venues that tell withdrawal fees without a key; the others need one, or tell none (kraken, coinbase, bitfinex)."""


@dataclass(frozen=True)
class Venue:
    """One venue as a source of bars."""

    slug: str
    ccxt_id: str
    max_bars: int
    """Most bars that one call gives from an old `since` [bars]; more is cut or refused."""
    default_bars: int
    """Bars that a call without a limit gives [bars]."""
    timeframes: frozenset[Timeframe] = ALL
    """Native timeframes; others are built from the longest native one that divides them."""
    is_windowed: bool = False
    """A call reads only [since, since + limit): an empty page is then no proof that nothing follows."""
    history_bars: int | None = None
    """How far back the venue reaches [bars]; None means to the listing of the symbol."""
    prints_quiet: bool | None = None
    """Whether bars without trades are printed (flat, volume 0); None where we have no evidence."""
    has_time: bool = True
    """Whether the venue tells its clock; else ours decides what is closed."""
    market_options: Mapping[str, Any] = field(default_factory=dict)
    """ccxt options that keep `load_markets` to spot markets."""
    note: str = ""

    @property
    def has_4h(self) -> bool:
        """Whether 4h bars are native."""
        return Timeframe.H4 in self.timeframes


def base_timeframe(venue: Venue, timeframe: Timeframe) -> Timeframe:
    """The native timeframe to fetch for a wanted one: itself, or the longest native one that divides it."""
    if timeframe in venue.timeframes:
        return timeframe
    return max((t for t in venue.timeframes if timeframe.ms % t.ms == 0 and t.ms < timeframe.ms), key=lambda t: t.ms)


def _types(*names: str) -> Mapping[str, Any]:
    return MappingProxyType({"fetchMarkets": {"types": list(names)}})


_ALL = (
    Venue("binance", "binance", 1000, 500, prints_quiet=True, market_options=_types("spot"),
          note="holes in its history are halts of the venue (2020-11-30, ccxt issue 8068)"),
    Venue("okx", "okx", 300, 100, is_windowed=True, prints_quiet=True, market_options=_types("spot"),
          note="older than 1439 bars ccxt asks another endpoint; day bars are cut at UTC by the suffix utc"),
    Venue("bybit", "bybit", 1000, 200, prints_quiet=True, market_options=_types("spot"), note="answers newest first"),
    Venue("gate", "gate", 1000, 1000, is_windowed=True, history_bars=10_000, market_options=_types("spot"),
          note="reach of about 10 000 bars; limit may not be sent with from and to"),
    Venue("kucoin", "kucoin", 1500, 1500, is_windowed=True, prints_quiet=False, market_options=_types("spot")),
    Venue("bitget", "bitget", 200, 100, is_windowed=True, market_options=_types("spot"),
          note="its history endpoint gives 200 bars and aligns on the end: a larger limit would lose the oldest"),
    Venue("mexc", "mexc", 500, 500, is_windowed=True,
          market_options=MappingProxyType({"fetchMarkets": {"types": {"spot": True, "swap": {"linear": False, "inverse": False}}}}),
          note="documents 1000 bars, gives 500"),
    Venue("htx", "htx", 1000, 150,
          market_options=MappingProxyType({"fetchMarkets": {"types": {"spot": True, "linear": False, "inverse": False}}}),
          note="spot is said to ignore `from`: then only the newest bars come, and we say so"),
    Venue("kraken", "kraken", 720, 720, history_bars=720, note="never more than the newest 720 bars, whatever is asked"),
    Venue("coinbase", "coinbase", 300, 300, timeframes=_NO_4H, is_windowed=True, prints_quiet=False, note="no 4h: built from 1h"),
    Venue("bitfinex", "bitfinex", 10_000, 100, prints_quiet=False, has_time=False, note="no bar without trades (bitfinex-api-py, 198)"),
    Venue("cryptocom", "cryptocom", 300, 300, is_windowed=True, has_time=False),
    Venue("bingx", "bingx", 1440, 500),
    Venue("bitstamp", "bitstamp", 1000, 1000, is_windowed=True, has_time=False),
    Venue("gemini", "gemini", 1000, 1000, timeframes=_NO_4H, history_bars=1000, has_time=False, note="no 4h; newest bars only"),
    Venue("upbit", "upbit", 200, 200, prints_quiet=False, has_time=False, note="answers by end time"),
    Venue("whitebit", "whitebit", 1440, 1440, is_windowed=True),
)  # fmt: skip
VENUES_BY_SLUG: Mapping[str, Venue] = MappingProxyType({v.slug: v for v in _ALL})


def venue_of(name: str) -> Venue:
    """Venue by slug or old spelling (`gateio`, `huobi`); raises UnknownNameError that lists all."""
    found = VENUES_BY_SLUG.get(parse_venue(name))
    if found is None:
        raise UnknownNameError("exchange", name, "no venue that we fetch bars from", VENUES_BY_SLUG)
    return found
