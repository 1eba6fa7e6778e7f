"""`/healthz`, `/health`, `/metrics`: liveness, the matrix, and Prometheus.

What belongs here: their old shapes, which stay without the envelope. What does not: judging components (`queries.health`).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

import orjson
import structlog
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import text
from starlette.responses import Response

from altforecast.errors import StorageError
from altforecast_io.store.engine import Store
from altforecast_serving.dependencies import Services, ServicesDep
from altforecast_serving.lineage import JSON_OPTIONS
from altforecast_serving.metrics import CONTENT_TYPE
from altforecast_serving.queries.forecast_health import FORECAST_GAUGES, forecast_gauges
from altforecast_serving.queries.health import find_health

router = APIRouter(tags=["health"])
log = structlog.get_logger(__name__)
ALIVE = orjson.dumps({"status": "ok"})
NO_STORE = {"Cache-Control": "no-store"}


class Component(BaseModel):
    """One component; figures depend on which."""

    model_config = ConfigDict(extra="allow")

    ok: bool


class HealthResponse(BaseModel):
    """The health matrix."""

    ok: bool = Field(description="everything works")
    status: Literal["healthy", "degraded", "unhealthy"]
    components: dict[str, Component] = Field(
        description="db, broker, bus, time_sync, lake, inbox, dagster, forecasts and what realtime adds"
    )
    version: str
    mode: str
    degradation_level: str
    environment: str
    checked_at: datetime


class AliveResponse(BaseModel):
    """The process answers."""

    status: Literal["ok"]


@router.get("/healthz", responses={200: {"model": AliveResponse}})
async def read_liveness() -> Response:
    """Liveness: constant and cheap."""
    return Response(ALIVE, headers=NO_STORE, media_type="application/json")


@router.get("/health", responses={200: {"model": HealthResponse}, 503: {"model": HealthResponse, "description": "unhealthy"}})
async def read_health(services: ServicesDep) -> Response:
    """The matrix: 200 while right answers can be served (healthy or degraded), 503 when not."""
    live = services.live.health() if services.live else await _feed(services)
    now = services.clock()
    found = await services.in_thread(
        lambda: find_health(services.settings, services.store, services.reader, services.inbox, services.bus, now, live)
    )
    status = 503 if found["status"] == "unhealthy" else 200
    return Response(orjson.dumps(found, option=JSON_OPTIONS), status, NO_STORE, "application/json")


async def _feed(services: Services) -> dict[str, dict[str, Any]]:
    """Of an API apart from realtime: whether somebody writes to the bus that it reads."""
    if services.bus is None or services.bus.health().kind == "memory":
        return {}
    try:
        is_fed = await services.bus.is_fed()
    except StorageError as error:
        return {"feed": {"ok": False, "detail": str(error)}}
    return {"feed": {"ok": is_fed, **({} if is_fed else {"detail": "no realtime process writes to the bus"})}}


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def read_metrics(services: ServicesDep) -> Response:
    """Prometheus text format."""
    await services.in_thread(lambda: _set_gauges(services))
    return Response(services.metrics.render(), headers=NO_STORE, media_type=CONTENT_TYPE)


def _set_gauges(services: Services) -> None:
    sizes = _sqlite_sizes(services.store)
    page, count, free = sizes if sizes else (None, None, None)
    set_gauge = services.metrics.set_gauge
    set_gauge("sqlite_file_size_bytes", "Size of the SQLite store [bytes]; NaN on PostgreSQL", page * count if page and count else None)
    set_gauge(
        "sqlite_fragmentation_percent", "Free pages of the SQLite store [%]", 100 * free / count if count and free is not None else None
    )
    set_gauge("sqlite_page_size_bytes", "Page size of the SQLite store [bytes]", page)
    set_gauge("inbox_queue_size", "Alerts waiting for a commit", services.inbox.depth)
    live = services.live.health() if services.live else {}
    drift: Any = live.get("time_sync", {}).get("drift_ms")
    set_gauge("time_drift_ms", "Clock drift against venues [ms]; NaN where it is not measured", drift)
    _set_forecast_gauges(services)


def _set_forecast_gauges(services: Services) -> None:
    try:
        readings = list(forecast_gauges(services.reader, services.clock()))
    except StorageError as error:
        log.warning("forecasts_not_readable", error=str(error))
        readings = []
    for name in FORECAST_GAUGES:
        services.metrics.clear_labelled(name)
    for reading in readings:
        services.metrics.set_labelled(*reading)


def _sqlite_sizes(store: Store) -> tuple[int, int, int] | None:
    """Page size, pages and free pages; None for another database or one that does not answer."""
    if store.dialect != "sqlite":
        return None
    try:
        with store.read() as connection:
            page, count, free = (
                connection.execute(text(f"PRAGMA {name}")).scalar_one() for name in ("page_size", "page_count", "freelist_count")
            )
    except StorageError:
        return None
    return int(page), int(count), int(free)
