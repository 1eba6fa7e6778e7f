"""Blocking checks: bad bars stop the run before anything is computed from them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from altforecast.types import Timeframe
from altforecast_pipelines.checks import Check, broken, few_nulls, no_future, ordered_prices, unique_keys
from altforecast_pipelines.ingest import RunFailedError, run_backfill
from altforecast_pipelines.resources import House
from tests.pipelines.conftest import BTC, END, HOUR, NOW, land, random_bars

H1 = Timeframe.H1


def test_blocking_check_stops_everything_downstream(house: House) -> None:
    bad = random_bars(BTC, H1, END - timedelta(days=9), END).with_columns(
        pl.when(pl.col("ts") == END - HOUR).then(pl.col("low") - 1000).otherwise(pl.col("high")).alias("high")
    )
    land(house, bad)
    with pytest.raises(RunFailedError, match="prices_are_ordered"):
        run_backfill(house.settings, clock=house.clock)
    assert house.lake.read("bars").height == bad.height
    assert house.lake.read("indicators").is_empty()


def test_blocking_check_refuses_bars_from_the_future(house: House) -> None:
    land(house, random_bars(BTC, H1, NOW - HOUR * 3, NOW + HOUR * 3))
    with pytest.raises(RunFailedError, match="nothing_from_the_future"):
        run_backfill(house.settings, clock=house.clock)


@pytest.mark.parametrize(
    ("check", "change"),
    [
        (ordered_prices(), pl.lit(0.0).alias("low")),
        (ordered_prices(), (pl.col("close") * 2).alias("close")),
        (no_future("bars"), pl.lit(NOW + timedelta(days=1)).cast(pl.Datetime("ms", "UTC")).alias("known_at")),
        (few_nulls("bars"), pl.when(pl.col("ts") == pl.col("ts").min()).then(pl.col("volume")).alias("volume")),
    ],
)
def test_broken_names_the_file_and_the_row(house: House, check: Check, change: pl.Expr) -> None:
    from altforecast.types import Window
    from altforecast_io.lake import Scope

    bars = random_bars(BTC, H1, END - HOUR * 4, END)
    scope = Scope(Window(datetime(2024, 4, 1, tzinfo=UTC), datetime(2024, 5, 1, tzinfo=UTC)), (H1,))
    good = house.lake.replace("bars", bars, scope, house.provenance("bars", "r"))
    assert broken(good, check, house) == ([], 0)
    files = house.lake.replace("bars", bars.with_columns(change), scope, house.provenance("bars", "r"))
    found, n = broken(files, check, house)
    assert n >= 1
    assert found[0].startswith("bars@1h@2024-04: ")


def test_few_nulls_warm_up_of_a_young_series_is_no_fault(house: House) -> None:
    from altforecast.types import Window
    from altforecast_io.lake import Scope

    bars = random_bars(BTC, H1, END - HOUR * 9, END).with_columns(
        pl.when(pl.col("ts") >= END - HOUR).then(pl.col("volume")).alias("volume"),
    )
    scope = Scope(Window(datetime(2024, 4, 1, tzinfo=UTC), datetime(2024, 5, 1, tzinfo=UTC)), (H1,))
    files = house.lake.replace("bars", bars, scope, house.provenance("bars", "r"))
    assert broken(files, few_nulls("bars"), house) == ([], 0)


def test_unique_keys_sees_a_doubled_key(house: House, tmp_path_factory: pytest.TempPathFactory) -> None:
    from altforecast_io.lake import PartFile

    path = tmp_path_factory.mktemp("double") / "2024-04.parquet"
    bars = random_bars(BTC, H1, END - HOUR * 4, END)
    pl.concat([bars, bars.head(1)]).write_parquet(path)
    assert broken([PartFile("bars", "1h", "2024-04", path)], unique_keys("bars"), house)[1] == 2
