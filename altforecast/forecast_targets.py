"""What is forecast, and which rows may teach it: outcomes, their maturity, walk-forward folds with purge.

What belongs here: log returns and realised variance ahead, and the calendar of training and testing. What does not: features and
models. Method: docs/methods/forecasts.md.
"""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from altforecast.errors import InputError
from altforecast.forecast_params import VARIANCE_FLOOR

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
_DAY_MS = 86_400_000


def return_ahead(close: Floats, horizon: int) -> Floats:
    """r(t, h) = ln C(t+h) / C(t), shape (time, series); NaN where either close is missing or not yet there.

    horizon: bars ahead. Raises InputError below 1.
    """
    _check(horizon)
    out = np.full_like(close, np.nan)
    if horizon < len(close):
        out[:-horizon] = np.log(close[horizon:]) - np.log(close[:-horizon])
    return out


def log_variance_ahead(variance: Floats, horizon: int) -> Floats:
    """ln of the summed bar variances of the next `horizon` bars, shape (time, series); NaN where a bar is missing or not yet there.

    variance: `bar_grid.bar_variance` [squared log return].
    """
    _check(horizon)
    sums = np.cumsum(np.nan_to_num(variance), axis=0)
    missing = np.cumsum(np.isnan(variance), axis=0)
    out = np.full_like(variance, np.nan)
    if horizon < len(variance):
        ahead, holes = sums[horizon:] - sums[:-horizon], missing[horizon:] - missing[:-horizon]
        out[:-horizon] = np.where(holes > 0, np.nan, np.log(np.maximum(ahead, 0.0) + VARIANCE_FLOOR))
    return out


def matured_rows(row: int, horizon: int) -> int:
    """How many rows, from the first, have a known outcome once the bar of `row` has closed; never negative."""
    return max(row - horizon + 1, 0)


class Fold(NamedTuple):
    """One step of the walk forward; all times are bar opens [ms]."""

    train_until: int
    """Last row that may teach: its label ends at least one horizon before the test."""
    test_start: int
    test_stop: int
    """First row after the test."""


def quarter_starts(first: int, last: int) -> list[int]:
    """First instants [ms] of the calendar quarters (UTC) in [first, last]."""
    at = datetime.fromtimestamp(first / 1000, UTC)
    year, month = at.year, 3 * ((at.month - 1) // 3) + 1
    found = []
    while (start := int(datetime(year, month, 1, tzinfo=UTC).timestamp() * 1000)) <= last:
        if start >= first:
            found.append(start)
        year, month = (year, month + 3) if month < 10 else (year + 1, 1)
    return found


def walk_forward_folds(ts: Ints, horizon: int, bar_ms: int, min_train_days: int, test_to: int | None = None) -> list[Fold]:
    """Quarterly folds with expanding training: rows with ts + (h + 1) bars <= test start - h bars.

    ts: open times of the grid [ms]. The first test starts at the first quarter that has min_train_days before it; the last one ends
    with the data, or at test_to [ms]. Empty where there is too little history.
    """
    _check(horizon)
    stop = int(ts[-1]) + bar_ms if test_to is None else min(test_to, int(ts[-1]) + bar_ms)
    starts = quarter_starts(int(ts[0]) + min_train_days * _DAY_MS, stop - 1)
    return [Fold(start - (2 * horizon + 1) * bar_ms, start, end) for start, end in pairwise([*starts, stop])]


def quarter_names(ts: Ints) -> NDArray[np.str_]:
    """Calendar quarter of each time [ms], such as 2024Q3."""
    months = ts.astype("datetime64[ms]").astype("datetime64[M]").astype(np.int64)
    codes, back = np.unique(months // 3, return_inverse=True)
    names = np.array([f"{1970 + code // 4}Q{code % 4 + 1}" for code in codes.tolist()])
    return names[back]


def _check(horizon: int) -> None:
    if horizon < 1:
        raise InputError("horizon", horizon, "must be at least one bar")
