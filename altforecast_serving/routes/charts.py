"""`/chart/test`: a price chart as SVG, drawn without a library.

What belongs here: parameters. What does not: geometry (`charts.price`), finding bars (`queries.bars`).
"""

from __future__ import annotations

from typing import Annotated

import polars as pl
from fastapi import APIRouter, Query
from pydantic import Field
from starlette.responses import Response

from altforecast.symbols import parse_timeframe
from altforecast_serving.charts.price import price_chart
from altforecast_serving.dependencies import ServicesDep
from altforecast_serving.errors import documented
from altforecast_serving.queries.bars import find_bars
from altforecast_serving.queries.rows import Question
from altforecast_serving.routes.parameters import METRIC_HELP, TEXT, TIMEFRAME_HELP, Parameters

router = APIRouter(tags=["charts"])


class ChartOf(Parameters):
    """Parameters."""

    symbol: Annotated[str | None, TEXT] = Field(None, description=f"{METRIC_HELP}; default: SYMBOL")
    timeframe: Annotated[str | None, TEXT] = Field(None, description=f"{TIMEFRAME_HELP}; default: TIMEFRAME")
    exchange: str | None = Field(None, max_length=32)
    limit: int = Field(120, ge=2, le=500, description="candles")


@router.get("/chart/test", response_class=Response, responses={200: {"content": {"image/svg+xml": {}}}, **documented(401, 404, 422, 429)})
async def draw_price(services: ServicesDep, asked: Annotated[ChartOf, Query()]) -> Response:
    """The newest candles of one series."""
    timeframe = parse_timeframe(services.settings.timeframe if asked.timeframe is None else asked.timeframe)
    name = services.settings.symbol if asked.symbol is None else asked.symbol
    # The default symbol need not be in the lake: BTC is then the series that everybody has or is told how to get.
    series = await services.series("BTC" if asked.symbol is None and not await services.has_symbol(name) else name, asked.exchange)
    tail, question = await services.tail.fresh(), Question("bars", (timeframe,), series, limit=asked.limit)
    answer = await services.in_thread(lambda: find_bars(services.reader, tail, question, services.metric_names))
    rows = answer.data.reverse().to_dicts() if isinstance(answer.data, pl.DataFrame) else []
    title = f"{series.symbol} · {series.exchange} · {timeframe.value}" + (" · sandbox" if services.environment == "sandbox" else "")
    return Response(price_chart(rows, title), headers={"Cache-Control": "no-cache"}, media_type="image/svg+xml")
