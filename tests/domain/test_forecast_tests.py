"""Tests of differences against closed forms, naive sums and simulated truth."""

from __future__ import annotations

from math import erfc, log, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from altforecast import forecast_tests as tests
from altforecast.errors import InputError


@given(st.integers(0, 999), st.integers(0, 12))
def test_newey_west_variance_equals_the_double_sum(seed: int, lag: int) -> None:
    x = np.random.default_rng(seed).normal(size=30)
    c = x - x.mean()
    pairs = ((i, j) for i in range(30) for j in range(30) if abs(i - j) <= lag)
    naive = sum((1 - abs(i - j) / (lag + 1)) * c[i] * c[j] for i, j in pairs) / 30
    assert tests.newey_west_variance(x, lag) == pytest.approx(max(naive, 0.0), abs=1e-12)


def test_newey_west_variance_of_an_autoregression_reaches_its_long_run_value() -> None:
    rng, phi = np.random.default_rng(3), 0.5
    noise, x = rng.normal(size=200_000), np.zeros(200_000)
    for i in range(1, len(x)):
        x[i] = phi * x[i - 1] + noise[i]
    assert tests.newey_west_variance(x, 60) == pytest.approx(1 / (1 - phi) ** 2, rel=0.05)
    assert tests.newey_west_variance(x, 0) == pytest.approx(1 / (1 - phi**2), rel=0.05)


def test_newey_west_variance_refuses_what_it_cannot_use() -> None:
    for series, lag in ((np.array([]), 1), (np.array([1.0, np.nan]), 1), (np.array([1.0]), -1)):
        with pytest.raises(InputError):
            tests.newey_west_variance(series, lag)


def test_diebold_mariano_averages_symbols_of_a_moment_first() -> None:
    loss, reference = np.array([1.0, 3.0, 2.0, 5.0, np.nan]), np.array([2.0, 3.0, 4.0, 4.0, 1.0])
    when = np.array([1, 1, 2, 3, 3])
    found = tests.diebold_mariano(loss, reference, when, 0)
    moments = np.array([-0.5, -2.0, 1.0])
    assert (found.n, found.mean) == (3, pytest.approx(-0.5))
    assert found.t == pytest.approx(moments.mean() / (moments.std() / sqrt(3)))
    assert found.p_value == pytest.approx(erfc(abs(found.t) / sqrt(2)))


def test_diebold_mariano_keeps_its_size_under_overlap() -> None:
    """Equal forecasts with losses that overlap over 10 bars: about 5 % are called different with enough lags, many more without."""
    rng, n_runs = np.random.default_rng(11), 300
    called = {0: 0, 40: 0}
    for _ in range(n_runs):
        d = np.convolve(rng.normal(size=2009), np.ones(10), "valid")
        for lag in called:
            called[lag] += tests.diebold_mariano(d, np.zeros(2000), np.arange(2000), lag).p_value < 0.05
    assert called[40] / n_runs < 0.10
    assert called[0] / n_runs > 0.35


def test_mean_test_constant_series_has_no_t() -> None:
    assert np.isnan(tests.mean_test(np.ones(5), 2).t)


def test_independence_of_breaches_by_hand_and_in_the_extremes() -> None:
    breach = np.array([0, 0, 1, 1, 0, 0, 0, 1, 0, 0, 0], dtype=bool)
    # transitions: 00 five, 01 two, 10 two, 11 one
    free = 5 * log(5 / 7) + 2 * log(2 / 7) + 2 * log(2 / 3) + 1 * log(1 / 3)
    bound = 7 * log(0.7) + 3 * log(0.3)
    ratio, p = tests.independence_of_breaches(breach)
    assert ratio == pytest.approx(2 * (free - bound))
    assert p == pytest.approx(erfc(sqrt(ratio / 2)))
    assert tests.independence_of_breaches(np.zeros(20, dtype=bool)) == (0.0, 1.0)
    clustered = np.repeat([False, True, False, True, False], 40)
    assert tests.independence_of_breaches(clustered)[1] < 1e-6


def test_block_bootstrap_interval_is_wider_where_values_move_together() -> None:
    rng = np.random.default_rng(5)
    day = np.repeat(np.arange(100), 24)
    together = np.repeat(rng.normal(size=100), 24)
    apart = rng.normal(size=2400)
    widths = []
    for values in (together, apart):
        low, high = tests.block_bootstrap_interval(values, day, np.random.default_rng(1))
        assert low < values.mean() < high
        widths.append(high - low)
    assert widths[0] > 3 * widths[1]
    with pytest.raises(InputError, match="block"):
        tests.block_bootstrap_interval(np.ones(5), np.zeros(5, dtype=np.int64), rng)


def test_dm_lag() -> None:
    assert tests.dm_lag(24, 24.0) == 48
    assert tests.dm_lag(1, 96.0) == 96


def test_bootstrap_skill_interval_covers_a_known_skill_and_needs_two_blocks() -> None:
    rng = np.random.default_rng(3)
    reference = rng.gamma(4.0, 1.0, 2000)
    week = np.arange(2000) // 20
    low, high = tests.bootstrap_skill_interval(0.9 * reference, reference, week, rng)
    assert (low, high) == pytest.approx((0.1, 0.1)), "the same share in each block leaves no doubt"
    noisy = reference * rng.normal(0.9, 0.3, 2000)
    noisy[7] = np.nan
    low, high = tests.bootstrap_skill_interval(noisy, reference, week, rng)
    assert low < 0.1 < high
    assert 0.01 < high - low < 0.06, "about 4 standard errors of 0.3 / sqrt(2000) times the spread of the reference"
    assert all(np.isnan(tests.bootstrap_skill_interval(noisy, reference, np.zeros(2000, dtype=np.int64), rng)))
    with pytest.raises(InputError, match="same length"):
        tests.bootstrap_skill_interval(noisy, reference[1:], week, rng)
