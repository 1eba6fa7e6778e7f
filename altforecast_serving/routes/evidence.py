"""`/api/evidence`: what each kind of signal has been worth in this lake.

What belongs here: parameters and response models. What does not: measuring (pipelines).
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from altforecast.symbols import parse_timeframe
from altforecast_serving.dependencies import ServicesDep
from altforecast_serving.errors import documented
from altforecast_serving.lineage import Envelope
from altforecast_serving.queries.evidence import find_evidence
from altforecast_serving.routes.parameters import TEXT, TIMEFRAME_HELP, Parameters

router = APIRouter(tags=["signals"])


class Signal(StrEnum):
    """What evidence is measured for."""

    DIVERGENCE = "divergence"
    LEVEL = "level"


class EvidenceBeside(BaseModel):
    """Evidence as it stands beside a signal."""

    n: int = Field(description="matured events")
    n_control: int = Field(description="matured control events")
    hit_frac: float | None = Field(description="share of hits, 0-1")
    base_frac: float | None = Field(description="share of hits of the control, 0-1")
    lift_pp: float | None = Field(description="hit - base [percentage points]")
    ci_low_pp: float | None
    ci_high_pp: float | None
    p_value: float | None
    is_significant: bool = Field(description="after Holm correction")
    verdict: str
    known_at: datetime


class EvidenceResponse(EvidenceBeside):
    """One kind of signal on one timeframe."""

    ts: datetime = Field(description="outcomes known before this moment are counted")
    timeframe: str
    signal: Signal
    oscillator: str = Field(description="rsi, macd or volume; empty for levels")
    kind: str


class EvidenceOf(Parameters):
    """Parameters."""

    timeframe: Annotated[str | None, TEXT] = Field(None, description=f"{TIMEFRAME_HELP}; default: all")
    signal: Signal | None = None


@router.get("/api/evidence", responses={200: {"model": Envelope[list[EvidenceResponse]]}, **documented(401, 422, 429)})
async def read_evidence(request: Request, services: ServicesDep, asked: Annotated[EvidenceOf, Query()]) -> Response:
    """The newest measurement of each kind of signal."""
    timeframe = parse_timeframe(asked.timeframe).value if asked.timeframe is not None else None
    signal = asked.signal.value if asked.signal else None
    return await services.answer_in_thread(
        request, ("evidence", timeframe, signal), ["evidence"], lambda: find_evidence(services.reader, timeframe, signal)
    )
