"""Forecasts at bar closes: once, in any pace, with faults of models and holes in bars."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl
import pytest

from altforecast_pipelines.resources import House
from tests.pipelines.forecast_house import HOUR, TRAINED, forecast, hourly, said, train_baselines, up_to


@pytest.fixture(scope="module")
def bars() -> pl.DataFrame:
    return hourly()


@pytest.fixture
def trained(make_house: Callable[[str], House], bars: pl.DataFrame) -> House:
    """Baselines of 1h and 4h, trained at TRAINED."""
    house = make_house("home")
    up_to(house, bars, TRAINED)
    train_baselines(house)
    return house


def test_forecasts_follow_each_close(trained: House, bars: pl.DataFrame) -> None:
    forecast(trained)
    first = said(trained)
    print(first.group_by("horizon", "forecaster").len(), first["ts"].min(), first["ts"].max(), first["reason"].value_counts())
    up_to(trained, bars, TRAINED + HOUR)
    forecast(trained)
    assert said(trained).height > first.height
