"""The boosted models over the folds of one horizon: each learns from purged rows and answers for its own quarter.

What belongs here: which rows a model sees and what it says out of sample. What does not: fitting trees (`models`), the folds
(`forecast_targets`) and turning the answers into forecasts (`walk_forward`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from altforecast import models
from altforecast.bar_grid import BarGrid
from altforecast.forecast_features import FeatureMatrix
from altforecast.forecast_params import ModelParams
from altforecast.forecast_scores import LEVELS
from altforecast.forecast_targets import Fold

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class BoostedPaths:
    """Out-of-sample answers, shapes (time, series), NaN before the first fold and where there is no base forecast."""

    sigma: Floats
    """Standard deviation of the return ahead."""
    shape: Floats
    """Quantiles of outcome / sigma, (time, series, levels), not yet calibrated."""
    score: Floats
    """Expected outcome / sigma, clipped while learning."""
    p_up: Floats
    """Calibrated on the out-of-sample scores of earlier quarters; the base rate in the first one."""
    p_base: Floats
    """Share of rises among all rows before the quarter."""


@dataclass(frozen=True)
class Teaching:
    """What the models learn from: everything of one horizon, shapes (time, series)."""

    grid: BarGrid
    features: FeatureMatrix
    outcome: Floats
    """Log return ahead."""
    target: Floats
    """Log variance ahead."""
    params: ModelParams
    threads: int = 1


def boosted_paths(
    given: Teaching, folds: Sequence[Fold], bases: Sequence[Floats], progress: Callable[[str], None] = lambda _: None
) -> BoostedPaths:
    """Fit and answer fold by fold. bases: HAR log variance for each fold, see `walk_forward.HarPath`."""
    shape = given.outcome.shape
    found = BoostedPaths(*(np.full(s, np.nan) for s in (shape, (*shape, len(LEVELS)), shape, shape, shape)))
    for number, (fold, base) in enumerate(zip(folds, bases, strict=True), 1):
        progress(f"fold {number} of {len(folds)}")
        stop = int(np.searchsorted(given.grid.ts, fold.train_until, side="right"))
        start, end = np.searchsorted(given.grid.ts, [fold.test_start, fold.test_stop]).tolist()
        train = rows_of(given.features, base, slice(0, stop), ~np.isnan(given.target[:stop] + given.outcome[:stop]))
        _answer(given, train, rows_of(given.features, base, slice(start, end)), found)
        _calibrate(given.outcome[:stop], slice(start, end), found)
    return found


def _answer(given: Teaching, train: Rows, ahead: Rows, found: BoostedPaths) -> None:
    names = given.grid.series
    lesson = models.Lesson(train.x, train.base, train.take(given.target), train.take(given.outcome), train.column, names)
    bundle = models.fit_bundle(lesson, given.params, "", given.features.names, given.threads)
    ahead.put(found.sigma, np.exp((ahead.base + bundle.scale.predict(ahead.x, ahead.column, names)) / 2.0))
    ahead.put(found.shape, bundle.shape.predict(ahead.x))
    ahead.put(found.score, bundle.direction.predict(ahead.x))


def _calibrate(past: Floats, test: slice, found: BoostedPaths) -> None:
    """P(up) of the fold from scores that were out of sample and whose outcomes were known before it."""
    known = ~np.isnan(past)
    rises = past[known] > 0
    found.p_base[test] = rises.mean() if len(rises) else np.nan
    scored = known & ~np.isnan(found.score[: len(past)])
    if scored.any():
        platt = models.fit_platt(found.score[: len(past)][scored], past[scored] > 0)
        found.p_up[test] = platt.probability(found.score[test])
    else:
        found.p_up[test] = np.where(np.isnan(found.score[test]), np.nan, found.p_base[test])


@dataclass(frozen=True)
class Rows:
    """Slots of the grid that a model learns from or answers for, as one matrix; its last feature is the base forecast."""

    x: NDArray[np.float32]
    base: Floats
    column: Ints
    row: Ints

    def take(self, path: Floats) -> Floats:
        """Values of a path (time, series, ...) at these slots."""
        return np.asarray(path[self.row, self.column])

    def put(self, path: Floats, values: Floats) -> None:
        """Write values of these slots into a path."""
        path[self.row, self.column] = values


def rows_of(features: FeatureMatrix, base: Floats, span: slice, usable: NDArray[np.bool_] | None = None) -> Rows:
    """Slots of a span that have a base forecast and, where given, are usable; features and base start at the same slot."""
    have = ~np.isnan(base[span])
    row, column = np.nonzero(have if usable is None else have & usable)
    at = row + (span.start or 0)
    values = base[at, column]
    x = np.empty((len(at), features.values.shape[2] + 1), dtype=np.float32)
    x[:, :-1], x[:, -1] = features.values[at, column], values
    return Rows(x, values, column, at)
