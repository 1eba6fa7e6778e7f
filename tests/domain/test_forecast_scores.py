"""Scores of forecasts against closed forms, naive loops and other libraries."""

from __future__ import annotations

from math import exp, pi, sqrt
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from altforecast import forecast_scores as scores
from altforecast.errors import InputError


def test_pinball_loss_by_hand() -> None:
    outcome = np.array([1.0, 1.0])
    quantiles = np.array([[0.0, 2.0], [1.0, 1.0]])
    # (0.1 * 1 + 0.1 * 1) / 2: one too low at 10 %, one too high at 90 %
    assert scores.pinball_loss(outcome, quantiles, (0.1, 0.9)).tolist() == pytest.approx([0.1, 0.0])


def test_pinball_loss_over_many_levels_is_half_the_crps_of_a_normal() -> None:
    normal, levels = NormalDist(), tuple((i + 0.5) / 2000 for i in range(2000))
    quantiles = np.array([[normal.inv_cdf(q) for q in levels]])
    for y in (-1.3, 0.0, 0.7):
        density = exp(-y * y / 2) / sqrt(2 * pi)
        crps = y * (2 * normal.cdf(y) - 1) + 2 * density - 1 / sqrt(pi)
        assert 2 * scores.pinball_loss(np.array([y]), quantiles, levels)[0] == pytest.approx(crps, abs=2e-4)


def test_pinball_loss_nan_and_wrong_shapes() -> None:
    assert np.isnan(scores.pinball_loss(np.array([np.nan]), np.zeros((1, 9)))).all()
    assert np.isnan(scores.pinball_loss(np.array([1.0]), np.full((1, 9), np.nan))).all()
    with pytest.raises(InputError, match="quantiles"):
        scores.pinball_loss(np.zeros(3), np.zeros((3, 4)))
    with pytest.raises(InputError, match="quantiles"):
        scores.pinball_loss(np.zeros(3), np.zeros((2, 9)))


@given(hnp.arrays(np.float64, 40, elements=st.floats(-5, 5)))
def test_pinball_loss_is_least_at_the_true_quantile(sample: np.ndarray) -> None:
    best = np.quantile(sample, 0.25, method="inverted_cdf")
    for other in (best - 0.5, best + 0.5):
        at_best, elsewhere = (scores.pinball_loss(sample, np.full((40, 1), v), (0.25,)).mean() for v in (best, other))
        assert at_best <= elsewhere + 1e-12


def test_skill_leaves_out_unknown_pairs() -> None:
    assert scores.skill(np.array([1.0, np.nan, 1.0]), np.array([2.0, 1.0, 2.0])) == pytest.approx(0.5)
    assert np.isnan(scores.skill(np.array([np.nan]), np.array([1.0])))
    assert np.isnan(scores.skill(np.array([0.0]), np.array([0.0])))


def test_coverage_counts_borders_and_leaves_out_nan() -> None:
    y = np.array([0.0, 1.0, 2.0, np.nan, 5.0])
    assert scores.coverage(y, np.zeros(5), np.full(5, 2.0)) == pytest.approx(0.75)
    assert np.isnan(scores.coverage(y[:0], y[:0], y[:0]))
    by = scores.coverage_by(y, np.zeros(5), np.full(5, 2.0), np.array(["a", "a", "b", "b", "b"]))
    assert by == {"a": (1.0, 2), "b": (0.5, 2)}


def test_brier_score_and_skill_by_hand() -> None:
    happened, p = np.array([True, False, True, True]), np.array([0.8, 0.3, 0.5, np.nan])
    assert scores.brier_score(happened, p) == pytest.approx((0.04 + 0.09 + 0.25) / 3)
    assert scores.brier_skill(happened, p, 0.5) == pytest.approx(1 - (0.38 / 3) / 0.25)
    assert scores.brier_skill(happened, np.full(4, 0.75), 0.75) == pytest.approx(0.0)


def test_expected_calibration_error_of_a_calibrated_and_a_boastful_forecast() -> None:
    rng = np.random.default_rng(1)
    p = rng.uniform(0.4, 0.6, 200_000)
    happened = rng.random(200_000) < p
    assert scores.expected_calibration_error(happened, p) < 0.01
    boastful = 0.5 + (p - 0.5) * 5
    assert scores.expected_calibration_error(happened, boastful) > 0.15
    bins = scores.reliability(happened, p, 20)
    assert [b.n for b in bins] == [10_000] * 20
    assert len(scores.reliability(happened[:3], p[:3], 20)) == 3
    assert scores.reliability(happened[:0], p[:0]) == []
    with pytest.raises(InputError, match="n_bins"):
        scores.reliability(happened, p, 0)


@given(hnp.arrays(np.float64, st.integers(3, 30), elements=st.integers(-4, 4)), st.integers(0, 99))
def test_rank_correlation_equals_scipy(x: np.ndarray, seed: int) -> None:
    y = np.random.default_rng(seed).integers(0, 6, len(x)).astype(float)
    assert scores.ranks(x).tolist() == stats.rankdata(x).tolist()
    if len(set(x)) > 1 and len(set(y)) > 1:
        assert scores.rank_correlation(x, y) == pytest.approx(stats.spearmanr(x, y).statistic)
    else:
        assert np.isnan(scores.rank_correlation(x, y))


def test_rank_ic_per_moment_leaves_out_small_cross_sections() -> None:
    when = np.array([2, 1, 1, 1, 2, 2, 3, 3])
    score = np.array([1.0, 1, 2, 3, 2, 3, 1, 2])
    outcome = np.array([3.0, 1, 2, 3, 2, 1, 1, 2])
    moments, values = scores.rank_ic(score, outcome, when, min_members=3)
    assert moments.tolist() == [1, 2]
    assert values.tolist() == pytest.approx([1.0, -1.0])


def test_deciles_equal_mass_and_nan() -> None:
    groups = scores.deciles(np.array([5.0, np.nan, 1.0, 3.0, 2.0]), 2)
    assert groups.tolist() == [1, -1, 0, 1, 0]
