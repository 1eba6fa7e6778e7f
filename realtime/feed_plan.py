"""Which venues are followed, how, and why others are not.

What belongs here: the decision, from settings and facts alone. What does not: following (`feeds`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import NamedTuple

from altforecast_io.exchanges.feed_limits import limits_of, symbols_on
from altforecast_io.settings import Settings

NOT_RECORDED = "ccxt feed: not recorded, because recordings replay through native sessions"


class Planned(NamedTuple):
    """What is done about one venue."""

    venue: str
    feed: str
    """native | ccxt | off"""
    symbols: tuple[str, ...] = ()
    base_url: str | None = None
    """Address of its stand-in; None for the real venue."""
    note: str = ""


def plan_feeds(settings: Settings, native: Collection[str], has_ccxt: Callable[[str], bool]) -> list[Planned]:
    """One entry per venue of BOOK_VENUES, in that order.

    native: venues that have a session.  has_ccxt: whether ccxt knows a venue; asked only where its feed is wanted.
    """
    return [_planned(venue, settings, native, has_ccxt) for venue in settings.book_venues]


def _planned(venue: str, settings: Settings, native: Collection[str], has_ccxt: Callable[[str], bool]) -> Planned:
    limits = limits_of(venue)
    base_url = settings.exchange_base_urls.get(venue)
    if base_url is None and settings.environment == "sandbox":
        return Planned(venue, "off", note="no stand-in: EXCHANGE_BASE_URLS has no address for it, and a sandbox never asks a real venue")
    symbols = symbols_on(limits, settings.book_symbols)
    if not symbols:
        return Planned(venue, "off", note="none of BOOK_SYMBOLS has a quote that it trades")
    chosen = settings.book_feeds
    feed = chosen.get(venue) or chosen.get("all") or limits.default_feed
    note = ""
    if feed == "native" and venue not in native:
        feed, note = "ccxt", "no native session: ccxt feed"
    if feed == "ccxt" and not has_ccxt(venue):
        return Planned(venue, "off", note="this version of ccxt does not know it")
    return Planned(venue, feed, symbols, base_url, note)
