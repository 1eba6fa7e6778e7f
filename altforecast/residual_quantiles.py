"""Quantiles of past, matured residuals, renewed once a day: what turns a standard deviation into a distribution.

What belongs here: trailing empirical quantiles, own ones shrunk to pooled ones (filtered historical simulation). What does not: the
standard deviations, which must be out of sample (`baselines`, `models`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from altforecast.errors import InputError
from altforecast.forecast_params import CALIBRATION, CalibrationParams
from altforecast.forecast_scores import LEVELS
from altforecast.forecast_targets import matured_rows

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def renewal_rows(ts: Ints, first: int, stop: int) -> Ints:
    """Rows in [first, stop) at which quantiles are renewed: `first` and each first row of a day (UTC)."""
    days = ts[first:stop] // 86_400_000
    return first + np.flatnonzero(np.append(True, days[1:] != days[:-1])) if stop > first else np.empty(0, dtype=np.int64)


def residual_quantiles(
    residuals: Floats,
    rows: Ints,
    horizon: int,
    window: int,
    params: CalibrationParams = CALIBRATION,
    shrink: bool = True,
    levels: tuple[float, ...] = LEVELS,
) -> Floats:
    """Quantiles of the residuals known at each of the rows, shape (rows, series, levels).

    residuals: outcome over its forecast standard deviation, shape (time, series), NaN where unknown. window: rows looked back on,
    of which only those count whose outcome was known when the row's bar closed. Own quantiles get weight n / (n + shrink_units) with
    n = residuals / horizon, or full weight without `shrink`; a series with fewer than min_own residuals takes the pooled ones. NaN
    where not even the pool has min_own.
    """
    if window < 1:
        raise InputError("window", window, "must be at least one row")
    out = np.full((len(rows), residuals.shape[1], len(levels)), np.nan)
    for number, row in enumerate(rows.tolist()):
        stop = matured_rows(row, horizon)
        past = residuals[max(stop - window, 0) : stop]
        known = ~np.isnan(past)
        if known.sum() < params.min_own:
            continue
        pooled = np.quantile(past[known], levels)
        for column in range(past.shape[1]):
            own = past[known[:, column], column]
            if len(own) < params.min_own:
                out[number, column] = pooled
                continue
            n = len(own) / horizon
            weight = n / (n + params.shrink_units) if shrink else 1.0
            out[number, column] = weight * np.quantile(own, levels) + (1.0 - weight) * pooled
    return out


def spread_over_rows(quantiles: Floats, rows: Ints, first: int, stop: int) -> Floats:
    """Quantiles of the latest renewal for each row in [first, stop), shape (stop - first, series, levels)."""
    return np.asarray(quantiles[np.searchsorted(rows, np.arange(first, stop), side="right") - 1])


def filtered_quantiles(
    outcome: Floats, sigma: Floats, ts: Ints, span: tuple[int, int], horizon: int, window: int, params: CalibrationParams = CALIBRATION
) -> Floats:
    """Forecast quantiles of the outcome for the rows of `span`: sigma x quantiles of outcome / sigma so far, (rows, series, levels)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        residuals = np.where(sigma > 0, outcome / sigma, np.nan)
    rows = renewal_rows(ts, *span)
    found = residual_quantiles(residuals, rows, horizon, window, params)
    return spread_over_rows(found, rows, *span) * sigma[span[0] : span[1], :, None]


def climatology(
    outcome: Floats, ts: Ints, span: tuple[int, int], horizon: int, window: int, params: CalibrationParams = CALIBRATION
) -> Floats:
    """Forecast quantiles that are those of the series' own past outcomes, (rows, series, levels); pooled for a young series."""
    rows = renewal_rows(ts, *span)
    return spread_over_rows(residual_quantiles(outcome, rows, horizon, window, params, shrink=False), rows, *span)


def shifted_quantiles(
    outcome: Floats,
    sigma: Floats,
    shape: Floats,
    ts: Ints,
    span: tuple[int, int],
    horizon: int,
    window: int,
    params: CalibrationParams = CALIBRATION,
) -> Floats:
    """Learned quantiles x sigma, each level first moved by the quantile of what it missed by so far, (rows, series, levels).

    shape: learned quantiles of outcome / sigma, out of sample, (time, series, levels). The move makes past coverage exact (conformal
    quantile regression, Romano et al. 2019); sorted afterwards, so levels never cross.
    """
    rows = renewal_rows(ts, *span)
    with np.errstate(invalid="ignore", divide="ignore"):
        standardised = np.where(sigma > 0, outcome / sigma, np.nan)
    moved = np.empty((span[1] - span[0], *shape.shape[1:]))
    for k, level in enumerate(LEVELS):
        offsets = residual_quantiles(standardised - shape[:, :, k], rows, horizon, window, params, levels=(level,))
        moved[:, :, k] = shape[span[0] : span[1], :, k] + spread_over_rows(offsets, rows, *span)[:, :, 0]
    return np.sort(moved, axis=2) * sigma[span[0] : span[1], :, None]
