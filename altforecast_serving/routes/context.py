"""`GET /context`: dominance of BTC, Fear & Greed, the dollar index.

What belongs here: the route and the shape of its answer. What does not: asking the suppliers (`altforecast_io.market_context`).
"""

from __future__ import annotations

from datetime import datetime

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from altforecast_io.breaker import COLLECTORS
from altforecast_io.market_context import ContextView, MarketContext
from altforecast_serving.answers import render
from altforecast_serving.dependencies import Services, ServicesDep
from altforecast_serving.lineage import Answer, Envelope, newest_known

router = APIRouter(tags=["context"])


class FearGreed(BaseModel):
    """The supplier's value and its own word for it."""

    value: int = Field(ge=0, le=100, examples=[41])
    classification: str | None = Field(serialization_alias="class", examples=["Fear"])
    ts: datetime = Field(description="day that the value is for")


class ContextSource(BaseModel):
    """How one supplier did."""

    name: str = Field(examples=["coingecko"])
    state: str = Field(description="ok | cached | failed | disabled")
    detail: str = Field(description="why it failed; empty otherwise")


class Context(BaseModel):
    """Figures from outside; null where a supplier failed or is switched off."""

    btc_dominance: float | None = Field(description="share of BTC in all market value [%]", examples=[54.3])
    total_market_cap_usd: float | None = Field(description="market value of all coins [USD]")
    fear_greed: FearGreed | None
    dxy: float | None = Field(description="dollar index [points]")
    sources: list[ContextSource]


@router.get("/context", response_model=Envelope[Context], summary="BTC dominance, Fear & Greed, dollar index")
async def context(request: Request, services: ServicesDep) -> Response:
    """Figures of outside suppliers, cached and behind a breaker each; one that fails is null and named in `sources`."""
    view = await context_of(request, services).read()
    rendered = render(context_answer(view), services.environment)
    return Response(rendered.body, 200, rendered.headers, rendered.media_type)


def context_of(request: Request, services: Services) -> MarketContext:
    """The app's one reader of market context, made at its first use."""
    state = request.app.state
    if getattr(state, "market_context", None) is None:
        state.market_context = MarketContext(services.settings, clock=services.clock)
        for collector in COLLECTORS:
            services.metrics.registry.register(collector)
    found: MarketContext = state.market_context
    return found


def context_answer(view: ContextView) -> Answer:
    """The body of the answer; its lineage names when the newest figure became known."""
    values = {name: reading.value for name, reading in view.readings.items()}
    fear = view.readings.get("fear_greed")
    body = Context(
        btc_dominance=values.get("btc_dominance_pct"),
        total_market_cap_usd=values.get("total_market_cap_usd"),
        fear_greed=None if fear is None else FearGreed(value=round(fear.value), classification=fear.label, ts=fear.ts),
        dxy=values.get("dxy"),
        sources=[ContextSource(name=s.name, state=s.state, detail=s.detail) for s in view.sources],
    )
    failed = [f"{s.name}: {s.detail}" for s in view.sources if s.state == "failed"]
    known_at = newest_known(reading.known_at for reading in view.readings.values())
    return Answer(body.model_dump(by_alias=True), known_at=known_at, warnings=failed)
