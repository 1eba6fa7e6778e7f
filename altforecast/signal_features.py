"""Features from the platform's own signals: divergences, levels and indicators, joined by what was known at each bar's close.

What belongs here: turning event logs into columns on a bar grid. What does not: features of bars alone (`forecast_features`), of
readings of the whole market and of funding (`reading_features`), and computing the signals (`bar_signals`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from altforecast.bar_grid import BarGrid
from altforecast.feature_table import SIGNAL_COLUMNS
from altforecast.forecast_params import FeatureParams, feature_params
from altforecast.params import LEVELS
from altforecast.reading_features import context_columns, funding_columns, regime_columns
from altforecast.types import DivergenceStatus, LevelEvent

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Named = Iterator[tuple[str, Floats]]


@dataclass(frozen=True)
class SignalFrames:
    """Lake tables of those names that features read; None where there is nothing. Other timeframes and series are ignored.

    For the features of bars from `first` on, read every row with known_at after first - `feature_params(timeframe).lookback_bars`
    bars (31 days): then the features equal those of the whole history. A row counts from the first bar whose close is at or after
    its known_at, whatever its ts says, so rows of the future do no harm.
    """

    divergences: pl.DataFrame | None = None
    levels: pl.DataFrame | None = None
    indicators: pl.DataFrame | None = None
    """Only atr_14, adx_14, macd_hist, ema_20, ema_50 are read; level distances need its atr_14."""
    regime: pl.DataFrame | None = None
    market_context: pl.DataFrame | None = None
    funding_rates: pl.DataFrame | None = None


@dataclass(frozen=True)
class _Placed:
    """Rows of a log that belong to series of the grid."""

    frame: pl.DataFrame
    column: Ints
    """Series of each row."""
    slot: Ints
    """First bar whose close is at or after known_at; below 0 before the grid, beyond its end for the future."""


def signal_columns(grid: BarGrid, signals: SignalFrames, rows: slice) -> Named:
    """Every column of `feature_table.SIGNAL_COLUMNS`, in order, with values that broadcast to (rows, series); NaN where not known."""
    params = feature_params(grid.timeframe)
    found: dict[str, Floats] = {}
    found |= _divergence_columns(grid, params, signals.divergences, rows)
    found |= _indicator_columns(grid, params, signals.indicators, signals.levels, rows)
    found |= regime_columns(grid, signals.regime, rows)
    found |= context_columns(grid, signals.market_context, rows)
    found |= funding_columns(grid, signals.funding_rates, rows)
    nothing = np.full((1, 1), np.nan)
    yield from ((column.name, found.get(column.name, nothing)) for column in SIGNAL_COLUMNS)


def _placed(grid: BarGrid, frame: pl.DataFrame) -> _Placed:
    names = pl.DataFrame(grid.series, schema=["symbol", "exchange"], orient="row").with_row_index("column")
    mine = frame.filter(pl.col("timeframe") == grid.timeframe.value).join(names, on=["symbol", "exchange"], maintain_order="left")
    return _Placed(mine, mine["column"].cast(pl.Int64).to_numpy(), _slots(grid, mine["known_at"]))


def _slots(grid: BarGrid, moments: pl.Series) -> Ints:
    """First bar whose close is at or after each moment."""
    first_close = int(grid.ts[0]) + grid.timeframe.ms
    return np.asarray(-((first_close - moments.dt.epoch("ms").to_numpy()) // grid.timeframe.ms), dtype=np.int64)


# ---- divergences


def _divergence_columns(grid: BarGrid, params: FeatureParams, frame: pl.DataFrame | None, rows: slice) -> dict[str, Floats]:
    if frame is None or frame.is_empty():
        return {}
    placed = _placed(grid, frame)
    is_known = _newest(grid, placed.column, placed.slot) >= np.arange(len(grid.ts))[:, None] - params.month
    found: dict[str, Floats] = {}
    for side in ("bullish", "bearish"):
        mine = placed.frame["kind"].str.ends_with(side).to_numpy()
        part = _Placed(placed.frame.filter(mine), placed.column[mine], placed.slot[mine])
        columns = _divergences_of_side(grid, params, part)
        found |= {f"divergence_{name.format(side)}": np.where(is_known, values, np.nan)[rows] for name, values in columns.items()}
    return found


def _divergences_of_side(grid: BarGrid, params: FeatureParams, placed: _Placed) -> dict[str, Floats]:
    opened = _slots(grid, placed.frame["active_at"])
    status = placed.frame["status"]
    ended = np.where((status == DivergenceStatus.ACTIVE.value).to_numpy(), opened + params.week, placed.slot)
    events = pl.DataFrame({"id": placed.frame["id"], "column": placed.column, "opened": opened, "ended": ended})
    event = events.group_by("id").agg(pl.col("column", "opened").first(), pl.col("ended").min())
    column, begin, end = (event[c].to_numpy() for c in ("column", "opened", "ended"))
    is_confirmed = (status == DivergenceStatus.CONFIRMED.value).to_numpy()
    confirmed, at = placed.column[is_confirmed], placed.slot[is_confirmed]
    age = np.arange(len(grid.ts))[:, None] - _newest(grid, placed.column, opened)
    return {
        "active_{}": _running(grid, column, begin, np.minimum(end, begin + params.week)),
        "confirmed_{}_day": _running(grid, confirmed, at, at + params.day),
        "bars_{}": np.where(age <= params.week, age, np.nan),
    }


def _running(grid: BarGrid, column: Ints, begin: Ints, end: Ints) -> Floats:
    """How many of the spans [begin, end) of a series each bar lies in, shape (time, series)."""
    steps = np.zeros((len(grid.ts) + 1, len(grid.series)))
    for slots, sign in ((begin, 1.0), (np.maximum(begin, end), -1.0)):
        np.add.at(steps, (np.clip(slots, 0, len(grid.ts)), column), sign)
    return np.asarray(np.cumsum(steps[:-1], axis=0))


def _newest(grid: BarGrid, column: Ints, slots: Ints) -> Floats:
    """Largest of the slots known at each bar, per series, shape (time, series); minus infinity before the first."""
    newest = np.full((len(grid.ts) + 1, len(grid.series)), -np.inf)
    np.maximum.at(newest, (np.clip(slots, 0, len(grid.ts)), column), slots)
    return np.asarray(np.maximum.accumulate(newest[:-1], axis=0))


# ---- indicators and levels


def _indicator_columns(
    grid: BarGrid, params: FeatureParams, indicators: pl.DataFrame | None, levels: pl.DataFrame | None, rows: slice
) -> dict[str, Floats]:
    if indicators is None or indicators.is_empty():
        return {}
    first = rows.indices(len(grid.ts))[0]
    wanted = pl.col("ts").dt.epoch("ms") >= int(grid.ts[0]) + first * grid.timeframe.ms
    placed = _placed(grid, indicators.filter(wanted))
    bar = (placed.frame["ts"].dt.epoch("ms").to_numpy() - grid.ts[0]) // grid.timeframe.ms
    is_due = (placed.slot <= bar) & (bar >= first) & (bar < len(grid.ts))
    cells = bar[is_due] - first, placed.column[is_due]

    def spread(name: str) -> Floats:
        out = np.full((len(grid.ts) - first, len(grid.series)), np.nan)
        out[cells] = placed.frame[name].cast(pl.Float64).to_numpy()[is_due]
        return out

    atr, close = spread("atr_14"), grid.close[first:]
    atr[atr <= 0.0] = np.nan
    found = {f"ema_{bars}_distance": (close - spread(f"ema_{bars}")) / atr for bars in (20, 50)}
    found |= {"adx": spread("adx_14") / 100.0, "macd_hist": spread("macd_hist") / atr}
    return found | _level_columns(grid, params, levels, atr, first)


def _level_columns(grid: BarGrid, params: FeatureParams, frame: pl.DataFrame | None, atr: Floats, first: int) -> dict[str, Floats]:
    if frame is None or frame.is_empty():
        return {}
    nearest = _nearest(grid, params, _placed(grid, frame), first)
    bar, close = np.arange(first, len(grid.ts))[:, None], grid.close[first:]
    found = {}
    for side, number in (("above", 0), ("below", 1)):
        price, touches, last = (nearest[:, :, number, part] for part in range(3))
        found[f"level_{side}_distance"] = np.abs(price - close) / atr
        found[f"level_{side}_strength"] = touches * 0.5 ** ((bar - last) / LEVELS.half_life_bars)
        found[f"level_{side}_touches"] = touches
    return found


def _nearest(grid: BarGrid, params: FeatureParams, placed: _Placed, first: int) -> Floats:
    """Price, touches and last touch of the nearest levels, shape (rows, series, 2, 3)."""
    from altforecast.nearest_levels import nearest_levels

    frame = placed.frame
    touched = (frame["last_touch_ts"].dt.epoch("ms").to_numpy() - grid.ts[0]) // grid.timeframe.ms
    values = np.column_stack([frame["price"].to_numpy(), frame["n_touches"].to_numpy(), touched]).astype(np.float64)
    level = frame["id"].hash().to_numpy()
    is_end = (frame["event"] == LevelEvent.EVICTED.value).to_numpy()
    out = np.full((len(grid.ts) - first, len(grid.series), 2, 3), np.nan)
    order = np.lexsort((placed.slot, placed.column))
    bounds = np.searchsorted(placed.column[order], np.arange(len(grid.series) + 1))
    for series in range(len(grid.series)):
        rows = order[bounds[series] : bounds[series + 1]]
        if len(rows):
            numbers, mine = np.unique(level[rows], return_inverse=True)
            closes = np.ascontiguousarray(grid.close[:, series])
            given = placed.slot[rows], mine.astype(np.int64), values[rows], is_end[rows]
            out[:, series] = nearest_levels(closes, *given, len(numbers), first, params.lookback_bars)
    return out
