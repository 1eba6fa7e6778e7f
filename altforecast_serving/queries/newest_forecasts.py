"""The newest forecast rows and bar times of every series, found once per hot file.

What belongs here: looking them up. What does not: choosing among forecasters (`forecasts`) and judging ages (`forecast_health`).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from altforecast.forecast_tables import FORECASTS
from altforecast.types import Series, Timeframe
from altforecast_serving.queries.lake import HotTable, LakeReader

Row = dict[str, Any]
Rows = dict[str, Row]
"""Forecaster -> its newest row."""


def newest_forecasts(reader: LakeReader, timeframe: Timeframe) -> dict[tuple[Series, str], Rows]:
    """The newest row of each forecaster by series and horizon; not to be changed by those who ask."""
    return reader.hot("forecasts", timeframe).derived("newest_forecasts", _newest_rows)


def newest_bars(reader: LakeReader, timeframe: Timeframe) -> dict[Series, datetime]:
    """Open of the newest bar of each series."""
    return reader.hot("bars", timeframe).derived("newest_bars", _newest_times)


def _newest_rows(hot: HotTable) -> dict[tuple[Series, str], Rows]:
    # Rows come sorted, time last, so the last one of each group is the newest.
    found: dict[tuple[Series, str], Rows] = {}
    for row in hot.frame.unique(FORECASTS.groups, keep="last", maintain_order=True).iter_rows(named=True):
        found.setdefault((Series(row["exchange"], row["symbol"]), row["horizon"]), {})[row["forecaster"]] = row
    return found


def _newest_times(hot: HotTable) -> dict[Series, datetime]:
    times = hot.frame["ts"].gather([offset + length - 1 for offset, length in hot.spans.values()]).to_list()
    return dict(zip(hot.spans, times, strict=True))
