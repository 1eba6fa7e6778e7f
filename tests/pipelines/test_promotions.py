"""Replacing what one horizon has in the lake."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import polars as pl

from altforecast.forecast_scores import LEVELS
from altforecast.forecast_tables import QUANTILES, WALK_FORWARD_FORECASTS
from altforecast_pipelines.promotions import replace_horizon
from altforecast_pipelines.resources import House

HOUR = timedelta(hours=1)
JULY = datetime(2024, 7, 1, tzinfo=UTC)


def said(times: list[datetime], horizon: str = "1h", model: str = "a") -> pl.DataFrame:
    same = {
        "symbol": "BTC-USDT", "exchange": "binance", "timeframe": "1h", "horizon": horizon, "forecaster": "champion", "price": 1.0,
        "model": model, **{name: level / 100 for name, level in zip(QUANTILES, LEVELS, strict=True)},
    }  # fmt: skip
    return pl.DataFrame([{"ts": t, "target_ts": t + 2 * HOUR, "known_at": t + HOUR, **same} for t in times], WALK_FORWARD_FORECASTS.schema)


def test_replace_horizon_keeps_a_last_row_on_the_first_of_a_month(make_house: Callable[[str], House]) -> None:
    house, mine = make_house("edge"), pl.lit(value=True)
    record = house.provenance("walk_forward_forecasts", "test")
    for rows in (said([JULY - HOUR, JULY], "4h"), said([JULY - HOUR, JULY]), said([JULY], model="b")):
        replace_horizon(house, "walk_forward_forecasts", rows["horizon"][0], rows, mine, record)
    found = house.lake.read("walk_forward_forecasts", "1h").select("ts", "horizon", "model").sort("horizon", "ts").rows()
    assert found == [(JULY, "1h", "b"), (JULY - HOUR, "4h", "a"), (JULY, "4h", "a")]


def test_replace_horizon_by_nothing_removes_it(make_house: Callable[[str], House]) -> None:
    house, mine = make_house("gone"), pl.lit(value=True)
    record = house.provenance("walk_forward_forecasts", "test")
    replace_horizon(house, "walk_forward_forecasts", "1h", said([JULY - HOUR, JULY]), mine, record)
    assert replace_horizon(house, "walk_forward_forecasts", "1h", WALK_FORWARD_FORECASTS.empty(), mine, record) == []
    assert house.lake.files("walk_forward_forecasts", "1h") == []
