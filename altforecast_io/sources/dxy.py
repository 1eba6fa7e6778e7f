"""The dollar index from an endpoint of the operator's own choice that answers {"value": number}.

What belongs here: reading that endpoint. What does not: a built-in supplier; none is keyless and licensed, so the address is
empty by default.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from altforecast_io.http import Failure, HttpClient, Service, ServiceError
from altforecast_io.settings import Settings
from altforecast_io.sources.readings import Reading, number

NAME = "dxy"


def service(settings: Settings, attempts: int = 3) -> Service:
    """The endpoint of CONTEXT_DXY_URL."""
    timeout = settings.context_http_timeout_sec
    return Service(
        NAME, settings.context_dxy_url, timeout_s=timeout, connect_timeout_s=timeout, attempts=attempts, wait_max_s=10, retry_timeout_s=30
    )


async def latest(http: HttpClient, settings: Settings, now: datetime, *, attempts: int = 3) -> Reading:
    """Reading `dxy` [index points] of this moment. Raises ServiceError, also when the answer holds no positive number."""
    value = parse(await http.get_json(service(settings, attempts)))
    if value is None:
        raise ServiceError(NAME, Failure.TRANSIENT, "answered without a number in 'value'")
    return Reading(now, NAME, value, None, NAME, now)


def parse(answer: Any) -> float | None:
    """The value of an answer, or None where it is missing or not a positive number."""
    value = number(answer.get("value")) if isinstance(answer, dict) else None
    return value if value is not None and value > 0 else None
