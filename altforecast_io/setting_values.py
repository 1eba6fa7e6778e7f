"""Checks of single setting values, apart from the variables themselves.

What belongs here: turning one text into a value or refusing it with words. What does not: reading the environment (`settings`).
"""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

from altforecast.errors import InputError

URL_SCHEMES = {
    "redis_url": ("redis", "rediss", "unix"),
    "celery_broker_url": ("amqp", "amqps", "pyamqp", "redis", "rediss"),
    "dagster_postgres_url": ("postgresql",),
    "public_base_url": ("https", "http"),
    "context_dxy_url": ("https", "http"),
}
"""Beginnings that each URL variable may have."""


def own(parse: Any, value: str) -> str:
    """What `parse` makes of the value; raises ValueError in the words of our own error."""
    try:
        return str(parse(value))
    except InputError as error:
        allowed = f"; allowed: {', '.join(error.allowed)}" if error.allowed else ""
        raise ValueError(f"{error.reason}{allowed}") from None


def number(text: str | None) -> float | None:
    """The number in a text, or None where there is none."""
    try:
        return float(text) if text else None
    except ValueError:
        return None  # refused by the field itself, with its name


def mask_url(text: str) -> str:
    """The text with a password inside a URL replaced by ***."""
    head, sep, tail = text.partition("://")
    credentials, at, rest = tail.rpartition("@")
    user, colon, _ = credentials.partition(":")
    return f"{head}{sep}{user}:***@{rest}" if sep and at and colon else text


def networks(value: tuple[str, ...]) -> tuple[str, ...]:
    """The addresses and networks unchanged; raises ValueError naming the first that is neither."""
    for part in value:
        try:
            ip_network(part, strict=False)
        except ValueError:
            raise ValueError(f"{part!r} is no address or network such as 52.89.214.238 or 10.0.0.0/8") from None
    return value
