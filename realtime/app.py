"""The realtime process: which tasks run beside the hosted API, and in which order everything starts and stops.

What belongs here: composition. What does not: what the tasks do, and reading settings (`__main__`).
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import socket
from collections.abc import Iterator
from contextlib import AsyncExitStack

import structlog
import uvicorn

from altforecast.errors import AltForecastError, SettingsError
from altforecast_io.bus import Bus, bus_namespace, open_bus
from altforecast_io.clock import utc_now
from altforecast_io.settings import Settings
from altforecast_io.store.engine import Store, open_store
from altforecast_serving.app import create_app
from realtime.books import BookSide, open_books
from realtime.delivery import Delivery, drain_outbox
from realtime.digest import run_digest
from realtime.health import Health, send_heartbeats, watch_loop
from realtime.supervise import Work, backoff, supervise
from realtime.transfer_terms import keep_transfer_terms

NAME = "realtime"
DRAIN_S = 5
"""How long open requests may take after a stop was asked for."""
STOP_S = 15.0
"""After it the stop is no longer waited for."""
MAX_CONNECTIONS = 2000
"""Open connections; the next request is answered 503."""
MAX_CLIENT_MESSAGE_BYTES = 65_536
"""A WebSocket client that sends a longer message is closed with 1009."""
log = structlog.get_logger(__name__)


class StartError(AltForecastError):
    """The API could not be started; the log says why."""

    code = "start_failed"


class HostedServer(uvicorn.Server):
    """uvicorn inside our loop: signals stay ours, and we are told when it is ready."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to `__main__`."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start as uvicorn does, then say so."""
        await super().startup(sockets)
        if self.started:
            self.ready.set()


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Run until `stop` is set, then stop in order: feeds, engine, writers, HTTP intake, inbox, bus, store.

    Raises SettingsError for a port that is taken, StartError when the API does not come up, and whatever a bug raises.
    """
    settings.make_folders()
    health = Health(utc_now())
    async with AsyncExitStack() as resources:
        listener = resources.enter_context(contextlib.closing(_listen(settings.host, settings.port)))
        store = await asyncio.to_thread(open_store, settings.database_url, settings.environment)
        resources.callback(store.close)
        bus = await resources.enter_async_context(
            open_bus(settings.redis_url, bus_namespace(settings.environment), dead_letters_max=settings.bus_dlq_max)
        )
        books = await resources.enter_async_context(open_books(settings, bus))
        if books is not None:
            health.parts.append(books.health)
        app = create_app(settings, live=health, bus=bus)
        server = HostedServer(_config(app))
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(server.serve([listener]), name="http")
            await _until_ready(server, serving)
            health.inbox = app.state.inbox
            beside = _start_beside(tasks, store, health, bus, settings, books)
            if books is not None:
                books.start(tasks)
            # What exists now lives until the end: collections need not look at it again.
            gc.collect()
            gc.freeze()
            health.is_started = (lambda: True) if books is None else (lambda: books.is_settled)
            log.info("realtime_ready", address="http://{}:{}".format(*listener.getsockname()), environment=settings.environment)
            await _until_asked(serving, stop)
            if books is not None:
                await books.stop()
            await _stop_serving(server, serving)
            for task in beside:
                task.cancel()
    log.info("realtime_stopped")


def _start_beside(
    tasks: asyncio.TaskGroup, store: Store, health: Health, bus: Bus, settings: Settings, books: BookSide | None
) -> list[asyncio.Task[None]]:
    delivery = Delivery(settings)
    health.parts.append(delivery.health)
    works: dict[str, Work] = {
        "heartbeat": lambda is_good: send_heartbeats(store, health, NAME, is_good),
        "digest": lambda is_good: run_digest(bus, store, settings, is_good),
        "delivery": lambda is_good: drain_outbox(store, settings, is_good, state=delivery),
    }
    if books is not None and (terms := books.terms) is not None:
        works["transfer-terms"] = lambda is_good: keep_transfer_terms(store, terms, is_good)
    supervised = ((name, supervise(name, work, delays=lambda: backoff(random.random))) for name, work in works.items())
    return [tasks.create_task(watch_loop(health), name="loop-lag"), *(tasks.create_task(task, name=name) for name, task in supervised)]


def _listen(host: str, port: int) -> socket.socket:
    """A bound IPv4 socket: TradingView calls over IPv4 only."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise SettingsError(f"PORT: cannot listen on {host}:{port} ({error.strerror}); stop the other program or set PORT") from None
    return listener


def _config(app: object) -> uvicorn.Config:
    return uvicorn.Config(
        app,  # type: ignore[arg-type]
        http="httptools",
        lifespan="on",
        # An access log would print paths, and a path may hold the webhook's secret.
        access_log=False,
        log_config=None,
        # Only our own list of trusted proxies decides whose X-Forwarded-For counts.
        proxy_headers=False,
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=65,
        # Clients of the feeds say next to nothing; packing each frame for each of them would cost more than it saves.
        ws="websockets-sansio",
        ws_max_size=MAX_CLIENT_MESSAGE_BYTES,
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=DRAIN_S,
    )


async def _until_ready(server: HostedServer, serving: asyncio.Task[None]) -> None:
    ready = asyncio.ensure_future(server.ready.wait())
    await asyncio.wait({ready, serving}, return_when=asyncio.FIRST_COMPLETED)
    ready.cancel()
    if not server.ready.is_set():
        raise StartError("the API did not start; see the lines above")


async def _until_asked(serving: asyncio.Task[None], stop: asyncio.Event) -> None:
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait({stopping, serving}, return_when=asyncio.FIRST_COMPLETED)
    if not stop.is_set():
        stopping.cancel()
        raise StartError("the HTTP server ended by itself")
    log.info("realtime_stopping")


async def _stop_serving(server: HostedServer, serving: asyncio.Task[None]) -> None:
    server.should_exit = True
    _, late = await asyncio.wait({serving}, timeout=STOP_S)
    if late:
        log.error("stop_deadline_passed", seconds=STOP_S)
        serving.cancel()
