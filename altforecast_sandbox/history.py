"""History of the sandbox market as Parquet files, to be imported like any other bars.

What belongs here: which series and how far back, and the file form. What does not: importing them.
"""

from __future__ import annotations

import argparse
import sys
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl

from altforecast.symbols import CRYPTOCAP
from altforecast.types import Timeframe
from altforecast_sandbox.caps import INDEX_METRICS
from altforecast_sandbox.clock import parse_moment, real_clock
from altforecast_sandbox.coins import PAIRS
from altforecast_sandbox.market import Market
from altforecast_sandbox.quotes import REFERENCE_VENUE

TIMEFRAMES = (Timeframe.M15, Timeframe.H1, Timeframe.H4, Timeframe.D1)
COLUMNS = ("ts", "symbol", "open", "high", "low", "close", "volume", "exchange", "timeframe")
DAYS, LONG_DAYS = 190, 400
"""15m bars, all others. A forecast is tested on a calendar quarter with 90 days before it: 190 days always hold one, 400 two or three."""
SYMBOLS = tuple(p.symbol for p in PAIRS.values() if p.quote != "USD")


def write_history(market: Market, folder: Path, start: datetime, end: datetime, long_start: datetime | None = None) -> list[Path]:
    """Closed bars of [start, end) (1h and longer: from `long_start`): one file per exchange and timeframe; returns the files written.

    Binance's USDT pairs and ETH-BTC, and the four cryptocap index series (volume null), in the columns of COLUMNS.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _warm(market, min(start, long_start or start), end)
    frames: dict[tuple[str, Timeframe], list[pl.DataFrame]] = {}
    for timeframe in TIMEFRAMES:
        since = long_start if long_start is not None and timeframe is not Timeframe.M15 else start
        until = end - timeframe.duration + timedelta(milliseconds=1)
        for symbol in SYMBOLS:
            bars = market.bars(symbol, timeframe, since, until)
            frames.setdefault((REFERENCE_VENUE, timeframe), []).append(_named(bars, symbol, REFERENCE_VENUE, timeframe))
        for metric in INDEX_METRICS:
            bars = market.index_bars(metric, timeframe, since, until)
            frames.setdefault((CRYPTOCAP, timeframe), []).append(_named(bars, metric.value, CRYPTOCAP, timeframe))
    return [_write(folder / f"{exchange}_{timeframe.value}.parquet", parts) for (exchange, timeframe), parts in frames.items()]


def _warm(market: Market, start: datetime, end: datetime) -> None:
    """Day by day, so that each coin's path is built once for its own bars and the indices."""
    day = start
    while day < end:
        for symbol in SYMBOLS:
            market.candles(symbol, Timeframe.M15, day, day + Timeframe.D1.duration)
        market.index_candles(INDEX_METRICS[0], Timeframe.M15, day, day + Timeframe.D1.duration)
        day += Timeframe.D1.duration


def _named(bars: pl.DataFrame, symbol: str, exchange: str, timeframe: Timeframe) -> pl.DataFrame:
    names = {"symbol": symbol, "exchange": exchange, "timeframe": timeframe.value}
    return bars.with_columns(pl.lit(text).alias(name) for name, text in names.items()).select(COLUMNS)


def _write(path: Path, parts: list[pl.DataFrame]) -> Path:
    pl.concat(parts).write_parquet(path, compression="zstd")
    return path


def main(words: list[str]) -> None:
    """`python -m altforecast_sandbox.history --folder F`: writes the demo's history up to now."""
    parser = argparse.ArgumentParser(prog="altforecast_sandbox.history", description="Writes simulated bars as Parquet.")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--end", type=parse_moment, help="end of the history, ISO 8601 (default: now)")
    parser.add_argument("--days", type=int, default=DAYS, help="days of 15m bars")
    parser.add_argument("--long-days", type=int, default=LONG_DAYS, help="days of 1h, 4h and 1d bars")
    chosen = parser.parse_args(words)
    end = chosen.end or real_clock()
    midnight = end.replace(hour=0, minute=0, second=0, microsecond=0)
    start, long_start = (midnight - timedelta(days=days) for days in (chosen.days, chosen.long_days))
    for path in write_history(Market(chosen.seed), chosen.folder, start, end, long_start):
        print(path)


if __name__ == "__main__":
    main(sys.argv[1:])
