"""How the platform is: each component with its figures, and one word for all.

What belongs here: asking components and judging the answers. What does not: repairing them; liveness (`/healthz`).
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import text

from altforecast import CODE_VERSION
from altforecast.errors import StorageError
from altforecast.types import Timeframe
from altforecast_io.bus import Bus
from altforecast_io.settings import Settings
from altforecast_io.store import heartbeats, inbox
from altforecast_io.store.engine import Store
from altforecast_serving.queries.forecast_health import forecast_component
from altforecast_serving.queries.freshness import HOURLY
from altforecast_serving.queries.lake import LakeReader

STALE = timedelta(seconds=120)
"""A process without a sign of life for longer is counted as down."""
LOW_DISK_BYTES = 500 * 1024 * 1024
BUSY_SHARE = 0.8
VITAL = frozenset({"db", "lake"})
"""Components without which nothing right can be served; any other failure only degrades."""


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    began = time.perf_counter()
    return work(), round((time.perf_counter() - began) * 1000, 3)


def find_health(
    settings: Settings,
    store: Store,
    reader: LakeReader,
    writer: inbox.InboxWriter,
    bus: Bus | None,
    now: datetime,
    live: dict[str, dict[str, Any]],
) -> dict[str, Any]:
    """The health matrix; blocks on store and disk. `live`: components that the realtime engine adds or replaces."""
    components = {
        "db": _db(store),
        "broker": {"ok": True, "latency_ms": None, "mode": settings.mode, "detail": "no broker is connected in this process"},
        "bus": _bus(bus),
        "time_sync": {"ok": True, "drift_ms": None, "detail": "measured against venues by the realtime engine"},
        "lake": _lake(reader, now),
        "inbox": _inbox(store, writer, settings.inbox_queue_rows),
        "dagster": _dagster(store, now),
        "forecasts": forecast_component(reader, now),
        **live,
    }
    status = judge(components)
    return {
        "ok": status == "healthy", "status": status, "components": components, "version": CODE_VERSION, "mode": settings.mode,
        "degradation_level": settings.degradation_level, "environment": settings.environment, "checked_at": now,
    }  # fmt: skip


def judge(components: dict[str, dict[str, Any]]) -> str:
    """`unhealthy` when something vital fails, `degraded` when anything else does, else `healthy`."""
    failed = {name for name, component in components.items() if not component["ok"]}
    return "unhealthy" if failed & VITAL else "degraded" if failed else "healthy"


def _db(store: Store) -> dict[str, Any]:
    def ask() -> None:
        with store.read() as connection:
            connection.execute(text("SELECT 1"))

    try:
        _, latency_ms = _timed(ask)
    except StorageError as error:
        return {"ok": False, "latency_ms": None, "dialect": store.dialect, "detail": str(error)}
    return {"ok": True, "latency_ms": latency_ms, "dialect": store.dialect}


def _bus(bus: Bus | None) -> dict[str, Any]:
    if bus is None:
        return {"ok": True, "queue_size": 0, "kind": "none", "detail": "REDIS_URL is not set and no realtime engine runs in this process"}
    found = bus.health()
    return {
        "ok": found.is_connected, "queue_size": found.n_queued, "kind": found.kind, "connected": found.is_connected,
        "n_dropped": found.n_dropped,
    }  # fmt: skip


def _lake(reader: LakeReader, now: datetime) -> dict[str, Any]:
    try:
        free_bytes = shutil.disk_usage(reader.lake.root).free
        known = [t.frame["known_at"].max() for tf in Timeframe if (t := reader.hot("bars", tf)).frame.height]
    except (OSError, StorageError) as error:
        return {"ok": False, "detail": str(error)}
    newest = max((k for k in known if isinstance(k, datetime)), default=None)
    note = {"detail": "little disk space is left"} if free_bytes < LOW_DISK_BYTES else {} if known else {"detail": "no bars yet"}
    age_s = None if newest is None else round((now - newest).total_seconds(), 1)
    return {
        "ok": free_bytes >= LOW_DISK_BYTES, "newest_known_at": newest, "age_s": age_s, "is_stale": newest is None or now - newest > HOURLY,
        "is_empty": not known, "free_bytes": free_bytes, **note,
    }  # fmt: skip


def _inbox(store: Store, writer: inbox.InboxWriter, capacity: int) -> dict[str, Any]:
    """Alerts: those that wait for a commit (`queue_size`), and committed ones that the pipelines did not take yet."""
    queue = {"queue_size": writer.depth, "capacity": capacity}
    try:
        waiting = inbox.pending(store)
    except StorageError as error:
        return {"ok": False, "n_pending": None, **queue, "detail": str(error)}
    is_good = writer.is_alive and writer.depth < BUSY_SHARE * capacity
    return {"ok": is_good, "n_pending": waiting.n_rows, "oldest_received_at": waiting.oldest_received_at, **queue}


def _dagster(store: Store, now: datetime) -> dict[str, Any]:
    """Newest sign of life of the pipelines' daemon; not being started is no fault of this process."""
    try:
        beats = {name: at for name, at in heartbeats.latest(store).items() if "dagster" in name}
    except StorageError as error:
        return {"ok": False, "beat_at": None, "detail": str(error)}
    if not beats:
        return {"ok": True, "beat_at": None, "detail": "no sign of life yet: start it with `altforecast up`"}
    beat_at = max(beats.values())
    return {"ok": now - beat_at <= STALE, "beat_at": beat_at, "age_s": round((now - beat_at).total_seconds(), 1)}
