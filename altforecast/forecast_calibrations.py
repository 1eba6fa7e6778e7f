"""The daily calibration of a pack: quantiles of its past residuals that had matured when a bar closed.

What belongs here: rows of the table forecast_calibrations, from the residuals of a pack and of the bars since its training.
What does not: how quantiles are shrunk (`residual_quantiles`) and what they are used for (`forecasting`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from altforecast.bar_grid import BarGrid
from altforecast.errors import InputError
from altforecast.forecast_answers import Answers, answers, check_grid, residual_of
from altforecast.forecast_features import FeatureMatrix
from altforecast.forecast_packs import CLIMATOLOGY, SHAPE, Pack
from altforecast.forecast_params import CALIBRATION, HORIZONS
from altforecast.forecast_scores import LEVELS
from altforecast.forecast_tables import FORECAST_CALIBRATIONS, QUANTILES
from altforecast.forecast_targets import return_ahead
from altforecast.residual_quantiles import residual_quantiles

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Series = tuple[str, str]
POOL: Series = ("*", "*")
"""Stands for all series in the table forecast_calibrations."""
_DAY_MS = 86_400_000


def renewal_ts(ts: int) -> int:
    """First instant [ms] of the UTC day of a bar: the open of the bar at which its calibration was renewed."""
    return ts // _DAY_MS * _DAY_MS


def renew_calibration(pack: Pack, grid: BarGrid, at: int, features: FeatureMatrix | None = None) -> pl.DataFrame:
    """Rows of forecast_calibrations with ts = at: each part of the pack, each series of pack and grid, and the pool of all (`*`).

    grid: bars from one horizon before the end of the training (train_until + one horizon, with warm-up before it) to `at`; later ones
    are not looked at. features: of the grid, built where missing. Only residuals count whose outcome was known when the bar `at`
    closed. Quantiles are null where not even the pool has enough. Raises InputError where the grid begins too late.
    """
    past = _past_residuals(pack, grid, at, features)
    frames = []
    for part in pack.info.parts:
        window = pack.info.days(part) * grid.bars_per_day
        frames.append(_calibration_rows(pack, past, part, window, at))
    return FORECAST_CALIBRATIONS.conform(pl.concat(frames))


@dataclass(frozen=True)
class _Past:
    """Residuals on one clock that ends with the newest matured bar."""

    ts: Ints
    series: tuple[Series, ...]
    values: Mapping[str, Floats]


def _past_residuals(pack: Pack, grid: BarGrid, at: int, features: FeatureMatrix | None) -> _Past:
    """Those stored, those that were pending, and those of the bars since the training."""
    check_grid(pack, grid)
    bar_ms, horizon = grid.timeframe.ms, HORIZONS[pack.info.horizon][1]
    stored = pack.residuals
    if not len(stored.ts):
        raise InputError("pack", pack.info.version, "was loaded without its residuals")
    series = tuple(sorted({*stored.series, *grid.series}))
    days = max(CALIBRATION.residual_days, CALIBRATION.climatology_days)
    n, last = days * grid.bars_per_day, at - horizon * bar_ms
    ts = last + bar_ms * np.arange(1 - n, 1, dtype=np.int64)
    values = {part: np.full((n, len(series), *stored.values[part].shape[2:]), np.nan) for part in pack.info.parts}
    old_columns = np.array([series.index(name) for name in stored.series], dtype=np.int64)
    for part, target in values.items():
        _put(target, ts, stored.ts, old_columns, stored.values[part])
    since = int(stored.ts[-1]) - (horizon - 1) * bar_ms
    if last >= since:
        columns = np.array([series.index(name) for name in grid.series], dtype=np.int64)
        for said in _said_since(pack, grid, since, last, features):
            outcome = _outcome(grid, said.ts, horizon)
            for part, target in values.items():
                _put(target, ts, said.ts, columns, residual_of(part, outcome, said))
    return _Past(ts, series, values)


def _put(target: Floats, clock: Ints, ts: Ints, columns: Ints, values: NDArray[np.floating]) -> None:
    """Write rows of one regular clock into another one; rows outside it are left out."""
    inside = np.flatnonzero((ts >= clock[0]) & (ts <= clock[-1]))
    if len(inside):
        rows = np.searchsorted(clock, ts[inside])
        target[rows[:, None], columns[None, :]] = values[inside]


def _said_since(pack: Pack, grid: BarGrid, since: int, last: int, features: FeatureMatrix | None) -> list[Answers]:
    """What was said at the bars [since, last]: first as it was pending when the pack was made, then by its own models."""
    bar_ms = grid.timeframe.ms
    if grid.ts[0] > since:
        raise InputError("grid", int(grid.ts[0]), f"must reach back to {since} ms, where the residuals of {pack.info.version} end")
    end = int(pack.residuals.ts[-1])
    first, stop = (int((moment - grid.ts[0]) // bar_ms) for moment in (end + bar_ms, last + bar_ms))
    found = [_pending(pack, grid, since)]
    if stop > first:
        found.append(answers(pack, grid, first, min(stop, len(grid.ts)), features))
    return found


def _pending(pack: Pack, grid: BarGrid, since: int) -> Answers:
    """The stored answers, in the columns of the grid."""
    stored = pack.residuals
    ts = stored.ts[stored.ts >= since]
    place = {name: column for column, name in enumerate(stored.series)}
    columns = np.array([place.get(name, -1) for name in grid.series], dtype=np.int64)

    def spread(values: Floats) -> Floats:
        filled = np.concatenate([values, np.full_like(values[:, :1], np.nan)], axis=1)
        return np.asarray(filled[-len(ts) :, columns])

    found = {part: spread(values) for part, values in stored.pending.items()}
    return Answers(ts, {part: values for part, values in found.items() if part != SHAPE}, found.get(SHAPE))


def _outcome(grid: BarGrid, ts: Ints, horizon: int) -> Floats:
    """Log return ahead at each moment; NaN where it lies outside the grid."""
    rows = (ts - grid.ts[0]) // grid.timeframe.ms
    found = np.full((len(ts), len(grid.series)), np.nan)
    inside = (rows >= 0) & (rows < len(grid.ts))
    found[inside] = return_ahead(grid.close, horizon)[rows[inside]]
    return found


def _calibration_rows(pack: Pack, past: _Past, part: str, window: int, at: int) -> pl.DataFrame:
    timeframe, horizon = HORIZONS[pack.info.horizon]
    values = past.values[part][-window:]
    flat = values if part != SHAPE else values[:, :, 0]
    own = (~np.isnan(flat)).sum(axis=0)
    known = np.flatnonzero((~np.isnan(flat)).any(axis=1))
    start = int(past.ts[-window:][known[0]]) if len(known) else at
    quantiles = _quantiles_at(values, horizon, window, part)
    names = [*past.series, POOL]
    keys = pl.DataFrame(
        {
            "ts": at, "symbol": [s for s, _ in names], "exchange": [e for _, e in names], "timeframe": timeframe.value,
            "horizon": pack.info.horizon, "model": pack.info.version, "part": part,
        }
    )  # fmt: skip
    levels = pl.DataFrame(quantiles, schema=dict.fromkeys(QUANTILES, pl.Float64())).fill_nan(None)
    counts = pl.DataFrame({"n_own": [*own.tolist(), int(own.sum())]})
    frame = pl.concat([keys, levels, counts], how="horizontal")
    known_at = pl.lit(at + timeframe.ms).alias("known_at")
    return frame.with_columns(pl.lit(int(own.sum())).alias("n_pooled"), pl.lit(start).alias("window_start"), known_at).cast(
        FORECAST_CALIBRATIONS.schema
    )


def _quantiles_at(values: Floats, horizon: int, window: int, part: str) -> Floats:
    """Quantiles of each series and, last, of the pool, shape (series + 1, levels), once the newest row has matured."""
    row = np.array([len(values) - 1 + horizon])
    empty = np.full_like(values[:, :1], np.nan)
    with_pool = np.concatenate([values, empty], axis=1)  # a series without residuals takes those of the pool
    if part != SHAPE:
        return np.asarray(residual_quantiles(with_pool, row, horizon, window, shrink=part != CLIMATOLOGY)[0])
    found = [residual_quantiles(with_pool[:, :, k], row, horizon, window, levels=(level,))[0] for k, level in enumerate(LEVELS)]
    return np.concatenate(found, axis=1)
