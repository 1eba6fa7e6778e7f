"""`/api/arbitrage` and `/api/venues`: opportunities, books, spreads, statistics and the health of venues.

What belongs here: parameters and handlers. What does not: response models (`arbitrage_models`), live state
(`queries.arbitrage`), history (`queries.opportunities`) and WebSockets (`sockets`).
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import Field
from starlette.responses import Response

from altforecast.errors import InputError, UnknownNameError
from altforecast.opportunities import OpportunityType, RiskFlag
from altforecast.symbols import parse_symbol, parse_venue
from altforecast_io.realtime_settings import BOOK_VENUES_KNOWN
from altforecast_serving.answers import unkept
from altforecast_serving.dependencies import Services, ServicesDep
from altforecast_serving.errors import documented
from altforecast_serving.lineage import Answer, Envelope
from altforecast_serving.queries import arbitrage
from altforecast_serving.queries.arbitrage import OpportunityFilter
from altforecast_serving.queries.cursors import decode_cursor
from altforecast_serving.queries.opportunities import ClosedQuestion, find_closed, find_opportunity_stats
from altforecast_serving.queries.transfers import find_transfers
from altforecast_serving.routes.arbitrage_models import (
    BookResponse,
    OpportunityResponse,
    SpreadsResponse,
    StatResponse,
    TransferResponse,
    VenueResponse,
)
from altforecast_serving.routes.parameters import TEXT, Moment, Parameters

router = APIRouter(tags=["arbitrage"])
SYMBOLS_HELP = "canonical symbol or any spelling of it (BTC-USDT, btc/usdt); of a triangle its path, BTC>ETH>USDT>BTC"


class OpportunityStatus(StrEnum):
    """Which opportunities."""

    LIVE = "live"
    CLOSED = "closed"
    ALL = "all"


class StatsDimension(StrEnum):
    """What opportunities are counted by."""

    ALL = "all"
    PAIR = "pair"
    VENUE = "venue"
    HOUR = "hour"
    TYPE = "type"


class Opportunities(Parameters):
    """Parameters: which opportunities."""

    status: OpportunityStatus = OpportunityStatus.LIVE
    symbol: Annotated[str | None, TEXT] = Field(None, description=SYMBOLS_HELP)
    venue: str | None = Field(None, max_length=32, description="on either side")
    type: OpportunityType | None = None
    min_edge: float | None = Field(None, ge=-100, le=1000, description="smallest net edge (closed: at its peak) [%]")
    min_profit: float | None = Field(None, ge=0, le=1e9, description="smallest profit at the better of the fixed and the best size [USDT]")
    flag: list[RiskFlag] = Field([], max_length=16, description="only those with this risk flag; may be given several times")
    without_flag: list[RiskFlag] = Field([], max_length=16, description="only those without this risk flag; may be given several times")
    since: Moment | None = Field(None, description="opened (live) or closed at or after")
    until: Moment | None = Field(None, description="opened (live) or closed before")
    limit: int = Field(100, ge=1, le=1000)
    cursor: str | None = Field(None, max_length=512, description="`next_cursor` of the page before (closed ones)")

    def wanted(self) -> OpportunityFilter:
        """The filter; raises InputError for a span that holds nothing, UnknownNameError for a venue that nobody knows."""
        if self.since is not None and self.until is not None and self.since >= self.until:
            raise InputError("since", self.since.isoformat(), f"must be before until ({self.until.isoformat()})")
        return OpportunityFilter(
            symbol=symbol_or_path(self.symbol) if self.symbol is not None else None,
            venue=known_venue(self.venue) if self.venue is not None else None, type=self.type.value if self.type else None,
            min_edge=self.min_edge, min_profit=self.min_profit, flags=tuple(f.value for f in self.flag),
            without_flags=tuple(f.value for f in self.without_flag), since=self.since, until=self.until,
        )  # fmt: skip


class Books(Parameters):
    """Parameters: which books."""

    symbol: Annotated[str | None, TEXT] = Field(None, description=SYMBOLS_HELP)
    venue: str | None = Field(None, max_length=32)
    depth: int = Field(10, ge=1, le=20, description="levels of each side")


class Spreads(Parameters):
    """Parameters: which symbol."""

    symbol: Annotated[str | None, TEXT] = Field(None, description=f"{SYMBOLS_HELP}; default: the one on most venues")


class Stats(Parameters):
    """Parameters: which statistics."""

    dimension: StatsDimension | None = Field(None, description="default: every dimension")
    limit: int = Field(200, ge=1, le=1000)


class Transfers(Parameters):
    """Parameters: which terms."""

    venue: str | None = Field(None, max_length=32)
    coin: str | None = Field(None, max_length=32, pattern=r"^[\w.$-]+$", description="ticker in any case (BTC)")
    limit: int = Field(200, ge=1, le=1000)


@router.get(
    "/api/arbitrage/opportunities", responses={200: {"model": Envelope[list[OpportunityResponse]]}, **documented(401, 404, 422, 429, 503)}
)
async def list_opportunities(request: Request, services: ServicesDep, asked: Annotated[Opportunities, Query()]) -> Response:
    """Opportunities: live ones best edge first from the bus, closed ones last closed first from the lake (after the live ones)."""
    wanted, now = asked.wanted(), services.clock()
    closed = ClosedQuestion(wanted, asked.limit, tuple(decode_cursor(asked.cursor, 2)) if asked.cursor else None)
    if asked.status is OpportunityStatus.CLOSED:
        tables = ["opportunities", "opportunity_outcomes"]
        return await services.answer_in_thread(request, closed, tables, lambda: find_closed(services.reader, closed))
    if asked.status is OpportunityStatus.LIVE or asked.cursor is None:
        rows, warnings = await arbitrage.live_opportunities(services.bus, wanted, now)
        live = arbitrage.live_answer(rows, warnings, asked.limit)
    else:
        live = Answer([])
    if asked.status is OpportunityStatus.LIVE:
        return unkept(live, services.environment)
    return unkept(await _with_closed(services, live, closed), services.environment)


async def _with_closed(services: Services, live: Answer, closed: ClosedQuestion) -> Answer:
    found = await services.in_thread(lambda: find_closed(services.reader, closed))
    assert isinstance(live.data, list)
    assert isinstance(found.data, list)
    known = [t for t in (live.known_at, found.known_at) if isinstance(t, datetime)]
    return Answer(
        [*live.data, *found.data], found.parts, max(known, default=None), next_cursor=found.next_cursor,
        warnings=[*live.warnings, *found.warnings],
    )  # fmt: skip


@router.get("/api/arbitrage/books", responses={200: {"model": Envelope[list[BookResponse]]}, **documented(401, 404, 422, 429, 503)})
async def list_books(services: ServicesDep, asked: Annotated[Books, Query()]) -> Response:
    """Order books as they stand, best level first."""
    symbols = frozenset({parse_symbol(asked.symbol)} if asked.symbol is not None else ())
    venues = frozenset({known_venue(asked.venue)} if asked.venue is not None else ())
    return unkept(await arbitrage.live_books(services.bus, symbols, venues, asked.depth, services.clock()), services.environment)


@router.get("/api/arbitrage/spreads", responses={200: {"model": Envelope[SpreadsResponse | None]}, **documented(401, 404, 422, 429, 503)})
async def read_spreads(services: ServicesDep, asked: Annotated[Spreads, Query()]) -> Response:
    """Net edge of every ordered venue pair of one symbol at the newest coherent cut."""
    symbol = parse_symbol(asked.symbol) if asked.symbol is not None else None
    return unkept(await arbitrage.live_spreads(services.bus, symbol), services.environment)


@router.get("/api/arbitrage/stats", responses={200: {"model": Envelope[list[StatResponse]]}, **documented(401, 422, 429, 503)})
async def read_arbitrage_stats(request: Request, services: ServicesDep, asked: Annotated[Stats, Query()]) -> Response:
    """Lifetimes, capture rates and profits of the last 28 days by pair, venue, hour and type."""
    dimension = asked.dimension.value if asked.dimension else None
    question = ("opportunity_stats", dimension, asked.limit)
    return await services.answer_in_thread(
        request, question, ["opportunity_stats"], lambda: find_opportunity_stats(services.reader, dimension, asked.limit)
    )


@router.get("/api/arbitrage/transfers", responses={200: {"model": Envelope[list[TransferResponse]]}, **documented(401, 404, 422, 429, 503)})
async def list_transfers(services: ServicesDep, asked: Annotated[Transfers, Query()]) -> Response:
    """Withdrawal fees, networks, states and contracts as venues told them: what transfer costs and flags of opportunities rest on."""
    venue = known_venue(asked.venue) if asked.venue is not None else None
    coin, now = (asked.coin.upper() if asked.coin is not None else None), services.clock()
    found = await services.in_thread(lambda: find_transfers(services.store, services.settings, venue, coin, asked.limit, now))
    return unkept(found, services.environment)


@router.get("/api/venues", responses={200: {"model": Envelope[list[VenueResponse]]}, **documented(401, 429, 503)})
async def list_venues(services: ServicesDep) -> Response:
    """Every venue whose books are kept: state, delays, reconnects, last fault."""
    return unkept(await arbitrage.live_venues(services.bus), services.environment)


def known_venue(text: str) -> str:
    """A venue by any spelling; raises UnknownNameError that lists those there are."""
    venue = parse_venue(text)
    if venue not in BOOK_VENUES_KNOWN:
        raise UnknownNameError("venue", text, "unknown", BOOK_VENUES_KNOWN)
    return venue


def symbol_or_path(text: str) -> str:
    """A symbol by any spelling, or the path of a triangle."""
    return text.strip().upper() if ">" in text else parse_symbol(text)
