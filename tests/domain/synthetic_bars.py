"""Seeded bars and window cutting for tests of signals.

What belongs here: inputs that several domain tests share. What does not: expected values (each test states its own).
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl

from altforecast import tables
from altforecast.types import Timeframe

START_MS = 1_704_067_200_000
KEYS = ["symbol", "exchange"]


def frame_of(
    high: object,
    low: object,
    close: object,
    volume: object = None,
    symbol: str = "BTC-USDT",
    timeframe: Timeframe = Timeframe.H1,
    steps: object = None,
) -> pl.DataFrame:
    """Bars of one series; steps: bars from one open to the next (1 = no hole), None = all 1."""
    n = len(np.asarray(close))
    numbers = np.arange(n) if steps is None else np.cumsum(np.asarray(steps))
    ts = pl.Series(START_MS + numbers * timeframe.ms, dtype=pl.Int64).cast(tables.TS)
    volumes = pl.Series(volume if volume is not None else np.ones(n), dtype=pl.Float64, strict=False)
    values = {"high": high, "low": low, "close": close}
    return pl.DataFrame({"ts": ts} | {k: pl.Series(v, dtype=pl.Float64) for k, v in values.items()}).with_columns(
        pl.lit(symbol).alias("symbol"),
        pl.lit("binance").alias("exchange"),
        pl.lit(timeframe.value).alias("timeframe"),
        volumes.alias("volume"),
    )


def random_series(
    n: int, seed: int, symbol: str = "BTC-USDT", tick: float = 0.05, steps: object = None, price: float = 100.0
) -> pl.DataFrame:
    """A random walk rounded to ticks, so that equal highs, lows and closes happen."""
    rng = np.random.default_rng(seed)
    close = price * np.exp(np.cumsum(rng.normal(0, 0.004, n)))
    high = close * (1 + np.abs(rng.normal(0, 0.002, n)))
    low = close * (1 - np.abs(rng.normal(0, 0.002, n)))
    rounded = [np.round(x / tick) * tick for x in (high, low, close)]
    return frame_of(*rounded, volume=np.round(rng.exponential(10, n), 3), symbol=symbol, steps=steps)


def many_series(n: int = 400, seed: int = 7) -> pl.DataFrame:
    """Three series of different length, one with a short and a long hole, sorted."""
    steps = np.ones(n, dtype=int)
    steps[0], steps[n // 4], steps[n // 2] = 0, 40, 150
    parts = [
        random_series(n, seed, "AAA-USDT"),
        random_series(n, seed + 1, "BBB-USDT", steps=steps),
        random_series(n // 2, seed + 2, "CCC-USDT", tick=0.5),
    ]
    return pl.concat(parts).sort(tables.SERIES_SORT)


def real_bars(folder: Path, name: str, timeframe: Timeframe, symbols: list[str]) -> pl.DataFrame:
    """Some series of a real file, sorted."""
    bars = pl.read_parquet(folder / "bars" / f"{name}.parquet")
    return bars.filter(pl.col("timeframe") == timeframe.value, pl.col("symbol").is_in(symbols)).sort(tables.SERIES_SORT)


def months(bars: pl.DataFrame) -> list[tuple[datetime, datetime]]:
    """[start, end) of every calendar month that the bars touch."""
    starts = pl.datetime_range(bars["ts"].min(), bars["ts"].max(), "1mo", eager=True).dt.truncate("1mo").to_list()
    firsts = sorted({datetime(s.year, s.month, 1, tzinfo=UTC) for s in [*starts, bars["ts"].max()]})
    return [(s, datetime(s.year + s.month // 12, s.month % 12 + 1, 1, tzinfo=UTC)) for s in firsts]


def with_warmup(frame: pl.DataFrame, start: datetime, end: datetime, warmup_bars: int) -> pl.DataFrame:
    """Rows in [start, end) and, per series, the last warmup_bars rows before."""
    before = frame.filter(pl.col("ts") < start).group_by(KEYS, maintain_order=True).tail(warmup_bars)
    return pl.concat([before.select(frame.columns), frame.filter(pl.col("ts") >= start, pl.col("ts") < end)]).sort(tables.SERIES_SORT)


def within(frame: pl.DataFrame, start: datetime, end: datetime) -> pl.DataFrame:
    """Rows in [start, end)."""
    return frame.filter(pl.col("ts") >= start, pl.col("ts") < end)
