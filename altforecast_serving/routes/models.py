"""`/api/models`: which models there are, which of them answers, and the card of each.

What belongs here: handlers. What does not: reading the model log (`queries.models`) and the shapes of answers (`forecast_models`).
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from altforecast_serving.dependencies import ServicesDep
from altforecast_serving.errors import documented
from altforecast_serving.lineage import Envelope
from altforecast_serving.queries.models import find_model_card, find_models
from altforecast_serving.routes.forecast_models import HorizonModels, ModelCard

router = APIRouter(tags=["models"])
VersionPath = Annotated[str, Path(max_length=64, description="version of a model", examples=["1h-20261121T1430-3f9a2c"])]


@router.get("/api/models", responses={200: {"model": Envelope[list[HorizonModels]]}, **documented(401, 429, 503)})
async def list_models(request: Request, services: ServicesDep) -> Response:
    """Per horizon: champion, challenger, newest candidates, newest entries of the log."""
    version = await services.in_thread(services.models.version)
    return await services.answer_in_thread(request, "models", [], lambda: find_models(services.models), extra_version=version)


@router.get("/api/models/{version}", responses={200: {"model": Envelope[ModelCard]}, **documented(401, 404, 429, 503)})
async def read_model(request: Request, services: ServicesDep, version: VersionPath) -> Response:
    """Everything that is known of one model."""
    seen = await services.in_thread(services.models.version)
    return await services.answer_in_thread(
        request, ("model", version), [], lambda: find_model_card(services.models, version), extra_version=seen
    )
