"""`altforecast import` as people call it: exit codes, report and what is in the lake afterwards."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest
import typer
from typer.testing import CliRunner

from altforecast_cli.imports import import_bars
from altforecast_io.lake import Lake
from altforecast_io.landing import landing_files

HEADER = "ts,symbol,open,high,low,close,volume,exchange,timeframe"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ALTFORECAST_HOME", str(tmp_path / "var"))
    monkeypatch.setenv("ALTFORECAST_ENVIRONMENT", "live")
    return tmp_path / "var"


@pytest.fixture
def command() -> typer.Typer:
    app = typer.Typer()
    app.command()(import_bars)
    return app


def csv(folder: Path, *extra: str) -> Path:
    moments = (datetime(2024, 1, 31, 22, tzinfo=UTC) + timedelta(hours=n) for n in range(5))
    rows = [f"{m:%Y-%m-%dT%H:%M:%SZ},BTC-USDT,100,102,99,101,5,binance,1h" for m in moments]
    path = folder / "bars.csv"
    path.write_text("\n".join([HEADER, *rows, *extra]) + "\n")
    return path


def test_import_bars_reports_and_stages(home: Path, command: typer.Typer, tmp_path: Path) -> None:
    path = csv(tmp_path, "2024-02-01T03:00:00Z,BTC-USDT,100,102,99,-1,5,binance,1h")
    result = CliRunner().invoke(command, ["--no-build", "--json", str(path)])
    assert result.exit_code == 0, result.output
    totals = orjson.loads(result.stdout)["totals"]
    assert (totals["rows"], totals["accepted"], totals["quarantined"]) == (6, 5, {"nonpositive_price": 1})
    assert len(landing_files(home / "lake")) == 1


def test_import_bars_nothing_usable(home: Path, command: typer.Typer, tmp_path: Path) -> None:
    (tmp_path / "empty.csv").touch()
    result = CliRunner().invoke(command, [str(tmp_path / "empty.csv")])
    assert result.exit_code == 1
    assert "empty_file" in result.stdout


def test_import_bars_tells_that_some_files_were_refused(home: Path, command: typer.Typer, tmp_path: Path) -> None:
    path = csv(tmp_path)
    (tmp_path / "empty.csv").touch()
    result = CliRunner().invoke(command, ["--no-build", str(path), str(tmp_path / "empty.csv")])
    assert result.exit_code == 3
    assert "1 of 2 files were refused" in result.output
    assert len(landing_files(home / "lake")) == 1


def test_import_bars_of_an_empty_folder_says_so(home: Path, command: typer.Typer, tmp_path: Path) -> None:
    folder = tmp_path / "nothing"
    folder.mkdir()
    (folder / "README.md").write_text("x")
    result = CliRunner().invoke(command, [str(folder)])
    assert result.exit_code == 1
    assert "no file to import" in result.output


@pytest.mark.e2e
@pytest.mark.slow
def test_import_bars_builds_the_table_and_again_changes_nothing(home: Path, command: typer.Typer, tmp_path: Path) -> None:
    path = csv(tmp_path)
    versions = []
    for _ in range(2):
        result = CliRunner().invoke(command, [str(path)])
        assert result.exit_code == 0, result.output
        lake = Lake(home / "lake", "live")
        assert lake.read("bars").height == 5
        assert lake.read("bar_revisions").is_empty()
        assert not landing_files(lake.root)
        versions.append([(p.name, p.provenance().data_version) for p in lake.files("bars")])
    assert [name for name, _ in versions[0]] == ["bars@1h@2024-01", "bars@1h@2024-02"]
    assert versions[0] == versions[1]
