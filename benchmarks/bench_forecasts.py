"""Speed of forecasts: the feature matrix of the newest bars, one refresh of all series, training against bare LightGBM, a retraining.

What belongs here: milliseconds of `build_features` beside a plain copy of as many values, milliseconds from a new bar to the rows of
forecasts of all series and horizons, seconds of `fit_bundle` beside the same trees alone, and with --train seconds of a retraining on
real bars. What does not: limits that a test would enforce. Prints JSON lines.
Run: python -m benchmarks.bench_forecasts [--data BARS_FOLDER] [--train] [--horizons 1h,4h]
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import lightgbm as lgb
import numpy as np
import polars as pl

from altforecast.bar_grid import BarGrid, bar_grid
from altforecast.forecast_answers import warmup_bars
from altforecast.forecast_features import FeatureMatrix, build_features
from altforecast.forecast_packs import Pack
from altforecast.forecast_params import HORIZONS, MODELS, BoosterParams, LiveParams, feature_params
from altforecast.forecast_scores import LEVELS
from altforecast.forecast_training import train_baseline, train_candidate
from altforecast.forecasting import forecast_bars, renew_calibration, renewal_ts
from altforecast.models import MAX_BINS, Lesson, fit_bundle
from altforecast.types import Timeframe

TRAINING_ROWS = 60_000
REPEATS = 9
REFRESHES = 40
BARS, SERIES = 1000, 33
REFRESH_DAYS = 200
"""History of the packs of the refresh: enough for trees of each series, short enough to be trained in the benchmark."""
SPEEDY = LiveParams(max_quarters=1, max_short_folds=1)


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


def main(data: Path | None, horizons: tuple[str, ...], is_training: bool) -> None:
    """One line for features, one for the refresh, one for training against LightGBM; with is_training only the retraining."""
    if is_training:
        if data is None:
            raise SystemExit("--train needs --data")
        retraining(data, horizons)
        return
    warmup = feature_params(Timeframe.H1).lookback_bars
    grid = market(BARS + warmup, SERIES)
    values = build_features(grid, BARS).values
    found, copied = times_ms(lambda: build_features(grid, BARS)), times_ms(values.copy)
    features = {"bars": BARS, "series": SERIES, "features": values.shape[2], "ms_median": found[REPEATS // 2], "ms_max": found[-1]}
    print(json.dumps({**features, "times_a_copy": found[REPEATS // 2] / copied[REPEATS // 2]}), flush=True)
    print(json.dumps(refresh(data, horizons)), flush=True)
    print(json.dumps(training(values.reshape(-1, values.shape[2])[:TRAINING_ROWS])), flush=True)


def real_grid(data: Path, timeframe: Timeframe, days: int | None = None, series: int | None = None) -> BarGrid:
    """All real bars of a timeframe, or of the newest days and so many series; where there are fewer, they stand there again as copies."""
    frames = [pl.read_parquet(path) for path in sorted(data.glob(f"*_{timeframe.value}_*.parquet"))]
    columns = ["ts", "symbol", "exchange", "timeframe", "open", "high", "low", "close", "volume"]
    bars = pl.concat([frame.select(columns) for frame in frames]).unique(["symbol", "exchange", "ts"], keep="first", maintain_order=True)
    if days is not None:
        bars = bars.filter(pl.col("ts") > pl.col("ts").max() - pl.duration(days=days))
    grid = bar_grid(bars, timeframe)
    if series is None:
        return grid
    alive = np.flatnonzero(~np.isnan(grid.close[-1]))
    picked = np.resize(alive, series)
    names = [(f"{symbol}{'' if n < len(alive) else f'-{n}'}", venue) for n, (symbol, venue) in enumerate(grid.series[k] for k in picked)]
    arrays = (values[:, picked] for values in (grid.open, grid.high, grid.low, grid.close, grid.volume))
    return BarGrid(timeframe, grid.ts, grid.known_at, tuple(names), *arrays)


def refresh(data: Path | None, horizons: tuple[str, ...]) -> dict[str, object]:
    """From the bars of the warm-up to rows of champion, har and climatology for one new bar, packs and calibrations loaded [ms]."""
    grids = {HORIZONS[name][0]: _refresh_grid(data, HORIZONS[name][0]) for name in horizons}
    renewal, ready = 0.0, []
    for name in horizons:
        grid = grids[HORIZONS[name][0]]
        packs = _packs(grid, name)
        at = renewal_ts(int(grid.ts[-1]))
        began = time.perf_counter()
        ready.append((name, packs, [renew_calibration(pack, grid, at) for pack in packs]))
        renewal += time.perf_counter() - began

    def work() -> int:
        rows = 0
        features: dict[Timeframe, tuple[BarGrid, FeatureMatrix]] = {}
        for name, packs, calibrations in ready:
            grid = grids[HORIZONS[name][0]]
            if grid.timeframe not in features:
                features[grid.timeframe] = _newest(grid)
            newest = features[grid.timeframe]
            for pack, calibration, role in zip(packs, calibrations, ("champion", "har"), strict=True):
                rows += forecast_bars(pack, newest[0], int(grid.ts[-1]), calibration, 0, role, newest[1]).height
        return rows

    rows, found, busy = work(), [], []
    for _ in range(REFRESHES):
        began, computed = time.perf_counter(), time.process_time()
        work()
        found.append(1000 * (time.perf_counter() - began))
        busy.append(1000 * (time.process_time() - computed))
    found.sort()
    busy.sort()
    return {
        "horizons": len(horizons), "series": SERIES, "rows": rows, "real_bars": data is not None,
        "refresh_ms_median": found[REFRESHES // 2],
        "refresh_ms_p95": found[int(0.95 * REFRESHES)], "refresh_processor_ms_p95": busy[int(0.95 * REFRESHES)],
        "renewal_of_all_calibrations_ms": 1000 * renewal,
    }  # fmt: skip


def _refresh_grid(data: Path | None, timeframe: Timeframe) -> BarGrid:
    if data is not None:
        return real_grid(data, timeframe, REFRESH_DAYS, SERIES)
    grid = market(REFRESH_DAYS * 86_400_000 // timeframe.ms, SERIES)
    ts = grid.ts[0] // 86_400_000 * 86_400_000 + timeframe.ms * np.arange(len(grid.ts), dtype=np.int64)
    return replace(grid, timeframe=timeframe, ts=ts, known_at=ts + timeframe.ms)


def _packs(grid: BarGrid, name: str) -> tuple[Pack, Pack]:
    """Champion and baseline with as many trees as in production; fewer rows teach them."""
    params = replace(MODELS[name], max_rows=10_000, min_own_rows=1000)
    features = build_features(grid)
    return train_candidate(grid, features, name, 0, params=params, live=SPEEDY).pack, train_baseline(grid, name, 0, live=SPEEDY).pack


def _newest(grid: BarGrid) -> tuple[BarGrid, FeatureMatrix]:
    rows = slice(-warmup_bars(grid.timeframe) - 1, None)
    arrays = (grid.open[rows], grid.high[rows], grid.low[rows], grid.close[rows], grid.volume[rows])
    cut = BarGrid(grid.timeframe, grid.ts[rows], grid.known_at[rows], grid.series, *arrays)
    return cut, build_features(cut, 1)


def retraining(data: Path, horizons: tuple[str, ...]) -> None:
    """A line per horizon: processor seconds of features, walk forward and last fit on all real bars of its timeframe."""
    for name in horizons:
        marks: list[tuple[str, float]] = []

        def mark(text: str, marks: list[tuple[str, float]] = marks) -> None:
            marks.append((text, time.process_time()))

        began = time.process_time()
        grid = real_grid(data, HORIZONS[name][0])
        features = build_features(grid)
        built = time.process_time()
        trained = train_candidate(grid, features, name, 0, progress=mark)
        ended = time.process_time()
        last = next(moment for text, moment in marks if "last fit" in text)
        rows, table = trained.pack.info.n_rows, trained.table
        print(
            json.dumps(
                {
                    "retrained": name, "series": len(grid.series), "rows": rows, "folds": len(table["folds"]),
                    "features_s": built - began, "walk_forward_s": last - built, "last_fit_s": ended - last,
                    "rows_per_s_of_last_fit": rows / (ended - last),
                    "skill_har": table["forecasters"]["mix"]["skill_har"],
                }
            ),
            flush=True,
        )  # fmt: skip


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
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, help="folder of Parquet files of bars; simulated ones without it")
    parser.add_argument("--train", action="store_true", help="only the retraining, minutes")
    parser.add_argument("--horizons", default=",".join(HORIZONS))
    given = parser.parse_args()
    main(given.data, tuple(given.horizons.split(",")), given.train)
