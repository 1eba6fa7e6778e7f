"""Variables of the realtime half: order books, arbitrage, recording, delivery.

What belongs here: their names, types, defaults, meanings and checks. What does not: reading the environment, which
`settings.Settings` does for all variables at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import field_validator
from pydantic_settings import BaseSettings

from altforecast.symbols import RESERVE_VENUES, VENUES, parse_symbol, parse_venue
from altforecast_io.setting_values import Positive, Words, own, var, words

FEEDS = ("native", "ccxt")
BOOK_VENUES_KNOWN = (*VENUES, *RESERVE_VENUES)


class RealtimeSettings(BaseSettings):
    """Fields that `Settings` inherits."""

    # order books
    book_venues: Words = var(VENUES, "BOOK_VENUES", description="venues whose order books are kept, comma separated; empty keeps none")
    book_symbols: Words = var(
        (
            "BTC-USDT", "ETH-USDT", "SOL-USDT", "XRP-USDT", "DOGE-USDT", "LTC-USDT", "ETH-BTC",
            "BTC-USD", "ETH-USD", "SOL-USD", "XRP-USD", "USDT-USD", "BTC-USDC", "ETH-USDC", "USDC-USDT",
        ),
        "BOOK_SYMBOLS", description="symbols whose books are kept where a venue trades them, comma separated",
    )  # fmt: skip
    book_feeds_text: str = var("", "BOOK_FEEDS", description="feed per venue where not the default: kraken=ccxt,okx=native, or all=ccxt")
    book_stale_after_sec: float = var(
        10.0,
        "STALE_AFTER_SEC",
        "BOOK_STALE_AFTER_SEC",
        gt=0,
        le=3600,
        description="a book silent for this long is withdrawn [s]",
    )
    book_max_skew_ms: Positive = var(1000, "BOOK_MAX_SKEW_MS", description="books further apart in receive time are not compared [ms]")

    # arbitrage
    arbitrage_enable: bool = var(True, "ARBITRAGE_ENABLE", description="look for arbitrage in the kept books")
    scan_coalesce_ms: float = var(1.0, "SCAN_COALESCE_MS", ge=0, le=1000, description="updates within this time are scanned together [ms]")
    scan_cut_sec: float = var(5.0, "SCAN_CUT_SEC", gt=0, le=3600, description="cadence of the coherent cut over all books [s]")
    target_size_usdt: float = var(3000.0, "TARGET_SIZE_USDT", gt=0, description="fixed size at which edges are compared [USDT]")
    min_net_edge_pct: float = var(0.1, "MIN_NET_EDGE_PCT", description="smallest net edge that is an opportunity [percent]")
    slippage_bps: float = var(2.0, "SLIPPAGE_BPS", ge=0, description="latency buffer taken off every edge [bps]")
    taker_fee_bps: float | None = var(None, "TAKER_FEE_BPS", ge=0, description="one taker fee for all venues [bps]; empty: each venue's")
    taker_fees_text: str = var("", "TAKER_FEES_BPS", description="taker fee per venue where not the default, binance=7.5,okx=8 [bps]")
    withdraw_cost_usdt: float = var(
        5.0, "WITHDRAW_COST_USDT", ge=0, description="assumed cost of a transfer where the venue's own is unknown, which is flagged [USDT]"
    )
    transfer_terms_max_age_hours: float = var(24.0, "TRANSFER_TERMS_MAX_AGE_HOURS", gt=0, description="older terms are flagged [h]")
    sane_edge_pct: float = var(5.0, "SANE_EDGE_PCT", gt=0, description="edges above this are suspect [percent]")

    # recording
    record_frames: bool = var(False, "RECORD_FRAMES", description="record every frame of every feed")
    record_retention_hours: Positive = var(48, "RECORD_RETENTION_HOURS", description="recordings older than this are removed [h]")
    record_max_mb: Positive = var(20_000, "RECORD_MAX_MB", description="all recordings together; the oldest are removed first [MB]")
    book_cut_sec: float = var(60.0, "BOOK_CUT_SEC", ge=0, description="cadence of the normalised book cuts kept in the lake [s]; 0 is off")

    # delivery
    ws_max_clients: Positive = var(1500, "WS_MAX_CLIENTS", description="WebSocket clients at once; the next one is refused")
    ws_publish_hz: float = var(4.0, "WS_PUBLISH_HZ", gt=0, le=20, description="how often WebSocket clients are told of changes [1/s]")
    digest_enable: bool = var(True, "DIGEST_ENABLE", description="send a Telegram digest of opportunities to ADMIN_CHAT_ID and subscribers")
    digest_interval_sec: Positive = var(300, "DIGEST_INTERVAL_SEC", description="at most one digest in this time [s]")
    digest_min_edge_pct: float = var(0.2, "DIGEST_MIN_EDGE_PCT", description="smallest net edge that a digest names [percent]")
    digest_min_profit_usdt: float = var(5.0, "DIGEST_MIN_PROFIT_USDT", ge=0, description="smallest profit that a digest names [USDT]")
    telegram_api_url: str = var("https://api.telegram.org", "TELEGRAM_API_URL", description="Telegram Bot API, or its stand-in")

    @property
    def book_feeds(self) -> Mapping[str, Literal["native", "ccxt"]]:
        """Chosen feed per venue slug; the key `all` stands for every venue that is not named."""
        return dict(_pairs(self.book_feeds_text))  # type: ignore[arg-type]

    @property
    def taker_fees_bps(self) -> Mapping[str, float]:
        """Chosen taker fee per venue slug [bps]."""
        return {venue: float(fee) for venue, fee in _pairs(self.taker_fees_text)}

    @field_validator("book_venues", "book_symbols", mode="before")
    @classmethod
    def _split_words(cls, value: Any) -> Any:
        return words(value)

    @field_validator("book_venues")
    @classmethod
    def _book_venues(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_known_venue(v) for v in value)

    @field_validator("book_symbols")
    @classmethod
    def _book_symbols(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(own(parse_symbol, v) for v in value)

    @field_validator("book_feeds_text")
    @classmethod
    def _feeds(cls, value: str) -> str:
        for venue, feed in _pairs(value):
            if venue != "all":
                _known_venue(venue)
            if feed not in FEEDS:
                raise ValueError(f"{feed!r} is no feed; allowed: {', '.join(FEEDS)}")
        return value

    @field_validator("taker_fees_text")
    @classmethod
    def _fees(cls, value: str) -> str:
        for venue, fee in _pairs(value):
            _known_venue(venue)
            try:
                is_good = 0 <= float(fee) <= 1000
            except ValueError:
                is_good = False
            if not is_good:
                raise ValueError(f"{fee!r} is no fee between 0 and 1000 bps")
        return value

    @field_validator("telegram_api_url")
    @classmethod
    def _api(cls, value: str) -> str:
        if not value.startswith(("https://", "http://")):
            raise ValueError("must begin with https:// or http://")
        return value.rstrip("/")


def _known_venue(name: str) -> str:
    venue = own(parse_venue, name)
    if venue not in BOOK_VENUES_KNOWN:
        raise ValueError(f"{name!r} is no known venue; allowed: {', '.join(BOOK_VENUES_KNOWN)}")
    return venue


def _pairs(text: str) -> list[tuple[str, str]]:
    parts = (part.partition("=") for part in text.split(",") if part.strip())
    return [(venue.strip() if venue.strip() == "all" else own(parse_venue, venue), value.strip()) for venue, _, value in parts]
