"""Boosted trees on top of the seasonal HAR: scale first, shape second, direction last; the only module that knows LightGBM.

What belongs here: fitting, predicting and the plain-text form of the three models. What does not: which rows may teach them
(`walk_forward`), the baselines (`baselines`), trees of another family (`catboost_models`) and files (`altforecast_io`). Method:
docs/methods/forecasts.md.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

from altforecast.errors import InputError, UnknownNameError
from altforecast.forecast_params import CATBOOST, LIGHTGBM, BoosterParams, ModelParams
from altforecast.forecast_scores import LEVELS

Floats = NDArray[np.float64]
Matrix = NDArray[np.float32]
Ints = NDArray[np.int64]
Series = tuple[str, str]

FORMAT = 1
MANIFEST = "manifest.json"
MAX_BINS = 127
"""Histogram bins of each feature; half of LightGBM's default, for speed."""
_PLATT_STEPS = 50
_SAME_SCORE = 1e-9
"""Scores that spread by less than this share of themselves are one score: trees that never split, and the rounding of their mean. A
slope through rounding would make certainty of it."""


class Trees(Protocol):
    """One fitted set of boosted trees of any family."""

    def predict(self, x: Matrix, /, *, num_threads: int = 1) -> Any:
        """Values of each row, shape (n,), or (n, levels) where several quantiles were learned at once."""

    def model_to_string(self) -> str:
        """The trees as text; equal trees give equal text."""


def _binned(x: Matrix, params: BoosterParams, seed: int, threads: int) -> lgb.Dataset:
    """Binned once, so that several sets of trees learn from the same rows without binning them again."""
    data = lgb.Dataset(x, np.zeros(len(x)), params={**_settings(params, seed, threads), "feature_pre_filter": False}, free_raw_data=False)
    return data.construct()


def _settings(params: BoosterParams, seed: int, threads: int) -> dict[str, Any]:
    return {
        "learning_rate": params.learning_rate, "num_leaves": params.leaves, "min_data_in_leaf": params.min_rows,
        "feature_fraction": params.feature_frac, "bagging_fraction": params.row_frac, "bagging_freq": 1, "lambda_l2": params.l2,
        "max_bin": MAX_BINS, "seed": seed, "num_threads": threads, "deterministic": True, "force_col_wise": True, "verbose": -1,
    }  # fmt: skip


def _train(data: lgb.Dataset, y: Floats, params: BoosterParams, seed: int, threads: int, level: float | None = None) -> Trees:
    objective = {"objective": "regression"} if level is None else {"objective": "quantile", "alpha": level}
    data.set_label(y)
    trees: Trees = lgb.train({**_settings(params, seed, threads), "feature_pre_filter": False, **objective}, data, params.rounds)
    return trees


class _LightGbm:
    """Learns several things from the same rows."""

    def __init__(self, x: Matrix, params: BoosterParams, seed: int, threads: int) -> None:
        self._data, self._seed, self._threads = _binned(x, params, seed, threads), seed, threads

    def mean(self, y: Floats, params: BoosterParams) -> Trees:
        return _train(self._data, y, params, self._seed, self._threads)

    def quantiles(self, y: Floats, params: BoosterParams) -> tuple[Trees, ...]:
        return tuple(_train(self._data, y, params, self._seed, self._threads, level) for level in LEVELS)


class _CatBoost:
    """The same with CatBoost, which learns all quantiles at once. Raises InputError where it is not installed."""

    def __init__(self, x: Matrix, _params: BoosterParams, seed: int, threads: int) -> None:
        self._x, self._seed, self._threads, self._family = x, seed, threads, _catboost()

    def mean(self, y: Floats, params: BoosterParams) -> Trees:
        trees: Trees = self._family.train(self._x, y, params, self._seed, self._threads)
        return trees

    def quantiles(self, y: Floats, params: BoosterParams) -> tuple[Trees, ...]:
        return (self._family.train(self._x, y, params, self._seed, self._threads, LEVELS),)


_TEACHERS: Mapping[str, type[_LightGbm] | type[_CatBoost]] = MappingProxyType({LIGHTGBM: _LightGbm, CATBOOST: _CatBoost})


def _catboost() -> Any:
    try:
        from altforecast import catboost_models
    except ImportError as error:
        raise InputError("family", CATBOOST, "the extra catboost is not installed, see make setup-catboost") from error
    return catboost_models


def _predict(booster: Trees, x: Matrix) -> Floats:
    return np.asarray(booster.predict(x, num_threads=1), dtype=np.float64) if len(x) else np.empty(0)


@dataclass(frozen=True)
class ScaleModel:
    """Correction of the HAR log variance: trees over all series, averaged with a series' own where it has them."""

    pooled: Trees
    own: Mapping[Series, Trees]
    shrink: float

    def predict(self, x: Matrix, column: Ints, series: Sequence[Series]) -> Floats:
        """What to add to the HAR forecast of each row, shape (n,). column: number of each row's series in `series`."""
        found = _predict(self.pooled, x)
        for number, name in enumerate(series):
            rows = np.flatnonzero(column == number)
            if name in self.own and len(rows):
                found[rows] = 0.5 * (found[rows] + _predict(self.own[name], x[rows]))
        return self.shrink * found


@dataclass(frozen=True)
class ShapeModel:
    """Quantiles of outcome over standard deviation, one set of trees per level or one for all."""

    boosters: tuple[Trees, ...]

    def predict(self, x: Matrix) -> Floats:
        """Quantiles in units of the standard deviation, shape (n, levels), never crossing (sorted)."""
        return np.sort(np.column_stack([_predict(booster, x) for booster in self.boosters]), axis=1)


@dataclass(frozen=True)
class DirectionModel:
    """Expected outcome over standard deviation; only its order and sign are used."""

    booster: Trees

    def predict(self, x: Matrix) -> Floats:
        """Score of each row, shape (n,)."""
        return _predict(self.booster, x)


@dataclass(frozen=True)
class Platt:
    """P(up) = 1 / (1 + exp(-(offset + slope x score)))."""

    offset: float
    slope: float

    def probability(self, score: Floats) -> Floats:
        """Calibrated probability of each score [0-1]; NaN stays NaN."""
        return np.asarray(1.0 / (1.0 + np.exp(-(self.offset + self.slope * score))))


def fit_platt(score: Floats, happened: NDArray[np.bool_]) -> Platt:
    """Logistic regression of what happened on past out-of-sample scores (Platt 1999); rows with NaN are left out.

    A constant or missing score, or a slope below 0 (scores that pointed the wrong way), gives the base rate alone. Raises
    InputError where nothing is known.
    """
    known = ~np.isnan(score)
    if not known.any():
        raise InputError("score", len(score), "no past score with an outcome")
    x, y = score[known], happened[known].astype(np.float64)
    centre, spread = float(x.mean()), float(x.std())
    base = _logit(float((y.sum() + 1.0) / (len(y) + 2.0)))
    if spread <= _SAME_SCORE * float(np.abs(x).max()) or y.min() == y.max():
        return Platt(base, 0.0)
    offset, slope = _logistic((x - centre) / spread, y, base)
    return Platt(offset - slope * centre / spread, slope / spread) if slope > 0 else Platt(base, 0.0)


def _logistic(x: Floats, y: Floats, start: float) -> tuple[float, float]:
    """Newton steps with a trace of ridge, so that separable data end too."""
    design, beta = np.column_stack([np.ones(len(x)), x]), np.array([start, 0.0])
    for _ in range(_PLATT_STEPS):
        p = 1.0 / (1.0 + np.exp(-(design @ beta)))
        step = np.linalg.solve((design * (p * (1.0 - p))[:, None]).T @ design + 1e-6 * np.eye(2), design.T @ (y - p) - 1e-6 * beta)
        beta = beta + step
        if np.abs(step).max() < 1e-10:
            break
    return float(beta[0]), float(beta[1])


def _logit(p: float) -> float:
    return float(np.log(p / (1.0 - p)))


@dataclass(frozen=True)
class Lesson:
    """Rows to learn from, in one order: x has the features and, last, the base forecast; shapes (n, features + 1) and (n,)."""

    x: Matrix
    base: Floats
    """HAR forecast of the log variance ahead."""
    target: Floats
    """Realised log variance ahead."""
    outcome: Floats
    """Log return ahead."""
    column: Ints
    """Number of each row's series in `series`."""
    series: tuple[Series, ...]

    def take(self, rows: Ints) -> Lesson:
        """The same for some of the rows."""
        return Lesson(self.x[rows], self.base[rows], self.target[rows], self.outcome[rows], self.column[rows], self.series)


@dataclass(frozen=True)
class ModelBundle:
    """All trees of one horizon, with the names of the features in their order."""

    horizon: str
    features: tuple[str, ...]
    scale: ScaleModel
    shape: ShapeModel
    direction: DirectionModel
    platt: Platt | None = None
    """Only known once there are past out-of-sample scores."""
    family: str = LIGHTGBM


def fit_bundle(lesson: Lesson, params: ModelParams, horizon: str, features: tuple[str, ...], threads: int = 1) -> ModelBundle:
    """Learn scale (pooled and own), then shape and direction of outcome over the learned standard deviation.

    The pooled trees share at most max_rows rows, drawn by the seed; own trees see all rows of their series. Raises InputError
    without rows, with NaN in what is to be learned, for an unknown family and for one that is not installed.
    """
    if not len(lesson.x):
        raise InputError("x", 0, "no row to learn from")
    if np.isnan(lesson.target - lesson.base).any() or np.isnan(lesson.outcome).any():
        raise InputError("target", "NaN", "rows to learn from need base, target and outcome")
    if params.family not in _TEACHERS:
        raise UnknownNameError("family", params.family, "no such boosted models", _TEACHERS)
    own = _own_scales(lesson, params, threads)
    drawn = np.random.default_rng(params.seed).permutation(len(lesson.x))[: params.max_rows]
    part = lesson.take(np.sort(drawn))
    teacher = _TEACHERS[params.family](part.x, params.scale, params.seed, threads)
    scale = ScaleModel(teacher.mean(part.target - part.base, params.scale), own, params.shrink)
    z = part.outcome / np.exp((part.base + scale.predict(part.x, part.column, part.series)) / 2.0)
    shape = ShapeModel(teacher.quantiles(z, params.shape))
    direction = DirectionModel(teacher.mean(np.clip(z, -params.clip, params.clip), params.direction))
    return ModelBundle(horizon, features, scale, shape, direction, family=params.family)


def _own_scales(lesson: Lesson, params: ModelParams, threads: int) -> dict[Series, Trees]:
    own = {}
    for number, name in enumerate(lesson.series):
        rows = np.flatnonzero(lesson.column == number)
        if len(rows) >= params.min_own_rows:
            residual = lesson.target[rows] - lesson.base[rows]
            own[name] = _TEACHERS[params.family](lesson.x[rows], params.scale_own, params.seed, threads).mean(residual, params.scale_own)
    return own


def bundle_texts(bundle: ModelBundle) -> dict[str, str]:
    """File name -> content: the trees in the text form of their family and a manifest with the sum of each."""
    texts = {"scale.txt": bundle.scale.pooled.model_to_string()}
    own = {f"scale_own_{n:03d}.txt": name for n, name in enumerate(sorted(bundle.scale.own))}
    texts |= {file: bundle.scale.own[name].model_to_string() for file, name in own.items()}
    texts |= {f"shape_{n}.txt": booster.model_to_string() for n, booster in enumerate(bundle.shape.boosters)}
    texts["direction.txt"] = bundle.direction.booster.model_to_string()
    manifest = {
        "format": FORMAT, "family": bundle.family, "horizon": bundle.horizon, "features": list(bundle.features),
        "shrink": bundle.scale.shrink, "own": {file: list(name) for file, name in own.items()}, "levels": list(LEVELS),
        "platt": None if bundle.platt is None else [bundle.platt.offset, bundle.platt.slope],
        "sha256": {file: _sum(text) for file, text in texts.items()},
    }  # fmt: skip
    return {**texts, MANIFEST: json.dumps(manifest, indent=1, sort_keys=True)}


def bundle_from_texts(texts: Mapping[str, str]) -> ModelBundle:
    """The bundle of `bundle_texts`; raises InputError naming the file that is missing, altered or of another format."""
    manifest = _manifest(texts)
    for file, digest in manifest["sha256"].items():
        if file not in texts:
            raise InputError("file", file, "the manifest names it, but it is missing")
        if _sum(texts[file]) != digest:
            raise InputError("file", file, "does not have the sum that the manifest gives")
    family = manifest.get("family", LIGHTGBM)
    load = {file: _loaded(texts[file], family) for file in manifest["sha256"]}
    own = {(name[0], name[1]): load[file] for file, name in manifest["own"].items()}
    shape = ShapeModel(tuple(load[file] for file in (f"shape_{n}.txt" for n in range(len(LEVELS))) if file in load))
    platt = None if manifest["platt"] is None else Platt(*manifest["platt"])
    scale = ScaleModel(load["scale.txt"], own, manifest["shrink"])
    direction = DirectionModel(load["direction.txt"])
    return ModelBundle(manifest["horizon"], tuple(manifest["features"]), scale, shape, direction, platt, family)


def _loaded(text: str, family: str) -> Trees:
    if family not in _TEACHERS:
        raise UnknownNameError("family", family, "no such boosted models", _TEACHERS)
    trees: Trees = _catboost().loaded(text) if family == CATBOOST else lgb.Booster(model_str=text)
    return trees


def _manifest(texts: Mapping[str, str]) -> dict[str, Any]:
    try:
        manifest = json.loads(texts[MANIFEST])
    except (KeyError, json.JSONDecodeError) as error:
        raise InputError("file", MANIFEST, f"missing or not JSON ({type(error).__name__})") from error
    wanted = {"format", "horizon", "features", "shrink", "own", "levels", "platt", "sha256"}
    if not isinstance(manifest, dict) or not wanted <= set(manifest):
        raise InputError("file", MANIFEST, "lacks entries of a model manifest")
    if manifest["format"] != FORMAT or manifest["levels"] != list(LEVELS):
        raise InputError("format", manifest["format"], f"only format {FORMAT} with the levels of this version can be read")
    return manifest


def _sum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
