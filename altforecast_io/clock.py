"""The one place where the wall clock is read.

What belongs here: reading time. What does not: waiting or scheduling. Functions that depend on time take a `Clock`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]
"""Returns the current UTC-aware time."""


def utc_now() -> datetime:
    """Current time, UTC-aware, cut to milliseconds (the precision of every stored time)."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)
