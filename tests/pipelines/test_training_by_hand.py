"""Trainings that people launch and that Dagster repeats: by hand, without months, after a failure, in the right lane."""

from __future__ import annotations

import sys

import dagster as dg
import pytest
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.run_coordinator.base import SubmitRunContext
from dagster._core.storage.tags import PARTITION_NAME_TAG

from altforecast_io.store import models
from altforecast_pipelines.definitions import build_definitions
from altforecast_pipelines.features import stale
from altforecast_pipelines.ingest import open_instance
from altforecast_pipelines.instance import HEAVY_TAGS
from altforecast_pipelines.jobs import BASELINE_TRAINING
from altforecast_pipelines.partitions import RANGE_START_TAG
from altforecast_pipelines.resources import House
from altforecast_pipelines.scope import TRIGGER_TAG
from tests.pipelines.forecast_house import HOUR, TRAINED, hourly, logs, materialised, run, up_to

TEACHING = ("training_set", "baselines")


def versions(house: House) -> dict[str, list[str]]:
    return {h: [m.version for m in models.newest_models(house.store, h)] for h in ("1h", "4h")}


def test_a_retry_keeps_what_its_first_attempt_finished(house: House) -> None:
    """The first attempt fails at 4h; an hour later there are newer bars. A later run of its own trains on them."""
    bars = hourly()
    up_to(house, bars, TRAINED)
    obstacle = house.settings.models_dir / "4h"
    obstacle.touch()
    first = run(house, "train_models", "test", TEACHING, ["1h", "4h"], is_good=False)
    (kept,) = versions(house)["1h"]
    obstacle.unlink()
    up_to(house, bars, TRAINED + HOUR)
    retry = run(house, "train_models", "test", ["baselines"], ["1h", "4h"], repeats=first.run_id)
    assert f"1h: {kept} was finished by run {first.run_id[:8]}, which this one repeats" in logs(house, retry)
    assert versions(house)["1h"] == [kept]
    (late,) = models.newest_models(house.store, "4h")
    check_lineage(house, retry, late)
    again = run(house, "train_models", "test", TEACHING, ["1h"], repeats=retry.run_id)
    assert "which this one repeats" not in logs(house, again)
    assert materialised(again)["baselines"]["digests_not_of_training_set"] == {}
    assert len(versions(house)["1h"]) == 2


def check_lineage(house: House, retry: dg.ExecuteInProcessResult, late: models.Model) -> None:
    """What newer bars taught is told apart from what the training set of the first attempt names."""
    told = materialised(retry)["baselines"]
    assert told["digests_not_of_training_set"] == {"4h": late.data_hash[:16]}
    assert told["digests"] == {"1h": models.newest_models(house.store, "1h")[0].data_hash[:16], "4h": late.data_hash[:16]}
    assert f"4h: taught by bars {late.data_hash[:16]}, which are not those of the newest training_set" in logs(house, retry)


def submitted(house: House, job: str, chosen: tuple[str, ...] = (), tags: dict[str, str] | None = None) -> dg.DagsterRun:
    """What the run queue holds after a launch in the UI."""
    keys = frozenset(dg.AssetKey(name) for name in chosen) or None
    server = GrpcServerCodeLocationOrigin(host="127.0.0.1", port=9, location_name="altforecast")
    origin = RemoteJobOrigin(RemoteRepositoryOrigin(server, "__repository__"), job)
    with open_instance(house.settings) as instance:
        asked = instance.create_run_for_job(
            build_definitions().resolve_job_def(job), tags=tags, asset_selection=keys, remote_job_origin=origin,
            job_code_origin=JobPythonOrigin(job, RepositoryPythonOrigin(sys.executable, ModuleCodePointer("altforecast", "defs"))),
        )  # fmt: skip
        context = SubmitRunContext(asked, None)  # type: ignore[arg-type]
        queued = instance.run_coordinator.submit_run(context)
        assert instance.get_run_by_id(queued.run_id) == queued
    assert queued.status is dg.DagsterRunStatus.QUEUED
    return queued


def test_a_training_without_months_means_all_that_is_due(house: House) -> None:
    up_to(house, hourly(), TRAINED)
    tags = {k: v for k, v in submitted(house, "train_models").tags.items() if not k.startswith(".")}
    run(house, "train_models", "", BASELINE_TRAINING, ["1h"], tags=tags)
    assert len(versions(house)["1h"]) == 1
    assert stale(house) == []
    assert house.lake.read("features").height == house.lake.read("bars").height
    assert set(house.lake.read("forecast_outcomes")["origin"]) == {"walk_forward"}


@pytest.mark.parametrize(
    ("job", "chosen", "is_heavy"),
    [("train_models", (), True), ("on_forecasts", ("candidates",), True), ("on_forecasts", ("forecasts", "baselines"), True),
     ("on_forecasts", ("forecasts",), False), ("on_forecasts", (), False)],
)  # fmt: skip
def test_a_training_from_the_ui_goes_to_the_heavy_worker(house: House, job: str, chosen: tuple[str, ...], is_heavy: bool) -> None:
    tags = submitted(house, job, chosen).tags
    assert {k: v for k, v in tags.items() if k in HEAVY_TAGS} == (HEAVY_TAGS if is_heavy else {})
    assert (TRIGGER_TAG in tags, RANGE_START_TAG in tags) == (is_heavy, is_heavy)


def test_chosen_months_stay_chosen(house: House) -> None:
    tags = submitted(house, "train_models", tags={PARTITION_NAME_TAG: "2023-02-01"}).tags
    assert tags.items() >= {PARTITION_NAME_TAG: "2023-02-01", **HEAVY_TAGS}.items()
    assert {TRIGGER_TAG, RANGE_START_TAG}.isdisjoint(tags)


def test_the_job_itself_is_heavy() -> None:
    tags = build_definitions().resolve_job_def("train_models").tags
    assert tags.items() >= HEAVY_TAGS.items()
