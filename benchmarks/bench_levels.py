"""Speed of support and resistance levels: Parquet (bars and indicators) in, frame of events out, on one core.

What belongs here: bars per second of `find_levels`, with reading the same files alone and `scan_pivots` alone as references in the same
run. What does not: limits that a test would enforce. Prints JSON lines; `bars_per_s` counts processor time, so that other work on the
machine disturbs little. Run: python benchmarks/bench_levels.py [bars per series] [series].
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

os.environ.setdefault("POLARS_MAX_THREADS", "1")

import numpy as np
import polars as pl

from altforecast.levels import find_levels
from altforecast.params import PIVOTS
from altforecast.segments import read_prices, split_segments
from altforecast.signal_scan import scan_pivots
from altforecast.tables import TS
from altforecast.types import Timeframe

START_MS = 1_672_531_200_000
REPEATS = 7


def market(rows: int, series: int, seed: int = 1) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Random walks with volatility clustering, hourly, and their ATR (Wilder, by polars' exponential mean)."""
    rng = np.random.default_rng(seed)
    bars, indicators = [], []
    for k in range(series):
        sd = 0.004 * np.exp(0.5 * np.sin(np.arange(rows) / 200.0) + 0.2 * rng.normal(size=rows))
        close = 100 * np.exp(np.cumsum(sd * rng.normal(size=rows)))
        open_ = np.append(100.0, close[:-1])
        wick = np.abs(rng.normal(size=(2, rows))) * sd * close * 0.6
        named = {
            "ts": pl.Series(START_MS + 3_600_000 * np.arange(rows)).cast(TS),
            "symbol": [f"S{k:03d}-USDT"] * rows,
            "exchange": ["binance"] * rows,
        }
        high, low = np.maximum(open_, close) + wick[0], np.minimum(open_, close) - wick[1]
        bars.append(pl.DataFrame({**named, "timeframe": ["1h"] * rows, "high": high, "low": low, "close": close}))
        indicators.append(pl.DataFrame(named).with_columns(atr_14=pl.Series(high - low).ewm_mean(alpha=1 / 14)))
    return pl.concat(bars), pl.concat(indicators)


def least_seconds(work: Callable[[], object]) -> dict[str, float]:
    """Least processor and wall time of several runs, after one that compiles and warms the file cache [s]."""
    work()
    times = []
    for _ in range(REPEATS):
        cpu, wall = time.process_time(), time.perf_counter()
        work()
        times.append((time.process_time() - cpu, time.perf_counter() - wall))
    return {"cpu": min(cpu for cpu, _ in times), "wall": min(wall for _, wall in times)}


def steps(paths: tuple[Path, Path]) -> dict[str, Callable[[], object]]:
    """What is timed: the whole, and the references next to it."""
    bars = pl.read_parquet(paths[0])
    segments = split_segments(bars, Timeframe.H1, PIVOTS.restart_gap_bars)
    sides = [(x, sign) for x, sign in zip(read_prices(bars, "low", "high"), (1.0, -1.0), strict=True)]

    def read() -> list[pl.DataFrame]:
        return [pl.read_parquet(path) for path in paths]

    def pivots() -> list[int]:
        spans = segments.starts, segments.stops, PIVOTS.left_bars, PIVOTS.right_bars
        return [len(scan_pivots(x, sign, *spans)[0]) for x, sign in sides]

    def levels() -> pl.DataFrame:
        bars, indicators = read()
        return find_levels(bars, indicators, Timeframe.H1, datetime(2020, 1, 1, tzinfo=UTC))

    return {"read_files": read, "scan_pivots": pivots, "levels": levels}


def main(rows: int = 100_000, series: int = 20) -> None:
    """Write the files, time each step, print one JSON line per step."""
    n = rows * series
    with tempfile.TemporaryDirectory() as folder:
        paths = Path(folder) / "bars.parquet", Path(folder) / "indicators.parquet"
        for frame, path in zip(market(rows, series), paths, strict=True):
            frame.write_parquet(path)
        work = steps(paths)
        bars, indicators = (pl.read_parquet(path) for path in paths)
        n_rows = find_levels(bars, indicators, Timeframe.H1, datetime(2020, 1, 1, tzinfo=UTC)).height
        seconds = {name: least_seconds(run) for name, run in work.items()}
    for name, took in seconds.items():
        print(json.dumps({"bench": "levels", "step": name, "n_bars": n, **figures(n, took)}))
    whole = seconds["levels"]["cpu"]
    ratios = {f"cpu_ratio_to_{name}": round(whole / took["cpu"], 2) for name, took in seconds.items() if name != "levels"}
    shape = {"n_series": series, "n_rows": n_rows, "rows_per_bar": round(n_rows / n, 3), "polars_threads": pl.thread_pool_size()}
    print(json.dumps({"bench": "levels", "step": "summary", "n_bars": n, **figures(n, seconds["levels"]), **ratios, **shape}))


def figures(n: int, took: dict[str, float]) -> dict[str, int | float]:
    """Bars per second by processor time and by wall time, and nanoseconds of processor time per bar."""
    rates = {"bars_per_s": round(n / took["cpu"]), "bars_per_s_wall": round(n / took["wall"])}
    return {**rates, "cpu_ns_per_bar": round(took["cpu"] / n * 1e9, 1)}


if __name__ == "__main__":
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    main(*(int(a) for a in sys.argv[1:3]))
