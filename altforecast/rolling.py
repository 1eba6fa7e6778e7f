"""Trailing windows over arrays of shape (time, series) with missing values.

What belongs here: sums, means, extremes and lags that look back only and pass missing values by. What does not: what the numbers
mean (`forecast_features`) and recursive averages (`indicators`).
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from altforecast.errors import InputError

Floats = NDArray[np.float64]
_LARGEST_EXPONENT = 25.0
"""Weights of one block of an exponential mean span at most e to this, so that sums lose no digits."""


class Trailing:
    """A path (time, series) that is read at its newest rows: as it was some bars before, and as means over windows.

    Sums and counts run down the path once, however many windows are asked for. A mean depends on earlier rows by rounding alone
    (relative 1e-10), never on later ones; so a path cut to what its longest window reaches gives the same means to rounding.
    """

    def __init__(self, values: Floats, rows: int | None = None) -> None:
        """values: shape (time, series). rows: how many rows at the end are read, None for all; every answer has so many."""
        if values.ndim != 2:
            raise InputError("values", values.shape, "must have the shape (time, series)")
        self.values = values
        self.rows = len(values) if rows is None else min(rows, len(values))

    def at(self, before: int = 0) -> Floats:
        """Values `before` rows earlier, NaN before the first; raises InputError for a negative lag: that would be the future."""
        start, stop, ahead = self._span(before)
        return _under(self.values[start:stop], ahead)

    def mean(self, bars: int, fill_frac: float = 0.5, before: int = 0) -> Floats:
        """Mean of the known values among `bars` rows, of the windows that ended `before` rows earlier.

        NaN where fewer than fill_frac x bars are known. Raises InputError for an empty window or a negative lag.
        """
        if bars < 1:
            raise InputError("bars", bars, "a window has at least one bar")
        start, stop, ahead = self._span(before)
        sums, counts = (_window_sum(running, bars, start, stop) for running in (self._sums, self._counts))
        with np.errstate(invalid="ignore", divide="ignore"):
            means = sums / counts
        short = counts < max(fill_frac * bars, 1.0)
        means[np.broadcast_to(short, means.shape)] = np.nan
        return _under(means, ahead)

    def _span(self, before: int) -> tuple[int, int, int]:
        """First row and end of what is read, and how many rows of the answer lie before the path."""
        if before < 0:
            raise InputError("bars", before, "a lag may not be negative")
        start = len(self.values) - self.rows - before
        return max(start, 0), max(len(self.values) - before, 0), min(max(-start, 0), self.rows)

    @cached_property
    def _known(self) -> NDArray[np.bool_]:
        return ~np.isnan(self.values)

    @cached_property
    def _sums(self) -> Floats:
        """Of the values before each row, shape (time + 1, series)."""
        return _running(self.values if self._known.all() else np.where(self._known, self.values, 0.0))

    @cached_property
    def _counts(self) -> Floats:
        """Of known values before each row, shape (time + 1, series); one column where nothing is missing."""
        known = self._known
        return np.arange(len(known) + 1.0)[:, None] if known.all() else _running(known)


def newest_rows(values: NDArray[Any], rows: int) -> NDArray[Any]:
    """The last `rows` rows, fewer where there are not so many."""
    return values[max(len(values) - rows, 0) :]


def rolling_mean(values: Floats, bars: int, fill_frac: float = 0.5) -> Floats:
    """Mean of the known values among the last `bars`; NaN where fewer than fill_frac x bars are known. Shape (time, series) kept."""
    return Trailing(values).mean(bars, fill_frac)


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
    known = ~np.isnan(values)
    seen = np.cumsum(known, axis=0)
    is_step = known & (seen > start_bars)
    new = np.where(is_step, (1.0 - decay) * np.where(known, values, 0.0), 0.0)
    first = np.where(known & (seen <= start_bars), values, 0.0).sum(axis=0) / start_bars
    new += np.where(known & (seen == start_bars), first, 0.0)
    out, state = np.empty(values.shape), np.zeros(values.shape[1])
    block = max(int(_LARGEST_EXPONENT / max(-np.log(max(decay, 1e-300)), 1e-3)), 1)
    for start in range(0, len(values), block):
        rows = slice(start, start + block)
        weight = decay ** np.cumsum(is_step[rows], axis=0)
        out[rows] = weight * (state + np.cumsum(new[rows] / weight, axis=0))
        state = out[rows][-1]
    return np.where(seen >= start_bars, out, np.nan)


def _running(values: NDArray[Any]) -> Floats:
    out = np.empty((len(values) + 1, values.shape[1]))
    out[0] = 0.0
    np.cumsum(values, axis=0, out=out[1:])
    return out


def _window_sum(running: Floats, bars: int, start: int, stop: int) -> Floats:
    """Sums over the last `bars` rows at the rows [start, stop), from the running sums before each row."""
    sums = running[start + 1 : stop + 1].copy()
    young = min(max(bars - start - 1, 0), len(sums))  # windows that the path is too short for hold all of it
    sums[young:] -= running[start + 1 + young - bars : start + 1 + len(sums) - bars]
    return sums


def _under(values: Floats, ahead: int) -> Floats:
    """The values below so many missing rows."""
    return np.vstack([np.full((ahead, values.shape[1]), np.nan), values]) if ahead else values


def _check(values: Floats, bars: int) -> None:
    if bars < 1:
        raise InputError("bars", bars, "a window has at least one bar")
    if values.ndim != 2:
        raise InputError("values", values.shape, "must have the shape (time, series)")
