"""A small simulated market for tests of forecasts: volatility that clusters, a daily rhythm, fat tails, holes.

What belongs here: seeded bars and arrays that several tests share. What does not: expected values.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from altforecast.bar_grid import BarGrid, bar_grid
from altforecast.table_schema import TS
from altforecast.types import Timeframe

START_MS = 1_672_531_200_000
"""2023-01-01."""
SYMBOLS = ("BTC-USDT", "ETH-USDT", "SOL-USDT", "XRP-USDT")


def panel(n_days: int = 260, symbols: tuple[str, ...] = SYMBOLS, seed: int = 5, timeframe: Timeframe = Timeframe.H1) -> pl.DataFrame:
    """Bars of the lake's columns, sorted; the last symbol starts after a fifth of the time and has a hole of 30 bars."""
    rng = np.random.default_rng(seed)
    per_day = 86_400_000 // timeframe.ms
    n = n_days * per_day
    steps = 12
    common = _log_sigma(n, rng)
    rhythm = 0.4 * np.sin(2 * np.pi * np.arange(n) / per_day)
    frames = []
    for number, symbol in enumerate(symbols):
        sigma = 0.006 * np.exp(0.7 * common + 0.5 * _log_sigma(n, rng) + rhythm) * np.sqrt(24 / per_day)
        moves = rng.standard_t(5, (n, steps)) / np.sqrt(5 / 3) * (sigma / np.sqrt(steps))[:, None]
        path = np.log(50.0 * (number + 1)) + np.cumsum(moves).reshape(n, steps)
        opening = np.append(path[0, 0], path[:-1, -1])
        prices = np.exp(np.column_stack([opening, path]))
        volume = 1000.0 * np.exp(0.5 * np.log(sigma / 0.006) + rng.normal(0, 0.3, n))
        frame = pl.DataFrame(
            {
                "ts": pl.Series(START_MS + np.arange(n) * timeframe.ms).cast(TS),
                "symbol": [symbol] * n, "exchange": ["binance"] * n, "timeframe": [timeframe.value] * n,
                "open": prices[:, 0], "high": prices.max(axis=1), "low": prices.min(axis=1), "close": prices[:, -1], "volume": volume,
            }
        )  # fmt: skip
        last = number == len(symbols) - 1 and number > 0
        frames.append(pl.concat([frame[n // 5 : n // 2], frame[n // 2 + 30 :]]) if last else frame)
    return pl.concat(frames).sort("symbol", "exchange", "ts")


def panel_grid(n_days: int = 260, seed: int = 5) -> BarGrid:
    """The same as a grid."""
    return bar_grid(panel(n_days, seed=seed), Timeframe.H1)


def _log_sigma(n: int, rng: np.random.Generator) -> np.ndarray:
    """A slow and a fast mean-reverting part, standard deviation about 0.7."""
    out = np.zeros(n)
    for persistence, size in ((0.995, 0.05), (0.95, 0.12)):
        noise, level = rng.normal(0, size, n), 0.0
        for i in range(n):
            level = persistence * level + noise[i]
            out[i] += level
    return out
