"""`/api/lineage/{id}`: the record behind a number.

What belongs here: parameters and the response model. What does not: following inputs (`queries.lineage`).
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from altforecast_serving.answers import render
from altforecast_serving.dependencies import ServicesDep
from altforecast_serving.errors import documented
from altforecast_serving.lineage import Envelope
from altforecast_serving.queries.lineage import MAX_DEPTH, find_lineage
from altforecast_serving.routes.parameters import Parameters

router = APIRouter(tags=["lineage"])


class LineageRecord(BaseModel):
    """A lake file's provenance, or one delivery of the inbox."""

    model_config = ConfigDict(extra="allow")

    id: str = Field(description="data version, inbox:<id> or landing file")
    kind: str = Field(description="lake, inbox or landing")
    inputs: list[dict[str, Any]] = Field(
        description="kind, name, data_version of each input; `record` is the input's own record, `is_cut` says that it was not opened"
    )


class LineageOf(Parameters):
    """Parameters."""

    depth: int = Field(2, ge=0, le=MAX_DEPTH, description="levels of inputs to open")


@router.get("/api/lineage/{id}", responses={200: {"model": Envelope[LineageRecord]}, **documented(401, 404, 422, 429, 503)})
async def read_lineage(
    services: ServicesDep,
    name: Annotated[
        str,
        Path(alias="id", max_length=100, description="data version, part name, inbox:<id> or landing file", examples=["bars@1h@2024-01"]),
    ],
    asked: Annotated[LineageOf, Query()],
) -> Response:
    """Which run wrote it, with which code, from what; inputs are opened recursively."""
    answer = await services.in_thread(lambda: find_lineage(services.reader, services.store, name, asked.depth))
    rendered = render(answer, services.environment)
    return Response(rendered.body, 200, {"Cache-Control": "no-cache"}, rendered.media_type)
