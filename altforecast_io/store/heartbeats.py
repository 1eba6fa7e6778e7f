"""Signs of life of our processes, one row each.

What belongs here: writing and reading heartbeats. What does not: judging them (doctor, health routes).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import insert, select, update

from altforecast_io.store.engine import Store
from altforecast_io.store.schema import heartbeats


@dataclass(frozen=True)
class Heartbeat:
    """Last sign of life of a process and what it said of itself."""

    name: str
    started_at: datetime
    beat_at: datetime
    detail: dict[str, Any]


def beat(store: Store, name: str, started_at: datetime, detail: Mapping[str, Any]) -> None:
    """Record that process `name` lives now; `detail` must be JSON. Raises StorageError."""
    values = {"started_at": started_at, "beat_at": store.clock(), "detail": json.dumps(dict(detail))}
    with store.write() as connection:
        store.lock(connection, "heartbeats")
        changed = connection.execute(update(heartbeats).where(heartbeats.c.name == name).values(**values))
        if not changed.rowcount:
            connection.execute(insert(heartbeats).values(name=name, **values))


def all_beats(store: Store) -> list[Heartbeat]:
    """Every process that ever gave a sign, by name."""
    with store.read() as connection:
        rows = connection.execute(select(heartbeats).order_by(heartbeats.c.name)).all()
    return [Heartbeat(r.name, r.started_at, r.beat_at, json.loads(r.detail)) for r in rows]


def latest(store: Store) -> dict[str, datetime]:
    """Time of the last sign of life by process name; empty before the first."""
    return {b.name: b.beat_at for b in all_beats(store)}
