"""The whole chain on seeded bars, run by the real Dagster in this process."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import polars as pl
import pytest

from altforecast.tables import TABLES
from altforecast.types import Timeframe, Window
from altforecast_io.lake import Lake, months_between, next_month
from altforecast_pipelines.due import markers
from altforecast_pipelines.ingest import Summary, ingest_landing, plan_backfill, run_assets, run_backfill
from altforecast_pipelines.jobs import EVERYTHING_FROM_BARS
from altforecast_pipelines.resources import House
from altforecast_pipelines.scope import plan_range
from tests.pipelines.conftest import BTC, END, HOUR, NOW, OTHER, START, alert, all_bars, deliver, land, run_requests, tick_inbox

TABLES_BUILT = [t for t in EVERYTHING_FROM_BARS if t != "bar_gaps"]
"""Seeded bars have no holes, so `bar_gaps` stays empty."""


def backfill(house: House, start: datetime | None = None) -> Summary:
    return run_backfill(house.settings, start, clock=house.clock)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> House:
    """A house whose tables were built in one run; tests only read it."""
    from altforecast_io.settings import Settings

    settings = Settings.load(base=tmp_path_factory.mktemp("built"))
    settings.make_folders()
    house = House(lambda: settings, lambda: NOW)
    land(house, all_bars())
    backfill(house)
    return house


def stamps(lake: Lake) -> dict[str, tuple[int, int]]:
    return {f.name: f.stamp() for name in TABLES for f in lake.files(name)}


def test_run_backfill_builds_every_table(built: House) -> None:
    assert {t: built.lake.read(t).height for t in TABLES_BUILT if built.lake.read(t).is_empty()} == {}
    assert built.lake.read("indicators").height == built.lake.read("bars").height == all_bars().height


def test_run_backfill_records_run_code_and_inputs(built: House) -> None:
    part = built.lake.part("divergences", "1h", datetime(2024, 3, 1, tzinfo=UTC))
    record = part.provenance()
    versions = {f.name: f.provenance().data_version for t in ("bars", "indicators") for f in built.lake.files(t, "1h")}
    named = {i.name: i.data_version for i in record.inputs}
    assert record.asset == "divergences"
    assert record.run_id == built.lake.part("indicators", "1h", part.start).provenance().run_id
    assert {"bars@1h@2024-02", "bars@1h@2024-03", "indicators@1h@2024-03"} <= set(named)
    assert all(versions[name] == version for name, version in named.items())


def test_runs_month_by_month_equal_one_run(built: House, make_house: Callable[[str], House]) -> None:
    other = make_house("months")
    land(other, all_bars())
    ingest_landing(other.settings, clock=other.clock)
    for month in months_between(Window(START, END)):
        plan = plan_range(Window(month, next_month(month)), other.lake.timeframes("bars"))
        run_assets(other, EVERYTHING_FROM_BARS, plan, "test")
    assert_same_tables(built, other)


def assert_same_tables(left: House, right: House) -> None:
    for name in TABLES_BUILT:
        one, many = left.lake.read(name), right.lake.read(name)
        assert one.height == many.height, name
        for column in one.columns:
            if one[column].dtype == pl.Float64:
                scale = one[column].abs().fill_null(0) + 1e-3
                apart = ((one[column] - many[column]).abs() / scale).fill_null(0).to_numpy().max(initial=0)
                assert apart < 1e-6, (name, column, apart)
            else:
                assert one[column].equals(many[column]), (name, column)


def test_run_backfill_of_an_imported_hole_equals_one_run(built: House, make_house: Callable[[str], House]) -> None:
    other = make_house("hole")
    is_hole = pl.col("ts").is_between(datetime(2024, 2, 1, tzinfo=UTC), datetime(2024, 3, 1, tzinfo=UTC), closed="left")
    land(other, all_bars().filter(~is_hole))
    backfill(other)
    land(other, all_bars().filter(is_hole))
    ingest_landing(other.settings, clock=other.clock)
    backfill(other, datetime(2024, 2, 1, tzinfo=UTC))
    assert_same_tables(built, other)
    assert other.lake.read("bar_gaps").is_empty()
    assert markers(other.lake) == []


def test_run_backfill_reaches_back_to_what_is_due(make_house: Callable[[str], House]) -> None:
    house = make_house("due")
    land(house, all_bars())
    ingest_landing(house.settings, clock=house.clock)
    plan = plan_backfill(house, datetime(2024, 4, 1, tzinfo=UTC))
    assert plan.window == Window(START, datetime(2024, 5, 1, tzinfo=UTC))
    backfill(house, datetime(2024, 4, 1, tzinfo=UTC))
    assert house.lake.read("indicators").height == house.lake.read("bars").height
    assert markers(house.lake) == []
    assert plan_backfill(house, datetime(2024, 4, 1, tzinfo=UTC)).window == Window(
        datetime(2024, 4, 1, tzinfo=UTC), datetime(2024, 5, 1, tzinfo=UTC)
    )


def test_run_backfill_again_changes_no_value(built: House, make_house: Callable[[str], House]) -> None:
    versions = {f.name: f.provenance().data_version for t in TABLES_BUILT for f in built.lake.files(t)}
    backfill(built)
    assert {f.name: f.provenance().data_version for t in TABLES_BUILT for f in built.lake.files(t)} == versions


def test_run_backfill_empty_lake_does_nothing(house: House) -> None:
    assert backfill(house) == Summary()


def test_late_bar_rebuilds_exactly_what_it_touches(make_house: Callable[[str], House]) -> None:
    house = make_house("late")
    land(house, all_bars())
    backfill(house)
    before, others = stamps(house.lake), house.lake.read("indicators", "1h", series=[OTHER])
    late = datetime(2024, 2, 14, 9, tzinfo=UTC)
    deliver(house, alert(BTC, Timeframe.H1, late, "123.5", received_at=NOW))
    run_requests(house, tick_inbox(house).run_requests)
    changed = {name for name, stamp in stamps(house.lake).items() if before.get(name) != stamp}
    by_table = {t: sorted(n.split("@", 1)[1] for n in changed if n.split("@")[0] == t) for t in TABLES}
    from_february = ["1h@2024-02", "1h@2024-03", "1h@2024-04"]
    assert by_table["bars"] == by_table["bar_revisions"] == ["1h@2024-02"]
    assert by_table["indicators"] == by_table["divergences"] == by_table["levels"] == by_table["pivots"] == from_february
    assert not [n for n in changed if "@4h" in n]
    assert house.lake.read("indicators", "1h", series=[OTHER]).equals(others)
    row = house.lake.read("bars", "1h", late, late + HOUR, [BTC])
    assert row["close"].item() == 123.5
    assert house.lake.read("bar_revisions", "1h")["superseded_by"].to_list() == ["tradingview"]
