"""Forecasts that need no machine learning: climatology, EWMA and the seasonal HAR, each with filtered historical simulation.

What belongs here: conditional variance by regression (HAR-S) and its design. What does not: quantiles of its residuals
(`residual_quantiles`) and boosted models (`models`). Method: docs/methods/forecasts.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from altforecast.bar_grid import BarGrid, bar_variance, log_returns
from altforecast.errors import InputError
from altforecast.forecast_features import log_variances, market_mean
from altforecast.forecast_params import CALIBRATION, FOLDS, CalibrationParams, FoldParams, feature_params
from altforecast.rolling import Trailing, ewma

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
_WEEKEND = (5, 6)


def ewma_sigma(grid: BarGrid, horizon: int, params: CalibrationParams = CALIBRATION) -> Floats:
    """Standard deviation of the return over `horizon` bars by exponentially weighted squared returns, shape (time, series)."""
    return np.sqrt(horizon * ewma(log_returns(grid) ** 2, params.ewma_decay))


def har_design(grid: BarGrid, horizon: int, last: int | None = None) -> Floats:
    """Regressors of HAR-S at each bar, shape (time, series, regressors); NaN where the bar or the day before it is missing.

    Log variance over a bar, a few bars, a day, a week and a month, of the series and of the leader (BTC, else the mean of the
    market), the share of each hour of day and part of the hour in the bars ahead, and the share of the weekend. A window that is
    not half known takes the value of the next shorter one, so that a young series has a forecast after half a day. `last` keeps
    only so many rows at the end.
    """
    params = feature_params(grid.timeframe)
    keep = slice(0 if last is None else max(len(grid.ts) - last, 0), None)
    own = list(log_variances(Trailing(bar_variance(grid), len(grid.ts[keep])), params))
    usable = ~(np.isnan(own[0]) | np.isnan(own[2]))
    for shorter in range(len(own) - 1):
        own[shorter + 1] = np.where(np.isnan(own[shorter + 1]), own[shorter], own[shorter + 1])
    leading = [_leading(level, grid.leader) for level in own]
    season = seasons(grid.ts[keep], grid.timeframe.ms, horizon)
    shape = (*own[0].shape, len(own) + len(leading) + season.shape[1])
    design = np.empty(shape)
    for column, block in enumerate([*own, *leading]):
        design[:, :, column] = block
    design[:, :, len(own) + len(leading) :] = season[:, None, :]
    design[~usable] = np.nan
    return design


def _leading(level: Floats, leader: int | None) -> Floats:
    mean = market_mean(level, min_members=1)
    return mean if leader is None else np.where(np.isnan(level[:, [leader]]), mean, level[:, [leader]])


def seasons(ts: Ints, bar_ms: int, horizon: int) -> Floats:
    """Share of the bars ahead in hours 1 to 23, in later parts of an hour, and on weekends, shape (time, 23 + parts - 1 + 1)."""
    parts = max(3_600_000 // bar_ms, 1)
    out = np.zeros((len(ts), 24 + parts + 1))
    rows = np.arange(len(ts))
    for step in range(1, horizon + 1):
        ahead = ts + step * bar_ms
        out[rows, ahead // 3_600_000 % 24] += 1.0
        out[rows, 24 + ahead % 3_600_000 // bar_ms * (parts > 1)] += 1.0
        out[:, -1] += np.isin((ahead // 86_400_000 + 3) % 7, _WEEKEND)
    keep = [*range(1, 24), *range(25, 24 + parts), 24 + parts]
    return np.asarray(out[:, keep] / horizon)


@dataclass(frozen=True)
class HarModel:
    """Fitted HAR-S: one slope with an effect per series (pooled), and regressions of single series with enough history (own)."""

    slope: Floats
    effects: Mapping[tuple[str, str], float]
    common: float
    """Effect of a series that was not in training."""
    own: Mapping[tuple[str, str], Floats]
    """Slope and, last, the constant."""

    def predict(self, design: Floats, series: tuple[tuple[str, str], ...]) -> tuple[Floats, Floats]:
        """(pooled, own) forecasts of the log variance ahead, shapes (time, series); own is NaN where a series has none."""
        pooled = design @ self.slope + np.array([self.effects.get(name, self.common) for name in series])
        own = np.full(pooled.shape, np.nan)
        for column, name in enumerate(series):
            if name in self.own:
                own[:, column] = design[:, column] @ self.own[name][:-1] + self.own[name][-1]
        return pooled, own

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `har_from_dict` gives the same model back, bit for bit."""
        return {
            "slope": self.slope.tolist(),
            "effects": [[*name, value] for name, value in sorted(self.effects.items())],
            "common": self.common,
            "own": [[*name, values.tolist()] for name, values in sorted(self.own.items())],
        }


def har_from_dict(values: Mapping[str, Any]) -> HarModel:
    """The model of `HarModel.as_dict`; raises InputError where a part is missing."""
    try:
        effects = {(s, e): float(v) for s, e, v in values["effects"]}
        own = {(s, e): np.asarray(v, dtype=np.float64) for s, e, v in values["own"]}
        return HarModel(np.asarray(values["slope"], dtype=np.float64), effects, float(values["common"]), own)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError("har", type(error).__name__, "not a saved HAR model") from error


def averaged(pooled: Floats, own: Floats) -> Floats:
    """Mean of both forecasts where a series has its own, else the pooled one."""
    return np.where(np.isnan(own), pooled, 0.5 * (pooled + own))


class HarFitter:
    """Expanding least squares: rows are added once, in order of time, and a model can be fitted at any moment.

    Keeps one moment matrix per series, so that refitting at each fold costs the new rows only.
    """

    def __init__(self, design: Floats, target: Floats, series: tuple[tuple[str, str], ...], params: FoldParams = FOLDS) -> None:
        self._design, self._target, self._series, self._params = design, target, series, params
        width = design.shape[2] + 2
        self._moments = np.zeros((len(series), width, width))
        self._done = 0

    def fit(self, stop: int) -> HarModel:
        """The model of all rows before `stop`; raises InputError when called with fewer rows than before, or none is usable."""
        if stop < self._done:
            raise InputError("stop", stop, f"rows up to {self._done} were added already")
        for column in range(len(self._series)):
            self._add(column, slice(self._done, stop))
        self._done = stop
        if not self._moments[:, -2, -2].any():
            raise InputError("stop", stop, "no row with regressors and outcome before it")
        slope, effects, common = self._pooled()
        return HarModel(slope, effects, common, self._own())

    def _add(self, column: int, rows: slice) -> None:
        x, y = self._design[rows, column], self._target[rows, column]
        good = ~(np.isnan(x).any(axis=1) | np.isnan(y))
        block = np.column_stack([x[good], np.ones(int(good.sum())), y[good]])
        self._moments[column] += block.T @ block

    def _pooled(self) -> tuple[Floats, dict[tuple[str, str], float], float]:
        """Slope by differences from each series' own mean; its effect is what is left at that mean."""
        m = self._moments
        counts = np.maximum(m[:, -2, -2], 1.0)
        within = (m - m[:, :, -2:-1] * m[:, -2:-1, :] / counts[:, None, None]).sum(axis=0)
        k = within.shape[0] - 2
        slope = _solve(within[:k, :k], within[:k, -1], self._params.ridge)
        effects = (m[:, -1, -2] - m[:, :k, -2] @ slope) / counts
        seen = m[:, -2, -2] > 0
        common = float(np.average(effects[seen], weights=m[seen, -2, -2]))
        return slope, {name: float(effects[i]) for i, name in enumerate(self._series) if seen[i]}, common

    def _own(self) -> dict[tuple[str, str], Floats]:
        enough = np.flatnonzero(self._moments[:, -2, -2] >= self._params.min_own_rows)
        parts = {self._series[i]: self._moments[i] for i in enough}
        return {name: _solve(m[:-1, :-1], m[:-1, -1], self._params.ridge) for name, m in parts.items()}


def _solve(gram: Floats, moments: Floats, ridge: float) -> Floats:
    return np.asarray(np.linalg.solve(gram + ridge * np.eye(len(gram)), moments), dtype=np.float64)
