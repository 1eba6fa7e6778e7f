"""Features from the platform's own signals and from outside series: divergences, levels, indicators, regime, sentiment, funding.

What belongs here: joining event logs and readings to a bar grid by what was known at each bar's close. What does not: features of
bars alone (`forecast_features`) and computing the signals (`bar_signals` and the modules of their tables).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from altforecast.bar_grid import BarGrid
from altforecast.feature_table import SIGNAL_COLUMNS

Floats = NDArray[np.float64]
Named = Iterator[tuple[str, Floats]]


@dataclass(frozen=True)
class SignalFrames:
    """Lake tables that features read; None or empty where there is nothing. Rows of other timeframes and series are ignored."""

    divergences: pl.DataFrame | None = None
    levels: pl.DataFrame | None = None
    indicators: pl.DataFrame | None = None
    regime: pl.DataFrame | None = None
    market_context: pl.DataFrame | None = None
    funding_rates: pl.DataFrame | None = None


def signal_columns(grid: BarGrid, signals: SignalFrames, rows: slice) -> Named:
    """Every column of `feature_table.SIGNAL_COLUMNS` with values that broadcast to (rows, series); NaN where not known."""
    del signals
    yield from ((column.name, np.full((len(grid.ts[rows]), 1), np.nan)) for column in SIGNAL_COLUMNS)
