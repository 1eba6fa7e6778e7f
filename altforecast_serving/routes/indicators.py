"""`/api/indicators` and `/api/pivots`: what is computed from bars, row by row.

What belongs here: parameters and response models. What does not: finding rows (`queries.rows`).
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from altforecast.symbols import parse_timeframe
from altforecast.types import Side, Timeframe
from altforecast_serving.dependencies import Services, ServicesDep
from altforecast_serving.errors import documented
from altforecast_serving.lineage import Answer, Envelope
from altforecast_serving.queries.cursors import decode_cursor
from altforecast_serving.queries.freshness import newest_bar, of_bars
from altforecast_serving.queries.rows import Question, find_rows, sort_of
from altforecast_serving.routes.parameters import METRIC_HELP, TIMEFRAME_HELP, Order, Page, check_period

router = APIRouter(tags=["signals"])
MetricPath = Annotated[str, Path(max_length=64, description=METRIC_HELP, examples=["BTC"])]
TimeframePath = Annotated[str, Path(max_length=16, description=TIMEFRAME_HELP, examples=["1h"])]


class RowsOf(Page):
    """Parameters of one series' rows."""

    exchange: str | None = Field(None, max_length=32, description="venue; default: the metric's own, else by preference")


class IndicatorsResponse(BaseModel):
    """Indicators at one bar's close; null during warm-up."""

    ts: datetime
    metric: str | None
    symbol: str
    exchange: str
    timeframe: Timeframe
    ema_20: float | None
    ema_50: float | None
    rsi_14: float | None = Field(description="points, 0-100")
    macd: float | None
    macd_signal: float | None
    macd_hist: float | None
    atr_14: float | None
    bb_upper: float | None
    bb_middle: float | None
    bb_lower: float | None
    adx_14: float | None = Field(description="points, 0-100")
    obv: float | None
    known_at: datetime


class PivotResponse(BaseModel):
    """One confirmed swing low or high."""

    ts: datetime = Field(description="open of the bar whose close confirmed it")
    metric: str | None
    symbol: str
    exchange: str
    timeframe: Timeframe
    pivot_ts: datetime = Field(description="open of the bar that is the extreme")
    side: Side
    price: float
    rsi_14: float | None
    macd: float | None
    obv: float | None
    atr_14: float | None
    known_at: datetime


@router.get(
    "/api/indicators/{metric}/{timeframe}", responses={200: {"model": Envelope[list[IndicatorsResponse]]}, **documented(401, 404, 422, 429)}
)
async def read_indicators(
    request: Request, services: ServicesDep, metric: MetricPath, timeframe: TimeframePath, asked: Annotated[RowsOf, Query()]
) -> Response:
    """EMA, RSI, MACD, ATR, Bollinger bands, ADX and OBV, newest first."""
    return await _answered(request, services, "indicators", metric, timeframe, asked)


@router.get("/api/pivots/{metric}/{timeframe}", responses={200: {"model": Envelope[list[PivotResponse]]}, **documented(401, 404, 422, 429)})
async def read_pivots(
    request: Request, services: ServicesDep, metric: MetricPath, timeframe: TimeframePath, asked: Annotated[RowsOf, Query()]
) -> Response:
    """Confirmed swing lows and highs, newest first."""
    return await _answered(request, services, "pivots", metric, timeframe, asked)


async def _answered(request: Request, services: Services, table: str, metric: str, timeframe: str, asked: RowsOf) -> Response:
    wanted = (parse_timeframe(timeframe),)
    check_period(asked.start, asked.end)
    question = Question(
        table=table, timeframes=wanted, series=await services.series(metric, asked.exchange), start=asked.start, end=asked.end,
        limit=asked.limit, newest_first=asked.order is Order.DESC,
        after=tuple(decode_cursor(asked.cursor, len(sort_of(table)))) if asked.cursor else None,
    )  # fmt: skip
    is_about_now = question.newest_first and question.end is None and question.after is None
    fresh = of_bars(services.clock(), wanted, is_about_now=is_about_now)

    def find() -> Answer:
        found = find_rows(services.reader, question, services.metric_names)
        return fresh.noted(found, newest_bar(services.reader, question.series, wanted))

    return await services.answer_in_thread(request, question, [table, "bars"], find, extra_version=fresh.version)
