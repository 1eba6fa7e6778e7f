"""How old the newest bar behind an answer is, said where it is no longer current.

What belongs here: that judgement and its sentence. What does not: finding rows (the query of their noun).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from altforecast.types import Series, Timeframe
from altforecast_serving.lineage import Answer, newest_known
from altforecast_serving.queries.lake import LakeReader

ALLOWED_BARS = 2
"""Bars of its timeframe by which the newest one may be behind."""
HOURLY = timedelta(hours=2)
"""Behind this, report and regime are no longer current."""
MAX_STEP = timedelta(minutes=15)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS = (("days", timedelta(days=1)), ("hours", timedelta(hours=1)), ("minutes", timedelta(minutes=1)))


@dataclass(frozen=True)
class Freshness:
    """What an answer about the present may be behind: `allowed`; an answer about another time is never marked."""

    now: datetime
    allowed: timedelta
    is_about_now: bool = True

    @property
    def version(self) -> int | None:
        """Changes as time goes on, so that a kept answer does not go on calling itself current."""
        return (self.now - _EPOCH) // min(MAX_STEP, self.allowed / 2) if self.is_about_now else None

    def noted(self, answer: Answer, newest: datetime | None = None) -> Answer:
        """The answer, with a warning where the newest of its rows and `newest` is too old; as it is where there is neither."""
        known = newest_known((answer.known_at, newest))
        if not self.is_about_now or known is None or self.now - known <= self.allowed:
            return answer
        return replace(answer, warnings=[*answer.warnings, f"newest bar is {in_words(self.now - known)} old"])


def of_bars(now: datetime, timeframes: tuple[Timeframe, ...], *, is_about_now: bool) -> Freshness:
    """Two bars; of several timeframes the longest counts."""
    return Freshness(now, ALLOWED_BARS * max(tf.duration for tf in timeframes), is_about_now)


def newest_bar(reader: LakeReader, series: Series | None, timeframes: tuple[Timeframe, ...]) -> datetime | None:
    """Close of the newest bar of the lake, of one series or of all; reads hot files that are not in memory."""
    held = [reader.hot("bars", tf) for tf in timeframes]
    frames = [table.frame if series is None else table.of(series) for table in held]
    found = (frame["known_at"].max() for frame in frames if frame.height)
    return newest_known(at if isinstance(at, datetime) else None for at in found)


def in_words(age: timedelta) -> str:
    """`447 days`, `5 hours`, `12 minutes`: the largest unit of which there are at least two."""
    unit, size = next(((u, s) for u, s in _UNITS if age >= 2 * s), _UNITS[-1])
    return f"{age // size} {unit}"
