"""Speed of forecasts: the feature matrix of the newest bars, one refresh of all series, and training against bare LightGBM.

What belongs here: milliseconds of `build_features` beside a plain copy of as many values, milliseconds of features and all models for
one new bar, and seconds of `fit_bundle` beside the same trees trained without anything around them. What does not: limits that a test
would enforce. Prints JSON lines. Run: python benchmarks/bench_forecasts.py [bars] [series]
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import lightgbm as lgb
import numpy as np

from altforecast.bar_grid import BarGrid
from altforecast.baselines import har_design
from altforecast.forecast_features import build_features
from altforecast.forecast_params import MODELS, BoosterParams, feature_params
from altforecast.forecast_scores import LEVELS
from altforecast.models import MAX_BINS, Lesson, fit_bundle
from altforecast.types import Timeframe

TRAINING_ROWS = 60_000
REPEATS = 9


def market(bars: int, series: int, seed: int = 1) -> BarGrid:
    """Random walks, hourly."""
    rng = np.random.default_rng(seed)
    opening = 100 * np.exp(np.cumsum(rng.normal(0, 0.004, (bars, series)), axis=0))
    close = opening * np.exp(rng.normal(0, 0.004, (bars, series)))
    high, low = np.maximum(opening, close) * 1.001, np.minimum(opening, close) * 0.999
    ts = 1_672_531_200_000 + 3_600_000 * np.arange(bars, dtype=np.int64)
    names = tuple((f"{'BTC' if k == 0 else f'S{k:03d}'}-USDT", "binance") for k in range(series))
    return BarGrid(Timeframe.H1, ts, ts + 3_600_000, names, opening, high, low, close, rng.exponential(10, (bars, series)))


def times_ms(work: Callable[[], object]) -> list[float]:
    """Wall time of several runs after a first one [ms], sorted."""
    work()
    found = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        work()
        found.append(1000 * (time.perf_counter() - began))
    return sorted(found)


def bare(x: np.ndarray, y: np.ndarray, params: BoosterParams, level: float | None) -> None:
    """The same trees by LightGBM alone."""
    objective = {"objective": "regression"} if level is None else {"objective": "quantile", "alpha": level}
    settings = {
        "learning_rate": params.learning_rate, "num_leaves": params.leaves, "min_data_in_leaf": params.min_rows, "max_bin": MAX_BINS,
        "feature_fraction": params.feature_frac, "bagging_fraction": params.row_frac, "bagging_freq": 1, "lambda_l2": params.l2,
        "num_threads": 1, "deterministic": True, "force_col_wise": True, "verbose": -1,
    }  # fmt: skip
    lgb.train({**settings, **objective}, lgb.Dataset(x, y, params=settings), params.rounds)


def main(bars: int, series: int) -> None:
    """One line for features, one for training."""
    warmup = feature_params(Timeframe.H1).lookback_bars
    grid = market(bars + warmup, series)
    values = build_features(grid, bars).values
    found, copied = times_ms(lambda: build_features(grid, bars)), times_ms(values.copy)
    features = {"bars": bars, "series": series, "features": values.shape[2], "ms_median": found[REPEATS // 2], "ms_max": found[-1]}
    print(json.dumps({**features, "times_a_copy": found[REPEATS // 2] / copied[REPEATS // 2]}), flush=True)
    print(json.dumps(refresh(grid, values)), flush=True)
    print(json.dumps(training(values.reshape(-1, values.shape[2])[:TRAINING_ROWS])), flush=True)


def refresh(grid: BarGrid, values: np.ndarray) -> dict[str, float]:
    """Features of one new bar, HAR design and every model of four horizons, own trees for each series [ms]."""
    rows, series = values.shape[:2]
    x = np.concatenate([values.reshape(-1, values.shape[2]), np.zeros((rows * series, 1), dtype=np.float32)], axis=1)[:TRAINING_ROWS]
    y = np.random.default_rng(3).normal(size=len(x))
    column = np.arange(len(x), dtype=np.int64) % series
    params = replace(MODELS["1h"], min_own_rows=100)
    bundle = fit_bundle(Lesson(x, np.zeros(len(x)), y, y, column, grid.series), params, "1h", ())
    newest = np.arange(series)

    def work() -> None:
        now = build_features(grid, 1).values[0]
        for horizon in (1, 1, 4, 24):
            one = np.concatenate([now, har_design(grid, horizon)[-1, :, :1].astype(np.float32)], axis=1)
            bundle.scale.predict(one, newest, grid.series)
            bundle.shape.predict(one)
            bundle.direction.predict(one)

    found = times_ms(work)
    return {"horizons": 4, "series": series, "ms_median": found[REPEATS // 2], "ms_max": found[-1]}


def training(x: np.ndarray) -> dict[str, float]:
    """Seconds of processor time of `fit_bundle` and of its trees alone."""
    rng, n = np.random.default_rng(2), len(x)
    y = rng.normal(size=n)
    params = replace(MODELS["1h"], min_own_rows=10**9)
    lesson = Lesson(x, np.zeros(n), y, rng.normal(size=n), np.zeros(n, dtype=np.int64), (("A", "x"),))
    began = time.process_time()
    fit_bundle(lesson, params, "1h", ())
    ours = time.process_time() - began
    began = time.process_time()
    bare(x, y, params.scale, None)
    bare(x, y, params.direction, None)
    for level in LEVELS:
        bare(x, y, params.shape, level)
    alone = time.process_time() - began
    return {"rows": n, "seconds": ours, "seconds_bare_lightgbm": alone, "ratio": ours / alone}


if __name__ == "__main__":
    main(*(int(word) for word in sys.argv[1:3] or ("1000", "33")))
