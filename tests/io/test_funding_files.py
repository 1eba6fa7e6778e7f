"""Funding files are recognised, imported once, and never mistaken for bars."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from altforecast_io.bar_formats import Hints
from altforecast_io.funding_files import open_funding_file
from altforecast_io.importer import FileReport, ImportOptions, import_paths
from altforecast_io.lake import Lake
from altforecast_io.landing import landing_files

NOW = datetime(2026, 11, 21, tzinfo=UTC)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake", "live")


def run(lake: Lake, path: Path, **hints: str) -> FileReport:
    report = import_paths([path], lake, lambda: NOW, options=ImportOptions(Hints(**hints))).files[0]
    assert report.rows == report.accepted + sum(report.quarantined.values()) + report.dropped_duplicates
    return report


def test_import_of_the_real_funding_file(real_data: Path, lake: Lake) -> None:
    report = run(lake, real_data / "derivatives" / "funding_rates.parquet")
    assert (report.format, report.rows, report.accepted, report.quarantined) == ("funding_rates", 14_103, 14_103, {})
    found = lake.read("funding_rates")
    plain = pl.read_parquet(real_data / "derivatives" / "funding_rates.parquet").sort("symbol", "exchange", "ts")
    assert found["funding_rate"].to_list() == plain["funding_rate"].to_list()
    assert found["symbol"].n_unique() == 8
    assert (found["known_at"] - found["ts"]).unique().to_list() == [timedelta(minutes=1)]
    assert landing_files(lake.root) == []
    assert lake.files("funding_rates")[0].provenance().inputs[0].name == "funding_rates.parquet"


def test_import_of_the_real_funding_file_twice_changes_nothing(real_data: Path, lake: Lake) -> None:
    path = real_data / "derivatives" / "funding_rates.parquet"
    run(lake, path)
    before = {f.name: f.stamp() for f in lake.files("funding_rates")}
    again = run(lake, path)
    assert (again.accepted, again.dropped_duplicates) == (0, 14_103)
    assert {f.name: f.stamp() for f in lake.files("funding_rates")} == before


def test_import_of_an_exchanges_answer_needs_its_venue(real_data: Path, lake: Lake) -> None:
    path = real_data / "fixtures" / "rest" / "binance_funding.json"
    refused = run(lake, path)
    assert refused.refused == "unknown_exchange"
    assert "--exchange" in refused.detail
    report = run(lake, path, exchange="binance")
    assert report.accepted == report.rows > 5
    found = lake.read("funding_rates")
    assert found["ts"].dt.hour().unique().sort().to_list() == [0, 8, 16]
    assert found["ts"].dt.millisecond().sum() == 0
    assert found["symbol"].unique().to_list() == ["BTC-USDT-PERP"]


def test_import_of_funding_as_text_keeps_bad_rows_aside(tmp_path: Path, lake: Lake) -> None:
    path = tmp_path / "ETHUSDT-fundingRate-2024-01.csv"
    path.write_text(
        "calc_time,funding_interval_hours,last_funding_rate\n1704067200000,8,0.0001\n1704096000005,8,\n1704124800000,4,-0.0002\n"
    )
    report = run(lake, path, symbol="ETHUSDT", exchange="binance")
    assert (report.rows, report.accepted, report.quarantined) == (3, 2, {"bad_rate": 1})
    assert lake.read("funding_rates")["interval_h"].to_list() == [8, 4]
    kept = lake.read("quarantine").row(0, named=True)
    assert (kept["row"], kept["reason"]) == (1, "bad_rate")
    assert "1704096000005" in kept["raw"]


def test_import_adds_to_what_is_there(tmp_path: Path, lake: Lake) -> None:
    for name, rows in (("a", "1704067200000,0.0001"), ("b", "1704067200007,0.0009\n1704096000000,0.0002")):
        (tmp_path / f"{name}.csv").write_text(f"fundingTime,fundingRate\n{rows}\n")
        run(lake, tmp_path / f"{name}.csv", symbol="ETHUSDT", exchange="okx")
    assert lake.read("funding_rates")["funding_rate"].to_list() == [1e-4, 2e-4]


def test_open_funding_file_leaves_other_files_alone(real_data: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.csv").touch()
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and no more")
    (tmp_path / "broken.json").write_text('[{"fundingRate": ')
    bars = real_data / "bars" / "btc_usd_1d_2010_2025.parquet"
    for path in (*tmp_path.iterdir(), bars, real_data / "derivatives" / "btc_funding_daily_mean_2019_2025.parquet"):
        assert open_funding_file(path, Hints()) is None
