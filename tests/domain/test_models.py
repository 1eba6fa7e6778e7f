"""Boosted models: what they learn, that they repeat, and their text form."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from altforecast.errors import InputError
from altforecast.forecast_params import BoosterParams, ModelParams
from altforecast.forecast_scores import LEVELS, brier_score
from altforecast.models import MANIFEST, Lesson, ModelBundle, Platt, bundle_from_texts, bundle_texts, fit_bundle, fit_platt

SMALL = BoosterParams(rounds=30, leaves=7, min_rows=50, feature_frac=1.0, learning_rate=0.1)
PARAMS = ModelParams(scale=SMALL, scale_own=SMALL, shape=SMALL, direction=SMALL, min_own_rows=1500, max_rows=4000)
SERIES = (("A-USDT", "x"), ("B-USDT", "x"))
N = 5000


def lesson(seed: int = 1) -> Lesson:
    """Log variance = base + 0.8 x0; outcome leans with x1; x2 widens the tails; series A has two thirds of the rows."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(N, 4)).astype(np.float32)
    base = rng.normal(-8.0, 0.5, N)
    x[:, 3] = base
    log_variance = base + 0.8 * x[:, 0]
    tail = np.where(x[:, 2] > 0, rng.standard_t(3, N) / np.sqrt(3.0), rng.normal(size=N))
    outcome = np.exp(log_variance / 2.0) * (tail + 0.4 * x[:, 1])
    column = (np.arange(N) % 3 == 2).astype(np.int64)
    return Lesson(x, base, log_variance + rng.normal(0, 0.5, N), outcome, column, SERIES)


@pytest.fixture(scope="module")
def bundle() -> ModelBundle:
    return fit_bundle(lesson(), PARAMS, "1h", ("a", "b", "c"))


def test_fit_bundle_learns_scale(bundle: ModelBundle) -> None:
    new = lesson(2)
    found = bundle.scale.predict(new.x, new.column, new.series)
    assert np.corrcoef(found, 0.8 * new.x[:, 0])[0, 1] > 0.97


def test_fit_bundle_gives_own_trees_to_long_series_only(bundle: ModelBundle) -> None:
    assert set(bundle.scale.own) == set(SERIES), "1,666 rows are enough here"
    assert set(fit_bundle(lesson(), replace(PARAMS, min_own_rows=2000), "1h", ()).scale.own) == {SERIES[0]}


def test_scale_model_averages_pooled_and_own(bundle: ModelBundle) -> None:
    new = lesson(2)
    pooled = replace(bundle.scale, own={}).predict(new.x, new.column, new.series)
    both = bundle.scale.predict(new.x, new.column, new.series)
    own = np.asarray(bundle.scale.own[SERIES[1]].predict(new.x[new.column == 1]))
    np.testing.assert_allclose(both[new.column == 1], 0.5 * (pooled[new.column == 1] + own), rtol=1e-12)
    stranger = bundle.scale.predict(new.x, new.column, (("NEW-USDT", "x"), ("B-USDT", "x")))
    np.testing.assert_array_equal(stranger[new.column == 0], pooled[new.column == 0])
    np.testing.assert_allclose(replace(bundle.scale, shrink=0.25).predict(new.x, new.column, new.series), 0.25 * both)


def test_fit_bundle_learns_shape_beyond_scale(bundle: ModelBundle) -> None:
    new = lesson(3)
    quantiles = bundle.shape.predict(new.x)
    assert quantiles.shape == (N, len(LEVELS))
    assert (np.diff(quantiles, axis=1) >= 0).all()
    assert np.corrcoef(quantiles[:, 4], new.x[:, 1])[0, 1] > 0.9


def test_fit_bundle_learns_direction(bundle: ModelBundle) -> None:
    new = lesson(3)
    score = bundle.direction.predict(new.x)
    assert np.corrcoef(score, new.x[:, 1])[0, 1] > 0.9
    assert np.mean((score > 0) == (new.outcome > 0)) > 0.6


def test_fit_bundle_repeats_and_depends_on_the_seed(bundle: ModelBundle) -> None:
    again = fit_bundle(lesson(), PARAMS, "1h", ("a", "b", "c"))
    assert bundle_texts(again) == bundle_texts(bundle)
    other = fit_bundle(lesson(), replace(PARAMS, seed=2), "1h", ("a", "b", "c"))
    assert bundle_texts(other)["scale.txt"] != bundle_texts(bundle)["scale.txt"]


def test_fit_bundle_draws_pooled_rows_from_every_series() -> None:
    """Rows come moment by moment, so that every k-th row would leave out series; drawn rows must not."""
    small = fit_bundle(lesson(), replace(PARAMS, max_rows=N // 3, min_own_rows=10**9), "1h", ())
    new = lesson(2)
    found = small.scale.predict(new.x, new.column, new.series)
    for number in (0, 1):
        rows = new.column == number
        assert np.corrcoef(found[rows], new.x[rows, 0])[0, 1] > 0.95


def test_fit_bundle_refuses_nothing_and_nan() -> None:
    good = lesson()
    with pytest.raises(InputError, match="no row"):
        fit_bundle(good.take(np.empty(0, dtype=np.int64)), PARAMS, "1h", ())
    with pytest.raises(InputError, match="target"):
        fit_bundle(replace(good, target=np.full(N, np.nan)), PARAMS, "1h", ())


def test_shuffled_labels_teach_nothing() -> None:
    good = lesson()
    shuffled = replace(good, target=good.base + np.random.default_rng(1).permutation(good.target - good.base))
    found = fit_bundle(shuffled, PARAMS, "1h", ()).scale
    new = lesson(2)
    error = (new.target - new.base - found.predict(new.x, new.column, new.series)).var()
    assert error > 0.97 * (new.target - new.base).var()


def test_bundle_from_texts_gives_the_same_predictions_bit_for_bit(bundle: ModelBundle) -> None:
    full = replace(bundle, platt=Platt(0.1, 2.0))
    again = bundle_from_texts(bundle_texts(full))
    new = lesson(4)
    np.testing.assert_array_equal(again.shape.predict(new.x), full.shape.predict(new.x))
    np.testing.assert_array_equal(again.direction.predict(new.x), full.direction.predict(new.x))
    before, after = (b.scale.predict(new.x, new.column, new.series) for b in (full, again))
    np.testing.assert_array_equal(before, after)
    assert (again.horizon, again.features, again.platt) == ("1h", ("a", "b", "c"), Platt(0.1, 2.0))


def test_bundle_from_texts_names_the_broken_file(bundle: ModelBundle) -> None:
    texts = bundle_texts(bundle)
    with pytest.raises(InputError, match=r"shape_3\.txt.*missing|missing.*shape_3\.txt"):
        bundle_from_texts({k: v for k, v in texts.items() if k != "shape_3.txt"})
    with pytest.raises(InputError, match="sum"):
        bundle_from_texts({**texts, "direction.txt": texts["direction.txt"].replace("0.", "1.", 1)})
    with pytest.raises(InputError, match="manifest"):
        bundle_from_texts({})
    with pytest.raises(InputError, match="lacks entries"):
        bundle_from_texts({**texts, MANIFEST: "[]"})
    later = {**json.loads(texts[MANIFEST]), "format": 99}
    with pytest.raises(InputError, match="format"):
        bundle_from_texts({**texts, MANIFEST: json.dumps(later)})


def test_fit_platt_finds_the_logistic_it_came_from() -> None:
    rng = np.random.default_rng(1)
    score = rng.normal(0, 0.05, 200_000)
    happened = rng.random(len(score)) < 1 / (1 + np.exp(-(0.1 + 3.0 * score)))
    found = fit_platt(score, happened)
    assert found.offset == pytest.approx(0.1, abs=0.02)
    assert found.slope == pytest.approx(3.0, abs=0.3)
    assert brier_score(happened, found.probability(score)) < brier_score(happened, np.full(len(score), happened.mean()))


def test_fit_platt_of_useless_scores_is_the_base_rate() -> None:
    happened = np.arange(1000) % 4 == 0
    wrong = np.where(happened, -1.0, 1.0) + np.random.default_rng(1).normal(0, 1, 1000)
    for score in (np.zeros(1000), wrong):
        found = fit_platt(score, happened)
        assert found.slope == 0.0
        assert found.probability(np.array([0.3]))[0] == pytest.approx(251 / 1002)
    assert 0.0 < fit_platt(np.arange(5.0), np.ones(5, dtype=np.bool_)).probability(np.zeros(1))[0] < 1.0
    with pytest.raises(InputError, match="no past score"):
        fit_platt(np.array([np.nan]), np.array([True]))


def test_fit_platt_of_one_score_is_the_base_rate_whatever_its_mean_is_rounded_to() -> None:
    rng = np.random.default_rng(1)
    for value in (0.0, *rng.normal(0, 0.05, 50).tolist()):
        happened = rng.random(3001) < 0.52
        found = fit_platt(np.full(3001, value), happened)
        assert found.slope == 0.0
        assert found.probability(np.array([value + 0.001]))[0] == pytest.approx(happened.mean(), abs=1e-3)


def test_fit_platt_ends_on_separable_scores() -> None:
    score = np.linspace(-1, 1, 100)
    found = fit_platt(score, score > 0)
    assert np.isfinite([found.offset, found.slope]).all()
    assert np.isnan(found.probability(np.array([np.nan]))[0])
