"""The signals that bars alone give, as the frames that features read.

What belongs here: calling indicators, divergences and levels over bars that are in no lake (evaluation of bare files, proofs). What
does not: the signals themselves and the features made of them (`signal_features`).
"""

from __future__ import annotations

from datetime import datetime

import polars as pl

from altforecast.bar_grid import usable_bars
from altforecast.divergences import find_divergences
from altforecast.indicators import compute_indicators
from altforecast.levels import find_levels
from altforecast.signal_features import SignalFrames
from altforecast.types import Timeframe

_VALUES = ("atr_14", "adx_14", "macd_hist", "ema_20", "ema_50")


def signals_from_bars(bars: pl.DataFrame, timeframe: Timeframe) -> SignalFrames:
    """Divergences, levels and indicators of the bars of one timeframe, as the lake's tables would hold them; the rest is missing.

    bars: as `bar_grid.bar_grid` takes them, in any order; bars that it leaves out do not count here either. Bars without
    volume give no volume divergence. Raises InputError where no bar can be used.
    """
    rows = usable_bars(bars, timeframe).sort("symbol", "exchange", "ts")
    indicators = compute_indicators(rows, timeframe, threads=1)
    divergences = find_divergences(rows, indicators, timeframe)
    start: datetime = rows["ts"].min()  # type: ignore[assignment]
    levels = find_levels(rows, indicators, timeframe, start)
    kept = indicators.select("ts", "symbol", "exchange", "timeframe", *_VALUES, "known_at")
    return SignalFrames(divergences=divergences, levels=levels, indicators=kept)
