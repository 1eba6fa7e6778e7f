"""Bars of many series on one regular clock, and the variance inside each bar.

What belongs here: turning a frame of the table `bars` into arrays of shape (time, series) in which holes stay holes. What does not:
features (`forecast_features`), outcomes (`forecast_targets`) and repairs (`bar_checks`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from altforecast.errors import InputError
from altforecast.types import Quality, Timeframe

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MAX_CELLS = 50_000_000
"""Most slots of one grid; a frame with a stray year would otherwise take all memory."""
_PRICES = ("open", "high", "low", "close")
_LN4_LESS_1 = 2.0 * float(np.log(2.0)) - 1.0


@dataclass(frozen=True)
class BarGrid:
    """Every slot between the first and the last bar of all series; NaN where a series has no usable bar."""

    timeframe: Timeframe
    ts: Ints
    """Open time of each slot [ms since 1970], shape (time,)."""
    known_at: Ints
    """Latest known_at of all bars up to and including the slot [ms], shape (time,)."""
    series: tuple[tuple[str, str], ...]
    """(symbol, exchange), sorted; the columns of the arrays."""
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    """Base units; NaN where the source has none."""

    @property
    def bars_per_day(self) -> int:
        """Slots of one day."""
        return 86_400_000 // self.timeframe.ms

    @property
    def leader(self) -> int | None:
        """Column of the first series whose base is BTC; None without one."""
        return next((i for i, (symbol, _) in enumerate(self.series) if symbol.startswith("BTC-")), None)


def bar_grid(bars: pl.DataFrame, timeframe: Timeframe) -> BarGrid:
    """The bars of one timeframe as a grid.

    bars: columns symbol, exchange, timeframe, ts, OHLCV, optionally known_at (else the close of the bar) and quality; rows of other
    timeframes are ignored, order does not matter. A bar with a price that is not a positive finite number, or printed while its feed
    was down, is missing. Nothing is filled. Raises InputError for doubled or misplaced bars, no bars at all, or too large a grid.
    """
    rows = usable_bars(bars, timeframe)
    opens, known = rows["ts"].dt.epoch("ms").to_numpy(), rows["known_at"].dt.epoch("ms").to_numpy()
    first = int(opens.min())
    slot = (opens - first) // timeframe.ms
    n_times = int(slot.max()) + 1
    series, column = _columns(rows)
    if n_times * len(series) > MAX_CELLS:
        raise InputError("bars", n_times * len(series), f"more than {MAX_CELLS:,} slots between the first and the last bar")
    cells, shape = slot * len(series) + column, (n_times, len(series))
    is_taken = np.zeros(n_times * len(series), dtype=np.bool_)
    is_taken[cells] = True
    if (doubled := len(cells) - int(is_taken.sum())) > 0:
        raise InputError("bars", doubled, "doubled bars; keep one per series and open time")
    ts = first + np.arange(n_times, dtype=np.int64) * timeframe.ms
    arrays = {name: _spread(rows[name], cells, shape) for name in (*_PRICES, "volume")}
    known_at = ts + timeframe.ms
    np.maximum.at(known_at, slot, known)
    return BarGrid(timeframe, ts, np.maximum.accumulate(known_at), series, **arrays)


def _columns(rows: pl.DataFrame) -> tuple[tuple[tuple[str, str], ...], Ints]:
    """The series, sorted, and which of them each row belongs to; rows mostly come series by series, so runs are looked up, not rows."""
    names = ("symbol", "exchange")
    is_new = pl.any_horizontal(pl.col(name) != pl.col(name).shift(1) for name in names).fill_null(True)
    run = rows.select((is_new.cum_sum() - 1).cast(pl.Int64).alias("run"), is_new.alias("is_new"))
    heads = rows.select(names).filter(run["is_new"])
    series = heads.unique().sort(names)
    number = heads.join(series.with_row_index("column"), on=names, maintain_order="left")["column"].cast(pl.Int64).to_numpy()
    return tuple(series.iter_rows()), number[run["run"].to_numpy()]


def usable_bars(bars: pl.DataFrame, timeframe: Timeframe) -> pl.DataFrame:
    """Rows of one timeframe with good prices, printed while their feed was up; known_at is the close of the bar where it is not given.

    Columns symbol, exchange, timeframe, ts, OHLCV, known_at, in the order of the bars. Raises InputError where none is left, or one
    does not open at a multiple of the timeframe.
    """
    good = pl.all_horizontal(*(pl.col(c).cast(pl.Float64).is_finite() & (pl.col(c) > 0) for c in _PRICES))
    if "quality" in bars.columns:
        good &= pl.col("quality") != Quality.FEED_DOWN.value
    rows = bars.filter((pl.col("timeframe") == timeframe.value) & good.fill_null(False))
    if rows.is_empty():
        raise InputError("bars", 0, f"no usable bar of {timeframe.value}")
    misplaced = rows["ts"].filter(rows["ts"].dt.epoch("ms") % timeframe.ms != 0)
    if not misplaced.is_empty():
        raise InputError("ts", int(misplaced.dt.epoch("ms")[0]), f"not the open of a {timeframe.value} bar")
    known = [] if "known_at" in rows.columns else [(pl.col("ts") + timeframe.duration).alias("known_at")]
    return rows.with_columns(known).select("symbol", "exchange", "timeframe", "ts", *_PRICES, "volume", "known_at")


def _spread(values: pl.Series, cells: Ints, shape: tuple[int, int]) -> Floats:
    out = np.full(shape[0] * shape[1], np.nan)
    out[cells] = values.cast(pl.Float64).to_numpy()
    return out.reshape(shape)


def log_returns(grid: BarGrid) -> Floats:
    """ln of close over the close one slot before, shape (time, series); NaN where either is missing."""
    logs = np.log(grid.close)
    return np.vstack([np.full((1, logs.shape[1]), np.nan), np.diff(logs, axis=0)])


def bar_variance(grid: BarGrid) -> Floats:
    """Variance of each bar [squared log return], shape (time, series): range estimator plus the jump from the close before.

    Garman and Klass (1980), 0.5 ln(H/L)^2 - (2 ln 2 - 1) ln(C/O)^2, not below 0, plus ln(O / previous C)^2; the jump counts as 0
    where the bar before is missing. NaN where the bar is missing.
    """
    inside = 0.5 * np.log(grid.high / grid.low) ** 2 - _LN4_LESS_1 * np.log(grid.close / grid.open) ** 2
    before = np.vstack([np.full((1, grid.close.shape[1]), np.nan), grid.close[:-1]])
    return np.asarray(np.maximum(inside, 0.0) + np.nan_to_num(np.log(grid.open / before)) ** 2)
