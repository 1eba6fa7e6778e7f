"""Changes of a metric over fixed spans, measured in their own trailing standard deviations.

What belongs here: the one definition of change, freshness and z-score that regime and report lines share. What does not: what a
z-score means (`regime`, `reports`).
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from altforecast.errors import InputError
from altforecast.types import Metric

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
HOUR_MS = 3_600_000


class Grid(NamedTuple):
    """Regular times: `steps` bars of `step_ms` from `origin_ms` on."""

    origin_ms: int
    step_ms: int
    steps: int


class Change(NamedTuple):
    """Change over a span as it could be read at each asked moment, shape (moments,); NaN where missing or stale."""

    log: Floats
    """ln(close now / close then) [1]."""
    z: Floats
    """The same over its trailing standard deviation [sd]."""


def grid_of(metric_bars: pl.DataFrame, step_ms: int) -> Grid:
    """The regular times that span the bars; raises InputError for times off the grid."""
    ts = metric_bars["ts"].to_physical().to_numpy()
    first, last = int(ts.min()), int(ts.max())
    if np.any(ts % step_ms):
        raise InputError("ts", int(ts[ts % step_ms != 0][0]), f"bar opens are not multiples of {step_ms} ms")
    return Grid(first, step_ms, (last - first) // step_ms + 1)


def closes_on(grid: Grid, metric_bars: pl.DataFrame, metric: Metric) -> Floats:
    """Natural logarithms of one metric's closes on the grid, NaN where there is no bar or no positive price; shape (steps,)."""
    bars = metric_bars.filter((pl.col("metric") == metric.value) & (pl.col("close") > 0))
    closes = np.full(grid.steps, np.nan)
    closes[(bars["ts"].to_physical().to_numpy() - grid.origin_ms) // grid.step_ms] = np.log(bars["close"].cast(pl.Float64).to_numpy())
    return closes


def read_change(closes: Floats, at: Ints, lag_steps: Floats, span: int, sd_bars: int, stale_bars: float, min_history_frac: float) -> Change:
    """Change over `span` steps of the newest fresh bar at each moment, and its z-score.

    closes: log closes on a grid, NaN where missing, shape (steps,). at: index of the newest bar that could be closed at each moment,
    shape (moments,), may lie outside the grid. lag_steps: how long ago it closed [steps], shape (moments,). A moment reads
    the newest bar whose close is at most stale_bars steps old; its change is taken to the close `span` steps earlier, or one step
    before that where that bar is missing. sd: sample standard deviation of all such changes in the last `sd_bars` steps; no z-score
    where fewer than min_history_frac of them exist or they are all equal. The answer at a moment depends on the last
    sd_bars + span + 2 steps alone, bit for bit, wherever the grid begins.
    """
    bridged = np.where(np.isnan(closes), np.append(np.nan, closes[:-1]), closes)
    changes = np.full(len(closes), np.nan)
    changes[span:] = closes[span:] - bridged[: max(0, len(closes) - span)]
    read = np.full(len(at), np.nan)
    for age in range(int(stale_bars), -1, -1):
        is_fresh_bar = ~np.isnan(_at(closes, at - age)) & (lag_steps + age <= stale_bars)
        read = np.where(is_fresh_bar, _at(changes, at - age), read)
    sd = trailing_sd(changes, at, sd_bars, max(2, int(np.ceil(min_history_frac * sd_bars))))
    return Change(read, read / sd)


def trailing_sd(values: Floats, at: Ints, window: int, min_count: int) -> Floats:
    """Sample standard deviation of the present values among the `window` up to and including each index; NaN if too few or all equal.

    Added value by value from the oldest on, in two passes, so that the result does not depend on where `values` begins (running sums
    would). values: NaN where missing. at: shape (moments,). min_count >= 2. Returns shape (moments,), > 0 or NaN.
    """
    from altforecast.change_scan import scan_sd

    return np.asarray(scan_sd(values, at, window, min_count), dtype=np.float64)


def _at(values: Floats, index: Ints) -> Floats:
    """Values at the indices, NaN outside."""
    if not len(values):
        return np.full(len(index), np.nan)
    inside = (index >= 0) & (index < len(values))
    return np.where(inside, values[np.where(inside, index, 0)], np.nan)


def hours_between(start: datetime, end: datetime | None, bars: pl.DataFrame, is_continued: bool) -> Ints:
    """Opens [ms] of the hours a run is asked for, shape (hours,).

    From `start` (rounded up), or from the oldest bar if that is later and nothing came before (is_continued False). To the hour before
    `end`, or to that of the newest bar where end is None. Empty bars: no hours. Raises InputError for a naive start or end.
    """
    for name, moment in (("start", start), ("end", end)):
        if moment is not None and moment.tzinfo is None:
            raise InputError(name, moment, "needs a UTC-aware time")
    if bars.is_empty():
        return np.empty(0, dtype=np.int64)
    ts = bars["ts"].to_physical().to_numpy()
    first = -(-int(start.timestamp() * 1000) // HOUR_MS) * HOUR_MS
    first = first if is_continued else max(first, int(ts.min()) // HOUR_MS * HOUR_MS)
    stop = int(ts.max()) + 1 if end is None else int(end.timestamp() * 1000)
    return np.arange(first, stop, HOUR_MS, dtype=np.int64)
