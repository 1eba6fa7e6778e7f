"""Chances learned from outcomes whose truth is known."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from altforecast.capture_chance import CaptureChance
from altforecast.params import ARBITRAGE


def test_chance_none_below_the_least_number() -> None:
    model = CaptureChance()
    for _ in range(ARBITRAGE.chance_min_outcomes - 1):
        model.learn("x", 0.15, True)
    assert model.chance("x", 0.15) is None
    model.learn("x", 0.15, True)
    assert model.chance("x", 0.15) is not None
    assert model.chance("x", 0.9) is None


def test_chance_of_a_new_pair_is_the_pooled_rate() -> None:
    model = CaptureChance()
    for i in range(100):
        model.learn("x", 0.15, i % 4 == 0)
    assert model.chance("new", 0.15) == pytest.approx(26 / 102)


def test_chance_moves_from_pooled_to_own() -> None:
    model = CaptureChance()
    for i in range(400):
        model.learn("common", 0.15, i % 2 == 0)
    model.learn("own", 0.15, True)
    early = model.chance("own", 0.15)
    for _ in range(100):
        model.learn("own", 0.15, True)
    late = model.chance("own", 0.15)
    assert early is not None
    assert late is not None
    assert 0.5 < early < 0.6 < 0.9 < late < 1.0


def test_chance_pairs_are_bounded() -> None:
    model = CaptureChance(replace(ARBITRAGE, chance_max_pairs=2, chance_min_outcomes=1))
    for i in range(50):
        model.learn(f"pair{i}", 0.15, True)
    assert model.chance("pair49", 0.15) == model.chance("never", 0.15) == pytest.approx(51 / 52)


def test_calibration_on_simulated_truth() -> None:
    rng = random.Random(5)
    truth = {f"p{i}": rng.betavariate(2, 3) for i in range(40)}
    model = CaptureChance()
    assert model.calibration() is None
    errors = []
    for n in range(20_000):
        pair = rng.choice(list(truth))
        chance = model.chance(pair, 0.15)
        if chance is not None and n > 10_000:
            errors.append(abs(chance - truth[pair]))
        model.learn(pair, 0.15, rng.random() < truth[pair], chance)
    found = model.calibration()
    assert found is not None
    assert found.brier < 0.9 * found.base_brier
    assert sum(errors) / len(errors) < 0.05
    assert all(abs(b.mean_chance - b.rate) < 0.06 for b in found.bins if b.n > 400)
    assert sum(b.n for b in found.bins) == found.n


def test_calibration_tells_when_chances_are_wrong() -> None:
    model = CaptureChance()
    for i in range(1000):
        model.learn("x", 0.15, i % 10 == 0, 0.9)
    found = model.calibration()
    assert found is not None
    assert found.brier > 5 * found.base_brier
    assert found.bins[0].mean_chance == pytest.approx(0.9)
    assert found.bins[0].rate == pytest.approx(0.1)
