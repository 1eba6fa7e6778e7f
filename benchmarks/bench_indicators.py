"""Time and memory of `compute_indicators` against raw TA-Lib calls on the same arrays.

What belongs here: the measurement and its JSON line. What does not: assertions (timings belong in docs/performance.md).
Run: python benchmarks/bench_indicators.py [symbols] [bars per symbol]
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import talib

from altforecast.indicators import compute_indicators
from altforecast.types import Timeframe

REPEATS = 5


def main(n_symbols: int = 100, n_bars: int = 100_000) -> None:
    """Print one JSON line: seconds and ratios to raw TA-Lib, on one thread and on all, and the memory above the input."""
    bars = random_bars(n_symbols, n_bars)
    arrays = [bars[c].to_numpy() for c in ("high", "low", "close", "volume")]
    compute_indicators(bars.head(n_bars), Timeframe.M1)
    peak = peak_above(lambda: compute_indicators(bars, Timeframe.M1))
    raw_s, one_s, all_s = interleaved(
        lambda: raw_talib(arrays, n_symbols, n_bars),
        lambda: compute_indicators(bars, Timeframe.M1, threads=1),
        lambda: compute_indicators(bars, Timeframe.M1),
    )
    result = {
        "bench": "indicators",
        "n_bars": n_symbols * n_bars,
        "threads": pl.thread_pool_size(),
        "raw_talib_s": round(raw_s, 3),
        "one_thread_s": round(one_s, 3),
        "all_threads_s": round(all_s, 3),
        "ratio_one_thread": round(one_s / raw_s, 2),
        "ratio_all_threads": round(all_s / raw_s, 2),
        "peak_above_input_gb": round(peak / 1e9, 3),
        "peak_above_input_gib": round(peak / 2**30, 3),
    }
    print(json.dumps(result))


def random_bars(n_symbols: int, n_bars: int, seed: int = 1) -> pl.DataFrame:
    """Random walks as 1-minute bars, sorted by symbol and ts."""
    rng = np.random.default_rng(seed)
    n = n_symbols * n_bars
    close = np.exp(np.cumsum(rng.normal(0, 0.001, (n_symbols, n_bars)), axis=1)).ravel() * 100
    high, low = close * (1 + np.abs(rng.normal(0, 0.001, n))), close * (1 - np.abs(rng.normal(0, 0.001, n)))
    ts = np.tile(np.arange(n_bars, dtype=np.int64) * 60_000, n_symbols)
    names = pl.Series([f"S{i:03d}-USDT" for i in range(n_symbols)], dtype=pl.String)
    return pl.DataFrame(
        {
            "ts": pl.Series(ts).cast(pl.Datetime("ms", "UTC")),
            "symbol": names.gather(np.repeat(np.arange(n_symbols), n_bars)),
            "exchange": pl.repeat("binance", n, eager=True),
            "timeframe": pl.repeat("1m", n, eager=True),
            "high": high,
            "low": low,
            "close": close,
            "volume": rng.exponential(10.0, n),
        }
    )


def raw_talib(arrays: list[np.ndarray], n_symbols: int, n_bars: int) -> None:
    """The same calls as `compute_indicators` makes, results dropped: the limit."""
    for s in range(n_symbols):
        high, low, close, volume = (a[s * n_bars : (s + 1) * n_bars] for a in arrays)
        talib.EMA(close, 20), talib.EMA(close, 50), talib.RSI(close, 14), talib.MACD(close, 12, 26, 9)
        talib.ATR(high, low, close, 14), talib.BBANDS(close, 20, 2.0, 2.0), talib.ADX(high, low, close, 14), talib.OBV(close, volume)


def interleaved(*runs: Callable[[], object]) -> list[float]:
    """Best seconds of each run, taken in turns so that a busy machine disturbs all alike."""
    best = [float("inf")] * len(runs)
    for _ in range(REPEATS):
        for n, run in enumerate(runs):
            start = time.perf_counter()
            run()
            best[n] = min(best[n], time.perf_counter() - start)
    return best


def peak_above(run: Callable[[], object]) -> int:
    """Highest resident memory during the run above the one before it [bytes], sampled every millisecond."""
    before, peak, done = resident(), [0], threading.Event()

    def sample() -> None:
        while not done.wait(0.001):
            peak[0] = max(peak[0], resident())

    sampler = threading.Thread(target=sample)
    sampler.start()
    result = run()
    peak[0] = max(peak[0], resident())
    done.set()
    sampler.join()
    del result
    return peak[0] - before


def resident() -> int:
    """Resident memory of this process [bytes]."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


if __name__ == "__main__":
    main(*(int(a) for a in sys.argv[1:]))
