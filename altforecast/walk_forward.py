"""Forecasts of the past as they would have been made: quarterly refits, purged labels, calibration from matured residuals only.

What belongs here: running baselines and models over the folds of one horizon. What does not: what the forecasts are worth
(`forecast_summary`) and how a model is fitted (`baselines`, `boosted_paths`). Method: docs/methods/forecasts.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from altforecast.bar_grid import BarGrid, bar_variance
from altforecast.baselines import HarFitter, averaged, ewma_sigma, har_design
from altforecast.errors import InputError
from altforecast.forecast_features import FeatureMatrix
from altforecast.forecast_params import CALIBRATION, FOLDS, FoldParams, ModelParams
from altforecast.forecast_targets import Fold, log_variance_ahead, return_ahead, walk_forward_folds
from altforecast.residual_quantiles import climatology, filtered_quantiles, shifted_quantiles

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Progress = Callable[[str], None]


@dataclass(frozen=True)
class HarPath:
    """Log variance ahead as HAR-S saw it before each quarter, shapes (time, series)."""

    pooled: Floats
    own: Floats
    """NaN where a series has no regression of its own; both NaN before the first fold."""
    bases: tuple[Floats, ...]
    """For each fold the averaged forecast of every row up to the end of its test: in sample before it, out of sample in it."""


@dataclass(frozen=True)
class Span:
    """What is to be forecast: one horizon [bars], rows from test_from on [ms], optionally only to test_to."""

    horizon: int
    test_from: int
    test_to: int | None = None


@dataclass(frozen=True)
class PastForecasts:
    """Everything forecast for one horizon in the test span, shapes (rows, series)."""

    ts: Ints
    """Opens of the bars at whose close the forecasts were made [ms], shape (rows,)."""
    series: tuple[tuple[str, str], ...]
    horizon: int
    bars_per_day: int
    outcome: Floats
    """Log return ahead; NaN where unknown."""
    quantiles: Mapping[str, Floats]
    """Forecaster -> shape (rows, series, levels)."""
    sigma: Mapping[str, Floats]
    """Forecaster -> standard deviation of the return ahead."""
    log_variance: Floats
    """Realised."""
    score: Floats | None = None
    """Direction score."""
    p_up: Floats | None = None
    p_base: Floats | None = None
    """Share of rises before the quarter, for comparison with p_up."""
    shape: Floats | None = None
    """Learned quantiles of outcome / sigma of `scale` before their shift, shape (rows, series, levels)."""


def forecast_past(
    grid: BarGrid,
    span: Span,
    features: FeatureMatrix | None = None,
    params: ModelParams | None = None,
    threads: int = 1,
    progress: Progress = lambda _: None,
    fold_params: FoldParams = FOLDS,
    folds: Sequence[Fold] | None = None,
) -> PastForecasts:
    """Walk forward over the grid. features: of the same grid; without them or the model parameters only the baselines run.

    folds: another calendar than all quarters, ascending and without gaps; span.test_to is ignored then.
    Raises InputError where the bars leave no fold for the test span.
    """
    h = span.horizon
    outcome, target = return_ahead(grid.close, h), log_variance_ahead(bar_variance(grid), h)
    folds = _taught_folds(grid, target, span, fold_params) if folds is None else folds
    rows = _test_rows(grid.ts, folds, span.test_from)
    progress("seasonal HAR")
    har = har_path(grid, target, folds, h, fold_params)
    sigma = {"ewma": ewma_sigma(grid, h), **har_sigmas(har)}
    quantiles = {"climatology": climatology(outcome, grid.ts, rows, h, CALIBRATION.climatology_days * grid.bars_per_day)}
    days, learned = dict.fromkeys(sigma, CALIBRATION.residual_days), None
    if features is not None and params is not None:
        from altforecast.boosted_paths import Teaching, boosted_paths  # LightGBM takes seconds to load; baselines do without

        learned = boosted_paths(Teaching(grid, features, outcome, target, params, threads), folds, har.bases, progress)
        sigma["scale"] = learned.sigma
        days["scale"] = params.residual_days
        window = params.residual_days * grid.bars_per_day
        quantiles["shape"] = shifted_quantiles(outcome, learned.sigma, learned.shape, grid.ts, rows, h, window)
    progress("residual quantiles")
    quantiles |= {name: filtered_quantiles(outcome, path, grid.ts, rows, h, days[name] * grid.bars_per_day) for name, path in sigma.items()}
    if learned is not None and params is not None:
        quantiles["mix"] = np.mean([quantiles[name] for name in params.mixed], axis=0)
    test = slice(*rows)
    direction = () if learned is None else (learned.score[test], learned.p_up[test], learned.p_base[test], learned.shape[test])
    return PastForecasts(
        grid.ts[test], grid.series, h, grid.bars_per_day, outcome[test], quantiles, {n: s[test] for n, s in sigma.items()}, target[test],
        *direction,
    )  # fmt: skip


def _taught_folds(grid: BarGrid, target: Floats, span: Span, params: FoldParams) -> list[Fold]:
    """The folds that have enough known outcomes before them; those counts only grow, so the first ones fall away."""
    known = np.append(0, np.cumsum((~np.isnan(target)).sum(axis=1)))
    folds = walk_forward_folds(grid.ts, span.horizon, grid.timeframe.ms, params.min_train_days, span.test_to)
    stops = np.searchsorted(grid.ts, [fold.train_until for fold in folds], side="right")
    return [fold for fold, stop in zip(folds, stops, strict=True) if known[stop] >= params.min_train_rows]


def _test_rows(ts: Ints, folds: Sequence[Fold], test_from: int) -> tuple[int, int]:
    if not folds or test_from < folds[0].test_start or test_from >= folds[-1].test_stop:
        possible = f"{folds[0].test_start} to {folds[-1].test_stop} ms" if folds else "nothing"
        raise InputError("test_from", test_from, f"the bars leave {possible} to test on")
    start, stop = np.searchsorted(ts, [test_from, folds[-1].test_stop]).tolist()
    return start, stop


def har_path(grid: BarGrid, target: Floats, folds: Sequence[Fold], horizon: int, params: FoldParams = FOLDS) -> HarPath:
    """Refit HAR-S before each fold and forecast it. target: log variance ahead, shape (time, series)."""
    design = har_design(grid, horizon)
    fitter = HarFitter(design, target, grid.series, params)
    pooled, own = np.full(target.shape, np.nan), np.full(target.shape, np.nan)
    bases = []
    for fold in folds:
        model = fitter.fit(int(np.searchsorted(grid.ts, fold.train_until, side="right")))
        start, stop = np.searchsorted(grid.ts, [fold.test_start, fold.test_stop])
        all_pooled, all_own = model.predict(design[:stop], grid.series)
        pooled[start:stop], own[start:stop] = all_pooled[start:], all_own[start:]
        bases.append(averaged(all_pooled, all_own))
    return HarPath(pooled, own, tuple(bases))


def har_sigmas(har: HarPath) -> dict[str, Floats]:
    """Standard deviations by the pooled fit, the own fit (pooled where there is none) and their average."""
    own = np.where(np.isnan(har.own), har.pooled, har.own)
    paths = {"har_pooled": har.pooled, "har_own": own, "har": averaged(har.pooled, har.own)}
    return {name: np.exp(path / 2.0) for name, path in paths.items()}
