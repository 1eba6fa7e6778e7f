"""What grows is bounded; readings are added once; nothing is fetched when switched off."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

import dagster as dg
import polars as pl
import pytest
from typer.testing import CliRunner

from altforecast.errors import InputError
from altforecast.tables import MARKET_CONTEXT
from altforecast.types import Timeframe, Window
from altforecast_cli.backfill import parse_day
from altforecast_io.lake import Scope
from altforecast_pipelines import upkeep
from altforecast_pipelines.assets.market_context import add_readings
from altforecast_pipelines.definitions import build_definitions
from altforecast_pipelines.ingest import open_instance, run_backfill
from altforecast_pipelines.resources import House
from tests.pipelines.conftest import BTC, END, HOUR, NOW, OTHER, land, random_bars

H1 = Timeframe.H1


def test_remove_leftovers_keeps_files_at_work(house: House) -> None:
    folder = house.lake.root / "bars" / "timeframe=1h"
    folder.mkdir(parents=True)
    old, young, data = folder / ".2024-01.parquet.7.tmp", folder / ".2024-02.parquet.8.tmp", folder / "2024-03.parquet"
    for path in (old, young, data):
        path.touch()
        os.utime(path, (NOW.timestamp(), NOW.timestamp()))
    os.utime(old, ((NOW - timedelta(days=1)).timestamp(),) * 2)
    assert upkeep.remove_leftovers(house.lake, NOW) == 1
    assert sorted(p.name for p in folder.iterdir()) == [young.name, data.name]


def test_trim_provenance_logs_keeps_the_newest_half(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "PROVENANCE_LOG_BYTES", 50)
    log = house.lake.root / "provenance" / "bars.jsonl"
    log.parent.mkdir(parents=True)
    log.write_bytes(b"".join(b'{"n": %d}\n' % n for n in range(10)))
    assert upkeep.trim_provenance_logs(house.lake) == 1
    assert log.read_bytes().splitlines()[0] == b'{"n": 5}'
    assert upkeep.trim_provenance_logs(house.lake) == 0


def test_drop_old_revisions_keeps_the_newest_years(house: House) -> None:
    land(house, random_bars(BTC, H1, END - HOUR * 4, END))
    run_backfill(house.settings, clock=house.clock)
    land(house, random_bars(BTC, H1, END - HOUR * 4, END, received_at=NOW, seed=9), "again")
    run_backfill(house.settings, clock=house.clock)
    assert house.lake.read("bar_revisions").height == 4
    assert upkeep.drop_old_revisions(house.lake, NOW) == 0
    assert upkeep.drop_old_revisions(house.lake, NOW + timedelta(days=365 * 4)) == 4
    assert house.lake.read("bar_revisions").is_empty()


def test_drop_old_revisions_keeps_new_revisions_of_old_bars(house: House) -> None:
    long_ago = END - timedelta(days=365 * 6)
    land(house, random_bars(BTC, H1, long_ago - HOUR * 4, long_ago))
    run_backfill(house.settings, clock=house.clock)
    land(house, random_bars(BTC, H1, long_ago - HOUR * 4, long_ago, received_at=NOW, seed=9), "again")
    run_backfill(house.settings, clock=house.clock)
    assert upkeep.drop_old_revisions(house.lake, NOW) == 0
    assert house.lake.read("bar_revisions").height == 4


def test_delete_old_runs_leaves_recent_ones(house: House) -> None:
    land(house, random_bars(BTC, H1, END - HOUR * 4, END))
    run_backfill(house.settings, clock=house.clock)
    with open_instance(house.settings) as instance:
        now = datetime.now(UTC)
        assert upkeep.delete_old_runs(instance, now) == 0
        assert upkeep.delete_old_runs(instance, now + timedelta(days=upkeep.RUNS_KEPT_DAYS + 1)) == 1
        assert instance.get_runs_count() == 0


def test_newest_bars_names_the_tracked_series_alone(house: House) -> None:
    bars = pl.concat([random_bars(s, H1, END - HOUR * 4, END) for s in (BTC, OTHER)])
    scope = Scope(Window(datetime(2024, 4, 1, tzinfo=UTC), datetime(2024, 5, 1, tzinfo=UTC)), (H1,))
    house.lake.replace("bars", bars, scope, house.provenance("bars", "r"))
    assert upkeep.newest_bars(house.lake, [BTC]) == {(BTC, H1): END - HOUR}


@pytest.mark.parametrize("name", ["fetch_exchange_bars", "refill_bar_gaps", "tidy_up"])
def test_upkeep_jobs_run_on_an_empty_house(house: House, name: str) -> None:
    job = build_definitions(overrides={"house": house}).resolve_job_def(name)
    with open_instance(house.settings) as instance:
        assert job.execute_in_process(instance=instance).success


def test_add_readings_keeps_the_first_delivery(house: House) -> None:
    def reading(value: float, name: str = "fear_greed") -> pl.DataFrame:
        row = {"ts": END, "name": name, "value": value, "label": None, "source": "alternative_me", "known_at": END}
        return pl.DataFrame([row], schema=MARKET_CONTEXT.schema)

    add_readings(house, reading(40), "r1")
    add_readings(house, pl.concat([reading(41), reading(50, "other")]), "r2")
    assert house.lake.read("market_context")["value"].to_list() == [40.0, 50.0]
    assert add_readings(house, MARKET_CONTEXT.empty(), "r3").n_rows == 0


@pytest.mark.parametrize(("text", "day"), [("2024", (2024, 1, 1)), ("2024-05", (2024, 5, 1)), ("2024-05-17", (2024, 5, 17))])
def test_parse_day_accepts_year_month_and_day(text: str, day: tuple[int, int, int]) -> None:
    assert parse_day(text, "--from") == datetime(*day, tzinfo=UTC)


def test_parse_day_refuses_other_text() -> None:
    with pytest.raises(InputError, match="--from"):
        parse_day("May", "--from")
    assert parse_day("", "--from") is None


def test_backfill_command_prints_rows_per_table(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    from altforecast_cli.main import cli

    monkeypatch.setenv("ALTFORECAST_HOME", str(house.settings.base))
    empty = CliRunner().invoke(cli, ["backfill"])
    assert empty.exit_code == 1
    assert "altforecast import" in empty.output
    land(house, random_bars(BTC, H1, END - HOUR * 400, END))
    done = CliRunner().invoke(cli, ["backfill", "--from", "2024-04"])
    assert done.exit_code == 0, done.output
    assert "indicators" in done.output
    assert house.lake.read("indicators").height == 400


def test_schedules_ask_for_the_current_month() -> None:
    from altforecast_pipelines.schedules import market_context_schedule

    context = dg.build_schedule_context(scheduled_execution_time=datetime(2024, 5, 17, 9, 7, tzinfo=UTC))
    request = market_context_schedule(context)
    assert isinstance(request, dg.RunRequest)
    assert request.tags["dagster/asset_partition_range_start"] == request.tags["dagster/asset_partition_range_end"] == "2024-05-01"
