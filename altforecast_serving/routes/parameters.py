"""Query parameters that several routes share.

What belongs here: their types, bounds and meaning. What does not: what a single route adds.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from altforecast.errors import InputError
from altforecast.symbols import parse_timeframe
from altforecast.types import Timeframe

MAX_ROWS = 10_000
EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
TIMEFRAME_HELP = "bar length: 1m 5m 15m 1h 4h 1d (also 15, 60, 240, 1D, 24h)"
METRIC_HELP = "metric (BTC, USDT.D, BTC.D, TOTAL2, TOTAL3, ETHBTC) or any spelling of a symbol in the lake (ETH-USDT, ethusdt)"
TEXT = Field(max_length=64)


class Order(StrEnum):
    """Which end of time a page begins at."""

    DESC = "desc"
    ASC = "asc"


def _utc(value: datetime) -> datetime:
    """A time without offset is UTC; times are kept to the millisecond."""
    aware = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    if not EARLIEST <= aware <= LATEST:
        raise ValueError(f"must lie between {EARLIEST:%Y} and {LATEST:%Y}")
    return aware.replace(microsecond=aware.microsecond // 1000 * 1000)


def _plain(value: Any) -> Any:
    """Years at the edge of what a date can hold cannot be moved to UTC: refused before they are tried."""
    if isinstance(value, str) and value[:4] in ("0001", "9999"):
        raise ValueError(f"must lie between {EARLIEST:%Y} and {LATEST:%Y}")
    return value


Moment = Annotated[datetime, BeforeValidator(_plain), AfterValidator(_utc)]


class Parameters(BaseModel):
    """Base of all query parameters: an unknown name is an error, not silently ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Period(Parameters):
    """A half-open span of bar opens."""

    start: Moment | None = Field(None, alias="from", description="first bar open, inclusive (ISO 8601; without offset UTC)")
    end: Moment | None = Field(None, alias="to", description="last bar open, exclusive")


class Page(Period):
    """A span, cut into pages."""

    limit: int = Field(100, ge=1, le=MAX_ROWS, description="rows of a page")
    order: Order = Field(Order.DESC, description="desc: newest first; asc: oldest first")
    cursor: str | None = Field(None, max_length=512, description="`next_cursor` of the page before")


def timeframes_of(text: str | None) -> tuple[Timeframe, ...]:
    """One timeframe by any spelling, or all of them; raises UnknownNameError that lists the allowed ones."""
    return (parse_timeframe(text),) if text is not None else tuple(Timeframe)


def check_period(start: datetime | None, end: datetime | None) -> None:
    """Raise InputError for a span that holds nothing."""
    if start is not None and end is not None and start >= end:
        raise InputError("from", start.isoformat(), f"must be before to ({end.isoformat()})")
