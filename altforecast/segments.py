"""Where each series of a bar frame starts and ends, and where holes cut it into segments.

What belongs here: reading a sorted frame of many series as arrays and refusing frames that are not what they claim to be.
What does not: any number computed from prices (`indicators`, `pivots`, `divergences`, `outcomes`).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from altforecast.errors import InputError
from altforecast.types import Timeframe

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Segments(NamedTuple):
    """Runs of bars without a long hole, in row order; all row numbers count from the start of the frame."""

    ts: Ints
    """Open time of each row [ms since 1970], shape (rows,)."""
    starts: Ints
    """First row of each segment, shape (segments,)."""
    stops: Ints
    """One past the last row of each segment, shape (segments,)."""
    series: Ints
    """Number of the series each segment belongs to, shape (segments,), not decreasing."""
    names: tuple[tuple[str, str], ...]
    """(symbol, exchange) of each series, sorted."""

    @property
    def is_continued(self) -> NDArray[np.bool_]:
        """Whether the same series goes on after the segment's end, behind a hole; shape (segments,)."""
        return np.append(self.series[1:] == self.series[:-1], False)

    def series_spans(self) -> list[tuple[int, int]]:
        """(first row, one past the last row) of each series, in the order of `names`."""
        first = np.searchsorted(self.series, np.arange(len(self.names)))
        starts = self.starts[first]
        return list(zip(starts.tolist(), [*starts[1:].tolist(), len(self.ts)], strict=True))


def split_segments(bars: pl.DataFrame, timeframe: Timeframe, restart_gap_bars: int) -> Segments:
    """Segments of a frame of many series of one timeframe, sorted by symbol, exchange, ts.

    bars: columns ts, symbol, exchange, optionally timeframe. A new segment starts at each series and behind each hole of more than
    restart_gap_bars missing bars; shorter holes are passed over as if they were not there. Empty in, no segments out.
    Raises InputError for another timeframe, unsorted or doubled rows.
    """
    _check_timeframe(bars, timeframe)
    ts = bars["ts"].to_physical().to_numpy()
    if not len(ts):
        none = np.empty(0, dtype=np.int64)
        return Segments(ts, none, none, none, ())
    heads = _series_heads(bars)
    names = tuple(bars.select("symbol", "exchange")[heads.tolist()].iter_rows())
    if list(names) != sorted(set(names)):
        raise InputError("bars", names[0], "rows must be sorted by symbol, exchange, timeframe, ts")
    steps = np.diff(ts)
    steps[heads[1:] - 1] = timeframe.ms
    _check_steps(steps, bars)
    cuts = np.flatnonzero(steps > (restart_gap_bars + 1) * timeframe.ms) + 1
    starts = np.union1d(heads, cuts)
    series = np.searchsorted(heads, starts, side="right") - 1
    return Segments(ts, starts, np.append(starts[1:], len(ts)), series, names)


def _check_timeframe(bars: pl.DataFrame, timeframe: Timeframe) -> None:
    if "timeframe" in bars.columns:
        other = bars["timeframe"] != timeframe.value
        if other.any():
            raise InputError("timeframe", bars["timeframe"].filter(other)[0], "all bars of one call have one timeframe", [timeframe.value])


def _series_heads(bars: pl.DataFrame) -> Ints:
    symbol, exchange = bars["symbol"], bars["exchange"]
    is_head = (symbol != symbol.shift(1)) | (exchange != exchange.shift(1))
    return is_head.fill_null(True).arg_true().to_numpy().astype(np.int64)


def _check_steps(steps: Ints, bars: pl.DataFrame) -> None:
    if len(steps) and steps.min() <= 0:
        row = int(np.argmin(steps)) + 1
        raise InputError("ts", bars["ts"][row], f"row {row} of {bars['symbol'][row]} is not later than the row before")


def read_prices(bars: pl.DataFrame, *names: str) -> tuple[Floats, ...]:
    """Price columns as float64 arrays, without a copy where the frame allows it; raises InputError on null, NaN or infinity."""
    return tuple(_finite(bars, name) for name in names)


def _finite(bars: pl.DataFrame, name: str) -> Floats:
    values = bars[name].cast(pl.Float64)
    if values.null_count():
        row = int(values.is_null().arg_true()[0])
        raise InputError(name, None, f"price may not be null (row {row})")
    array = values.to_numpy()
    if not math.isfinite(float(array.sum())):
        bad = np.flatnonzero(~np.isfinite(array))
        if len(bad):
            raise InputError(name, float(array[bad[0]]), f"price must be a finite number (row {bad[0]})")
    return read_only(array)


def read_only(array: Floats) -> Floats:
    """A view that cannot be written to; compiled loops are then built for one kind of array only."""
    view = array.view()
    view.flags.writeable = False
    return view


def read_nullable(frame: pl.DataFrame, name: str) -> Floats:
    """A nullable column as float64 with NaN for null; raises InputError where it holds NaN or infinity itself."""
    values = frame[name].cast(pl.Float64)
    array = values.to_numpy()
    present = array if not values.null_count() else array[~np.isnan(array)]
    if len(present) and not math.isfinite(float(present.sum())) and not np.isfinite(present).all():
        raise InputError(name, "NaN or infinity", "missing values are null")
    return read_only(array)


def aligned_columns(bars: pl.DataFrame, frame: pl.DataFrame, *names: str) -> tuple[Floats, ...]:
    """Nullable columns of another frame of the same series, one value per bar, NaN where the frame has no row or no value.

    Both frames: columns ts, symbol, exchange; the usual case of one row per bar in the same order is read without a join.
    """
    keys = ["symbol", "exchange", "ts"]
    if frame.height != bars.height or any((frame[k] != bars[k]).any() for k in reversed(keys)):
        frame = bars.select(keys).join(frame.select(*keys, *names), on=keys, how="left", maintain_order="left", validate="1:1")
    return tuple(read_nullable(frame, name) for name in names)


def rows_of(bars: pl.DataFrame, events: pl.DataFrame) -> Ints:
    """Row in `bars` of each event's (symbol, exchange, ts), -1 where that bar is not among them; shape (events,)."""
    keys = ["symbol", "exchange", "ts"]
    numbered = bars.select(keys).with_row_index("row").with_columns(pl.col("row").cast(pl.Int64))
    found = events.select(keys).join(numbered, on=keys, how="left", maintain_order="left")
    return found["row"].fill_null(-1).to_numpy()
