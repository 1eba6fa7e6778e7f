"""The event log in batches tells Dagster the same as the stock one."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest
import yaml  # type: ignore[import-untyped]

from altforecast.errors import SettingsError
from altforecast_io.dagster_home import dagster_yaml, write_dagster_home
from altforecast_io.settings import Settings
from altforecast_pipelines.instance import EXPRESS, LANE_TAG, ExpressRunCoordinator, HouseInstance
from altforecast_pipelines.launcher import WarmRunLauncher
from altforecast_pipelines.partitions import MONTHLY, ONE_RUN, RANGE_END_TAG, RANGE_START_TAG
from altforecast_pipelines.storage import BatchedSqliteEventLogStorage


@dg.asset(partitions_def=MONTHLY, backfill_policy=ONE_RUN, check_specs=[dg.AssetCheckSpec("fine", asset="first")])
def first():  # type: ignore[no-untyped-def]
    yield dg.MaterializeResult(metadata={"n": 1}, check_results=[dg.AssetCheckResult(passed=True)])


@dg.asset(partitions_def=MONTHLY, backfill_policy=ONE_RUN, deps=["first"])
def second() -> None: ...


DEFINITIONS = dg.Definitions([first, second], jobs=[dg.define_asset_job("all", executor_def=dg.in_process_executor)])


def run(instance: dg.DagsterInstance, start: str, end: str) -> str:
    result = DEFINITIONS.resolve_job_def("all").execute_in_process(instance=instance, tags={RANGE_START_TAG: start, RANGE_END_TAG: end})
    assert result.success
    return result.run_id


def told(instance: dg.DagsterInstance, run_id: str) -> dict[str, object]:
    """What Dagster knows after a run, in comparable form."""
    keys = [dg.AssetKey("first"), dg.AssetKey("second")]
    latest = [instance.get_latest_materialization_event(k) for k in keys]
    records = instance.get_records_for_run(run_id).records
    return {
        "partitions": {k.to_user_string(): sorted(instance.get_materialized_partitions(k)) for k in keys},
        "latest": [e.dagster_event.partition for e in latest if e and e.dagster_event],
        "events": sorted(e.event_log_entry.dagster_event_type.value for e in records if e.event_log_entry.dagster_event_type),
        "ids_rise": [r.storage_id for r in records] == sorted({r.storage_id for r in records}),
        "checks": [
            r.status.value for r in instance.event_log_storage.get_asset_check_execution_history(dg.AssetCheckKey(keys[0], "fine"), 9)
        ],
    }


def test_store_event_batch_tells_the_same_as_the_stock_storage(tmp_path: Path) -> None:
    settings = Settings.load(base=tmp_path)
    with dg.DagsterInstance.from_config(str(write_dagster_home(settings))) as ours, dg.DagsterInstance.ephemeral() as stock:
        assert isinstance(ours, HouseInstance)
        assert isinstance(ours.event_log_storage, BatchedSqliteEventLogStorage)
        for start, end in (("2024-01-01", "2024-06-01"), ("2024-03-01", "2024-09-01")):
            mine, theirs = told(ours, run(ours, start, end)), told(stock, run(stock, start, end))
            assert mine == theirs
        assert isinstance(ours.run_coordinator, ExpressRunCoordinator)
        assert isinstance(ours.run_launcher, WarmRunLauncher)


def test_delete_run_forgets_its_events(tmp_path: Path) -> None:
    with dg.DagsterInstance.from_config(str(write_dagster_home(Settings.load(base=tmp_path)))) as instance:
        run_id = run(instance, "2024-01-01", "2024-02-01")
        instance.delete_run(run_id)
        assert instance.get_run_by_id(run_id) is None
        assert not instance.get_records_for_run(run_id).records


def test_dagster_yaml_default_is_sqlite_and_a_queue_in_a_file(tmp_path: Path) -> None:
    config = yaml.safe_load(dagster_yaml(Settings.load(base=tmp_path)))
    assert config["event_log_storage"]["config"]["base_dir"] == str((tmp_path / "dagster").resolve())
    assert config["telemetry"] == {"enabled": False}
    assert config["run_launcher"]["config"]["broker"].startswith("sqla+sqlite:///")
    assert config["run_launcher"]["config"]["only_express"] is True
    assert config["run_retries"]["retry_on_asset_or_op_failure"] is False


def test_dagster_yaml_takes_postgres_and_a_broker_from_the_settings(tmp_path: Path) -> None:
    settings = Settings.load(base=tmp_path, dagster_postgres_url="postgresql://u@h/dagster", celery_broker_url="amqp://h//")
    config = yaml.safe_load(dagster_yaml(settings))
    assert config["storage"] == {"postgres": {"postgres_url": "postgresql+psycopg2://u@h/dagster"}}
    assert "event_log_storage" not in config
    assert config["run_launcher"]["config"]["broker"] == "amqp://h//"
    assert config["run_launcher"]["config"]["only_express"] is False


def test_dagster_yaml_refuses_the_database_of_the_store(tmp_path: Path) -> None:
    url = "postgresql://u@h/one"
    with pytest.raises(SettingsError, match="DAGSTER_POSTGRES_URL"):
        dagster_yaml(Settings.load(base=tmp_path, dagster_postgres_url=url, database_url_override=url))


def test_express_lane_is_for_tagged_runs_alone(tmp_path: Path) -> None:
    with dg.DagsterInstance.from_config(str(write_dagster_home(Settings.load(base=tmp_path)))) as instance:
        launcher = instance.run_launcher
        assert isinstance(launcher, WarmRunLauncher)
        plain, express = dg.DagsterRun("all", run_id="a"), dg.DagsterRun("all", run_id="b", tags={LANE_TAG: EXPRESS})
        assert (launcher.is_warm(plain), launcher.is_warm(express)) == (False, True)
