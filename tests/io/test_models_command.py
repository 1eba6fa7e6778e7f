"""`altforecast models` on a real store: what it prints, its exit codes, and that it goes on without MLflow.

What belongs here: the commands. What does not: the rules and the registry.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import Result
from typer.testing import CliRunner

from altforecast.errors import InputError, UnknownNameError
from altforecast_cli.main import cli
from altforecast_io.store import models
from altforecast_io.store.engine import Store, open_store
from altforecast_io.store.models import Event, ModelEvent
from tests.io.model_registry_shelf import shelve


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with three models of 1h, one of 4h, and an MLflow server that is away."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    for name, value in {"ALTFORECAST_HOME": str(tmp_path), "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}", "COLUMNS": "220"}.items():
        monkeypatch.setenv(name, value)
    store = store_of(tmp_path)
    for version, horizon, changes in (
        ("1h-a", "1h", {}), ("1h-b", "1h", {"seed": 2, "level": 0.91}), ("1h-weak", "1h", {"dm_t": -1.0}), ("4h-a", "4h", {}),
    ):  # fmt: skip
        models.add_model(store, shelve(tmp_path / "models", version, horizon, **changes))
    store.close()
    return tmp_path


def store_of(home: Path) -> Store:
    return open_store(f"sqlite:///{home}/store/altforecast.sqlite", "live")


def run(*words: str) -> Result:
    return CliRunner().invoke(cli, ["models", *words])


def answer(*words: str) -> Any:
    return orjson.loads(run(*words, "--json").output)


def test_list_empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALTFORECAST_HOME", str(tmp_path))
    found = run("list", "--horizon", "1h")
    assert found.exit_code == 0
    assert "1h: nobody answers" in found.output
    assert "no model trained yet" in found.output


def test_list_says_who_answers(home: Path) -> None:
    assert run("promote", "1h-a").exit_code == 0
    found = run("list")
    assert "1h: 1h-a answers" in found.output
    assert "4h: the baseline HAR-S-FHS answers" in found.output
    [only] = answer("list", "--horizon", "1h")
    assert [(m["version"], m["role"]) for m in only["models"]] == [("1h-weak", ""), ("1h-b", ""), ("1h-a", "champion")]
    assert only["models"][0]["dm_t"] == -1.0


def test_list_mlflow_away_says_so(home: Path) -> None:
    assert "MLflow does not answer" in run("list", "--horizon", "1h", "--mlflow").output


def test_promote_without_mlflow_is_logged_and_says_so(home: Path) -> None:
    found = run("promote", "1h-a", "--reason", "first one")
    assert found.exit_code == 0
    assert "first one [gate: promoted: all 7 rules are met; no champion yet]" in found.output
    assert "MLflow: not told yet" in found.output
    assert "Connection refused" in found.output
    assert answer("list", "--horizon", "1h")[0]["champion"] == "1h-a"


def test_promote_refused_shows_the_verdicts_and_exits_1(home: Path) -> None:
    found = run("promote", "1h-weak")
    assert found.exit_code == 1
    assert "F2 skill over HAR-S" in found.output
    assert "MISSED" in found.output
    refused = answer("promote", "1h-weak")
    assert refused["error"] == "refused"
    assert [v["goal"] for v in refused["verdicts"] if not v["is_met"]] == ["F2 skill over HAR-S"]
    assert answer("list", "--horizon", "1h")[0]["champion"] is None


def test_promote_forced_is_in_the_card(home: Path) -> None:
    assert isinstance(run("promote", "1h-weak", "--force").exception, InputError)
    assert answer("promote", "1h-weak", "--force", "--reason", "a trial")["forced"] is True
    found = answer("card", "1h-weak")
    assert found["role"] == "champion"
    [event] = found["events"]
    assert event["event"] == "forced"
    assert event["actor"].startswith("cli:")
    assert event["reason"].startswith("a trial [gate: challenger")
    assert [v["goal"] for v in found["verdicts"] if not v["is_met"]] == ["F2 skill over HAR-S"], "the judgement of the log"
    assert [v["goal"] for v in found["goals"]] == ["F1"], "what training had written"
    assert "MISSED" in run("card", "1h-weak").output


def test_rollback_to_the_baseline_and_back(home: Path) -> None:
    refused = run("rollback", "1h", "--reason", "nothing there")
    assert refused.exit_code == 1
    assert "no champion, the baseline answers already" in refused.output
    run("promote", "1h-a")
    run("promote", "1h-b")
    assert answer("rollback", "1h", "--reason", "odd", "--to", "1h-a")["answers"] == "1h-a"
    assert answer("rollback", "1h", "--reason", "odd too")["answers"] == "baseline"
    assert answer("list", "--horizon", "1h")[0]["champion"] is None


def test_compare_same_horizon(home: Path) -> None:
    found = answer("compare", "1h-b", "1h-a")
    assert found["losses"]["n_days"] == 365
    assert found["losses"]["difference"] < 0
    assert {"kind": "score", "name": "dm_t", "values": [-8.5, -8.5]} in found["rows"]
    text = run("compare", "1h-b", "1h-a").output
    assert "1h-b is better: +" in text
    assert "% of climatology's loss over 365 days, t -" in text
    assert isinstance(run("compare", "1h-a", "4h-a").exception, InputError)


def test_card_shows_folds_verdicts_and_history(home: Path) -> None:
    store = store_of(home)
    models.add_event(store, ModelEvent("1h", "1h-a", Event.TRAINED, "dagster", "weekly"))
    models.add_event(store, ModelEvent("1h", "1h-b", Event.TRAINED, "dagster", "of another model"))
    store.close()
    found = run("card", "1h-a").output
    for words in ("2024Q1", "booster.rounds", "over HAR-S", "F1", "weekly", "dagster"):
        assert words in found
    assert "of another model" not in found


def test_register_mlflow_away_exits_1(home: Path) -> None:
    found = run("register", "1h-a")
    assert found.exit_code == 1
    assert "Connection refused" in found.output


def test_register_and_promote_with_mlflow(home: Path, empty_mlflow: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    (home / "mlflow").mkdir()
    shutil.copy(empty_mlflow, home / "mlflow/mlflow.db")
    found = answer("register", "1h-a")
    assert (found["mlflow_version"], found["new"]) == (1, True)
    promoted = answer("promote", "1h-a")
    assert promoted["mlflow"]["changes"] == [
        {"name": "altforecast-live-1h", "alias": "champion", "was": None, "now": "1h-a", "by_hand": False}
    ]  # fmt: skip
    assert answer("list", "--horizon", "1h", "--mlflow")[0]["mlflow"] == {"aliases": {"champion": "1h-a"}, "agrees": True}
    assert answer("register", "1h-a")["new"] is False


@pytest.mark.parametrize(
    "words", [("list", "--horizon", "2h"), ("rollback", "2h", "--reason", "x"), ("promote", "ghost"), ("card", "ghost"), ("register", "g")]
)
def test_unknown_names(home: Path, words: tuple[str, ...]) -> None:
    assert isinstance(run(*words).exception, UnknownNameError)


def test_wrong_use_exits_2_in_one_line(home: Path, repository: Path) -> None:
    found = subprocess.run(
        [sys.executable, "-m", "altforecast_cli", "models", "promote", "ghost"], capture_output=True, text=True, cwd=repository, check=False
    )  # fmt: skip
    assert found.returncode == 2
    assert found.stderr == "error unknown_name: version: no such model, got 'ghost'\n"
