"""`/api/streams`: the delivery ledger of TradingView alerts.

What belongs here: response models. What does not: the judgement (`altforecast.streams`).
"""

from __future__ import annotations

from datetime import datetime

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.responses import Response

from altforecast.streams import StreamState
from altforecast.types import Metric, Timeframe
from altforecast_serving.answers import render
from altforecast_serving.dependencies import ServicesDep
from altforecast_serving.errors import documented
from altforecast_serving.lineage import Envelope
from altforecast_serving.queries.streams import find_streams

router = APIRouter(tags=["overview"])


class StreamResponse(BaseModel):
    """One expected stream of alerts."""

    metric: Metric
    exchange: str
    symbol: str
    timeframe: Timeframe
    state: StreamState
    newest_ts: datetime | None
    expected_next_at: datetime
    last_received_at: datetime | None
    n_received: int
    n_duplicates: int
    n_revisions: int
    n_expected: int
    missing: list[datetime]
    repaired: list[datetime]
    is_repairable: bool


class StreamsResponse(BaseModel):
    """All expected streams."""

    as_of: datetime
    n_streams: int
    summary: dict[str, int] = Field(description="streams by state")
    streams: list[StreamResponse]


@router.get("/api/streams", responses={200: {"model": Envelope[StreamsResponse]}, **documented(401, 429, 503)})
async def read_streams(services: ServicesDep) -> Response:
    """How each of the 24 expected streams does at this moment."""
    now, settings = services.clock(), services.settings
    has_secret = settings.secret_webhook_token is not None or settings.environment == "sandbox"
    answer = await services.in_thread(
        lambda: find_streams(services.reader, services.store, now, settings.tv_btc_symbol, has_secret=has_secret)
    )
    rendered = render(answer, services.environment)
    return Response(rendered.body, 200, {"Cache-Control": "no-store"}, rendered.media_type)
