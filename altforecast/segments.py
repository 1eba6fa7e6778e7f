"""Where each series of a bar frame starts and ends, and where holes cut it into segments.

What belongs here: reading a sorted frame of many series as arrays and refusing frames that are not what they claim to be.
What does not: any number computed from prices (`indicators`, `pivots`, `divergences`, `outcomes`).
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from altforecast.errors import InputError
from altforecast.types import Timeframe

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_BLOCK_ROWS = 1 << 16


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


def series_batches(bars: pl.DataFrame, max_rows: int) -> Iterator[slice]:
    """Row ranges that cover a sorted frame without cutting a series: at most max_rows long, unless one series is longer.

    Small batches keep the arrays of a scan in the processor's cache. Where the frame is not sorted, a batch may cut a series;
    `split_segments` of the batches and `check_order` over them find that out.
    """
    symbol, exchange = bars["symbol"], bars["exchange"]

    def name(row: int) -> tuple[str, str]:
        return symbol[row], exchange[row]

    start = 0
    while start < bars.height:
        stop = min(start + max_rows, bars.height)
        if stop < bars.height:
            first = bisect_left(range(bars.height), name(stop), lo=start, hi=stop, key=name)
            stop = first if first > start else bisect_right(range(bars.height), name(stop), lo=stop, key=name)
        yield slice(start, stop)
        start = stop


def check_order(names: Sequence[tuple[str, str]]) -> None:
    """Raises InputError unless the names of the series of a frame, in row order, rise strictly."""
    if list(names) != sorted(set(names)):
        raise InputError("bars", names[0], "rows must be sorted by symbol, exchange, timeframe, ts")


def split_segments(bars: pl.DataFrame, timeframe: Timeframe, restart_gap_bars: int) -> Segments:
    """Segments of a frame of many series of one timeframe, sorted by symbol, exchange, ts.

    bars: columns ts, symbol, exchange, optionally timeframe. A new segment starts at each series and behind each hole of more than
    restart_gap_bars missing bars; shorter holes are passed over as if they were not there. Empty in, no segments out.
    Raises InputError for another timeframe, unsorted or doubled rows.
    """
    ts = bars["ts"].to_physical().to_numpy()
    if not len(ts):
        none = np.empty(0, dtype=np.int64)
        return Segments(ts, none, none, none, ())
    heads = _series_heads(bars)
    symbol, exchange = bars["symbol"], bars["exchange"]
    names = tuple((symbol[row], exchange[row]) for row in heads.tolist())
    check_order(names)
    _check_timeframe(bars, heads, timeframe)
    cuts = _cuts(ts, heads, (restart_gap_bars + 1) * timeframe.ms)
    starts = np.union1d(heads, cuts)
    series = np.searchsorted(heads, starts, side="right") - 1
    return Segments(ts, starts, np.append(starts[1:], len(ts)), series, names)


def _series_heads(bars: pl.DataFrame) -> Ints:
    """Row 0 and every row whose symbol or exchange differs from the row before; a constant column is the cheap case."""
    columns = [bars[name] for name in ("symbol", "exchange")]
    varying = [column for column in columns if (column != column[0]).any()]
    differs = [(column.slice(1) != column.slice(0, bars.height - 1)).to_numpy() for column in varying]
    return np.append(0, np.flatnonzero(np.logical_or.reduce(differs)) + 1) if differs else np.zeros(1, dtype=np.int64)


def _check_timeframe(bars: pl.DataFrame, heads: Ints, timeframe: Timeframe) -> None:
    """First and last row of each series show any other timeframe, because rows are sorted by timeframe within a series."""
    if "timeframe" in bars.columns:
        names = bars["timeframe"]
        other = {names[row] for row in (*heads.tolist(), *(heads[1:] - 1).tolist(), bars.height - 1)} - {timeframe.value}
        if other:
            raise InputError("timeframe", min(other), "all bars of one call have one timeframe", [timeframe.value])


def _cuts(ts: Ints, heads: Ints, longest_ms: int) -> Ints:
    """Rows behind a step of more than longest_ms; reads block by block, so that no array of the frame's length is made."""
    odd = [np.empty(0, dtype=np.int64)]
    for first in range(1, len(ts), _BLOCK_ROWS):
        steps = ts[first : first + _BLOCK_ROWS] - ts[first - 1 : first - 1 + _BLOCK_ROWS][: len(ts) - first]
        if steps.min() <= 0 or steps.max() > longest_ms:
            odd.append(np.flatnonzero((steps <= 0) | (steps > longest_ms)) + first)
    rows = np.setdiff1d(np.concatenate(odd), heads)
    back = rows[ts[rows] <= ts[rows - 1]]
    if len(back):
        raise InputError("ts", int(ts[back[0]]), f"row {back[0]} is not later than the row before it; sort by series and ts, once each")
    return rows


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
    """A nullable column as float64 with NaN for null, shape (rows,)."""
    return read_only(frame[name].cast(pl.Float64).to_numpy())


def aligned(bars: pl.DataFrame, frame: pl.DataFrame, *names: str) -> pl.DataFrame:
    """The named columns of another frame of the same series, one row per bar, null where the frame has no such row.

    Both frames: columns ts, symbol, exchange, sorted; the usual case of one row per bar in the same order costs no join.
    """
    if _is_aligned(bars, frame):
        return frame.select(names)
    keys = ["symbol", "exchange", "ts"]
    joined = bars.select(keys).join(frame.select(*keys, *names), on=keys, how="left", maintain_order="left", validate="1:1")
    return joined.select(names)


def _is_aligned(bars: pl.DataFrame, frame: pl.DataFrame) -> bool:
    """Equal times everywhere and equal names at both ends of every series: enough for two sorted frames."""
    if frame.height != bars.height or (frame["ts"] != bars["ts"]).any():
        return False
    heads = _series_heads(bars)
    ends = np.concatenate([heads, heads[1:] - 1, [bars.height - 1]])
    names = ["symbol", "exchange"]
    return bars.select(names)[ends].equals(frame.select(names)[ends])


def rows_of(bars: pl.DataFrame, events: pl.DataFrame) -> Ints:
    """Row in `bars` of each event's (symbol, exchange, ts), -1 where that bar is not among them; shape (events,)."""
    keys = ["symbol", "exchange", "ts"]
    numbered = bars.select(keys).with_row_index("row").with_columns(pl.col("row").cast(pl.Int64))
    found = events.select(keys).join(numbered, on=keys, how="left", maintain_order="left")
    return found["row"].fill_null(-1).to_numpy()
