"""Trailing windows over arrays of shape (time, series) with missing values.

What belongs here: sums, means, extremes and lags that look back only and pass missing values by. What does not: what the numbers
mean (`forecast_features`) and recursive averages (`indicators`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from altforecast.errors import InputError

Floats = NDArray[np.float64]


def rolling_mean(values: Floats, bars: int, fill_frac: float = 0.5) -> Floats:
    """Mean of the known values among the last `bars`; NaN where fewer than fill_frac x bars are known. Shape kept.

    values: shape (time, series). Running sums: a value depends on earlier rows by rounding alone (relative 1e-10), never on later ones.
    """
    _check(values, bars)
    known = ~np.isnan(values)
    sums, counts = _window_sum(np.where(known, values, 0.0), bars), _window_sum(known.astype(np.float64), bars)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(counts >= max(fill_frac * bars, 1.0), sums / counts, np.nan)


def rolling_max(values: Floats, bars: int) -> Floats:
    """Largest known value among the last `bars` (fewer at the start); NaN where none is known. Shape kept."""
    _check(values, bars)
    found, width = values, 1
    while 2 * width <= bars:
        found = np.fmax(found, lag(found, width))
        width *= 2
    return np.fmax(found, lag(found, bars - width)) if width < bars else found


def rolling_min(values: Floats, bars: int) -> Floats:
    """Smallest known value among the last `bars` (fewer at the start); NaN where none is known. Shape kept."""
    return -rolling_max(-values, bars)


def lag(values: Floats, bars: int) -> Floats:
    """Values of `bars` rows before; NaN in the first rows. Raises InputError for a negative lag: that would be the future."""
    if bars < 0:
        raise InputError("bars", bars, "a lag may not be negative")
    out = np.full_like(values, np.nan)
    if bars < len(values):
        out[bars:] = values[: len(values) - bars]
    return out


def ewma(values: Floats, decay: float, start_bars: int = 24) -> Floats:
    """Exponentially weighted mean down each column; missing values leave it as it was. Shape (time, series).

    The first value is the mean of a column's first `start_bars` known values, given from the last of them on; NaN before.
    """
    out = np.full_like(values, np.nan)
    known = ~np.isnan(values)
    seen, total, state = np.zeros(values.shape[1]), np.zeros(values.shape[1]), np.full(values.shape[1], np.nan)
    for row in range(len(values)):
        new, has = np.where(known[row], values[row], 0.0), known[row]
        seen += has
        total += np.where(seen <= start_bars, new, 0.0)
        starts = has & (seen == start_bars)
        state = np.where(has & (seen > start_bars), decay * state + (1.0 - decay) * new, np.where(starts, total / start_bars, state))
        out[row] = state
    return out


def _window_sum(values: Floats, bars: int) -> Floats:
    sums = np.cumsum(values, axis=0)
    out = sums.copy()
    out[bars:] -= sums[:-bars]
    return out


def _check(values: Floats, bars: int) -> None:
    if bars < 1:
        raise InputError("bars", bars, "a window has at least one bar")
    if values.ndim != 2:
        raise InputError("values", values.shape, "must have the shape (time, series)")
