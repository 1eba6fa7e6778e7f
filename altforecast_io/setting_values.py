"""What settings fields are made of, apart from the variables themselves.

What belongs here: field types, turning one text into a value or refusing it with words. What does not: reading the
environment (`settings`).
"""

from __future__ import annotations

from ipaddress import ip_network
from typing import Annotated, Any

from pydantic import AliasChoices, Field
from pydantic_settings import NoDecode

from altforecast.errors import InputError

Positive = Annotated[int, Field(gt=0)]
Words = Annotated[tuple[str, ...], NoDecode]
"""Comma-separated text."""

URL_SCHEMES = {
    "redis_url": ("redis", "rediss", "unix"),
    "celery_broker_url": ("amqp", "amqps", "pyamqp", "redis", "rediss"),
    "dagster_postgres_url": ("postgresql",),
    "public_base_url": ("https", "http"),
    "context_dxy_url": ("https", "http"),
    "mlflow_uri_override": ("sqlite", "postgresql", "https", "http"),
}
"""Beginnings that each URL variable may have."""


def var(default: Any, *spellings: str, **constraints: Any) -> Any:
    """A settings field: the variable's name first, then the old names that keep working."""
    return Field(default, validation_alias=AliasChoices(*spellings), **constraints)


def words(value: Any) -> Any:
    """Comma-separated text as a tuple of its parts; anything else unchanged."""
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


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
