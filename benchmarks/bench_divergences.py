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


def main(n_symbols: int = 100, n_bars: int = 100_000) -> None:
    """Print one JSON line: bars per second of one core with one and with three oscillators, and the share of each step."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # before Polars counts its threads
    import bench_indicators
    import polars as pl

    n = n_symbols * n_bars
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bars.parquet"
        bench_indicators.random_bars(n_symbols, n_bars).write_parquet(path, compression="zstd", row_group_size=128_000)
        steps = {name: timed(run, path) for name, run in pipelines().items()}
        size_mb = round(path.stat().st_size / 1e6)
    events = steps["rsi"][1]
    result = {
        "bench": "divergences",
        "n_bars": n,
        "parquet_mb": size_mb,
        "polars_threads": pl.thread_pool_size(),
        "n_rows_rsi": events,
        "n_rows_three": steps["three"][1],
        "m_bars_per_s_core_rsi": round(n / steps["rsi"][0] / 1e6, 1),
        "m_bars_per_s_core_three_oscillators": round(n / steps["three"][0] / 1e6, 1),
        "m_bars_per_s_core_rsi_without_parquet": round(n / (steps["rsi"][0] - steps["read_rsi"][0]) / 1e6, 1),
        "seconds": {name: round(seconds, 3) for name, (seconds, _) in steps.items()},
    }
    print(json.dumps(result))


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
    """Best of some runs after one that compiles and warms the file cache [s], and the rows of the result."""
    rows = run(path)
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        run(path)
        times.append(time.perf_counter() - start)
    return min(times), rows


if __name__ == "__main__":
    main(*(int(a) for a in sys.argv[1:]))
