"""Deflated Sharpe against the published example, overfitting against brute force and simulated truth."""

from __future__ import annotations

from itertools import combinations
from math import sqrt

import numpy as np
import pytest

from altforecast import sharpe
from altforecast.errors import InputError


def test_deflated_sharpe_published_example() -> None:
    """Bailey and Lopez de Prado (2014): annual Sharpe 2.5 over 1,250 days, skew -3, kurtosis 10, variance of tries 1/2 a year."""
    per_day = 2.5 / sqrt(250)
    for n_tried, expected in ((100, 0.9004), (46, 0.9505)):
        best_of_noise = sharpe.expected_best_sharpe(sqrt(0.5 / 250), n_tried)
        assert sharpe.probabilistic_sharpe(per_day, best_of_noise, 1250, -3.0, 10.0) == pytest.approx(expected, abs=5e-4)


def test_expected_best_sharpe_equals_the_simulated_maximum() -> None:
    best = np.random.default_rng(2).normal(size=(20_000, 50)).max(axis=1).mean()
    assert sharpe.expected_best_sharpe(1.0, 50) == pytest.approx(best, rel=0.02)
    assert sharpe.expected_best_sharpe(1.0, 1) == 0.0
    with pytest.raises(InputError, match="n_tried"):
        sharpe.expected_best_sharpe(1.0, 0)


def test_deflated_sharpe_noise_is_no_claim_and_skill_is() -> None:
    rng = np.random.default_rng(4)
    noise = rng.normal(size=(2000, 90))
    tried = np.array([sharpe.sharpe_ratio(noise[:, i]) for i in range(90)])
    assert sharpe.deflated_sharpe(noise[:, int(tried.argmax())], tried) < 0.95
    skilled = rng.normal(0.2, 1.0, 2000)
    assert sharpe.deflated_sharpe(skilled, np.append(tried, sharpe.sharpe_ratio(skilled))) > 0.95
    assert np.isnan(sharpe.sharpe_ratio(np.ones(5)))


def test_backtest_overfitting_equals_brute_force() -> None:
    returns, n_blocks = np.random.default_rng(6).normal(size=(61, 5)), 6
    blocks = np.split(returns[:60], n_blocks)
    below = []
    for picks in combinations(range(n_blocks), 3):
        inside = np.concatenate([blocks[i] for i in picks])
        outside = np.concatenate([blocks[i] for i in range(n_blocks) if i not in picks])
        best = (inside.mean(0) / inside.std(0)).argmax()
        theirs = outside.mean(0) / outside.std(0)
        rank = (theirs < theirs[best]).sum() + 1
        below.append(rank / 6 <= 0.5)
    found = sharpe.backtest_overfitting(returns, n_blocks)
    assert found.n_splits == 20
    assert found.pbo == pytest.approx(np.mean(below))


def test_backtest_overfitting_noise_is_a_coin_and_skill_is_not() -> None:
    rng = np.random.default_rng(8)
    noise = np.mean([sharpe.backtest_overfitting(rng.normal(size=(800, 20)), 8).pbo for _ in range(40)])
    assert 0.35 < noise < 0.65
    skilled = rng.normal(size=(800, 20))
    skilled[:, 3] += 0.5
    assert sharpe.backtest_overfitting(skilled, 8).pbo < 0.05
    full = sharpe.backtest_overfitting(rng.normal(size=(800, 20)))
    assert full.n_splits == 12_870


def test_backtest_overfitting_refuses_what_it_cannot_split() -> None:
    for returns, n_blocks in ((np.zeros((100, 3)), 5), (np.zeros((100, 3)), 40), (np.zeros((10, 3)), 16), (np.zeros((100, 1)), 4)):
        with pytest.raises(InputError):
            sharpe.backtest_overfitting(returns, n_blocks)
