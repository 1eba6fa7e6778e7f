"""Confirmed swing lows and highs as the table `pivots`.

What belongs here: turning the swing points of the price into rows that say when each became known. What does not: comparing two
of them (`divergences`) or merging them (`levels`).
"""

from __future__ import annotations

import numpy as np
import polars as pl

from altforecast import tables
from altforecast.params import PIVOTS, PivotParams
from altforecast.segments import Ints, aligned, read_prices, split_segments
from altforecast.signal_scan import scan_pivots
from altforecast.types import Side, Timeframe

WARMUP_BARS = PIVOTS.left_bars + PIVOTS.right_bars
"""Earlier bars to read before a window: with them a window's rows equal those of a run over everything, bit for bit."""

_SIDES = pl.Series("side", [Side.HIGH.value, Side.LOW.value])


def find_pivots(bars: pl.DataFrame, indicators: pl.DataFrame, timeframe: Timeframe, params: PivotParams = PIVOTS) -> pl.DataFrame:
    """Table `pivots`: one row per swing point, at the bar that confirmed it (right_bars after the extreme).

    bars: table `bars` (ts, symbol, exchange, timeframe, high, low), many series of one timeframe, sorted. indicators: table
    `indicators` of the same bars (rsi_14, macd, obv, atr_14); where it has no row or a null, the pivot has null. A low at bar i is
    lower than each of left_bars before and not higher than each of right_bars after, so a plateau gives its first bar; highs
    mirrored; nothing reaches across a hole of more than restart_gap_bars. One bar may be both a low and a high. Empty in, empty out.
    Raises InputError on null or non-finite prices, unsorted or doubled rows, another timeframe. Method: docs/methods/divergences.md.
    """
    segments = split_segments(bars, timeframe, params.restart_gap_bars)
    if bars.is_empty():
        return tables.PIVOTS.empty()
    high, low = read_prices(bars, "high", "low")
    scans = [
        scan_pivots(x, sign, segments.starts, segments.stops, params.left_bars, params.right_bars)[0]
        for x, sign in ((high, -1.0), (low, 1.0))
    ]
    pivot_rows = np.concatenate(scans)
    side = np.repeat(np.arange(2, dtype=np.uint32), [len(s) for s in scans])
    order = np.argsort(pivot_rows * 2 + side, kind="stable")
    pivot_rows, side = pivot_rows[order], side[order]
    price = np.where(side == 0, high[pivot_rows], low[pivot_rows])
    frame = _rows(bars, indicators, timeframe, pivot_rows, pivot_rows + params.right_bars)
    return frame.with_columns(_SIDES.gather(side), pl.Series("price", price)).select(tables.PIVOTS.schema.names())


def _rows(bars: pl.DataFrame, indicators: pl.DataFrame, timeframe: Timeframe, pivot_rows: Ints, rows: Ints) -> pl.DataFrame:
    values = aligned(bars, indicators, "rsi_14", "macd", "obv", "atr_14")
    return bars[rows].select(
        "ts",
        "symbol",
        "exchange",
        pl.lit(timeframe.value).alias("timeframe"),
        bars["ts"].gather(pivot_rows).alias("pivot_ts"),
        *values.select("rsi_14", "macd", "obv")[pivot_rows],
        values["atr_14"].gather(rows),
        (pl.col("ts") + timeframe.duration).alias("known_at"),
    )
