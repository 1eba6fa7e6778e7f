"""The command line as people meet it: right answers, and one line instead of a traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.e2e


def altforecast(home: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "ALTFORECAST_HOME": str(home), "COLUMNS": "200", **variables}
    command = [sys.executable, "-m", "altforecast_cli", *words]
    return subprocess.run(command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["lake", "sql", "selec 1"], "syntax error"),
        (["lake", "sql", "select * from nothing"], "nothing"),
        (["lake", "sql", "--format", "xml", "select 1"], "table, csv, json"),
        (["lake", "show", "barz"], "divergences"),
        (["lake", "export", "/nonexistent/x.duckdb"], "cannot be written"),
        (["keys", "create", "me", "--scope", "root"], "read, write, admin"),
        (["up", "--only", "nothing"], "realtime"),
    ],
)
def test_wrong_words_end_with_one_line(tmp_path: Path, words: list[str], said: str) -> None:
    done = altforecast(tmp_path, *words)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert said in done.stderr


def test_wrong_variable_ends_with_its_name(tmp_path: Path) -> None:
    done = altforecast(tmp_path, "config", PORT="abc")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "PORT" in done.stderr


def test_lake_answers_on_an_empty_lake(tmp_path: Path) -> None:
    done = altforecast(tmp_path, "lake", "sql", "--format", "json", "select count(*) as n from bars")
    assert json.loads(done.stdout) == [{"n": 0}]
    assert "bars" in altforecast(tmp_path, "lake", "ls").stdout


def test_lake_sql_shows_types_that_polars_lacks(tmp_path: Path) -> None:
    done = altforecast(tmp_path, "lake", "sql", "--format", "csv", "select interval 90 minutes as d")
    assert "01:30:00" in done.stdout


def test_keys_are_shown_once(tmp_path: Path) -> None:
    secret = altforecast(tmp_path, "keys", "create", "me", "--scope", "write").stdout.strip()
    listed = altforecast(tmp_path, "keys", "list").stdout
    assert secret.startswith("afk_")
    assert "me" in listed
    assert secret not in listed


def test_config_masks_secrets(tmp_path: Path) -> None:
    done = altforecast(tmp_path, "config", "--json", SECRET_WEBHOOK_TOKEN="correct horse battery")
    assert "correct horse" not in done.stdout
    assert {r["name"]: r["value"] for r in json.loads(done.stdout)}["SECRET_WEBHOOK_TOKEN"] == "***"
