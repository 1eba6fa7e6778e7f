"""Which folds a training for production walks: the newest quarters, or shorter steps where history is short.

What belongs here: the choice of a calendar. What does not: quarters over the whole past (`forecast_targets`) and walking
(`walk_forward`). Method: docs/methods/forecasts.md.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from altforecast.forecast_params import FOLDS, LIVE, FoldParams, LiveParams
from altforecast.forecast_targets import Fold, quarter_starts

Ints = NDArray[np.int64]
Starts = Callable[[int, int], list[int]]
_DAY_MS = 86_400_000
_FIRST_MONDAY_MS = 4 * _DAY_MS
"""1970-01-05."""


class Calendar(NamedTuple):
    """The folds of one training, ascending and without gaps."""

    name: str
    """quarter | month | week | day"""
    folds: list[Fold]


def newest_folds(ts: Ints, known: Ints, horizon: int, bar_ms: int, params: FoldParams = FOLDS, live: LiveParams = LIVE) -> Calendar | None:
    """The folds up to the end of the bars; None where no fold has enough before it.

    ts: opens of a regular clock [ms]. known: known outcomes per row, shape (time,). Quarters where they span live.min_test_days, else
    months, weeks or days, whichever is the longest step that does; where none does, the one that spans most. Steps shorter than a
    quarter ask for params.min_train_days or half of the history before them, whichever is less.
    """
    found = []
    for name, starts in _CALENDARS.items():
        folds = _folds(ts, horizon, bar_ms, starts, params.min_train_days if name == "quarter" else _train_days(ts, params))
        rows = np.append(0, np.cumsum(known))[np.searchsorted(ts, [fold.train_until for fold in folds], side="right")]
        taught = [fold for fold, n in zip(folds, rows.tolist(), strict=True) if n >= params.min_train_rows]
        found.append(Calendar(name, taught[-(live.max_quarters if name == "quarter" else live.max_short_folds) :]))
    wide = [one for one in found if _span_days(one) >= live.min_test_days]
    best = wide[0] if wide else max(found, key=_span_days)
    return best if best.folds else None


def _train_days(ts: Ints, params: FoldParams) -> float:
    return min(params.min_train_days, float(ts[-1] - ts[0]) / _DAY_MS / 2.0)


def _folds(ts: Ints, horizon: int, bar_ms: int, starts: Starts, min_train_days: float) -> list[Fold]:
    stop = int(ts[-1]) + bar_ms
    opens = starts(int(ts[0]) + round(min_train_days * _DAY_MS), stop - 1)
    return [Fold(start - (2 * horizon + 1) * bar_ms, start, end) for start, end in pairwise([*opens, stop])]


def _span_days(calendar: Calendar) -> float:
    return (calendar.folds[-1].test_stop - calendar.folds[0].test_start) / _DAY_MS if calendar.folds else 0.0


def _month_starts(first: int, last: int) -> list[int]:
    at = datetime.fromtimestamp(first / 1000, UTC)
    year, month, found = at.year, at.month, []
    while (start := int(datetime(year, month, 1, tzinfo=UTC).timestamp() * 1000)) <= last:
        if start >= first:
            found.append(start)
        year, month = (year, month + 1) if month < 12 else (year + 1, 1)
    return found


def _week_starts(first: int, last: int) -> list[int]:
    return [start for start in _day_starts(first, last) if (start - _FIRST_MONDAY_MS) % (7 * _DAY_MS) == 0]


def _day_starts(first: int, last: int) -> list[int]:
    return list(range(-(-first // _DAY_MS) * _DAY_MS, last + 1, _DAY_MS))


_CALENDARS = {"quarter": quarter_starts, "month": _month_starts, "week": _week_starts, "day": _day_starts}
"""Longest step first."""
