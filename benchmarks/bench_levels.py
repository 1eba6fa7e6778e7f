"""Speed of support and resistance levels: Parquet in to events out, one core.

What belongs here: bars per second of `find_levels`, in one process, next to the time of reading the same files. What does not: limits
that a test would enforce. Prints one JSON line. Run: python benchmarks/bench_levels.py [bars per series] [series].
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

os.environ.setdefault("POLARS_MAX_THREADS", "1")

import numpy as np
import polars as pl

from altforecast.levels import find_levels
from altforecast.tables import TS
from altforecast.types import Timeframe

START_MS = 1_672_531_200_000


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


def best_seconds(work: object, runs: int = 3) -> float:
    """Least wall time of several runs [s]."""
    assert callable(work)
    seconds = []
    for _ in range(runs):
        begin = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begin)
    return min(seconds)


def main(rows: int, series: int) -> None:
    """Write the files, time reading and finding, print one JSON line."""
    with tempfile.TemporaryDirectory() as folder:
        paths = Path(folder) / "bars.parquet", Path(folder) / "indicators.parquet"
        for frame, path in zip(market(rows, series), paths, strict=True):
            frame.write_parquet(path)

        def read() -> list[pl.DataFrame]:
            return [pl.read_parquet(path) for path in paths]

        def run() -> pl.DataFrame:
            return find_levels(*read(), Timeframe.H1, datetime(2020, 1, 1, tzinfo=UTC))

        events = run().height
        read_s, whole_s = best_seconds(read), best_seconds(run)
    bars = rows * series
    result = {"bench": "levels", "bars": bars, "series": series, "events": events, "read_s": round(read_s, 3), "whole_s": round(whole_s, 3)}
    print(json.dumps(result | {"million_bars_per_s": round(bars / whole_s / 1e6, 2), "polars_threads": os.environ["POLARS_MAX_THREADS"]}))


if __name__ == "__main__":
    main(*(int(a) for a in sys.argv[1:3])) if len(sys.argv) > 2 else main(100_000, 20)
