"""One day of bars as whole numbers (price ticks, volume lots), and how short bars add up to longer ones without rounding.

What belongs here: the integer bars of one day and their aggregation. What does not: where prices come from (`paths`, `quotes`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Grid:
    """All bars of one day at one length, in order; rows where `exists` is false are bars that the venue does not have."""

    open: Ints
    high: Ints
    low: Ints
    close: Ints
    volume: Ints
    exists: Flags

    def __len__(self) -> int:
        return len(self.open)


def aggregate(grid: Grid, factor: int) -> Grid:
    """Bars `factor` times as long; missing rows are skipped, a bar of nothing but missing rows is missing."""
    if factor == 1:
        return grid
    shape = (len(grid) // factor, factor)
    exists = grid.exists.reshape(shape)
    if exists.all():
        return _whole(grid, shape)
    first = exists.argmax(axis=1)
    last = factor - 1 - exists[:, ::-1].argmax(axis=1)
    rows = np.arange(shape[0])
    largest = np.iinfo(np.int64).max
    return Grid(
        open=grid.open.reshape(shape)[rows, first],
        high=np.where(exists, grid.high.reshape(shape), -largest).max(axis=1),
        low=np.where(exists, grid.low.reshape(shape), largest).min(axis=1),
        close=grid.close.reshape(shape)[rows, last],
        volume=np.where(exists, grid.volume.reshape(shape), 0).sum(axis=1),
        exists=np.logical_or.reduce(exists, axis=1),
    )


def _whole(grid: Grid, shape: tuple[int, int]) -> Grid:
    return Grid(
        open=grid.open.reshape(shape)[:, 0],
        high=grid.high.reshape(shape).max(axis=1),
        low=grid.low.reshape(shape).min(axis=1),
        close=grid.close.reshape(shape)[:, -1],
        volume=grid.volume.reshape(shape).sum(axis=1),
        exists=np.ones(shape[0], dtype=np.bool_),
    )


def head(grid: Grid, rows: int) -> Grid:
    """The first `rows` rows; the rest no longer exist."""
    exists = grid.exists.copy()
    exists[rows:] = False
    return Grid(grid.open, grid.high, grid.low, grid.close, grid.volume, exists)


def cut_minute(grid: Grid, minute: int, done_frac: float) -> Grid:
    """The grid as it stands within `minute`: earlier rows whole, this row only as far as it has come, later rows not yet there."""
    rows = head(grid, minute + 1)
    open_, high, low, close, volume = (a.copy() for a in (grid.open, grid.high, grid.low, grid.close, grid.volume))
    close[minute] = open_[minute] + round((int(close[minute]) - int(open_[minute])) * done_frac)
    high[minute] = max(open_[minute], close[minute])
    low[minute] = min(open_[minute], close[minute])
    volume[minute] = int(volume[minute] * done_frac)
    return Grid(open_, high, low, close, volume, rows.exists)
