"""Climatology, EWMA and the seasonal HAR, and the quantiles of their residuals."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from altforecast.bar_grid import bar_grid, bar_variance
from altforecast.baselines import HarFitter, averaged, ewma_sigma, har_design, har_from_dict, seasons
from altforecast.errors import InputError
from altforecast.forecast_params import CALIBRATION, FoldParams
from altforecast.forecast_scores import LEVELS
from altforecast.forecast_targets import log_variance_ahead, return_ahead
from altforecast.residual_quantiles import (
    climatology,
    filtered_quantiles,
    renewal_rows,
    residual_quantiles,
    shifted_quantiles,
    spread_over_rows,
)
from altforecast.types import Timeframe
from tests.domain.forecast_panel import START_MS, SYMBOLS, panel, panel_grid

HOUR = 3_600_000
GRID = panel_grid(120)
NAMES = (("A", "x"), ("B", "x"))


def test_ewma_sigma_of_a_steady_market_is_its_standard_deviation() -> None:
    close = 100.0 * np.exp(0.01 * (np.arange(3000) % 2))[:, None]
    grid = replace(GRID, close=close, series=NAMES[:1], ts=GRID.ts[:1])
    np.testing.assert_allclose(ewma_sigma(grid, 4)[-1], 0.02, rtol=1e-9)


def test_seasons_are_shares_of_the_bars_ahead() -> None:
    friday = START_MS + 5 * 24 * HOUR  # 2023-01-01 was a Sunday
    found = seasons(np.array([friday + 22 * HOUR]), HOUR, 4)[0]
    hours, weekend = found[:23], found[-1]
    np.testing.assert_allclose(hours[[22, 0, 1]], 0.25)
    assert hours.sum() == 0.75, "hour 0 is the one left out"
    assert weekend == 0.75


def test_seasons_of_quarter_hours_tell_the_parts_of_an_hour() -> None:
    found = seasons(START_MS + np.arange(4) * HOUR // 4, HOUR // 4, 1)
    np.testing.assert_array_equal(found[:, 23:26], [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]])


def test_har_design_gives_a_young_series_the_shorter_windows() -> None:
    design = har_design(GRID, 1)
    known = ~np.isnan(design[:, 0]).any(axis=1)
    assert known[11:].all()
    assert not known[:11].any()
    np.testing.assert_array_equal(design[20, 0, 2], design[20, 0, 4])


def simulated(n: int = 4000, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2, 3))
    y = x @ np.array([1.0, -2.0, 0.5]) + np.array([0.3, -0.7]) + rng.normal(0, 0.01, (n, 2))
    return x, y


def test_har_fitter_finds_slope_and_effects() -> None:
    x, y = simulated()
    model = HarFitter(x, y, NAMES).fit(4000)
    np.testing.assert_allclose(model.slope, [1.0, -2.0, 0.5], atol=2e-3)
    assert model.effects == pytest.approx({NAMES[0]: 0.3, NAMES[1]: -0.7}, abs=2e-3)
    assert model.common == pytest.approx(-0.2, abs=2e-3)
    np.testing.assert_allclose(model.own[NAMES[1]], [1.0, -2.0, 0.5, -0.7], atol=2e-3)


def test_har_fitter_equals_least_squares_with_one_constant_per_series() -> None:
    x, y = simulated(300)
    x[10, 0, 1] = y[20, 1] = np.nan
    model = HarFitter(x, y, NAMES, FoldParams(ridge=0.0)).fit(250)
    rows = [(*x[t, s], s == 0, s == 1, y[t, s]) for t in range(250) for s in range(2)]
    table = np.array([r for r in rows if not np.isnan(r).any()], dtype=np.float64)
    expected = np.linalg.lstsq(table[:, :-1], table[:, -1], rcond=None)[0]
    np.testing.assert_allclose([*model.slope, model.effects[NAMES[0]], model.effects[NAMES[1]]], expected, rtol=1e-9)
    assert model.own == {}, "too few rows for regressions of their own"


def test_har_fitter_refits_as_if_from_the_start() -> None:
    x, y = simulated()
    step = HarFitter(x, y, NAMES)
    step.fit(1500)
    once = HarFitter(x, y, NAMES).fit(3000)
    np.testing.assert_allclose(step.fit(3000).slope, once.slope, rtol=1e-12)
    with pytest.raises(InputError, match="added already"):
        step.fit(2000)


def test_har_fitter_refuses_an_empty_past() -> None:
    x, y = simulated(10)
    with pytest.raises(InputError, match="no row"):
        HarFitter(x, np.full_like(y, np.nan), NAMES).fit(10)


def test_har_model_answers_for_a_series_it_has_not_seen() -> None:
    x, y = simulated()
    model = HarFitter(x, y, NAMES).fit(4000)
    pooled, own = model.predict(x[:5, :1], (("NEW", "x"),))
    np.testing.assert_allclose(pooled[:, 0], x[:5, 0] @ model.slope + model.common)
    assert np.isnan(own).all()
    np.testing.assert_array_equal(averaged(pooled, own), pooled)


def test_har_from_dict_gives_the_same_model_bit_for_bit() -> None:
    x, y = simulated()
    model = HarFitter(x, y, NAMES).fit(4000)
    again = har_from_dict(json.loads(json.dumps(model.as_dict())))
    for one, other in zip(model.predict(x, NAMES), again.predict(x, NAMES), strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(InputError, match="saved HAR"):
        har_from_dict({"slope": [1.0]})


def test_har_explains_the_simulated_market() -> None:
    target = log_variance_ahead(bar_variance(GRID), 4)
    design = har_design(GRID, 4)
    model = HarFitter(design, target, GRID.series).fit(2000)
    pooled, _ = model.predict(design[2010:], GRID.series)
    error, ahead = target[2010:] - pooled, target[2010:]
    known = ~np.isnan(error)
    assert 1 - error[known].var() / ahead[known].var() > 0.5


def test_residual_quantiles_use_matured_rows_of_the_window_only() -> None:
    rng = np.random.default_rng(1)
    residuals = rng.normal(size=(500, 1))
    found = residual_quantiles(residuals, np.array([400]), 4, 300, replace(CALIBRATION, shrink_units=0.0))
    np.testing.assert_array_equal(found[0, 0], np.quantile(residuals[97:397, 0], LEVELS))
    changed = residuals.copy()
    changed[397:] = 99.0
    changed[:97] = -99.0
    np.testing.assert_array_equal(residual_quantiles(changed, np.array([400]), 4, 300, replace(CALIBRATION, shrink_units=0.0)), found)


def test_residual_quantiles_shrink_by_non_overlapping_units() -> None:
    rng = np.random.default_rng(1)
    residuals = np.column_stack([rng.normal(size=1000), 3 * rng.normal(size=1000)])
    found = residual_quantiles(residuals, np.array([999]), 5, 2000)[0]
    own = np.quantile(residuals[:995, 0], LEVELS)
    weight = 199 / (199 + CALIBRATION.shrink_units)
    np.testing.assert_allclose(found[0], weight * own + (1 - weight) * np.quantile(residuals[:995], LEVELS), rtol=1e-12)


def test_residual_quantiles_of_a_young_series_are_pooled_and_of_no_history_missing() -> None:
    residuals = np.random.default_rng(1).normal(size=(300, 2))
    residuals[:270, 1] = np.nan
    found = residual_quantiles(residuals, np.array([20, 299]), 1, 400)
    assert np.isnan(found[0]).all(), "fewer than 50 residuals in all"
    np.testing.assert_allclose(found[1, 1], np.quantile(residuals[:299][~np.isnan(residuals[:299])], LEVELS))


def test_renewal_rows_are_the_first_row_and_each_midnight() -> None:
    ts = START_MS + np.arange(100) * HOUR
    assert renewal_rows(ts, 5, 60).tolist() == [5, 24, 48]
    assert renewal_rows(ts, 24, 48).tolist() == [24]
    assert renewal_rows(ts, 7, 7).tolist() == []
    spread = spread_over_rows(np.arange(3.0)[:, None, None], np.array([5, 24, 48]), 5, 60)
    assert [spread[0, 0, 0], spread[18, 0, 0], spread[19, 0, 0], spread[-1, 0, 0]] == [0, 0, 1, 2]


def test_filtered_quantiles_scale_with_sigma_and_cover() -> None:
    rng = np.random.default_rng(2)
    n = 6000
    sigma = 0.01 * np.exp(rng.normal(0, 0.5, (n, 3)))
    outcome = sigma * rng.standard_t(4, (n, 3))
    ts = START_MS + np.arange(n) * HOUR
    found = filtered_quantiles(outcome, sigma, ts, (3000, n), 1, 2400)
    inside = (outcome[3000:] >= found[:, :, 2]) & (outcome[3000:] <= found[:, :, 6])
    assert inside.mean() == pytest.approx(0.8, abs=0.015)
    calm = sigma[3000:] < np.median(sigma)
    assert inside[calm].mean() == pytest.approx(inside[~calm].mean(), abs=0.03)


def test_climatology_is_the_past_of_the_series_itself() -> None:
    outcome = return_ahead(GRID.close, 1)
    found = climatology(outcome, GRID.ts, (2000, 2030), 1, 1000)
    row = renewal_rows(GRID.ts, 2000, 2030)[0]
    np.testing.assert_array_equal(found[0, 0], np.quantile(outcome[row - 1000 : row, 0], LEVELS))


def test_shifted_quantiles_repair_a_biased_shape() -> None:
    rng = np.random.default_rng(4)
    n = 5000
    outcome = rng.normal(size=(n, 2))
    biased = np.broadcast_to(np.linspace(-1.0, 3.0, len(LEVELS)), (n, 2, len(LEVELS)))
    found = shifted_quantiles(outcome, np.ones((n, 2)), biased, START_MS + np.arange(n) * HOUR, (3000, n), 1, 2400)
    assert (np.diff(found, axis=2) >= 0).all()
    inside = (outcome[3000:] >= found[:, :, 2]) & (outcome[3000:] <= found[:, :, 6])
    assert inside.mean() == pytest.approx(0.8, abs=0.02)


def test_baselines_answer_for_fifty_bars_without_a_crash() -> None:
    bars = panel(120)
    young = bars.filter(bars["symbol"] == SYMBOLS[0])[-50:].with_columns(symbol=bars["symbol"].replace(SYMBOLS[0], "NEW-USDT")[:50])
    assert young["symbol"].n_unique() == 1
    grid = bar_grid(young, Timeframe.H1)
    assert not np.isnan(har_design(grid, 24)[12:]).any()
    assert not np.isnan(ewma_sigma(grid, 24)[30:]).any()
