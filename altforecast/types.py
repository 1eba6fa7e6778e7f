"""Enums and small frozen values shared by the whole domain.

What belongs here: closed vocabularies and value types without behaviour. What does not: outside spellings
(`symbols`), numbers that change results (`params`), table schemas (`tables`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum


class Timeframe(StrEnum):
    """Bar lengths we compute on; the value is the only spelling used inside the house."""

    M1 = "1m"
    M5 = "5m"
    M15 = "15m"
    H1 = "1h"
    H4 = "4h"
    D1 = "1d"

    @property
    def duration(self) -> timedelta:
        """Length of one bar."""
        return _DURATIONS[self]

    @property
    def ms(self) -> int:
        """Length of one bar in milliseconds."""
        return int(self.duration.total_seconds() * 1000)


_DURATIONS = {
    Timeframe.M1: timedelta(minutes=1),
    Timeframe.M5: timedelta(minutes=5),
    Timeframe.M15: timedelta(minutes=15),
    Timeframe.H1: timedelta(hours=1),
    Timeframe.H4: timedelta(hours=4),
    Timeframe.D1: timedelta(days=1),
}


class Metric(StrEnum):
    """The six market metrics of the report line."""

    BTC = "BTC"
    USDT_D = "USDT.D"
    BTC_D = "BTC.D"
    TOTAL2 = "TOTAL2"
    TOTAL3 = "TOTAL3"
    ETHBTC = "ETHBTC"


class Quality(StrEnum):
    """How a bar came to be."""

    OBSERVED = "observed"
    """Reported closed by its source when it closed."""
    BACKFILLED = "backfilled"
    """Fetched or imported later from the same source."""
    QUIET = "quiet"
    """No trade happened: flat, volume 0."""
    FEED_DOWN = "feed_down"
    """The source printed a placeholder (frozen close, invented volume) while it was down."""
    PROVISIONAL = "provisional"
    """Acknowledged, not yet in the lake."""


class GapKind(StrEnum):
    """Why bars are missing."""

    QUIET = "quiet"
    FEED_DOWN = "feed_down"
    UNKNOWN = "unknown"


class Side(StrEnum):
    """Which extreme a pivot is."""

    LOW = "low"
    HIGH = "high"


class Oscillator(StrEnum):
    """What price is compared with; `volume` is on-balance volume."""

    RSI = "rsi"
    MACD = "macd"
    VOLUME = "volume"


class DivergenceKind(StrEnum):
    """The four kinds of price/oscillator disagreement."""

    REGULAR_BULLISH = "regular_bullish"
    HIDDEN_BULLISH = "hidden_bullish"
    REGULAR_BEARISH = "regular_bearish"
    HIDDEN_BEARISH = "hidden_bearish"


class DivergenceStatus(StrEnum):
    """Life cycle: `active` moves once, to exactly one of the others."""

    ACTIVE = "active"
    CONFIRMED = "confirmed"
    INVALIDATED = "invalidated"
    EXPIRED = "expired"
    SUPERSEDED = "superseded"


class Implication(StrEnum):
    """What a signal would mean for the price, if it meant anything."""

    BULLISH = "bullish"
    BEARISH = "bearish"
    NEUTRAL = "neutral"


class LevelEvent(StrEnum):
    """What happened to a support or resistance level at a bar's close."""

    OPENED = "opened"
    JOINED = "joined"
    TOUCHED = "touched"
    BROKEN = "broken"
    EVICTED = "evicted"
    CARRIED = "carried"


class RegimeState(StrEnum):
    """Market regime."""

    RISK_ON = "risk_on"
    NEUTRAL = "neutral"
    RISK_OFF = "risk_off"


class Arrow(StrEnum):
    """Direction of one metric on one timeframe in the report line."""

    UP = "up"
    DOWN = "down"
    FLAT = "flat"
    UNKNOWN = "unknown"


@dataclass(frozen=True, order=True)
class Series:
    """One stream of bars: where it trades and what it is."""

    exchange: str
    symbol: str


@dataclass(frozen=True)
class Window:
    """Half-open span of time [start, end), UTC-aware."""

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        if self.start.tzinfo is None or self.end.tzinfo is None:
            raise ValueError(f"window needs UTC-aware times, got {self.start!r}..{self.end!r}")
