"""The feature matrix from the lake: inputs of a window, months that are due, rows of a month.

What belongs here: what features read and how far back, and which files of the table `features` no longer match their inputs.
What does not: the features (`altforecast.forecast_features`). Training and forecasts call the same function on the same inputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl

from altforecast import CODE_VERSION
from altforecast.feature_table import FEATURES
from altforecast.forecast_params import HORIZONS, feature_params
from altforecast.types import Series, Timeframe, Window
from altforecast_io.lake import PartFile, Scope, months_between, next_month
from altforecast_pipelines.build import Inputs
from altforecast_pipelines.resources import House
from altforecast_pipelines.scope import Plan

if TYPE_CHECKING:
    from altforecast.signal_features import SignalFrames

TIMEFRAMES = tuple(dict.fromkeys(timeframe for timeframe, _ in HORIZONS.values()))
INDEX_VENUE = "cryptocap"
"""Capitalisations and dominances: no prices that anybody trades."""
OF_BARS = ("divergences", "levels")
"""Logs by length of bars, read whole from the look-back on."""
INDICATORS = ("symbol", "exchange", "timeframe", "ts", "known_at", "atr_14", "adx_14", "macd_hist", "ema_20", "ema_50")
OF_MARKET = ("regime", "market_context", "funding_rates")
"""Tables without a length of bars."""
BACK = timedelta(days=62)
READS = {
    "bars": (TIMEFRAMES, BACK), **dict.fromkeys(("indicators", *OF_BARS), (TIMEFRAMES, BACK)),
    **dict.fromkeys(OF_MARKET, (tuple[Timeframe, ...](), BACK)),
}  # fmt: skip
"""What a month of features rests on, and how far before it: named in its file, and compared with what is there now."""


def lookback(timeframe: Timeframe) -> timedelta:
    """How far before a bar its features can see."""
    return (feature_params(timeframe).lookback_bars + 1) * timeframe.duration


def read_months(
    house: House, name: str, timeframe: Timeframe, window: Window, columns: Sequence[str] = (), series: Sequence[Series] | None = None
) -> pl.DataFrame:
    """Rows of a window as the table sorts them within each month, the months one after the other.

    Every series is in order of time, which is all that grids and features need; sorting several months of bars into one order takes
    longer than reading and placing them.
    """
    read, spans = house.lake.read, ((max(window.start, m), min(window.end, next_month(m))) for m in months_between(window))
    return pl.concat([read(name, timeframe, start, end, series, columns) for start, end in spans])


def read_signals(house: House, timeframe: Timeframe, window: Window, first: datetime | None = None) -> SignalFrames:
    """What features read besides bars, for a window that already begins `lookback` before the first bar wanted.

    first: open of the first bar wanted, where it is known; indicators of older bars are then not read. Tables are filed by the time
    that a row is about, which can lie before it was known, so the months before are read too.
    """
    from altforecast.signal_features import SignalFrames

    start, lake = window.start - lookback(timeframe), house.lake
    later = pl.col("known_at") > window.start
    frames = {name: read_months(house, name, timeframe, Window(start, window.end)).filter(later) for name in OF_BARS}
    frames["indicators"] = read_months(house, "indicators", timeframe, Window(first or window.start, window.end), INDICATORS)
    frames |= {name: lake.read(name, None, start, window.end).filter(later) for name in OF_MARKET}
    return SignalFrames(**frames)


def feature_rows(house: House, scope: Scope) -> pl.DataFrame:
    """Rows of the table `features` for a month of one length of bars, every priced series; empty without bars."""
    from altforecast.bar_grid import bar_grid
    from altforecast.forecast_features import build_features, feature_frame

    timeframe = scope.timeframes[0]
    window = Window(scope.window.start - lookback(timeframe), scope.window.end)
    bars = priced_bars(house, timeframe, window)
    if bars.filter(pl.col("ts") >= scope.window.start).is_empty():
        return FEATURES.empty()
    grid = bar_grid(bars, timeframe)
    last = int((grid.ts >= round(scope.window.start.timestamp() * 1000)).sum())
    matrix = build_features(grid, last, read_signals(house, timeframe, window, scope.window.start))
    return feature_frame(grid, matrix).select(FEATURES.schema.names())


def priced_bars(house: House, timeframe: Timeframe, window: Window | None = None, series: Sequence[Series] | None = None) -> pl.DataFrame:
    """Bars of everything that has a price that one could trade at: all venues but the indices."""
    start, end = (None, None) if window is None else (window.start, window.end)
    return house.lake.read("bars", timeframe, start, end, series).filter(pl.col("exchange") != INDEX_VENUE)


def due(house: House, plan: Plan) -> list[Scope]:
    """The plan's months of the lengths of bars that are forecast from, one by one: the matrix of a month is large."""
    return [
        Scope(Window(file.start, file.end), (part.timeframe,))
        for part in plan.derived
        if part.timeframe in TIMEFRAMES
        for file in house.lake.files("bars", part.timeframe, part.window.start, part.window.end)
    ]


def stale(house: House) -> list[Scope]:
    """Months whose file is missing, of older code, or of inputs that have changed, come or gone since, oldest first within each length
    of bars."""
    found, inputs = [], Inputs(house.lake, READS)
    for timeframe in TIMEFRAMES:
        for bars in house.lake.files("bars", timeframe):
            if not _is_current(house, bars, inputs):
                found.append(Scope(Window(bars.start, bars.end), (timeframe,)))
    return found


def _is_current(house: House, bars: PartFile, inputs: Inputs) -> bool:
    file = house.lake.part("features", bars.timeframe, bars.start)
    if not file.path.exists():
        return False
    record = file.provenance()
    return record.code_version == CODE_VERSION and set(record.inputs) == set(inputs.of(file))
