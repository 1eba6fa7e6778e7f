"""What handlers are given: one Services object per app, opened at its start and closed at its end.

What belongs here: opening, holding and closing stores, caches and limits. What does not: HTTP routes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any, Protocol, TypeVar

import anyio
import structlog
from anyio import to_thread
from fastapi import Depends, Request
from starlette.responses import Response

from altforecast.errors import BusyError
from altforecast.types import Series, Timeframe
from altforecast_io.bus import Bus, bus_namespace, open_bus
from altforecast_io.clock import Clock, utc_now
from altforecast_io.lake import Lake
from altforecast_io.settings import Settings
from altforecast_io.store.engine import Store, open_store
from altforecast_serving.answers import AnswerCache, Format, answered
from altforecast_serving.auth import KeyRing
from altforecast_serving.fanout import Hub
from altforecast_serving.limits import TokenBuckets
from altforecast_serving.lineage import Answer
from altforecast_serving.metrics import Metrics
from altforecast_serving.queries.lake import LakeReader
from altforecast_serving.queries.models import ModelLog
from altforecast_serving.queries.names import metric_names, resolve_series
from altforecast_serving.queries.tail import CountingInboxWriter, TailReader

T = TypeVar("T")
log = structlog.get_logger(__name__)
MAX_QUERIES = 4
"""Queries that read files at once."""
MAX_WAITING = 64
"""Queries that wait for their turn; the next one is answered 503 and may be tried again."""


class LiveView(Protocol):
    """What serving sees of the realtime engine, whether it runs in this process or not."""

    def health(self) -> dict[str, dict[str, Any]]:
        """Health components to add or replace, by name; each has at least `ok`."""
        ...


@dataclass
class Services:
    """Everything a handler may use."""

    settings: Settings
    lake: Lake
    store: Store
    inbox: CountingInboxWriter
    reader: LakeReader
    tail: TailReader
    keys: KeyRing
    buckets: TokenBuckets
    metrics: Metrics
    hub: Hub
    models: ModelLog
    bus: Bus | None = None
    """What realtime writes to; None where neither a process handed one in nor REDIS_URL names one."""
    clock: Clock = utc_now
    live: LiveView | None = None
    cache: AnswerCache = field(default_factory=AnswerCache)
    turns: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(MAX_QUERIES))
    metric_names: dict[Series, str] = field(default_factory=dict)
    _known: tuple[Hashable, dict[Series, list[Timeframe]]] | None = None

    @property
    def environment(self) -> str:
        """`live` or `sandbox`, as every answer says."""
        return self.settings.environment

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Run blocking work beside the loop; raises BusyError when too much waits already."""
        if self.turns.statistics().tasks_waiting >= MAX_WAITING:
            raise BusyError(f"{MAX_WAITING} queries wait already; try again in a second")
        return await to_thread.run_sync(work, limiter=self.turns)

    async def known_series(self) -> dict[Series, list[Timeframe]]:
        """Every series of lake and inbox tail with its timeframes."""
        tail = await self.tail.fresh()
        version = (tail.version, *(self.reader.hot_version("bars", tf) for tf in Timeframe))
        if self._known is None or self._known[0] != version:
            found = await self.in_thread(self.reader.series)
            for series, timeframes in tail.series.items():
                found[series] = sorted({*found.get(series, []), *timeframes}, key=lambda tf: tf.ms)
            self._known = (version, found)
        return self._known[1]

    async def series(self, text: str, exchange: str | None = None) -> Series:
        """The series that a caller means; raises UnknownNameError that lists what there is."""
        return resolve_series(text, exchange, await self.known_series(), self.settings.tv_btc_symbol)

    async def has_symbol(self, symbol: str) -> bool:
        """Whether any venue's bars of this canonical symbol are known."""
        return any(series.symbol == symbol for series in await self.known_series())

    async def answer(
        self,
        request: Request,
        question: Hashable,
        tables: Iterable[str],
        find: Callable[[], Awaitable[Answer]],
        *,
        extra_version: Hashable = None,
        fmt: Format = Format.JSON,
    ) -> Response:
        """Answer a question from the cache or by `find`; `tables` are what it depends on."""
        version = (tuple(self.reader.version(name) for name in tables), extra_version)
        response, outcome = await answered(request, self.cache, question, version, find, self.environment, fmt)
        self.metrics.cached.labels(outcome).inc()
        return response

    async def answer_in_thread(
        self, request: Request, question: Hashable, tables: Iterable[str], work: Callable[[], Answer], *, extra_version: Hashable = None
    ) -> Response:
        """As `answer`, with blocking work."""
        return await self.answer(request, question, tables, lambda: self.in_thread(work), extra_version=extra_version)


@asynccontextmanager
async def open_services(
    settings: Settings, metrics: Metrics, live: LiveView | None = None, *, store: Store | None = None, bus: Bus | None = None
) -> AsyncIterator[Services]:
    """Open lake, store and inbox writer; on leaving, what waits in the inbox is committed first.

    store, bus: open ones to use; their owner closes them.
    """
    settings.make_folders()
    lake = await to_thread.run_sync(lambda: Lake(settings.lake_dir, settings.environment))
    opened = store if store is not None else await to_thread.run_sync(open_store, settings.database_url, settings.environment)
    writer = CountingInboxWriter(opened, max_queue=settings.inbox_queue_rows)
    writer.start()
    tail = TailReader(opened, writer, time.monotonic)
    try:
        async with _bus(settings, bus) as live_bus, _hub(settings, live_bus) as hub:
            yield Services(
                settings=settings, lake=lake, store=opened, inbox=writer, reader=LakeReader(lake), tail=tail,
                keys=KeyRing(opened, time.monotonic), buckets=TokenBuckets(settings.rate_limit_per_minute, time.monotonic),
                metrics=metrics, hub=hub, models=ModelLog(opened), bus=live_bus, live=live,
                metric_names=metric_names(settings.tv_btc_symbol),
            )  # fmt: skip
    finally:
        await tail.close()
        await to_thread.run_sync(writer.stop)
        if store is None:
            opened.close()


@asynccontextmanager
async def _bus(settings: Settings, given: Bus | None) -> AsyncIterator[Bus | None]:
    if given is not None or not settings.redis_url:
        yield given
        return
    async with open_bus(settings.redis_url, bus_namespace(settings.environment), dead_letters_max=settings.bus_dlq_max) as bus:
        yield bus


@asynccontextmanager
async def _hub(settings: Settings, bus: Bus | None) -> AsyncIterator[Hub]:
    hub = Hub(bus, hz=settings.ws_publish_hz, max_clients=settings.ws_max_clients, clock=time.monotonic)
    running = asyncio.create_task(hub.run(), name="fanout")
    running.add_done_callback(_note_end)
    try:
        yield hub
    finally:
        running.cancel()
        await asyncio.wait([running])


def _note_end(task: asyncio.Task[None]) -> None:
    """A bug in the fan-out is logged with its trace; clients then hear nothing more, which their heartbeat watch notices."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("fanout_failed", error=type(error).__name__, exc_info=error)


async def services_of(request: Request) -> Services:
    """The app's Services (opened by its lifespan); async because a plain function would cost a thread hop per request."""
    found: Services = request.app.state.services
    return found


ServicesDep = Annotated[Services, Depends(services_of)]
