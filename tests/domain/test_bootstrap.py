"""Cluster bootstrap and Holm correction against hand-computed and closed-form values."""

from __future__ import annotations

import numpy as np
import pytest

from altforecast.bootstrap import cluster_lift, holm
from altforecast.errors import InputError


def test_holm_textbook_values() -> None:
    # Worked example: p = .01 .04 .03 .005 -> .03 .06 .06 .02 (sorted .005*4, .01*3, .03*2, max(.04*1, .06)).
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_nan_and_cap() -> None:
    adjusted = holm(np.array([np.nan, 0.6, 0.7]))
    assert np.isnan(adjusted[0])
    assert adjusted[1:] == pytest.approx([1.0, 1.0])


def test_holm_empty() -> None:
    assert holm(np.array([])).shape == (0,)


def test_cluster_lift_point_estimate_and_order_invariance() -> None:
    rng = np.random.default_rng(1)
    hits, base = rng.random(400) < 0.6, rng.random(900) < 0.5
    weeks, base_weeks = rng.integers(0, 40, 400), rng.integers(0, 40, 900)
    found = cluster_lift(hits, base, weeks, base_weeks, 500, 7)
    assert found.lift == pytest.approx(hits.mean() - base.mean())
    assert found.low < found.lift < found.high
    order = rng.permutation(400)
    assert cluster_lift(hits[order], base, weeks[order], base_weeks, 500, 7) == found


def test_cluster_lift_independent_events_match_binomial_interval() -> None:
    rng = np.random.default_rng(2)
    hits, base = rng.random(4000) < 0.55, rng.random(4000) < 0.5
    found = cluster_lift(hits, base, np.arange(4000), np.arange(4000), 2000, 3)
    half = 1.96 * np.sqrt(hits.var() / 4000 + base.var() / 4000)
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.08)
    assert found.p_value < 0.01


def test_cluster_lift_clustered_events_are_wider() -> None:
    rng = np.random.default_rng(4)
    week = np.repeat(np.arange(50), 40)
    hits = np.repeat(rng.random(50) < 0.5, 40)
    base = rng.random(2000) < 0.5
    clustered = cluster_lift(hits, base, week, week, 1000, 5)
    loose = cluster_lift(hits, base, np.arange(2000), np.arange(2000), 1000, 5)
    assert clustered.high - clustered.low > 3 * (loose.high - loose.low)


def test_cluster_lift_false_alarm_rate_under_null() -> None:
    rng = np.random.default_rng(6)
    alarms = 0
    for seed in range(200):
        week = np.repeat(np.arange(60), 5)
        share = np.repeat(rng.beta(5, 5, 60), 5)
        alarms += cluster_lift(rng.random(300) < share, rng.random(300) < share, week, week, 300, seed).p_value < 0.05
    assert 1 <= alarms <= 24


def test_cluster_lift_empty_side_is_nan() -> None:
    none = np.array([], dtype=bool)
    assert np.isnan(cluster_lift(none, np.array([True]), np.array([], dtype=np.int64), np.array([1]), 10, 1)).all()


def test_cluster_lift_single_cluster_has_no_interval() -> None:
    one = np.ones(4, dtype=np.int64)
    found = cluster_lift(np.array([True] * 3 + [False]), np.array([True, False] * 2), one, one, 10, 1)
    assert found.lift == pytest.approx(0.25)
    assert np.isnan(found[1:]).all()


def test_cluster_lift_wrong_lengths() -> None:
    with pytest.raises(InputError, match="clusters"):
        cluster_lift(np.array([True]), np.array([True]), np.array([1, 2]), np.array([1]), 10, 1)
