"""The code location as Dagster sees it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from altforecast.tables import TABLES
from altforecast.types import Timeframe
from altforecast_pipelines.assets import GROUPS
from altforecast_pipelines.build import Built
from altforecast_pipelines.definitions import defs
from altforecast_pipelines.table_assets import PLOT_BARS, account, plot, preview
from tests.pipelines.conftest import BTC, random_bars

WITHOUT_ASSET = {"bar_revisions", "funding_rates", "quarantine"}
"""Written by the asset `bars` and by the importer."""
WITHOUT_TABLE = {"training_set", "baselines", "candidates", "champions"}
"""Models are files and rows of the store; what teaches is described, not written."""
HEAVY = ("mlflow", "lightgbm", "ccxt", "matplotlib", "numba", "talib")


def test_definitions_load_and_every_table_is_an_asset() -> None:
    dg.Definitions.validate_loadable(defs)
    assert {k.to_user_string() for k in defs.resolve_all_asset_keys()} == (set(TABLES) - WITHOUT_ASSET) | WITHOUT_TABLE


def test_assets_say_what_they_hold() -> None:
    for spec in defs.resolve_all_asset_specs():
        name = spec.key.to_user_string()
        assert spec.group_name in GROUPS
        assert spec.code_version
        if name in WITHOUT_TABLE:
            assert len(spec.description or "") > 100
            continue
        assert TABLES[name].meaning in (spec.description or "")
        schema = spec.metadata["dagster/column_schema"]
        assert [c.name for c in schema.columns] == TABLES[name].schema.names()


def test_assets_are_partitioned_by_month_and_backfilled_in_one_run() -> None:
    for asset in defs.resolve_asset_graph().asset_nodes:
        if asset.key.to_user_string() in WITHOUT_TABLE:
            assert asset.partitions_def is None
            continue
        assert isinstance(asset.partitions_def, dg.MonthlyPartitionsDefinition)
        assert asset.backfill_policy == dg.BackfillPolicy.single_run()


def test_jobs_schedules_and_sensors_are_there_and_on() -> None:
    repository = defs.get_repository_def()
    jobs = {"on_bars", "on_arbitrage", "on_context", "fetch_exchange_bars", "refill_bar_gaps", "tidy_up", "transfer_terms", "replay_grid"}
    jobs |= {"on_forecasts", "train_models"}
    assert jobs <= {j.name for j in repository.get_all_jobs()}
    assert {s.name for s in repository.sensor_defs} >= {"inbox_sensor", "late_data_sensor", "landing_sensor", "arbitrage_sensor"}
    assert {s.name for s in repository.sensor_defs} >= {"forecast_sensor", "training_sensor"}
    assert all(s.default_status is dg.DefaultScheduleStatus.RUNNING for s in repository.schedule_defs)


def test_code_location_loads_light(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = (
        "import sys, time; began = time.perf_counter(); import altforecast_pipelines.definitions; "
        f"print(round(time.perf_counter() - began, 2), [m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=repository, check=True)
    seconds, heavy = done.stdout.split(" ", 1)
    with capsys.disabled():
        print(f"\nimport altforecast_pipelines.definitions: {seconds} s")
    assert heavy.strip() == "[]"


def test_account_is_bounded() -> None:
    bars = random_bars(BTC, Timeframe.H4)
    months = {f"{2000 + i // 12}-{i % 12 + 1:02d}": i for i in range(400)}
    metadata = account(Built("bars", bars.height, (), 0.5, bars.tail(5), months))
    assert metadata["dagster/row_count"] == bars.height
    assert len(preview(bars.tail(5)).splitlines()) == 7
    assert len(plot(months)) < 20_000
    assert plot(months) == plot(dict(list(months.items())[-PLOT_BARS:]))
