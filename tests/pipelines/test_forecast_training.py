"""Trainings: once per data, one at a time, whole or not at all, with and without MLflow; what starts them."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from altforecast.tables import FUNDING_RATES
from altforecast.types import Timeframe
from altforecast_io.funding_files import add_funding
from altforecast_io.model_files import load_pack
from altforecast_io.settings import Settings
from altforecast_io.store import models
from altforecast_pipelines import training
from altforecast_pipelines.features import stale
from altforecast_pipelines.forecast_sensors import forecast_sensor, training_sensor
from altforecast_pipelines.ingest import open_instance
from altforecast_pipelines.instance import FORECAST_QUEUE, HEAVY, HEAVY_TAGS, LANE_TAG
from altforecast_pipelines.jobs import BASELINE_TRAINING
from altforecast_pipelines.launcher import WarmRunLauncher
from altforecast_pipelines.lessons import HORIZONS_TAG
from altforecast_pipelines.promotions import decide, write_walk
from altforecast_pipelines.resources import House
from altforecast_pipelines.training import clear_leftovers, training_turn
from tests.pipelines.forecast_house import (
    DAY,
    HOUR,
    TRAINED,
    copied,
    failed_checks,
    forecast,
    hourly,
    logs,
    materialised,
    promote,
    put_bars,
    run,
    train_baselines,
    up_to,
)  # fmt: skip

WALK = ("walk_forward_forecasts", "forecast_outcomes")
UNREACHABLE = "http://127.0.0.1:9"
TRAINS = """
import sys, time
from datetime import datetime
from pathlib import Path
from altforecast_io.settings import Settings
from altforecast_io.store import models
from altforecast_pipelines.resources import House
from tests.pipelines.forecast_house import logs, run

home, now, stops = Path(sys.argv[1]), datetime.fromisoformat(sys.argv[2]), sys.argv[3] == "stops"
settings = Settings.load(base=home, fetch_exchange_bars=False)
house = House(lambda: settings, lambda: now)
if stops:
    def stop(*_):
        (home / "before-row").touch()
        time.sleep(120)
    models.add_model = stop
result = run(house, "train_models", "test", ("baselines",), ["1h"])
print(logs(house, result))
"""


@pytest.fixture(scope="module")
def bars() -> pl.DataFrame:
    return hourly()


@pytest.fixture
def house(house: House, bars: pl.DataFrame) -> House:
    """Sixty days of bars, no model."""
    up_to(house, bars, TRAINED)
    return house


@pytest.fixture(scope="module")
def lesson(tmp_path_factory: pytest.TempPathFactory, bars: pl.DataFrame) -> House:
    """The same with baselines of 1h; tests work on copies."""
    settings = Settings.load(base=tmp_path_factory.mktemp("lesson") / "home", fetch_exchange_bars=False)
    settings.make_folders()
    house = House(lambda: settings)
    up_to(house, bars, TRAINED)
    train_baselines(house, ["1h"])
    house.store.close()
    return house


@pytest.fixture
def taught(lesson: House, tmp_path: Path) -> House:
    """Sixty days of bars and a baseline of 1h."""
    return copied(lesson, tmp_path / "taught")


def trainee(house: House, how: str, repository: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "ignore", "-c", TRAINS, str(house.settings.base), house.clock().isoformat(), how]
    environment = {**os.environ, "PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=repository, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def tick(house: House, sensor: dg.SensorDefinition, cursor: str | None = None) -> dg.SensorResult | dg.SkipReason:
    with open_instance(house.settings) as instance:
        return sensor(dg.build_sensor_context(instance=instance, cursor=cursor), house=house)  # type: ignore[no-any-return]


def events(house: House) -> list[tuple[str, str | None]]:
    return [(e.event.value, e.version) for e in reversed(models.newest_events(house.store))]


def test_a_training_with_mlflow_down_and_its_registration_later(house: House) -> None:
    down = house.settings.model_copy(update={"mlflow_uri_override": UNREACHABLE})
    away = House(lambda: down, house.clock)
    first = run(away, "train_models", "test", ("training_set", "baselines", "candidates", "champions"), ["1h"])
    candidate, baseline = models.newest_models(house.store, "1h")[::-1]
    assert (baseline.family, candidate.family) == ("baseline", "lightgbm")
    assert candidate.report["folds"]
    check_report(house, baseline, candidate)
    assert candidate.mlflow_version is None
    assert next(e for e, v in events(house) if v == candidate.version) == "trained"
    assert events(house)[-1][0] in ("promoted", "challenger", "rejected")
    assert failed_checks(first) == ["champions.mlflow_is_told"]
    told = logs(away, first)
    assert "1h: fold 1 of 2" in told
    assert "it stays unregistered until the next training" in told
    assert "skill over HAR-S" in str(materialised(first)["candidates"]["walk_forward"])
    forecast(house)
    assert house.lake.read("forecasts").height > 0
    again = run(house, "train_models", "test", ("training_set", "baselines", "candidates", "champions", *WALK), ["1h"])
    assert failed_checks(again) == []
    assert "trained on these very bars already" in logs(house, again)
    assert f"{candidate.version}: registered with MLflow" in logs(house, again)
    assert models.find_model(house.store, candidate.version).mlflow_version == 1
    assert len(models.newest_models(house.store)) == 2
    check_baseline_walk(house, baseline)
    check_walk(house, candidate)


@pytest.mark.skipif(find_spec("catboost") is None, reason="the extra catboost is not installed: make setup-catboost")
def test_a_second_family_is_trained_and_judged(house: House) -> None:
    both = Settings.load(base=house.settings.base, fetch_exchange_bars=False, challenger_family="catboost", mlflow_uri_override=UNREACHABLE)
    result = run(House(lambda: both, house.clock), "train_models", "test", ("candidates", "champions"), ["1h"])
    found = {m.family: m for m in models.newest_models(house.store, "1h")}
    assert sorted(found) == ["catboost", "lightgbm"]
    assert found["catboost"].version.startswith("catboost-1h-")
    versions = materialised(result)["candidates"]["versions"]
    assert versions == {"1h": f"{found['lightgbm'].version}, {found['catboost'].version}"}
    decided = {v for e, v in events(house) if e in ("promoted", "challenger", "rejected")}
    assert decided == {m.version for m in found.values()}
    pack = load_pack(house.settings.models_dir / found["catboost"].folder)
    assert pack.bundle is not None
    assert pack.bundle.family == "catboost"


def check_baseline_walk(house: House, baseline: models.Model) -> None:
    """Before any promotion the baseline's own past is on record, as the baseline's."""
    walked = house.lake.read("walk_forward_forecasts")
    assert set(walked["forecaster"]) == {"har", "climatology"}
    assert walked["model"].unique().to_list() == [baseline.version]
    outcomes = house.lake.read("forecast_outcomes").filter(pl.col("origin") == "walk_forward")
    assert outcomes.height == ended(house, walked).height > 1000
    assert write_walk(house, "1h", house.provenance("walk_forward_forecasts", "again")) == ([], [])


def ended(house: House, walked: pl.DataFrame) -> pl.DataFrame:
    """Forecasts whose last bar ahead exists: the one before a hole has no outcome."""
    ends = house.lake.read("bars").select("symbol", "exchange", (pl.col("ts") + HOUR).alias("target_ts"))
    return walked.join(ends, on=("symbol", "exchange", "target_ts"), how="semi")


def check_report(house: House, baseline: models.Model, candidate: models.Model) -> None:
    """Goals, parameters, sums of files and versions of what taught are written down."""
    assert {v["goal"][:2] for v in candidate.report["verdicts"]} >= {"F1", "F2", "F3", "F4"}
    assert "verdicts" not in baseline.report
    assert candidate.report["parameters"]["family"] == "lightgbm"
    for model in (baseline, candidate):
        folder = house.settings.models_dir / model.folder
        assert model.report["files"] == {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}
        bars = {f.name: f.provenance().data_version for f in house.lake.files("bars")}
        assert {k: v for k, v in model.report["lake_versions"].items() if k.startswith("bars@")} == bars


def check_walk(house: House, candidate: models.Model) -> None:
    """A promotion brings the walk forward and its outcomes into the lake, once."""
    promote(house)
    done = run(house, "train_models", "test", WALK)
    walked = house.lake.read("walk_forward_forecasts")
    assert materialised(done)["walk_forward_forecasts"]["dagster/row_count"] == walked.height > 1000
    assert set(walked["forecaster"]) == {"champion", "har", "climatology"}
    assert walked["model"].unique().to_list() == [candidate.version]
    assert walked["price"].null_count() == 0
    outcomes = house.lake.read("forecast_outcomes").filter(pl.col("origin") == "walk_forward")
    assert outcomes.height == ended(house, walked).height
    assert write_walk(house, "1h", house.provenance("walk_forward_forecasts", "again")) == ([], [])
    assert decide(house, "1h").decided == ""


def test_a_killed_training_leaves_no_model(house: House, repository: Path) -> None:
    process = trainee(house, "stops", repository)
    try:
        deadline = time.monotonic() + 120
        while not (house.settings.base / "before-row").exists():
            assert process.poll() is None, process.communicate()[0][-2000:]
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
    left, walk = sorted((house.settings.models_dir / "1h").iterdir())
    assert walk.name == f"{left.name}{training.WALK_SUFFIX}"
    assert models.newest_models(house.store) == []
    assert "no baseline yet" in str(tick(house, forecast_sensor))
    result = train_baselines(house, ["1h"])
    assert f"removed {left.name}, which a killed training left" in logs(house, result)
    assert [m.version for m in models.newest_models(house.store)] == [left.name]
    forecast(house)
    assert house.lake.read("forecasts")["model"].unique().to_list() == [left.name]


def test_two_trainings_at_once_make_one_model(house: House, repository: Path) -> None:
    with training_turn(house, print):
        both = [trainee(house, "runs", repository) for _ in range(2)]
        lines = _wait_for_line(house, 2)
    told = [process.communicate(timeout=120)[0] for process in both]
    assert lines == 2
    assert all("another training is at work; waiting until it is done" in text for text in told)
    assert sorted("trained on these very bars already" in text for text in told) == [False, True], told
    assert len(models.newest_models(house.store, "1h")) == 1
    assert events(house) == [("trained", models.newest_models(house.store, "1h")[0].version)]


def _wait_for_line(house: House, n: int) -> int:
    """Until so many runs say in their logs that they wait."""
    deadline, found = time.monotonic() + 120, 0
    while found < n and time.monotonic() < deadline:
        time.sleep(0.2)
        with open_instance(house.settings) as instance:
            runs = instance.get_runs()
            found = sum(any("another training" in e.user_message for e in instance.all_logs(r.run_id)) for r in runs)
    return found


def test_clear_leftovers_spares_what_has_a_row(taught: House) -> None:
    folder = taught.settings.models_dir / "1h"
    (folder / "1h-lost").mkdir()
    (folder / f"1h-lost{training.WALK_SUFFIX}").touch()
    (folder / ".1h-half.part").mkdir()
    kept = models.newest_models(taught.store, "1h")[0].version
    assert clear_leftovers(taught) == [".1h-half.part", "1h-lost", f"1h-lost{training.WALK_SUFFIX}"]
    assert sorted(p.name for p in folder.iterdir()) == [kept, f"{kept}{training.WALK_SUFFIX}"]


def test_prune_keeps_the_newest_and_those_in_use(taught: House, monkeypatch: pytest.MonkeyPatch, bars: pl.DataFrame) -> None:
    up_to(taught, bars, TRAINED + HOUR)
    train_baselines(taught, ["1h"])
    monkeypatch.setattr(training, "BASELINES_KEPT", 1)
    new, old = models.newest_models(taught.store, "1h")
    assert training.prune(taught, "1h") == [old.version]
    assert sorted(p.name for p in (taught.settings.models_dir / "1h").iterdir()) == [new.version, f"{new.version}{training.WALK_SUFFIX}"]
    assert training.prune(taught, "1h") == []


def test_features_are_renewed_where_bars_changed(taught: House, bars: pl.DataFrame) -> None:
    rows = taught.lake.read("features")
    assert rows.height == taught.lake.read("bars").height
    assert rows["ts"].min() == bars["ts"].min()
    stamps = {f.name: f.stamp() for f in taught.lake.files("features")}
    up_to(taught, bars, TRAINED + HOUR)
    train_baselines(taught, ["1h"])
    changed = [f.name for f in taught.lake.files("features") if f.stamp() != stamps.get(f.name)]
    assert changed == ["features@1h@2023-03"]
    part = taught.lake.files("features")[-1].provenance()
    assert "bars@1h@2023-02" in {i.name for i in part.inputs}
    check_stale_by_funding(taught)


def check_stale_by_funding(house: House) -> None:
    """Rows of a table beside the bars make their month, and those that look back on it, stale; they come as they were and are not."""
    assert stale(house) == []
    rows = pl.DataFrame(
        {"ts": [TRAINED - 10 * DAY], "symbol": "BTC-USDT-PERP", "exchange": "binance", "funding_rate": 0.0001, "interval_h": 8,
         "source": "import", "known_at": TRAINED - 10 * DAY}
    )  # fmt: skip
    rows = rows.select(pl.col(name).cast(dtype) for name, dtype in FUNDING_RATES.schema.items())
    add_funding(house.lake, rows, house.provenance("funding_rates", "test"))
    assert [(s.window.start.month, s.timeframes) for s in stale(house)] == [(2, (Timeframe.H1,)), (3, (Timeframe.H1,))]
    train_baselines(house, ["1h"])
    assert stale(house) == []
    assert add_funding(house.lake, rows, house.provenance("funding_rates", "again")) == 0
    assert stale(house) == []


# ---- what starts trainings and forecasts


def test_training_sensor_waits_for_bars(make_house: object, bars: pl.DataFrame) -> None:
    house = make_house("young")  # type: ignore[operator]
    assert "15m: 0 of 1,002 bars of 15m" in str(tick(house, training_sensor))
    put_bars(house, bars.filter(pl.col("ts") < bars["ts"].min() + 5 * DAY))
    said = str(tick(house, training_sensor))
    assert "1h: 360 of 1,006 bars of 1h" in said
    assert "24h: 360 of 1,144 bars of 1h" in said


def test_training_sensor_asks_for_baselines_first_and_candidates_behind_them(house: House) -> None:
    asked = tick(house, training_sensor)
    assert isinstance(asked, dg.SensorResult)
    (request,) = asked.run_requests or ()
    assert request.tags[LANE_TAG] == HEAVY
    assert request.tags["dagster-celery/queue"] == "forecast"
    assert request.tags[HORIZONS_TAG] == '["1h","4h","24h"]'
    assert {k.to_user_string() for k in request.asset_selection or ()} == set(BASELINE_TRAINING)
    train_baselines(house, ["1h", "4h", "24h"])
    behind = tick(house, training_sensor)
    assert isinstance(behind, dg.SensorResult)
    (request,) = behind.run_requests or ()
    assert request.tags[HORIZONS_TAG] == '["1h","4h","24h"]'
    assert "candidates" in {k.to_user_string() for k in request.asset_selection or ()}


def test_forecast_sensor_asks_once_per_state(house: House, bars: pl.DataFrame) -> None:
    silent = tick(house, forecast_sensor)
    assert isinstance(silent, dg.SensorResult)
    assert "no baseline yet of 15m, 1h, 4h, 24h" in str(silent.skip_reason)
    assert "no bar and no model is new" in str(tick(house, forecast_sensor, silent.cursor))
    train_baselines(house)
    asked = tick(house, forecast_sensor, silent.cursor)
    assert isinstance(asked, dg.SensorResult)
    (request,) = asked.run_requests or ()
    again = tick(house, forecast_sensor, silent.cursor)
    assert isinstance(again, dg.SensorResult)
    assert [r.run_key for r in again.run_requests or ()] == [request.run_key]
    forecast(house)
    nothing = tick(house, forecast_sensor, silent.cursor)
    assert isinstance(nothing, dg.SensorResult)
    assert not nothing.run_requests
    up_to(house, bars, TRAINED + HOUR)
    assert house.lake.hot("bars", Timeframe.H1)["ts"].max() == TRAINED
    newer = tick(house, forecast_sensor, nothing.cursor)
    assert isinstance(newer, dg.SensorResult)
    assert (newer.run_requests or [])[0].run_key != request.run_key


def test_heavy_runs_have_workers_of_their_own(house: House) -> None:
    run_of = lambda lane: dg.DagsterRun(job_name="train_models", tags={LANE_TAG: lane})  # noqa: E731
    with open_instance(house.settings) as instance:
        launcher = instance.run_launcher
        assert isinstance(launcher, WarmRunLauncher)
        assert [launcher.is_warm(run_of(lane)) for lane in ("express", "heavy", "queued")] == [True, True, False]
        limits = instance.get_concurrency_config().run_queue_config
        assert limits is not None
        assert {"key": LANE_TAG, "value": HEAVY, "limit": 1} in limits.tag_concurrency_limits
    assert HEAVY_TAGS["dagster-celery/queue"] == FORECAST_QUEUE != "dagster"
    commands = (Path(training.__file__).parent.parent / "Procfile").read_text()
    assert "worker-forecast: python -W ignore -m altforecast_pipelines.worker_forecast" in commands
