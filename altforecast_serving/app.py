"""The one FastAPI app: webhook, /api, documentation, health and pages.

What belongs here: putting routers and middleware together, opening and closing services. What does not: what routes do.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from asgi_correlation_id import CorrelationIdMiddleware
from fastapi import APIRouter, Depends, FastAPI
from starlette.middleware.gzip import GZipMiddleware
from starlette.staticfiles import StaticFiles

from altforecast import CODE_VERSION
from altforecast_io.bus import Bus
from altforecast_io.clock import utc_now
from altforecast_io.settings import Settings
from altforecast_io.store.engine import Store
from altforecast_serving.access import AccessLog, HeadAsGet
from altforecast_serving.auth import admit
from altforecast_serving.dependencies import LiveView, open_services
from altforecast_serving.errors import install_error_handlers
from altforecast_serving.metrics import Metrics
from altforecast_serving.routes import (
    arbitrage,
    bars,
    charts,
    divergences,
    documentation,
    evidence,
    forecasts,
    health,
    indicators,
    keys,
    levels,
    lineage,
    models,
    regime,
    settings,
    sockets,
    stats,
    streams,
    webhook,
)
from altforecast_serving.wires import OuterSocket

STATIC = Path(__file__).resolve().parent / "web" / "static"
GZIP_BYTES = 4096
"""Smaller answers are sent as they are: packing them costs more than it saves."""
ABOUT = (
    "Bars, indicators and signals of the AltForecast platform. Every answer under /api names the run, data version and "
    "known_at that it rests on; /api/lineage/{id} opens the record. Times are UTC. Errors have one body: error, detail, request_id."
)
API_ROUTERS = (
    bars, indicators, divergences, levels, evidence, regime, forecasts, models, stats, streams, lineage, settings, keys, charts, arbitrage,
)  # fmt: skip
OPTIONAL_ROUTERS = ("altforecast_serving.routes.context", "altforecast_serving.routes.pages")
"""Routers that are attached where their module is installed."""


def create_app(settings: Settings | None = None, live: LiveView | None = None, bus: Bus | None = None) -> FastAPI:
    """The app; stores are opened when it starts and closed when it ends.

    settings: read from the environment where None.  live: what the realtime engine adds, where it runs.
    bus: what realtime writes to, where it runs in this process; None opens the one of REDIS_URL, if any.
    """
    effective = settings if settings is not None else Settings.load()
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_services(effective, metrics, live, store=app.state.given_store, bus=bus) as services:
            app.state.services, app.state.inbox, app.state.store = services, services.inbox, services.store
            yield

    app = FastAPI(title="AltForecast API", version=CODE_VERSION, description=ABOUT, docs_url=None, redoc_url=None, lifespan=lifespan)
    app.state.settings, app.state.clock, app.state.metrics, app.state.given_store = effective, utc_now, metrics, None
    install_error_handlers(app)
    app.add_middleware(GZipMiddleware, minimum_size=GZIP_BYTES, compresslevel=4)
    app.add_middleware(HeadAsGet)
    app.add_middleware(AccessLog, metrics=metrics)
    app.add_middleware(CorrelationIdMiddleware, generator=_request_id)
    app.add_middleware(OuterSocket)
    _attach_public(app, metrics)
    create_rest_api_router(app)
    _attach_pages(app)
    return app


def _request_id() -> str:
    # uuid4 reads the system's entropy on every call and so hands the interpreter to the writer thread; an id is no secret.
    return f"{random.getrandbits(128):032x}"


def create_rest_api_router(app: FastAPI, db: Store | None = None) -> APIRouter:
    """Attach every /api route (and those under the same gate) to the app, and return them as one router.

    db: an open store to use instead of the one that the settings name; its owner closes it.
    """
    if db is not None:
        app.state.given_store = db
    router = APIRouter(dependencies=[Depends(admit)])
    for module in API_ROUTERS:
        router.include_router(module.router)
    if find_spec(OPTIONAL_ROUTERS[0]) is not None:
        router.include_router(import_module(OPTIONAL_ROUTERS[0]).router)
    app.include_router(router)
    return router


def _attach_public(app: FastAPI, metrics: Metrics) -> None:
    """Routes without a rate limit of their own: probes, documentation, and the webhook, which checks its secret."""
    for module in (webhook, health, documentation, sockets):  # the webhook first: routes are tried in order
        app.include_router(module.router)
    for collector in webhook.COLLECTORS:
        metrics.registry.register(collector)


def _attach_pages(app: FastAPI) -> None:
    if find_spec(OPTIONAL_ROUTERS[1]) is not None:
        app.include_router(import_module(OPTIONAL_ROUTERS[1]).router)
    if STATIC.is_dir():
        app.mount("/static", StaticFiles(directory=STATIC), name="static")
