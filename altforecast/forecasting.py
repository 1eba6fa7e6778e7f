"""From a pack to the forecasts of the newest bars: rows of the table forecasts, with a reason where there is no forecast.

What belongs here: distributions, probabilities and reasons of single bars. What does not: training (`forecast_training`), what the
pack says before calibration (`forecast_answers`), calibrations (`forecast_calibrations`) and when all this runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from altforecast.bar_grid import BarGrid
from altforecast.errors import InputError
from altforecast.forecast_answers import Answers, answers, warmup_bars
from altforecast.forecast_calibrations import POOL, renew_calibration, renewal_ts
from altforecast.forecast_features import FeatureMatrix
from altforecast.forecast_packs import BASELINE, CLIMATOLOGY, HAR, SCALE, SHAPE, Pack
from altforecast.forecast_params import CALIBRATION, HORIZONS, feature_params
from altforecast.forecast_scores import LEVELS
from altforecast.forecast_tables import FORECASTS, QUANTILES

__all__ = ["forecast_bars", "renew_calibration", "renewal_ts", "warmup_bars"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Series = tuple[str, str]
MODEL_ROLES = ("champion", "challenger")
_EWMA_BARS = 25
"""Bars that the exponentially weighted variance needs: 24 returns."""


def forecast_bars(
    pack: Pack, grid: BarGrid, first: int, calibration: pl.DataFrame, made_at: int, role: str, features: FeatureMatrix | None = None
) -> pl.DataFrame:
    """Rows of forecasts for each bar slot from `first` [ms] on and each series that had begun by then.

    grid: with `warmup_bars` before `first`. calibration: rows of forecast_calibrations; those of other packs are ignored, each bar
    takes the newest ones up to its own open. made_at: when the forecast is made [ms]. role: champion | challenger for models; har for
    a baseline, which gives rows of har and of climatology. A series that cannot be forecast has a row that says why. Raises
    InputError for a role that the pack cannot play, for other bars, and for missing features.
    """
    _check_role(pack, role)
    row = max(int(-(-(first - int(grid.ts[0])) // grid.timeframe.ms)), 0)
    if row >= len(grid.ts):
        return FORECASTS.empty()
    said = answers(pack, grid, row, None, features)
    known = _known_quantiles(pack, calibration, grid.series, said.ts)
    if pack.info.family != BASELINE:
        return FORECASTS.conform(_rows(pack, grid, said, known, role, made_at))
    frames = [_rows(pack, grid, said, known, part, made_at) for part in (HAR, CLIMATOLOGY)]
    return FORECASTS.conform(pl.concat(frames))


def _check_role(pack: Pack, role: str) -> None:
    allowed = (HAR,) if pack.info.family == BASELINE else MODEL_ROLES
    if role not in allowed:
        raise InputError("role", role, f"{pack.info.version} cannot play it", allowed)


@dataclass(frozen=True)
class _Calibrated:
    """The calibration of each bar."""

    at: Ints
    """When it was renewed [ms], shape (rows,); -1 where there is none."""
    quantiles: Mapping[str, Floats]
    """Part -> shape (rows, series, levels), NaN where there are none."""


def _known_quantiles(pack: Pack, calibration: pl.DataFrame, series: tuple[Series, ...], ts: Ints) -> _Calibrated:
    mine = calibration.filter(pl.col("model") == pack.info.version)
    at = mine["ts"].to_physical().to_numpy()
    renewed = np.unique(at)
    number = np.searchsorted(renewed, ts, side="right") - 1
    found = {part: np.full((len(ts), len(series), len(LEVELS)), np.nan) for part in pack.info.parts}
    keys, values = list(zip(mine["part"], mine["symbol"], mine["exchange"], strict=True)), mine.select(QUANTILES).to_numpy()
    for which in np.unique(number[number >= 0]).tolist():
        rows = np.flatnonzero(at == renewed[which]).tolist()
        place = {keys[row]: row for row in rows}
        for part, known in found.items():
            known[number == which] = _of_series(part, series, place, values)
    return _Calibrated(np.where(number >= 0, np.append(renewed, -1)[number], -1), found)


def _of_series(part: str, series: tuple[Series, ...], place: Mapping[tuple[str, str, str], int], values: Floats) -> Floats:
    """Quantiles of each series, shape (series, levels); those of the pool for a series listed since, NaN where there are none."""
    rows = [place.get((part, *name), place.get((part, *POOL), -1)) for name in series]
    return np.vstack([values, np.full((1, values.shape[1]), np.nan)])[rows]


def _rows(pack: Pack, grid: BarGrid, said: Answers, known: _Calibrated, forecaster: str, made_at: int) -> pl.DataFrame:
    """One row per bar and series that had begun."""
    timeframe, horizon = HORIZONS[pack.info.horizon]
    close = grid.close[len(grid.ts) - len(said.ts) :]
    parts = pack.info.mixed if forecaster in MODEL_ROLES else (forecaster,)
    quantiles = np.mean([_distribution(part, said, known.quantiles[part]) for part in parts], axis=0)
    usable = ~np.isnan(quantiles).any(axis=2) & ~np.isnan(close) & (said.ts > pack.info.train_until)[:, None]
    row, column = np.nonzero(_has_begun(grid, len(said.ts)))
    good, ts = usable[row, column], said.ts[row]
    symbols, exchanges = np.array([s for s, _ in grid.series]), np.array([e for _, e in grid.series])
    frame = pl.DataFrame(
        {
            "ts": ts, "symbol": symbols[column], "exchange": exchanges[column], "target_ts": ts + (horizon + 1) * timeframe.ms,
            "price": close[row, column], "sigma": _where(good, _sigma(said, forecaster, close.shape)[row, column]),
            **{name: _where(good, quantiles[row, column, k]) for k, name in enumerate(QUANTILES)},
            "p_up": _where(good, _p_up(pack, said, forecaster, close.shape)[row, column]),
            "p_base": _where(good, np.full(len(row), np.nan if pack.info.p_base is None else pack.info.p_base)),
            "calibrated_at": known.at[row], "reason": _reasons(pack, grid, (row, column), parts, said, known, good),
        }
    )  # fmt: skip
    same = {"timeframe": timeframe.value, "horizon": pack.info.horizon, "forecaster": forecaster, "model": pack.info.version}
    constants = [pl.lit(value).alias(name) for name, value in same.items()]
    at = pl.when(pl.col("calibrated_at") >= 0).then(pl.col("calibrated_at")).alias("calibrated_at")
    floats = [pl.col(name).fill_nan(None) for name in ("price", "sigma", *QUANTILES, "p_up", "p_base")]
    return frame.with_columns(at, *floats, *constants, pl.lit(made_at, pl.Int64).alias("known_at")).cast(FORECASTS.schema)


def _where(good: Bools, values: Floats) -> Floats:
    return np.where(good, values, np.nan)


def _has_begun(grid: BarGrid, n: int) -> Bools:
    """Whether a series has had a bar by each of the last n slots, shape (n, series)."""
    return np.asarray(np.maximum.accumulate(~np.isnan(grid.close), axis=0)[len(grid.ts) - n :])


def _distribution(part: str, said: Answers, known: Floats) -> Floats:
    """Quantiles of the return ahead by one part, shape (rows, series, levels)."""
    if part == CLIMATOLOGY:
        return known
    if part != SHAPE:
        return np.asarray(known * said.sigma[part][:, :, None])
    assert said.shape is not None  # a pack with this part has models
    return np.asarray(np.sort(said.shape + known, axis=2) * said.sigma[SCALE][:, :, None])


def _sigma(said: Answers, forecaster: str, shape: tuple[int, ...]) -> Floats:
    if forecaster == CLIMATOLOGY:
        return np.full(shape, np.nan)
    return said.sigma[HAR if forecaster == HAR else SCALE]


def _p_up(pack: Pack, said: Answers, forecaster: str, shape: tuple[int, ...]) -> Floats:
    """Calibrated probability; the base rate while no score was out of sample; NaN for baselines, which say none."""
    if forecaster not in MODEL_ROLES or pack.bundle is None or said.score is None:
        return np.full(shape, np.nan)
    if pack.bundle.platt is not None:
        return pack.bundle.platt.probability(said.score)
    return np.where(np.isnan(said.score), np.nan, np.nan if pack.info.p_base is None else pack.info.p_base)


def _reasons(
    pack: Pack, grid: BarGrid, cells: tuple[Ints, Ints], parts: tuple[str, ...], said: Answers, known: _Calibrated, good: Bools
) -> list[str | None]:
    """Why a cell has no forecast, None where it has one."""
    found: list[str | None] = [None] * len(good)
    skip = len(grid.ts) - len(said.ts)
    for number in np.flatnonzero(~good).tolist():
        row, column = int(cells[0][number]), int(cells[1][number])
        has_sigma = all(part == CLIMATOLOGY or not np.isnan(said.sigma[_scale_of(part)][row, column]) for part in parts)
        if np.isnan(grid.close[skip + row, column]):
            found[number] = "no bar: the feed was down or the market was quiet"
        elif said.ts[row] <= pack.info.train_until:
            found[number] = f"model {pack.info.version} learned from bars up to this one; it may only forecast later ones"
        elif not has_sigma:
            found[number] = _too_little(grid, skip + row, column)
        elif known.at[row] < 0:
            found[number] = f"no calibration of {pack.info.version} up to this bar; it is renewed at the first bar of a UTC day"
        else:
            found[number] = f"no calibration: fewer than {CALIBRATION.min_own} residuals out of sample are known, of all series"
    return found


def _scale_of(part: str) -> str:
    return SCALE if part == SHAPE else part


def _too_little(grid: BarGrid, row: int, column: int) -> str:
    """Of a series whose variance is not known at a bar that exists."""
    params = feature_params(grid.timeframe)
    needed = int(np.ceil(params.fill_frac * params.day))
    exists = ~np.isnan(grid.close[: row + 1, column])
    history, recent = int(exists.sum()), int(exists[-params.day :].sum())
    if history >= needed > recent:
        return f"{recent} of the newest {params.day} bars are known, {needed} are needed"
    wanted = needed if history < needed else _EWMA_BARS
    return f"{history} bars of history, {wanted} are needed"
