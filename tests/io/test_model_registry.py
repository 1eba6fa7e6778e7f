"""The MLflow mirror on real backends: what it keeps, what a kill leaves, and that nothing waits for it.

What belongs here: `altforecast_io.model_registry`, `model_card` and `model_decisions`. What does not: the rules (tests of promotion).
"""

from __future__ import annotations

import shutil
import socket
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

from altforecast.errors import InputError, SettingsError, StorageError, UnknownNameError
from altforecast_io import model_registry
from altforecast_io.model_decisions import Mirror, RefusedError, judge, mirror, promote, register, roll_back
from altforecast_io.model_files import load_pack
from altforecast_io.model_registry import AliasChange, Registered, Registry, RegistryUnavailable, open_registry
from altforecast_io.settings import Settings, export_to_mlflow
from altforecast_io.store import models
from altforecast_io.store.engine import Store
from altforecast_io.store.models import Event, Model, ModelEvent
from tests.io.conftest import POSTGRES
from tests.io.model_registry_shelf import pack, shelve


@pytest.fixture
def registry(empty_mlflow: Path, tmp_path: Path) -> Registry:
    path = tmp_path / "mlflow" / "mlflow.db"
    path.parent.mkdir()
    shutil.copy(empty_mlflow, path)
    return Registry(f"sqlite:///{path}", "sandbox", path.parent / "artifacts")


@pytest.fixture
def dead() -> Registry:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    return Registry(f"http://ann:hunter2@127.0.0.1:{port}", "sandbox")


@pytest.fixture
def kept(tmp_path: Path) -> Model:
    return shelve(tmp_path, "1h-a")


def client(registry: Registry) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(registry.uri, registry.uri)


def test_register_keeps_everything_about_a_model(registry: Registry, kept: Model, tmp_path: Path) -> None:
    import mlflow

    found = registry.register(kept, tmp_path / kept.folder)
    assert (found.version, found.is_new) == (1, True)
    run = client(registry).get_run(found.run_id)
    assert run.info.status == "FINISHED"
    assert client(registry).get_experiment(run.info.experiment_id).name == "altforecast-sandbox"
    assert {k: run.data.params[k] for k in ("booster.rounds", "data_hash", "code_version", "lake.regime", "mixed")} == {
        "booster.rounds": "100", "data_hash": "3f9a2c", "code_version": "12", "lake.regime": "v9", "mixed": "['scale', 'shape']",
    }  # fmt: skip
    assert run.data.params["lake.bars.1h"].startswith("2 months 2024-01 to 2024-02, digest ")
    assert run.data.metrics["skill_har"] == run.data.metrics["mix.skill_har"] == 0.007
    assert run.data.metrics["direction.accuracy"] == 0.519
    assert "direction.rank_ic" not in run.data.metrics
    there = Path(mlflow.artifacts.download_artifacts(run_id=found.run_id, dst_path=str(tmp_path / "all"), tracking_uri=registry.uri))
    folds = (there / "tables/folds.csv").read_text().splitlines()
    assert folds == ["train_until,test_start,test_stop", "2023-12-31T00:00:00+00:00,2024-01-01T00:00:00+00:00,2024-04-01T00:00:00+00:00"]
    quarters = (there / "tables/quarters.csv").read_text().splitlines()
    assert quarters[:2] == ["group,n,coverage80,coverage95,skill_climatology,skill_har", "2024Q1,63000,0.8,0.95,0.06,0.007"]
    assert sorted(p.name for p in (there / "plots").iterdir()) == [
        f"plot-1h-{kind}.svg" for kind in ("coverage", "quarters", "reliability")
    ]
    assert orjson.loads((there / "report.json").read_bytes())["n"] == 252_000
    assert {p.stem for p in (there / "tables").iterdir()} == {
        "deciles", "folds", "forecasters", "lake_files", "quarters", "symbols", "verdicts",
    }  # fmt: skip


def test_register_gives_the_pack_back(registry: Registry, kept: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As docs/operations/models.md shows it."""
    import mlflow

    registry.register(kept, tmp_path / kept.folder)
    registry.sync_aliases("1h", "1h-a", None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry.uri)  # set_tracking_uri() would leave it to the tests that follow
    folder = mlflow.artifacts.download_artifacts("models:/altforecast-sandbox-1h@champion", dst_path=str(tmp_path / "mine"))
    assert load_pack(Path(folder)).har.as_dict() == pack("1h-a").har.as_dict()


def test_register_twice_is_once(registry: Registry, kept: Model, tmp_path: Path) -> None:
    first = registry.register(kept, tmp_path / kept.folder)
    assert registry.register(kept, tmp_path / kept.folder) == first._replace(is_new=False)
    assert registry.register(shelve(tmp_path, "1h-b"), tmp_path / "1h/1h-b").version == 2
    assert len(client(registry).search_model_versions("name = 'altforecast-sandbox-1h'")) == 2


def test_register_live_and_sandbox_never_mix(registry: Registry, kept: Model, tmp_path: Path) -> None:
    live = Registry(registry.uri, "live", registry.artifacts)
    registry.register(kept, tmp_path / kept.folder)
    registry.sync_aliases("1h", "1h-a", None)
    assert live.aliases("1h") == {}
    assert live.sync_aliases("1h", None, None) == []
    assert live.register(kept, tmp_path / kept.folder) == Registered(live.register(kept, tmp_path / kept.folder).run_id, 1, True)
    assert registry.aliases("1h") == {"champion": "1h-a"}


def test_register_report_without_folds(registry: Registry, kept: Model, tmp_path: Path) -> None:
    bare = Model(**{**vars(kept), "report": {}})
    found = registry.register(bare, tmp_path / kept.folder)
    assert client(registry).get_run(found.run_id).data.metrics == {}


def test_register_without_files_is_refused(registry: Registry, kept: Model, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="the files of model 1h-a are missing") as caught:
        registry.register(kept, tmp_path / "nowhere")
    assert not isinstance(caught.value, RegistryUnavailable)


def test_register_a_damaged_model_is_refused_and_leaves_nothing(registry: Registry, kept: Model, tmp_path: Path) -> None:
    damaged = tmp_path / kept.folder / "pack.json"
    damaged.write_text(damaged.read_text()[:-5])
    with pytest.raises(StorageError, match="the files of model 1h-a are damaged") as caught:
        registry.register(kept, tmp_path / kept.folder)
    assert not isinstance(caught.value, RegistryUnavailable)
    assert not client(registry).search_registered_models()


CHILD = """
import sys, time
from pathlib import Path
from altforecast_io import model_registry
from tests.io.model_registry_shelf import shelve
def never(*_):
    print("described", flush=True)
    time.sleep(600)
model_registry._make_version = never
root = Path(sys.argv[1])
model = shelve(root / "child", "1h-a")
model_registry.Registry(sys.argv[2], "sandbox", root / "mlflow/artifacts").register(model, root / "child" / model.folder)
"""


@pytest.mark.slow
def test_register_killed_in_the_middle_leaves_no_version(registry: Registry, kept: Model, tmp_path: Path, repository: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path), registry.uri], stdout=subprocess.PIPE, text=True, cwd=repository
    )  # fmt: skip
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "described\n"
    finally:
        child.kill()
        child.communicate()
    assert client(registry).search_registered_models() == []
    found = registry.register(kept, tmp_path / kept.folder)
    assert (found.version, found.is_new) == (1, True)
    experiment = client(registry).get_experiment_by_name("altforecast-sandbox").experiment_id
    runs = {run.info.run_id: run.info.status for run in client(registry).search_runs([experiment])}
    assert runs.pop(found.run_id) == "FINISHED"
    assert list(runs.values()) == ["KILLED"]


def test_register_two_at_once_keeps_one(registry: Registry, kept: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other process registers between our look and our version."""
    other: list[Registered] = []
    make = model_registry._make_version

    def late(*arguments: Any) -> Registered:
        monkeypatch.setattr(model_registry, "_make_version", make)
        other.append(registry.register(kept, tmp_path / kept.folder))
        return make(*arguments)

    monkeypatch.setattr(model_registry, "_make_version", late)
    found = registry.register(kept, tmp_path / kept.folder)
    assert found == other[0]._replace(is_new=False)
    assert [int(v.version) for v in client(registry).search_model_versions("name = 'altforecast-sandbox-1h'")] == [1]


def test_sync_aliases_follows_the_log_and_tells_a_hand(registry: Registry, tmp_path: Path) -> None:
    for version in ("1h-a", "1h-b"):
        registry.register(shelve(tmp_path, version), tmp_path / "1h" / version)
    name = "altforecast-sandbox-1h"
    assert registry.sync_aliases("1h", "1h-a", "1h-b") == [
        AliasChange(name, "champion", None, "1h-a", False), AliasChange(name, "challenger", None, "1h-b", False),
    ]  # fmt: skip
    assert registry.sync_aliases("1h", "1h-a", "1h-b") == []
    client(registry).set_registered_model_alias(name, "champion", "2")
    assert registry.aliases("1h") == {"champion": "1h-b", "challenger": "1h-b"}
    assert registry.sync_aliases("1h", "1h-a", None) == [
        AliasChange(name, "champion", "1h-b", "1h-a", True), AliasChange(name, "challenger", "1h-b", None, False),
    ]  # fmt: skip
    client(registry).delete_registered_model_alias(name, "champion")
    assert registry.sync_aliases("1h", "1h-a", None) == [AliasChange(name, "champion", None, "1h-a", True)]
    assert registry.sync_aliases("1h", None, None) == [AliasChange(name, "champion", "1h-a", None, False)]
    assert registry.aliases("1h") == {}


def test_sync_aliases_unregistered_champion_leaves_none(registry: Registry, kept: Model, tmp_path: Path) -> None:
    registry.register(kept, tmp_path / kept.folder)
    registry.sync_aliases("1h", "1h-a", None)
    assert registry.sync_aliases("1h", "1h-new", None) == [AliasChange("altforecast-sandbox-1h", "champion", "1h-a", None, False)]


def test_dead_server_is_named_soon_without_its_password(dead: Registry, kept: Model, tmp_path: Path) -> None:
    begun = time.monotonic()
    with pytest.raises(RegistryUnavailable, match="Connection refused") as caught:
        dead.register(kept, tmp_path / kept.folder)
    assert time.monotonic() - begun < 2
    assert "hunter2" not in str(caught.value)


def test_silent_server_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_registry, "PROBE_TIMEOUT_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(RegistryUnavailable, match="timed out"):
        Registry(f"http://127.0.0.1:{listener.getsockname()[1]}", "sandbox").aliases("1h")


def test_refused_postgresql_is_named_soon(dead: Registry) -> None:
    begun = time.monotonic()
    port = dead.uri.rsplit(":", 1)[1]
    with pytest.raises(RegistryUnavailable, match="refused") as caught:
        Registry(f"postgresql+psycopg2://ann:hunter2@127.0.0.1:{port}/mlflow", "sandbox").aliases("1h")
    assert time.monotonic() - begun < 7
    assert "hunter2" not in str(caught.value)


def test_locked_database_is_given_up(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_registry, "PROBE_TIMEOUT_S", 0.3)
    holder = sqlite3.connect(registry.uri.removeprefix("sqlite:///"), isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(RegistryUnavailable, match="database is locked"):
        registry.aliases("1h")
    holder.execute("ROLLBACK")
    holder.close()
    assert registry.aliases("1h") == {}


def test_corrupt_database(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"not a database" * 1000)
    with pytest.raises(RegistryUnavailable, match="file is not a database"):
        Registry(f"sqlite:///{tmp_path}/mlflow.db", "sandbox").aliases("1h")


def test_database_of_another_version(registry: Registry) -> None:
    path = registry.uri.removeprefix("sqlite:///")
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'future'")
    with pytest.raises(RegistryUnavailable, match="MLFLOW_TRACKING_URI"):
        registry.aliases("1h")


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RegistryUnavailable, match="MLFLOW_TRACKING_URI"):
        Registry(f"sqlite:///{tmp_path}/file/mlflow.db", "sandbox").aliases("1h")


def test_asking_makes_no_database(tmp_path: Path) -> None:
    registry = Registry(f"sqlite:///{tmp_path}/mlflow/mlflow.db", "sandbox")
    assert registry.aliases("1h") == {}
    assert registry.sync_aliases("1h", "1h-a", None) == []
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def postgres_uri() -> Iterator[str]:
    admin = create_engine(f"{POSTGRES}/postgres", isolation_level="AUTOCOMMIT", connect_args={"connect_timeout": 2})
    name = f"altforecast_mlflow_{uuid.uuid4().hex[:12]}"
    try:
        with admin.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
    except OperationalError:
        pytest.skip("no PostgreSQL with trust authentication at 127.0.0.1:5432")
    yield f"{POSTGRES}/{name}"
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


@pytest.mark.slow
def test_registry_on_postgresql(postgres_uri: str, kept: Model, tmp_path: Path) -> None:
    registry = Registry(postgres_uri, "live", tmp_path / "artifacts")
    assert registry.register(kept, tmp_path / kept.folder).is_new
    assert [change.now for change in registry.sync_aliases("1h", "1h-a", None)] == ["1h-a"]
    assert registry.aliases("1h") == {"champion": "1h-a"}
    assert not registry.register(kept, tmp_path / kept.folder).is_new


def test_open_registry_of_each_environment_has_its_own_file(tmp_path: Path) -> None:
    live, sandbox = (open_registry(Settings(base=tmp_path, environment=name)) for name in ("live", "sandbox"))
    assert live.uri != sandbox.uri
    assert live.artifacts != sandbox.artifacts
    assert (live.experiment, sandbox.model_name("1h")) == ("altforecast-live", "altforecast-sandbox-1h")
    assert open_registry(Settings(base=tmp_path, mlflow_uri_override="http://mlflow:5000")).artifacts is None
    shared = open_registry(Settings(base=tmp_path, mlflow_uri_override="postgresql://ann@db/mlflow"))
    assert (shared.uri, shared.artifacts) == ("postgresql+psycopg2://ann@db/mlflow", tmp_path / "mlflow/artifacts")


def test_open_registry_refuses_another_kind_of_backend() -> None:
    with pytest.raises(SettingsError, match="MLFLOW_TRACKING_URI: must begin with sqlite:// or postgresql:// or https:// or http://"):
        Settings.load(mlflow_uri_override="file:///mlruns")


def test_export_to_mlflow_keeps_what_was_set(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "77")
    monkeypatch.delenv("MLFLOW_DISABLE_TELEMETRY", raising=False)
    export_to_mlflow()
    assert (os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"], os.environ["MLFLOW_DISABLE_TELEMETRY"]) == ("77", "true")


# ---- decisions


@pytest.fixture
def shelf(reopen: Any, tmp_path: Path) -> Store:
    store: Store = reopen()
    for version in ("1h-a", "1h-b"):
        models.add_model(store, shelve(tmp_path, version))
    models.add_model(store, shelve(tmp_path, "1h-weak", dm_t=-1.0))
    models.add_model(store, shelve(tmp_path, "har-1h-c", family="baseline"))
    models.add_model(store, shelve(tmp_path, "4h-a", "4h"))
    return store


sqlite_only = pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)


@sqlite_only
def test_promote_through_the_gate_is_logged_with_verdicts(shelf: Store, tmp_path: Path) -> None:
    decision = promote(shelf, tmp_path, "1h-a", "cli:ann")
    assert decision.outcome == "promoted"
    [logged] = models.newest_events(shelf, "1h")
    assert (logged.event, logged.actor, logged.reason) == (Event.PROMOTED, "cli:ann", decision.reason)
    assert [v["goal"] for v in logged.verdicts] == [v.goal for v in decision.verdicts]
    with pytest.raises(InputError, match="is the champion of 1h already"):
        promote(shelf, tmp_path, "1h-a", "cli:ann")


@sqlite_only
def test_promote_refused_changes_nothing(shelf: Store, tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="F2 skill over HAR-S") as caught:
        promote(shelf, tmp_path, "1h-weak", "cli:ann", "I like it")
    assert caught.value.decision is not None
    assert models.newest_events(shelf) == []


@sqlite_only
def test_promote_forced_needs_a_reason_and_says_forced(shelf: Store, tmp_path: Path) -> None:
    for reason in ("", "  "):
        with pytest.raises(InputError, match="reason"):
            promote(shelf, tmp_path, "1h-weak", "cli:ann", reason, force=True)
    promote(shelf, tmp_path, "1h-weak", "cli:ann", "demo for the board", force=True)
    [logged] = models.newest_events(shelf, "1h")
    assert (logged.event, logged.version) == (Event.FORCED, "1h-weak")
    assert logged.reason.startswith("demo for the board [gate: challenger: 1 of 7 rules are missed (F2")


@sqlite_only
def test_promote_wrong_use(shelf: Store, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError):
        promote(shelf, tmp_path, "1h-x", "cli:ann")
    with pytest.raises(InputError, match="is a baseline"):
        promote(shelf, tmp_path, "har-1h-c", "cli:ann", "force it", force=True)
    (tmp_path / "1h/1h-a/residuals_har.npy").write_bytes(b"altered")
    with pytest.raises(InputError, match=r"residuals_har\.npy"):
        promote(shelf, tmp_path, "1h-a", "cli:ann", "force it", force=True)
    assert models.newest_events(shelf) == []


@sqlite_only
def test_roll_back_to_the_baseline_or_a_former_champion(shelf: Store, tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="no champion"):
        roll_back(shelf, tmp_path, "1h", "health", "skill -1 %")
    promote(shelf, tmp_path, "1h-a", "gate")
    promote(shelf, tmp_path, "1h-b", "gate")
    with pytest.raises(RefusedError, match="never was champion"):
        roll_back(shelf, tmp_path, "1h", "cli:ann", "why not", "1h-weak")
    for wrong in ("1h-b", "4h-a"):
        with pytest.raises(InputError, match="to:"):
            roll_back(shelf, tmp_path, "1h", "cli:ann", "why not", wrong)
    with pytest.raises(InputError, match="reason"):
        roll_back(shelf, tmp_path, "1h", "cli:ann", " ")
    assert roll_back(shelf, tmp_path, "1h", "cli:ann", "b is odd", "1h-a").reason == "b is odd [1h-b went]"
    assert (found := models.champion(shelf, "1h")) is not None
    assert found.version == "1h-a"
    roll_back(shelf, tmp_path, "1h", "health", "skill -1 %")
    assert models.champion(shelf, "1h") is None


@sqlite_only
def test_register_after_the_gate_keeps_its_judgement(shelf: Store, registry: Registry, tmp_path: Path) -> None:
    import mlflow

    decision = judge(shelf, models.find_model(shelf, "1h-a"))
    words = [verdict._asdict() for verdict in decision.verdicts]
    models.add_event(shelf, ModelEvent("1h", "1h-a", Event.PROMOTED, "gate", decision.reason, words))
    register(shelf, registry, tmp_path, models.find_model(shelf, "1h-a"))
    run_id = models.find_model(shelf, "1h-a").mlflow_run_id
    path = mlflow.artifacts.download_artifacts(
        run_id=run_id, artifact_path="report.json", dst_path=str(tmp_path), tracking_uri=registry.uri
    )
    report = orjson.loads(Path(path).read_bytes())
    assert [v["goal"] for v in report["verdicts"]] == [v.goal for v in decision.verdicts]
    assert [v["goal"] for v in report["goals"]] == ["F1"]


@sqlite_only
def test_mirror_registers_what_mlflow_lacks(shelf: Store, registry: Registry, tmp_path: Path) -> None:
    promote(shelf, tmp_path, "1h-a", "gate")
    models.add_event(shelf, ModelEvent("1h", "1h-b", Event.CHALLENGER, "gate", "t -1"))
    found = mirror(shelf, registry, tmp_path, "1h")
    assert sorted(found.registered) == ["1h-a", "1h-b", "1h-weak"]
    assert found.faults == ()
    assert registry.aliases("1h") == {"champion": "1h-a", "challenger": "1h-b"}
    assert mirror(shelf, registry, tmp_path, "1h") == Mirror()
    kept = models.find_model(shelf, "1h-a")
    assert kept.mlflow_version is not None
    assert client(registry).get_run(kept.mlflow_run_id).info.run_name == "1h-a"
    assert Event.REGISTERED in [e.event for e in models.newest_events(shelf, "1h")]


@sqlite_only
def test_mirror_down_says_so_and_catches_up(shelf: Store, registry: Registry, dead: Registry, tmp_path: Path) -> None:
    promote(shelf, tmp_path, "1h-a", "gate")
    found = mirror(shelf, dead, tmp_path, "1h")
    assert found.registered == ()
    assert "Connection refused" in found.faults[0]
    assert models.find_model(shelf, "1h-a").mlflow_version is None
    assert "1h-a" in mirror(shelf, registry, tmp_path, "1h").registered


@sqlite_only
def test_mirror_lost_files_do_not_stop_the_others(shelf: Store, registry: Registry, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "1h/1h-weak")
    found = mirror(shelf, registry, tmp_path, "1h")
    assert sorted(found.registered) == ["1h-a", "1h-b"]
    assert "1h-weak" in found.faults[0]
    assert found.changes == ()


@sqlite_only
def test_mirror_after_mlflow_lost_its_database(shelf: Store, registry: Registry, empty_mlflow: Path, tmp_path: Path) -> None:
    promote(shelf, tmp_path, "1h-a", "gate")
    mirror(shelf, registry, tmp_path, "1h")
    (tmp_path / "fresh").mkdir()
    shutil.copy(empty_mlflow, tmp_path / "fresh/mlflow.db")
    fresh = Registry(f"sqlite:///{tmp_path}/fresh/mlflow.db", "sandbox", tmp_path / "fresh/artifacts")
    assert mirror(shelf, fresh, tmp_path, "1h").registered == ("1h-a",)
    assert fresh.aliases("1h") == {"champion": "1h-a"}
