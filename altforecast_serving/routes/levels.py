"""`/api/levels`: support and resistance of one series as they stand.

What belongs here: parameters and response model. What does not: the state of levels (`queries.levels`).
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from altforecast.symbols import parse_timeframe
from altforecast.types import LevelEvent, Timeframe
from altforecast_serving.dependencies import ServicesDep
from altforecast_serving.errors import documented
from altforecast_serving.lineage import Answer, Envelope
from altforecast_serving.queries.freshness import newest_bar, of_bars
from altforecast_serving.queries.levels import find_levels
from altforecast_serving.routes.evidence import EvidenceBeside
from altforecast_serving.routes.indicators import MetricPath, TimeframePath
from altforecast_serving.routes.parameters import Moment, Parameters

router = APIRouter(tags=["signals"])


class LevelSide(StrEnum):
    """Below or above the price."""

    SUPPORT = "support"
    RESISTANCE = "resistance"


class LevelResponse(BaseModel):
    """One live level."""

    id: str
    ts: datetime = Field(description="open of the bar of its last event")
    metric: str | None
    symbol: str
    exchange: str
    timeframe: Timeframe
    event: LevelEvent = Field(description="its last event")
    price: float
    band: float = Field(description="half width")
    side: LevelSide
    n_pivots: int
    n_touches: int
    n_breaks: int
    strength: float = Field(description="touches decayed by age")
    distance_atr: float = Field(description="newest close - price, in ATR, at the newest bar")
    first_touch_ts: datetime
    last_touch_ts: datetime
    n_bars_since_touch: int
    known_at: datetime
    evidence: EvidenceBeside | None
    verdict: str


class LevelsOf(Parameters):
    """Parameters."""

    exchange: str | None = Field(None, max_length=32)
    as_of: Moment | None = Field(None, description="levels as known then; default: at the series' newest close")
    side: LevelSide | None = None
    limit: int = Field(40, ge=1, le=200)


@router.get("/api/levels/{metric}/{timeframe}", responses={200: {"model": Envelope[list[LevelResponse]]}, **documented(401, 404, 422, 429)})
async def read_levels(
    request: Request, services: ServicesDep, metric: MetricPath, timeframe: TimeframePath, asked: Annotated[LevelsOf, Query()]
) -> Response:
    """Live levels, nearest to the price first."""
    wanted, series = parse_timeframe(timeframe), await services.series(metric, asked.exchange)
    side, as_of, limit = asked.side.value if asked.side else None, asked.as_of, asked.limit
    fresh = of_bars(services.clock(), (wanted,), is_about_now=as_of is None)

    def find() -> Answer:
        found = find_levels(services.reader, series, wanted, services.metric_names, as_of=as_of, side=side, limit=limit)
        return fresh.noted(found, newest_bar(services.reader, series, (wanted,)))

    return await services.answer_in_thread(
        request, ("levels", series, wanted, as_of, side, limit), ["levels", "evidence", "bars", "indicators"], find,
        extra_version=fresh.version,
    )  # fmt: skip
