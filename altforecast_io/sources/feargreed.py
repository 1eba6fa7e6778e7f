"""The Fear & Greed index of alternative.me.

What belongs here: its address and shape. What does not: computing such an index; the label is the supplier's own, never ours.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from altforecast_io.http import Failure, HttpClient, Service, ServiceError
from altforecast_io.settings import Settings
from altforecast_io.sources.readings import Reading, number

NAME = "alternative_me"


def service(settings: Settings, attempts: int = 3) -> Service:
    """alternative.me as the settings have it; 60 calls a minute at most."""
    timeout = settings.context_http_timeout_sec
    return Service(
        NAME, settings.context_fear_greed_url, timeout_s=timeout, connect_timeout_s=timeout, attempts=attempts, wait_max_s=10,
        retry_timeout_s=30, max_calls=30, per_s=60,
    )  # fmt: skip


async def latest(http: HttpClient, settings: Settings, now: datetime, *, attempts: int = 3) -> Reading:
    """The newest reading `fear_greed` [0-100] with its class as label. Raises ServiceError, also when the list is empty."""
    answer = await http.get_json(service(settings, attempts))
    readings = parse(answer, now)
    if not readings:
        raise ServiceError(NAME, Failure.TRANSIENT, "answered without a value")
    return max(readings, key=lambda r: r.ts)


def parse(answer: Any, now: datetime) -> list[Reading]:
    """Readings of an answer, as ordered in it; rows with a missing or impossible value or time are left out."""
    rows = answer.get("data") if isinstance(answer, dict) else None
    found = (_reading(row, now) for row in rows) if isinstance(rows, list) else ()
    return [reading for reading in found if reading is not None]


def _reading(row: Any, now: datetime) -> Reading | None:
    if not isinstance(row, dict):
        return None
    value, seconds, label = number(row.get("value")), number(row.get("timestamp")), row.get("value_classification")
    if value is None or not 0 <= value <= 100 or seconds is None or not 0 < seconds < 1e11:
        return None
    return Reading(datetime.fromtimestamp(seconds, UTC), "fear_greed", value, label if isinstance(label, str) else None, NAME, now)
