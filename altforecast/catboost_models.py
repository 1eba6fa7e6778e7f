"""Trees by CatBoost, for challengers; the only module that knows it. Needs the extra `catboost`.

What belongs here: fitting one set of trees and its text form, with the same meaning of the parameters as in `models`. What does not:
what is learned from what (`models`), and which family answers (`promotion`).
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

import catboost
import numpy as np
from numpy.typing import NDArray

from altforecast.errors import InputError
from altforecast.forecast_params import BoosterParams

Floats = NDArray[np.float64]
Matrix = NDArray[np.float32]

MAX_BINS = 127
"""Borders of each feature, as many as LightGBM gets bins."""
_NEUTRAL = MappingProxyType({"train_finish_time": "", "model_guid": "", "training": "{}"})
"""What CatBoost notes in a model beside the trees; equal trees would differ by it from run to run."""


class CatTrees:
    """One fitted model; answers like a LightGBM booster."""

    def __init__(self, model: Any, text: str) -> None:
        self._model, self._text = model, text

    def predict(self, x: Matrix, /, *, num_threads: int = 1) -> Floats:
        """Values of each row, shape (n,), or (n, levels) where several quantiles were learned at once."""
        return np.asarray(self._model.predict(x, thread_count=num_threads), dtype=np.float64)

    def model_to_string(self) -> str:
        """CatBoost's binary form as base64; equal trees give equal text."""
        return self._text  # kept as read: written again, CatBoost would order its notes otherwise


def train(x: Matrix, y: Floats, params: BoosterParams, seed: int, threads: int, levels: Sequence[float] = ()) -> CatTrees:
    """Trees for the mean of y, or for all of the given quantiles at once; same inputs, seed and thread count: same trees.

    Trees are symmetric: `leaves` becomes a depth, and `min_rows`, which has no meaning for such trees, is not used.
    """
    loss = "RMSE" if not len(levels) else "MultiQuantile:alpha=" + ",".join(str(level) for level in levels)
    model = catboost.CatBoost(
        {
            "loss_function": loss, "iterations": params.rounds, "learning_rate": params.learning_rate, "l2_leaf_reg": params.l2,
            "depth": max(round(float(np.log2(params.leaves))), 1), "rsm": params.feature_frac, "bootstrap_type": "Bernoulli",
            "subsample": params.row_frac, "boosting_type": "Plain", "random_seed": seed, "thread_count": threads,
            "border_count": MAX_BINS, "allow_writing_files": False, "logging_level": "Silent",
        }
    )  # fmt: skip
    model.fit(catboost.Pool(x, y, thread_count=threads))
    known = model.get_metadata()
    for name, value in _NEUTRAL.items():
        known[name] = value
    return CatTrees(model, b64encode(bytes(model._serialize_model())).decode())


def loaded(text: str) -> CatTrees:
    """The trees of `CatTrees.model_to_string`; raises InputError for other text."""
    model = catboost.CatBoost()
    try:
        model.load_model(blob=b64decode(text, validate=True))
    except (ValueError, catboost.CatBoostError) as error:
        raise InputError("model", text[:20], f"not CatBoost trees ({type(error).__name__})") from error
    return CatTrees(model, text)
