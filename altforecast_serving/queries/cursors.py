"""Cursors: where the next page begins, as an opaque text.

What belongs here: encoding and checking them. What does not: what they are compared with.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

from altforecast.errors import InputError

MAX_CHARS = 512
_LAST_MS = 253_402_300_799_000
"""End of the year 9999: later times cannot be written as dates."""


def encode_cursor(values: Sequence[Any]) -> str:
    """Text of a sort key: times become milliseconds."""
    plain = [round(v.timestamp() * 1000) if isinstance(v, datetime) else v for v in values]
    return base64.urlsafe_b64encode(orjson.dumps(plain)).decode().rstrip("=")


def decode_cursor(text: str, n_values: int) -> list[Any]:
    """The sort key of `encode_cursor`: a time first, then texts.  Raises InputError on anything else."""
    try:
        if len(text) > MAX_CHARS:
            raise ValueError("too long")
        values = orjson.loads(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
        if not isinstance(values, list) or len(values) != n_values or not all(isinstance(v, str) for v in values[1:]):
            raise ValueError("wrong parts")
        if type(values[0]) is not int or not 0 <= values[0] <= _LAST_MS:
            raise ValueError("wrong time")
        return [datetime.fromtimestamp(values[0] / 1000, tz=UTC), *values[1:]]
    except (ValueError, binascii.Error, UnicodeEncodeError):
        raise InputError("cursor", text, "not a cursor of this route; take it from `next_cursor`") from None
