"""`/api/bars`: price bars, provisional ones included and marked.

What belongs here: parameters, response model, formats. What does not: finding bars (`queries.bars`).
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from altforecast.errors import InputError
from altforecast.symbols import parse_timeframe, parse_venue
from altforecast.types import Quality, Series, Timeframe
from altforecast_serving.answers import MEDIA_TYPES, Format, asked_format
from altforecast_serving.dependencies import Services, ServicesDep
from altforecast_serving.errors import documented
from altforecast_serving.lineage import Answer, Envelope
from altforecast_serving.queries import bars
from altforecast_serving.queries.cursors import decode_cursor
from altforecast_serving.queries.freshness import newest_bar, of_bars
from altforecast_serving.queries.rows import Question
from altforecast_serving.routes.parameters import METRIC_HELP, TEXT, TIMEFRAME_HELP, Order, Page, check_period, timeframes_of

router = APIRouter(tags=["bars"])


class BarResponse(BaseModel):
    """One closed bar."""

    ts: datetime = Field(description="open of the bar, UTC")
    metric: str | None = Field(description="metric that the series carries, or null")
    symbol: str
    exchange: str
    timeframe: Timeframe
    open: float
    high: float
    low: float
    close: float
    volume: float | None = Field(description="base units; null where the source has none")
    quality: Quality = Field(description="`provisional`: acknowledged, not yet in the lake")
    source: str
    received_at: datetime
    known_at: datetime = Field(description="close of the bar: before it the row could not be known")


class BarsOf(Page):
    """Parameters of one series' bars."""

    exchange: str | None = Field(None, max_length=32, description="venue; default: the metric's own, else by preference")
    quality: Quality | None = Field(None, description="only bars of this quality")
    include_provisional: bool = Field(True, description="with bars that are not yet in the lake")
    format: Format | None = Field(None, description="json, csv or arrow; default by the Accept header")


class BarsList(BarsOf):
    """Parameters of the list over all series."""

    metric: Annotated[str | None, TEXT] = Field(None, description=METRIC_HELP)
    symbol: Annotated[str | None, TEXT] = Field(None, description="the same as `metric`; give one of the two")
    timeframe: Annotated[str | None, TEXT] = Field(None, description=f"{TIMEFRAME_HELP}; default: all")


FORMATS: dict[int | str, dict[str, Any]] = {
    200: {
        "model": Envelope[list[BarResponse]],
        "content": {media.split(";")[0]: {} for fmt, media in MEDIA_TYPES.items() if fmt is not Format.JSON},
    },
    304: {"description": "The copy named by If-None-Match is still right"},
}


@router.get("/api/bars", responses={**FORMATS, **documented(401, 404, 422, 429, 503)})
async def list_bars(request: Request, services: ServicesDep, asked: Annotated[BarsList, Query()]) -> Response:
    """Bars of all series or one, newest first."""
    if asked.metric is not None and asked.symbol is not None:
        raise InputError("symbol", asked.symbol, "give metric or symbol, not both")
    name = asked.metric if asked.metric is not None else asked.symbol
    series = await services.series(name, asked.exchange) if name is not None else None
    return await _answered(request, services, asked, series, timeframes_of(asked.timeframe))


@router.get("/api/bars/{metric}/{timeframe}", responses={**FORMATS, **documented(401, 404, 422, 429, 503)})
async def read_bars(
    request: Request,
    services: ServicesDep,
    metric: Annotated[str, Path(max_length=64, description=METRIC_HELP, examples=["BTC"])],
    timeframe: Annotated[str, Path(max_length=16, description=TIMEFRAME_HELP, examples=["1h"])],
    asked: Annotated[BarsOf, Query()],
) -> Response:
    """Bars of one metric or symbol, newest first."""
    wanted = (parse_timeframe(timeframe),)
    return await _answered(request, services, asked, await services.series(metric, asked.exchange), wanted)


async def _answered(
    request: Request, services: Services, asked: BarsOf, series: Series | None, timeframes: tuple[Timeframe, ...]
) -> Response:
    question, tail = _question(asked, series, timeframes), await services.tail.fresh()
    names = services.metric_names
    fresh = of_bars(services.clock(), timeframes, is_about_now=_is_about_now(question))

    def noted(answer: Answer) -> Answer:
        return fresh.noted(answer, newest_bar(services.reader, series, timeframes))

    async def find() -> Answer:
        quick = bars.quick_bars(services.reader, tail, question, names)
        if quick is not None:
            return noted(quick)
        return await services.in_thread(lambda: noted(bars.find_bars(services.reader, tail, question, names)))

    fmt = asked_format(request, asked.format)
    version = (tail.version, tail.is_lost, fresh.version)
    return await services.answer(request, question, ["bars"], find, extra_version=version, fmt=fmt)


def _is_about_now(question: Question) -> bool:
    return question.newest_first and question.end is None and question.after is None


def _question(asked: BarsOf, series: Series | None, timeframes: tuple[Timeframe, ...]) -> Question:
    check_period(asked.start, asked.end)
    return Question(
        table="bars",
        timeframes=timeframes,
        series=series,
        exchange=parse_venue(asked.exchange) if asked.exchange and series is None else None,
        start=asked.start,
        end=asked.end,
        limit=asked.limit,
        newest_first=asked.order is Order.DESC,
        after=tuple(decode_cursor(asked.cursor, 4)) if asked.cursor else None,
        qualities=(asked.quality.value,) if asked.quality else (),
        include_provisional=asked.include_provisional,
    )
