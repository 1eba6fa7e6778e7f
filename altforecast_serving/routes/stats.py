"""`/api/stats`, `/api/metrics/stats`, `/api/symbols`: what there is.

What belongs here: response models. What does not: counting (`queries.stats`).
"""

from __future__ import annotations

from datetime import datetime
from functools import partial

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from altforecast.types import Timeframe
from altforecast_serving.dependencies import ServicesDep
from altforecast_serving.errors import documented
from altforecast_serving.lineage import Envelope
from altforecast_serving.queries import stats

router = APIRouter(tags=["overview"])


class StatsResponse(BaseModel):
    """Overall counts."""

    metrics: list[str]
    timeframes: list[str] = Field(description="that have bars")
    n_series: int
    n_bars: int
    n_provisional_bars: int
    n_bars_by_timeframe: dict[str, int]
    n_active_divergences: int
    n_divergences: int
    n_divergences_by_status: dict[str, int]
    first_ts: datetime | None
    last_ts: datetime | None


class MetricsStatsResponse(BaseModel):
    """One metric on one timeframe."""

    metric: str
    symbol: str
    exchange: str
    timeframe: Timeframe
    n_bars: int
    first_ts: datetime | None
    last_ts: datetime | None
    known_at: datetime | None
    last_close: float | None
    change_pct: float | None = Field(description="last close against the one before [%]")
    low: float | None = Field(description="lowest low of all bars")
    high: float | None = Field(description="highest high of all bars")
    mean_close: float | None


class SymbolTimeframe(BaseModel):
    """One series on one timeframe."""

    timeframe: Timeframe
    n_bars: int
    n_provisional: int
    first_ts: datetime
    last_ts: datetime
    last_close: float


class SymbolResponse(BaseModel):
    """One series of the lake or of the inbox tail."""

    symbol: str
    exchange: str
    metric: str | None
    timeframes: list[SymbolTimeframe]


@router.get("/api/stats", responses={200: {"model": Envelope[StatsResponse]}, **documented(401, 429)})
async def read_stats(request: Request, services: ServicesDep) -> Response:
    """Overall counts: metrics, timeframes, bars, divergences."""
    tail = await services.tail.fresh()
    work = partial(stats.find_stats, services.reader, tail)
    return await services.answer_in_thread(request, "stats", ["bars", "divergences"], work, extra_version=tail.version)


@router.get("/api/metrics/stats", responses={200: {"model": Envelope[list[MetricsStatsResponse]]}, **documented(401, 429)})
async def read_metric_stats(request: Request, services: ServicesDep) -> Response:
    """Counts, span and range of each metric on each timeframe."""
    work = partial(stats.find_metric_stats, services.reader, services.settings.tv_btc_symbol)
    return await services.answer_in_thread(request, "metric_stats", ["bars"], work)


@router.get("/api/symbols", responses={200: {"model": Envelope[list[SymbolResponse]]}, **documented(401, 429)})
async def list_symbols(request: Request, services: ServicesDep) -> Response:
    """Every series with its timeframes."""
    tail = await services.tail.fresh()
    work = partial(stats.find_symbols, services.reader, tail, services.metric_names)
    return await services.answer_in_thread(request, "symbols", ["bars"], work, extra_version=tail.version)
