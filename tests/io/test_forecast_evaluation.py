"""`altforecast evaluate`: files in, tables and a page out, and what it says about odd input."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

from altforecast.errors import InputError, StorageError, UnknownNameError
from altforecast_cli.main import cli
from altforecast_io.forecast_evaluation import EvaluationOptions, evaluate, read_bars
from altforecast_io.forecast_report import plots, report_text, write_report
from tests.domain.forecast_panel import SYMBOLS, panel

TEST_FROM = datetime(2023, 7, 1, tzinfo=UTC)
BASELINES = EvaluationOptions(TEST_FROM, horizons=("1h", "24h"), baselines_only=True)


@pytest.fixture(scope="module")
def bars_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bars") / "panel.parquet"
    panel(240).write_parquet(path)
    return path


@pytest.fixture(scope="module")
def learned(bars_file: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return evaluate([bars_file], EvaluationOptions(TEST_FROM, horizons=("1h",)), tmp_path_factory.mktemp("out") / "e.json")


def test_evaluate_beats_climatology_and_covers(learned: dict[str, Any]) -> None:
    found = learned["horizons"]["1h"]
    assert found["best"] == "mix"
    for name in ("har", "scale", "mix"):
        assert found["forecasters"][name]["skill_climatology"] > 0.02
        assert found["forecasters"][name]["coverage80"] == pytest.approx(0.8, abs=0.03)
    assert found["forecasters"]["climatology"]["skill_climatology"] == 0.0
    assert found["forecasters"]["har_pooled"]["skill_har"] <= 0.0, "the reference takes the better one with hindsight"
    assert sum(row["n"] for row in found["symbols"]) == sum(row["n"] for row in found["quarters"]) == found["n"]
    assert [row["group"] for row in found["quarters"]] == ["2023Q3"]
    assert len(found["deciles"]) == 10


def test_evaluate_finds_no_direction_in_a_random_walk(learned: dict[str, Any]) -> None:
    direction = learned["horizons"]["1h"]["direction"]
    low, high = direction["accuracy_interval"]
    assert low < 0.5 < high
    assert abs(direction["brier_skill"]) < 0.01
    verdict = next(v for v in learned["verdicts"] if v["goal"] == "F5 direction")
    assert not verdict["is_met"]
    assert "No directional edge" in report_text(learned, "x")


def test_evaluate_says_in_numbers_that_trading_a_random_walk_earns_nothing(learned: dict[str, Any]) -> None:
    found = learned["horizons"]["1h"]["strategy"]
    assert not found["is_edge"]
    assert found["n_tries"] == 10 * learned["n_tried"]
    assert found["strategies"][0]["net_bps_per_day"] < 0
    text = report_text(learned, "x")
    assert "No edge after costs" in text
    assert "| strongest 100%, both sides |" in text
    assert "95 % interval" in text


def test_evaluate_proves_that_features_do_not_see_the_future(learned: dict[str, Any]) -> None:
    assert learned["look_ahead"]["1h"]["changed"] == []
    assert learned["look_ahead"]["1h"]["columns"] == 76 + 16  # of bars and of the signals that bars give; the others are empty
    assert next(v for v in learned["verdicts"] if v["goal"] == "F7 look-ahead")["is_met"]


def test_evaluate_writes_what_it_returns_and_is_deterministic(bars_file: Path, tmp_path: Path) -> None:
    one = evaluate([bars_file], BASELINES, tmp_path / "a.json")
    other = evaluate([bars_file], BASELINES, tmp_path / "b" / "b.json")
    assert (tmp_path / "a.json").read_text() == (tmp_path / "b" / "b.json").read_text()
    assert json.loads((tmp_path / "a.json").read_text())["horizons"] == json.loads(json.dumps(one["horizons"]))
    assert other["verdicts"] == one["verdicts"]
    assert set(one["horizons"]) == {"1h", "24h"}


def test_evaluate_resumes_with_the_same_inputs_only(bars_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "e.json"
    evaluate([bars_file], EvaluationOptions(TEST_FROM, horizons=("24h",), baselines_only=True), out)
    marked = json.loads(out.read_text())
    marked["horizons"]["24h"]["n"] = -1
    out.write_text(json.dumps(marked))
    again = EvaluationOptions(TEST_FROM, horizons=("24h",), baselines_only=True, resume=True)
    assert evaluate([bars_file], again, out)["horizons"]["24h"]["n"] == -1
    fewer = EvaluationOptions(TEST_FROM, symbols=SYMBOLS[:3], horizons=("24h",), baselines_only=True, resume=True)
    assert evaluate([bars_file], fewer, out)["horizons"]["24h"]["n"] > 0
    out.write_text("{")
    assert evaluate([bars_file], again, out)["horizons"]["24h"]["n"] > 0


def test_evaluate_names_horizons_it_cannot_judge(bars_file: Path, tmp_path: Path) -> None:
    found = evaluate([bars_file], EvaluationOptions(TEST_FROM, horizons=("15m", "24h"), baselines_only=True), tmp_path / "e.json")
    assert found["skipped"] == {"15m": "no bars of 15m"}
    assert "15m was not evaluated: no bars of 15m" in report_text(found, "x")
    early = EvaluationOptions(datetime(2023, 2, 1, tzinfo=UTC), horizons=("1h",), baselines_only=True)
    with pytest.raises(InputError, match="nothing could be evaluated"):
        evaluate([bars_file], early, tmp_path / "e.json")


def test_evaluate_reads_a_folder_and_survives_a_stray_early_series(tmp_path: Path) -> None:
    frame = panel(240)
    folder = tmp_path / "bars"
    folder.mkdir()
    frame.write_parquet(folder / "a.parquet")
    stray = frame.filter(pl.col("symbol") == SYMBOLS[0])[:100].with_columns(
        pl.col("ts").dt.offset_by("-2y"), pl.lit("OLD-USDT").alias("symbol")
    )
    stray.write_csv(folder / "b.csv", datetime_format="%Y-%m-%dT%H:%M:%S")
    (folder / "README.txt").write_text("not bars")
    found = evaluate([folder], EvaluationOptions(TEST_FROM, horizons=("1h",), baselines_only=True), tmp_path / "e.json")
    assert set(found["inputs"]["files"]) == {"a.parquet", "b.csv"}
    assert found["horizons"]["1h"]["forecasters"]["har"]["skill_climatology"] > 0.02
    assert len(found["horizons"]["1h"]["symbols"]) == 4


def test_evaluate_stops_where_asked(bars_file: Path, tmp_path: Path) -> None:
    options = EvaluationOptions(TEST_FROM, datetime(2023, 7, 20, tzinfo=UTC), horizons=("1h",), baselines_only=True)
    found = evaluate([bars_file], options, tmp_path / "e.json")["horizons"]["1h"]
    assert datetime.fromtimestamp(found["last"] / 1000, UTC) == datetime(2023, 7, 19, 22, tzinfo=UTC)


def test_evaluate_refuses_unknown_names_and_unwritable_places(bars_file: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="horizons"):
        evaluate([bars_file], EvaluationOptions(TEST_FROM, horizons=("2h",)), tmp_path / "e.json")
    with pytest.raises(UnknownNameError, match="DOGE"):
        evaluate([bars_file], EvaluationOptions(TEST_FROM, symbols=("DOGE-USDT",)), tmp_path / "e.json")
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        evaluate([bars_file], BASELINES, tmp_path / "file" / "e.json")


def test_read_bars_of_csv_equals_parquet(tmp_path: Path) -> None:
    frame = panel(3)
    frame.with_columns(pl.col("ts").dt.strftime("%Y-%m-%d %H:%M:%S")).write_csv(tmp_path / "b.csv")
    frame.write_parquet(tmp_path / "b.parquet")
    csv, parquet = read_bars([tmp_path / "b.csv"]), read_bars([tmp_path / "b.parquet"])
    assert csv.schema == parquet.schema
    assert csv.drop("open", "high", "low", "close", "volume").equals(parquet.drop("open", "high", "low", "close", "volume"))


def test_read_bars_keeps_each_bar_once_and_reads_other_zones(tmp_path: Path) -> None:
    frame = panel(3)
    frame.write_parquet(tmp_path / "a.parquet")
    moved = frame.with_columns(pl.col("ts").dt.convert_time_zone("Asia/Tokyo"), pl.col("close") * 2)
    moved.write_parquet(tmp_path / "b.parquet")
    found = read_bars([tmp_path / "a.parquet", tmp_path / "b.parquet"])
    assert found.sort("symbol", "ts")["close"].equals(frame["close"])


@pytest.mark.parametrize(("name", "content"), [("x.parquet", b"PAR1junk"), ("x.csv", b"a,b\n1,2\n"), ("none.parquet", None)])
def test_read_bars_names_the_file_it_cannot_read(tmp_path: Path, name: str, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=name):
        read_bars([tmp_path / name])


def test_write_report_draws_plots_that_are_xml(learned: dict[str, Any], tmp_path: Path) -> None:
    from xml.etree import ElementTree

    write_report(learned, tmp_path / "page.md")
    text = (tmp_path / "page.md").read_text()
    files = sorted(p.name for p in tmp_path.glob("*.svg"))
    assert files == ["page-1h-coverage.svg", "page-1h-quarters.svg", "page-1h-reliability.svg"]
    assert all(f"({name})" in text for name in files)
    assert "nan %" not in text
    for drawing in plots(learned, "page").values():
        ElementTree.fromstring(drawing)
    n_missed = sum(not v["is_met"] for v in learned["verdicts"])
    assert f"**{n_missed} of {len(learned['verdicts'])} gates are missed.**" in text


def test_evaluate_command_prints_verdicts_and_writes_files(bars_file: Path, tmp_path: Path) -> None:
    words = ["evaluate", "--bars", str(bars_file), "--test-from", "2023-07-01", "--json", str(tmp_path / "e.json"), "--baselines-only"]
    done = CliRunner().invoke(
        cli, [*words, "--horizons", "1h", "--symbols", "BTC-USDT,ETH-USDT,SOL-USDT", "--report", str(tmp_path / "p.md")]
    )
    assert done.exit_code == 0, done.output
    assert "gate" in done.output
    assert json.loads((tmp_path / "e.json").read_text())["inputs"]["symbols"] == ["BTC-USDT", "ETH-USDT", "SOL-USDT"]
    assert (tmp_path / "p.md").read_text().startswith("# What the forecasts are worth")
