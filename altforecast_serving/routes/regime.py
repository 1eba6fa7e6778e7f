"""`/api/regime` and `/api/report`: the state of the market in one word, and in six lines.

What belongs here: parameters and response models. What does not: reading rows (`queries.regime`, `queries.report`).
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from altforecast.types import Arrow, RegimeState
from altforecast_serving.dependencies import ServicesDep
from altforecast_serving.errors import documented
from altforecast_serving.lineage import Envelope
from altforecast_serving.queries.freshness import HOURLY, Freshness
from altforecast_serving.queries.regime import find_regime
from altforecast_serving.queries.report import find_report
from altforecast_serving.routes.parameters import Moment, Parameters

router = APIRouter(tags=["market"])


class Contribution(BaseModel):
    """What one input adds to the score."""

    metric: str = Field(description="total3, total2, btc_d, usdt_d or ethbtc")
    z: float | None = Field(description="24 h change over its 30-day sd")
    contribution: float | None = Field(description="weight x z")


class RegimeHour(BaseModel):
    """The regime at one hour."""

    ts: datetime
    score: float | None
    state: RegimeState
    pending_state: RegimeState
    pending_bars: int
    n_inputs: int
    is_degraded: bool
    missing: list[str]
    known_at: datetime
    contributions: list[Contribution] = Field(description="largest first")


class RegimeResponse(BaseModel):
    """The newest hour and the hours before it."""

    latest: RegimeHour | None
    history: list[RegimeHour] = Field(description="newest first")


class Change(BaseModel):
    """One arrow of a report line."""

    over: str = Field(description="15m, 1h, 4h or 24h")
    arrow: Arrow
    change_pct: float | None
    z: float | None


class ReportLine(BaseModel):
    """One metric's line."""

    metric: str
    line: str = Field(description="the line as people read it")
    is_degraded: bool
    changes: list[Change]


class ReportResponse(BaseModel):
    """The newest report."""

    ts: datetime | None
    known_at: datetime | None
    regime: RegimeState | None
    is_degraded: bool
    lines: list[ReportLine]
    text: str = Field(description="all lines, one below the other")


class AsOf(Parameters):
    """Parameters of the report."""

    as_of: Moment | None = Field(None, description="what was known then; default: now")


class RegimeOf(AsOf):
    """Parameters of the regime."""

    limit: int = Field(168, ge=1, le=10_000, description="hours of history")


@router.get("/api/regime", responses={200: {"model": Envelope[RegimeResponse]}, **documented(401, 422, 429)})
async def read_regime(request: Request, services: ServicesDep, asked: Annotated[RegimeOf, Query()]) -> Response:
    """Risk-ON or Risk-OFF, with the five contributions."""
    fresh = Freshness(services.clock(), HOURLY, asked.as_of is None)
    return await services.answer_in_thread(
        request, ("regime", asked), ["regime", "bars"],
        lambda: fresh.noted(find_regime(services.reader, as_of=asked.as_of, limit=asked.limit)), extra_version=fresh.version,
    )  # fmt: skip


@router.get("/api/report", responses={200: {"model": Envelope[ReportResponse]}, **documented(401, 422, 429)})
async def read_report(request: Request, services: ServicesDep, asked: Annotated[AsOf, Query()]) -> Response:
    """The report lines with their arrows."""
    fresh = Freshness(services.clock(), HOURLY, asked.as_of is None)
    return await services.answer_in_thread(
        request, ("report", asked), ["market_report", "bars"],
        lambda: fresh.noted(find_report(services.reader, as_of=asked.as_of)), extra_version=fresh.version,
    )  # fmt: skip
