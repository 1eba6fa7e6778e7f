"""Speed of the feature matrix with signals: 1,000 new bars of 33 series, beside the same matrix without them.

What belongs here: milliseconds (wall and processor) of `build_features` with and without every signal frame, and their ratio. What does
not: computing the signals, which other assets do. Prints JSON lines. Run: python benchmarks/bench_signal_features.py [bars] [series]
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import polars as pl

from altforecast.bar_grid import BarGrid, bar_grid
from altforecast.bar_signals import signals_from_bars
from altforecast.forecast_features import build_features
from altforecast.forecast_params import feature_params
from altforecast.signal_features import SignalFrames
from altforecast.table_schema import TS
from altforecast.types import Timeframe

REPEATS = 15
START_MS, HOUR = 1_672_531_200_000, 3_600_000


def market(bars: int, series: int) -> pl.DataFrame:
    """Random walks, hourly."""
    rng = np.random.default_rng(1)
    ts = pl.Series(START_MS + HOUR * np.arange(bars, dtype=np.int64)).cast(TS)
    frames = []
    for number in range(series):
        opening = 100 * np.exp(np.cumsum(rng.normal(0, 0.004, bars)))
        close = opening * np.exp(rng.normal(0, 0.004, bars))
        high, low = np.maximum(opening, close) * 1.001, np.minimum(opening, close) * 0.999
        prices = {"open": opening, "high": high, "low": low, "close": close, "volume": rng.exponential(10, bars)}
        names = {"symbol": f"S{number:03d}-USDT" if number else "BTC-USDT", "exchange": "binance", "timeframe": "1h"}
        frames.append(pl.DataFrame({"ts": ts, **prices}).with_columns(**{k: pl.lit(v) for k, v in names.items()}))
    return pl.concat(frames)


def readings(grid: BarGrid) -> dict[str, pl.DataFrame]:
    """A regime and three readings every hour, funding of every series every 8 hours."""
    rng, hours = np.random.default_rng(2), pl.Series("ts", grid.ts).cast(TS).to_frame()
    known, n = hours.with_columns(known_at=pl.col("ts") + pl.duration(hours=1)), len(grid.ts)
    scores = {name: rng.normal(0, 1, n) for name in ("score", "z_total3", "z_total2", "z_btc_d", "z_usdt_d", "z_ethbtc")}
    regime = known.with_columns(
        state=pl.Series(rng.choice(["risk_on", "neutral", "risk_off"], n)), **{k: pl.Series(v) for k, v in scores.items()}
    )
    names = ("fear_greed", "btc_dominance_pct", "total_market_cap_usd")
    context = pl.concat(known.with_columns(name=pl.lit(name), value=pl.Series(rng.uniform(1, 99, n))) for name in names)
    settled = known.filter(pl.col("ts").dt.hour() % 8 == 0).with_columns(exchange=pl.lit("binance"), interval_h=pl.lit(8))
    rates = [
        settled.with_columns(symbol=pl.lit(f"{s}-PERP"), funding_rate=pl.Series(rng.normal(0, 1e-4, settled.height)))
        for s, _ in grid.series
    ]
    return {"regime": regime, "market_context": context, "funding_rates": pl.concat(rates)}


def times_ms(work: Callable[[], object], clock: Callable[[], float]) -> list[float]:
    """Several runs after a first one [ms], sorted."""
    work()
    found = []
    for _ in range(REPEATS):
        began = clock()
        work()
        found.append(1000 * (clock() - began))
    return sorted(found)


def main(bars: int, series: int) -> None:
    """One line without and one with signals."""
    rows = market(bars + feature_params(Timeframe.H1).lookback_bars, series)
    grid = bar_grid(rows, Timeframe.H1)
    signals = SignalFrames(**{**vars(signals_from_bars(rows, Timeframe.H1)), **readings(grid)})
    plain = 0.0
    for name, given in (("bars", None), ("bars and signals", signals)):
        wall = times_ms(lambda given=given: build_features(grid, bars, given), time.perf_counter)  # type: ignore[misc]
        cpu = times_ms(lambda given=given: build_features(grid, bars, given), time.process_time)[REPEATS // 2]  # type: ignore[misc]
        plain = plain or cpu
        said = {"features": name, "bars": bars, "series": series, "ms_median": wall[REPEATS // 2], "ms_min": wall[0], "cpu_ms_median": cpu}
        print(json.dumps({**said, "times_without_signals": cpu / plain}), flush=True)


if __name__ == "__main__":
    main(*(int(a) for a in sys.argv[1:] or ("1000", "33")))
