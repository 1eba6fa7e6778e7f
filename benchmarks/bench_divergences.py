"""Speed of the divergence pipeline on one core: Parquet file in, rows of table `divergences` out.

What belongs here: the measurement and its JSON line. What does not: assertions (timings belong in docs/performance.md).
Run: python benchmarks/bench_divergences.py [symbols] [bars per symbol]
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

REPEATS = 5
KEYS = ("ts", "symbol", "exchange", "timeframe")


def main(n_symbols: int = 232, n_bars: int = 43_200) -> None:
    """Print one JSON line: bars per second of one core with one and with three oscillators, by compression of the file.

    By default the size of one lake file: a 30-day month of 1-minute bars of 232 symbols, 10 million rows. Bound to one core; seconds
    are processor time, so that other work on the machine disturbs little.
    """
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # before Polars counts its threads
    import polars as pl

    from benchmarks import bench_indicators

    n = n_symbols * n_bars
    result: dict[str, object] = {"bench": "divergences", "n_bars": n, "polars_threads": pl.thread_pool_size()}
    with tempfile.TemporaryDirectory() as folder:
        bars = bench_indicators.random_bars(n_symbols, n_bars).with_columns(pl.col("high", "low", "close").round(2))
        for compression in ("zstd", "lz4"):
            path = Path(folder) / f"{compression}.parquet"
            bars.write_parquet(path, compression=compression, row_group_size=100_000)
            steps = {name: timed(run, path) for name, run in pipelines().items()}
            result[compression] = figures(n, steps) | {"parquet_mb": round(path.stat().st_size / 1e6)}
    print(json.dumps(result))


def figures(n: int, steps: dict[str, tuple[float, int]]) -> dict[str, object]:
    """Millions of bars per core second, whole and without reading; rows; seconds of each step."""

    def rate(step: str, *less: str) -> float:
        return round(n / (steps[step][0] - sum(steps[name][0] for name in less)) / 1e6, 1)

    return {
        "m_bars_per_s_rsi": rate("rsi"),
        "m_bars_per_s_three_oscillators": rate("three"),
        "m_bars_per_s_rsi_without_reading": rate("rsi", "read_rsi"),
        "m_bars_per_s_three_without_reading": rate("three", "read_three"),
        "n_rows_rsi": steps["rsi"][1],
        "n_rows_three": steps["three"][1],
        "core_seconds": {name: round(seconds, 3) for name, (seconds, _) in steps.items()},
    }


def pipelines() -> dict[str, Callable[[Path], int]]:
    """Each step by name; every one starts from the file."""
    import polars as pl

    from altforecast.divergences import OSCILLATORS, find_divergences
    from altforecast.types import Oscillator, Timeframe

    def read(path: Path, *more: str) -> pl.DataFrame:
        return pl.read_parquet(path, columns=[*KEYS, "high", "low", "close", *more])

    def run(path: Path, oscillators: tuple[Oscillator, ...], *more: str) -> int:
        bars = read(path, *more)
        return find_divergences(bars, None, Timeframe.M1, oscillators=oscillators).height

    return {
        "read_rsi": lambda path: read(path).height,
        "rsi": lambda path: run(path, (Oscillator.RSI,)),
        "read_three": lambda path: read(path, "volume").height,
        "three": lambda path: run(path, OSCILLATORS, "volume"),
    }


def timed(run: Callable[[Path], int], path: Path) -> tuple[float, int]:
    """Best of some runs after one that compiles and warms the file cache [processor s], and the rows of the result."""
    rows = run(path)
    times = []
    for _ in range(REPEATS):
        start = time.process_time()
        run(path)
        times.append(time.process_time() - start)
    return min(times), rows


if __name__ == "__main__":
    main(*(int(a) for a in sys.argv[1:]))
