"""`/api/divergences`: price/oscillator disagreements as they stand, each with what its kind has been worth.

What belongs here: parameters and response models. What does not: finding events (`queries.divergences`).
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from altforecast.types import DivergenceKind, DivergenceStatus, Implication, Oscillator, Timeframe
from altforecast_serving.dependencies import ServicesDep
from altforecast_serving.errors import documented
from altforecast_serving.lineage import Answer, Envelope
from altforecast_serving.queries.cursors import decode_cursor
from altforecast_serving.queries.divergences import DivergencesQuestion, find_divergences
from altforecast_serving.queries.freshness import newest_bar, of_bars
from altforecast_serving.routes.evidence import EvidenceBeside
from altforecast_serving.routes.parameters import MAX_ROWS, METRIC_HELP, TEXT, TIMEFRAME_HELP, Period, check_period, timeframes_of

router = APIRouter(tags=["signals"])


class DivergenceResponse(BaseModel):
    """One event at its newest status."""

    id: str
    ts: datetime = Field(description="open of the bar whose close brought the present status")
    metric: str | None
    symbol: str
    exchange: str
    timeframe: Timeframe
    oscillator: Oscillator
    kind: DivergenceKind
    status: DivergenceStatus
    implication: Implication
    p1_ts: datetime
    p2_ts: datetime
    p1_price: float
    p2_price: float
    p1_osc: float
    p2_osc: float
    confirm_price: float
    invalidate_price: float
    is_line_of_sight: bool
    active_at: datetime = Field(description="when the event became known")
    known_at: datetime = Field(description="when the present status became known")
    evidence: EvidenceBeside | None = Field(description="what this kind has been worth in this lake")
    verdict: str = Field(description="the evidence in plain words")


class Divergences(Period):
    """Parameters: which events. `to` means as of: what became known later does not exist for the answer."""

    status: DivergenceStatus | None = None
    metric: Annotated[str | None, TEXT] = Field(None, description=METRIC_HELP)
    exchange: str | None = Field(None, max_length=32)
    timeframe: Annotated[str | None, TEXT] = Field(None, description=f"{TIMEFRAME_HELP}; default: all")
    kind: DivergenceKind | None = None
    oscillator: Oscillator | None = None
    limit: int = Field(100, ge=1, le=MAX_ROWS)
    cursor: str | None = Field(None, max_length=512)


@router.get("/api/divergences", responses={200: {"model": Envelope[list[DivergenceResponse]]}, **documented(401, 404, 422, 429)})
async def list_divergences(request: Request, services: ServicesDep, asked: Annotated[Divergences, Query()]) -> Response:
    """Events by their last status change, newest first."""
    check_period(asked.start, asked.end)
    question = DivergencesQuestion(
        timeframes=timeframes_of(asked.timeframe),
        series=await services.series(asked.metric, asked.exchange) if asked.metric is not None else None,
        statuses=(asked.status.value,) if asked.status else (), kinds=(asked.kind.value,) if asked.kind else (),
        oscillators=(asked.oscillator.value,) if asked.oscillator else (), start=asked.start, end=asked.end, limit=asked.limit,
        after=tuple(decode_cursor(asked.cursor, 2)) if asked.cursor else None,
    )  # fmt: skip
    fresh = of_bars(services.clock(), question.timeframes, is_about_now=question.end is None and question.after is None)

    def find() -> Answer:
        found = find_divergences(services.reader, question, services.metric_names)
        return fresh.noted(found, newest_bar(services.reader, question.series, question.timeframes))

    return await services.answer_in_thread(request, question, ["divergences", "evidence", "bars"], find, extra_version=fresh.version)
