"""The time of the sandbox: real, or running from a chosen start at a chosen speed.

What belongs here: where "now" comes from. What does not: sleeping and scheduling.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

Clock = Callable[[], datetime]
"""Answers the present moment, UTC-aware."""


def real_clock() -> datetime:
    """The machine's own time."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class ScaledClock:
    """Time that began at `start` when the real clock showed `real_start`, and runs `speed` times as fast."""

    start: datetime
    real_start: datetime
    speed: float = 1.0
    source: Clock = real_clock

    def __call__(self) -> datetime:
        """The simulated moment."""
        return self.start + (self.source() - self.real_start) * self.speed


def parse_moment(text: str) -> datetime:
    """An ISO 8601 time of a command line, as UTC; a time without zone is taken as UTC. Raises ValueError for anything else."""
    moment = datetime.fromisoformat(text)
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
