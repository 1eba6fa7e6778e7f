"""CatBoost challengers: the same lessons as LightGBM, the same text form; skipped where the extra is not installed."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest

from altforecast.errors import InputError, UnknownNameError
from altforecast.forecast_params import CATBOOST, BoosterParams
from altforecast.forecast_scores import LEVELS
from altforecast.models import MANIFEST, ModelBundle, bundle_from_texts, bundle_texts, fit_bundle
from tests.domain.test_models import PARAMS, SERIES, lesson

SMALL = BoosterParams(rounds=40, leaves=8, feature_frac=1.0, learning_rate=0.1)
CAT = replace(PARAMS, family=CATBOOST, scale=SMALL, scale_own=SMALL, shape=SMALL, direction=SMALL)
needs_catboost = pytest.mark.skipif(find_spec("catboost") is None, reason="the extra catboost is not installed: make setup-catboost")


@pytest.fixture(scope="module")
def bundle() -> ModelBundle:
    return fit_bundle(lesson(), CAT, "1h", ("a", "b", "c"))


@needs_catboost
def test_catboost_learns_scale_shape_and_direction(bundle: ModelBundle) -> None:
    new = lesson(3)
    assert set(bundle.scale.own) == set(SERIES)
    scale = bundle.scale.predict(new.x, new.column, new.series)
    assert np.corrcoef(scale, 0.8 * new.x[:, 0])[0, 1] > 0.95
    quantiles = bundle.shape.predict(new.x)
    assert quantiles.shape == (len(new.x), len(LEVELS))
    assert (np.diff(quantiles, axis=1) >= 0).all()
    z = new.outcome / np.exp((new.base + scale) / 2.0)
    assert np.mean(z < quantiles[:, 1]) == pytest.approx(LEVELS[1], abs=0.02)
    assert np.mean(z < quantiles[:, 4]) == pytest.approx(LEVELS[4], abs=0.03)
    assert np.corrcoef(bundle.direction.predict(new.x), new.x[:, 1])[0, 1] > 0.9


@needs_catboost
def test_catboost_repeats_and_its_text_gives_the_same_answers(bundle: ModelBundle) -> None:
    texts = bundle_texts(bundle)
    assert bundle_texts(fit_bundle(lesson(), CAT, "1h", ("a", "b", "c"))) == texts
    again = bundle_from_texts(texts)
    assert again.family == CATBOOST
    x = lesson(4).x
    np.testing.assert_array_equal(again.shape.predict(x), bundle.shape.predict(x))
    np.testing.assert_array_equal(again.direction.predict(x), bundle.direction.predict(x))
    assert bundle_texts(again)["scale.txt"] == texts["scale.txt"]


@needs_catboost
def test_catboost_takes_missing_features(bundle: ModelBundle) -> None:
    x = lesson(4).x
    x[:, 2] = np.nan
    assert np.isfinite(bundle.shape.predict(x)).all()
    assert bundle.shape.predict(x[:0]).shape[0] == 0


@needs_catboost
def test_text_that_is_no_catboost_model_is_refused() -> None:
    from altforecast.catboost_models import loaded

    for text in ("not base64!", "AAAA"):
        with pytest.raises(InputError, match="not CatBoost trees"):
            loaded(text)


@pytest.mark.skipif(find_spec("catboost") is not None, reason="catboost is installed here")
def test_without_catboost_its_family_is_refused_with_what_to_do() -> None:
    with pytest.raises(InputError, match="make setup-catboost"):
        fit_bundle(lesson(), CAT, "1h", ())


def test_an_unknown_family_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="family"):
        fit_bundle(lesson(), replace(CAT, family="forest"), "1h", ())
    texts = bundle_texts(fit_bundle(lesson(), PARAMS, "1h", ("a", "b", "c")))
    texts[MANIFEST] = texts[MANIFEST].replace('"lightgbm"', '"forest"')
    with pytest.raises(UnknownNameError, match="family"):
        bundle_from_texts(texts)
