"""Importing bar files: every real file, every published defect, every format, and the promise that nothing is lost."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from altforecast.bars import find_gaps, merge
from altforecast.errors import InputError, StorageError
from altforecast.tables import BARS
from altforecast.types import Timeframe
from altforecast_io.bar_formats import Hints
from altforecast_io.importer import FileReport, ImportOptions, bar_files, import_paths
from altforecast_io.lake import Lake
from altforecast_io.landing import landing_files, read_landing

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
OWN_HEADER = "ts,symbol,open,high,low,close,volume,exchange,timeframe"

REAL_FILES = {
    "binance_perp_1h_2023-01_2025-08.parquet": (487_797, {}),
    "binance_perp_4h_2023-01_2025-08.parquet": (17_532, {}),
    "binance_perp_5m_btc_2024-10_2025-02.parquet": (41_021, {}),
    "binance_spot_15m_2024.parquet": (185_701, {}),
    "binance_spot_15m_2025-01_2025-08.parquet": (116_640, {}),
    "binance_spot_1d_2024-10_2025-08.parquet": (8_475, {}),
    "binance_spot_1d_2024.parquet": (11_506, {}),
    "binance_spot_1h_2024-09_2025-08.parquet": (211_936, {}),
    "binance_spot_1h_2024.parquet": (276_173, {}),
    "binance_spot_4h_2024.parquet": (69_021, {}),
    "binance_spot_5m_2024.parquet": (215_566, {}),
    "binance_spot_5m_2025-01_2025-08.parquet": (140_544, {}),
    "binance_spot_btc_1d_2017_2025.parquet": (2_937, {}),
    "binance_spot_ethbtc_all_timeframes_2020.parquet": (6_531, {"unsupported_timeframe": 3_531, "unfinished_last_bar": 6}),
    "binanceus_spot_1m_2023-03.parquet": (60_480, {}),
    "btc_usd_1d_2010_2025.parquet": (5_519, {"ohlc_order": 32, "spike": 1}),
    "bybit_perp_15m_2023-11_2025-08.parquet": (181_248, {}),
    "bybit_perp_1d_2023-11_2025-08.parquet": (1_869, {}),
    "bybit_perp_1h_2023-11_2025-08.parquet": (45_312, {}),
    "kraken_spot_2023Q1.parquet": (72_613, {}),
}


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake", "live")


def run(lake: Lake, path: Path, now: datetime = NOW, **options: object) -> FileReport:
    """Report of one imported file; every row is accounted for."""
    report = import_paths([path], lake, lambda: now, options=ImportOptions(**options)).files[0]  # type: ignore[arg-type]
    assert report.rows == report.accepted + sum(report.quarantined.values()) + report.dropped_duplicates
    return report


def staged(lake: Lake) -> pl.DataFrame:
    return read_landing(landing_files(lake.root)).sort(*BARS.key, "received_at")


def write(folder: Path, name: str, *lines: str) -> Path:
    path = folder / name
    path.write_text("\n".join(lines) + "\n")
    return path


def own_rows(n_rows: int = 5, symbol: str = "BTC-USDT") -> list[str]:
    moments = (datetime(2024, 1, 1, tzinfo=UTC) + timedelta(hours=n) for n in range(n_rows))
    return [f"{m:%Y-%m-%dT%H:%M:%SZ},{symbol},100,102,99,{100 + n % 2},5,binance,1h" for n, m in enumerate(moments)]


# ---- real files


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(REAL_FILES))
def test_import_paths_real_bars(real_data: Path, lake: Lake, name: str) -> None:
    rows, quarantined = REAL_FILES[name]
    report = run(lake, real_data / "bars" / name)
    assert (report.rows, report.quarantined, report.refused) == (rows, quarantined, None)
    assert report.dropped_duplicates == 0
    found = staged(lake)
    assert found.height == report.accepted == rows - sum(quarantined.values())
    BARS.conform(found)
    assert lake.read("quarantine").height == sum(quarantined.values())


def test_import_paths_real_bars_are_all_listed(real_data: Path) -> None:
    assert {p.name for p in (real_data / "bars").iterdir()} == set(REAL_FILES)


def test_import_paths_quiet_bars_are_marked(real_data: Path, lake: Lake) -> None:
    run(lake, real_data / "bars" / "binanceus_spot_1m_2023-03.parquet")
    quiet = staged(lake).filter(pl.col("quality") == "quiet")
    assert dict(quiet.group_by("symbol").len().iter_rows()) == {"BTC-USD": 72, "BTC-USDT": 658}


def test_import_paths_futures_outage_is_marked(real_data: Path, lake: Lake) -> None:
    report = run(lake, real_data / "bars" / "binance_perp_5m_btc_2024-10_2025-02.parquet")
    assert report.quality == {"backfilled": 41_003, "quiet": 18}
    quiet = staged(lake).filter(pl.col("quality") == "quiet")["ts"]
    assert quiet.dt.strftime("%Y-%m-%d").unique().sort().to_list() == ["2024-10-28", "2025-01-29"]


def test_import_paths_real_jumps_are_accepted(real_data: Path, lake: Lake) -> None:
    run(lake, real_data / "bars" / "binance_spot_1d_2024-10_2025-08.parquet")
    daily = staged(lake).with_columns(move=(pl.col("close") / pl.col("close").shift(1).over("symbol") - 1).round(2))
    for symbol, day, move in [("TRX-USDT", "2024-12-03", 0.96), ("ADA-USDT", "2025-03-02", 0.72), ("OM-USDT", "2025-04-13", -0.84)]:
        found = daily.filter((pl.col("symbol") == symbol) & (pl.col("ts").dt.strftime("%Y-%m-%d") == day))
        assert found["move"].to_list() == [pytest.approx(move, abs=0.02)]


def test_import_paths_broken_index_days(real_data: Path, lake: Lake) -> None:
    report = run(lake, real_data / "bars" / "btc_usd_1d_2010_2025.parquet")
    refused = lake.read("quarantine").with_columns(pl.col("raw").str.json_decode(pl.Struct({"low": pl.Float64}))).unnest("raw")
    worst = refused.filter(pl.col("low") == 522.84)
    assert worst["reason"].to_list() == ["ohlc_order"]
    assert "open=135.78" in worst["detail"][0]
    spike = refused.filter(pl.col("reason") == "spike")
    assert spike["low"].to_list() == [0.01], "the low of 2010-10-08 is a sixth of its neighbours' lows"
    days = [g for g in report.longest_gaps if g["n_bars"] == 6]
    assert [f"{g['ts']:%Y-%m-%d}" for g in days] == ["2011-06-20"]


def test_import_paths_forming_bars_of_ethbtc(real_data: Path, lake: Lake) -> None:
    run(lake, real_data / "bars" / "binance_spot_ethbtc_all_timeframes_2020.parquet")
    refused = lake.read("quarantine")
    schema = pl.Struct({"ts": pl.String, "timeframe": pl.String})
    rows = refused.with_columns(pl.col("raw").str.json_decode(schema)).unnest("raw", separator=".")
    forming = rows.filter(pl.col("reason") == "unfinished_last_bar")
    assert set(forming["raw.timeframe"]) == {"1m", "5m", "15m", "1h", "4h", "1d"}
    unsupported = set(rows.filter(pl.col("reason") == "unsupported_timeframe")["raw.timeframe"])
    assert unsupported == {"3m", "30m", "2h", "6h", "8h", "12h", "3d", "1w", "1M"}
    assert staged(lake)["known_at"].max() <= datetime(2020, 5, 17, 18, 36, tzinfo=UTC)


def test_import_paths_kraken_extra_column_and_gaps(real_data: Path, lake: Lake) -> None:
    report = run(lake, real_data / "bars" / "kraken_spot_2023Q1.parquet")
    assert report.notes == ["ignored columns: trades"]
    assert report.missing_bars == {"feed_down": 46, "quiet": 961}


# ---- published defects

DEFECTS = {
    "binance_adausdt_1h_close_volume_filled.csv": (None, {"ambiguous_local_time": 6, "missing_ohlc": 30_415}, 0),
    "binance_btcusdt_1h_close_volume_filled.csv": (None, {"frozen_close_filling": 94, "missing_ohlc": 36_156}, 0),
    "binance_perp_1h_missing_pages_btc.parquet": (None, {}, 2_418),
    "btc_1d_merge_conflict_markers.csv": ("merge_conflict_markers", {}, 0),
    "btc_1d_vintages.parquet": (None, {"unfinished_last_bar": 16}, 49),
    "coinbase_trades_python_repr_local_time_name_2021-05-19_22-56-02.txt": ("not_a_bars_file", {}, 0),
    "corrupt_orderbook.parquet": ("corrupt_parquet", {}, 0),
    "empty_file.feather": ("empty_file", {}, 0),
    "git_lfs_pointer.feather": ("git_lfs_pointer", {}, 0),
    "orderbook_float_ms_local_hour.parquet": ("not_a_bars_file", {}, 0),
    "orderbook_simultaneous_buggy_recorder.parquet": ("not_a_bars_file", {}, 0),
}


@pytest.mark.parametrize("name", sorted(DEFECTS))
def test_import_paths_defects(real_data: Path, lake: Lake, name: str) -> None:
    refused, quarantined, accepted = DEFECTS[name]
    report = run(lake, real_data / "defects" / name)
    assert (report.refused, report.quarantined, report.accepted) == (refused, quarantined, accepted)
    kept = lake.read("quarantine")
    if refused is None:
        assert kept.height == sum(quarantined.values())
        return
    assert kept.select("row", "reason").row(0) == (-1, refused)
    copy = lake.root / orjson.loads(kept["raw"][0])["copy"]
    assert copy.read_bytes() == (real_data / "defects" / name).read_bytes()
    assert not landing_files(lake.root)


def test_import_paths_defects_are_all_listed(real_data: Path) -> None:
    assert {p.name for p in (real_data / "defects").iterdir()} == set(DEFECTS)


def test_import_paths_lost_pages_are_unknown_gaps(real_data: Path, lake: Lake) -> None:
    run(lake, real_data / "defects" / "binance_perp_1h_missing_pages_btc.parquet")
    gaps = find_gaps(staged(lake), Timeframe.H1)
    assert gaps["n_bars"].to_list() == [500, 500]
    assert set(gaps["kind"]) == {"unknown"}


def test_import_paths_vintages_become_revisions(real_data: Path, lake: Lake) -> None:
    run(lake, real_data / "defects" / "btc_1d_vintages.parquet")
    source = pl.read_parquet(real_data / "defects" / "btc_1d_vintages.parquet")
    closed = source.filter(pl.col("recorded_at") >= pl.col("ts") + timedelta(days=1))
    bars, revisions = merge(BARS.empty(), staged(lake))
    newest = closed.sort("recorded_at").unique("ts", keep="last").sort("ts")
    assert bars["close"].to_list() == newest["close"].to_list()
    values = closed.select("ts", "open", "high", "low", "close", "volume").unique().height
    assert revisions.height == values - bars.height


def test_import_paths_conflicts_can_be_repaired(real_data: Path, lake: Lake) -> None:
    path = real_data / "defects" / "btc_1d_merge_conflict_markers.csv"
    report = run(lake, path, hints=Hints("BTC-USD", "cryptocompare_agg", "1d"), repair_conflicts=True)
    assert report.rows == 11_246
    assert report.refused is None
    assert report.quarantined.pop("merge_conflict") > 0
    assert set(report.quarantined) <= {"ohlc_order", "spike"}
    found = staged(lake)
    assert found["ts"].min() == datetime(2010, 7, 17, tzinfo=UTC)
    assert found.height == report.accepted > 5_000
    assert datetime(2025, 12, 18, tzinfo=UTC) not in found["ts"].to_list(), "stands on one side only"


# ---- twice


def test_import_paths_twice_changes_nothing(tmp_path: Path, lake: Lake) -> None:
    path = write(tmp_path, "own.csv", OWN_HEADER, *own_rows(), "junk,BTC-USDT,1,1,1,1,1,binance,1h")
    first = run(lake, path)
    files = {p.name: p.read_bytes() for p in landing_files(lake.root)}
    refused = lake.read("quarantine")
    second = run(lake, path, now=NOW + timedelta(days=40))
    assert second.import_id == first.import_id
    assert second.first_imported_at == first.first_imported_at
    assert {p.name: p.read_bytes() for p in landing_files(lake.root)} == files
    assert_frame_equal(lake.read("quarantine"), refused)


def test_import_paths_again_does_not_bring_replaced_values_back(tmp_path: Path, lake: Lake) -> None:
    path = write(tmp_path, "own.csv", OWN_HEADER, *own_rows(1))
    run(lake, path)
    original = staged(lake)
    newer = original.with_columns(close=pl.lit(101.5), received_at=pl.col("received_at") + timedelta(days=1))
    bars, _ = merge(original, newer)
    run(lake, path, now=NOW + timedelta(days=2))
    assert merge(bars, staged(lake))[0]["close"].to_list() == [101.5]


def test_import_paths_walks_folders(tmp_path: Path, lake: Lake) -> None:
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    write(folder, "a.csv", OWN_HEADER, *own_rows())
    write(folder / "deep", "b.csv", OWN_HEADER, *own_rows(symbol="ETH-USDT"))
    write(folder, "README.md", "no bars")
    write(folder, ".hidden.csv", "no bars")
    told: list[tuple[str, int, int]] = []
    report = import_paths([folder], lake, lambda: NOW, lambda *a: told.append(a))
    assert [f.file for f in report.files] == ["a.csv", "deep/b.csv"]
    assert report.totals()["accepted"] == 10
    assert ("deep/b.csv", 5, 5) in told
    assert orjson.loads(report.as_json())["totals"]["rows"] == 10
    with pytest.raises(InputError, match="no such file"):
        bar_files([tmp_path / "absent"])


def test_import_paths_disk_refuses_and_nothing_is_half_staged(tmp_path: Path, lake: Lake) -> None:
    rows = [f"{r},2024-01-05T00:00:00Z" for r in own_rows()] + [own_rows()[0] + ",2024-01-06T00:00:00Z"]
    path = write(tmp_path, "own.csv", OWN_HEADER + ",recorded_at", *rows)
    first = run(lake, path)
    assert len(first.landing) == 2
    for name in first.landing:
        (lake.root / "landing" / "bars" / name).unlink()
    blocked = lake.root / "landing" / "bars" / first.landing[1]
    blocked.mkdir()
    with pytest.raises(StorageError, match=r"0001\.parquet"):
        run(lake, path)
    assert [p for p in landing_files(lake.root) if p.is_file()] == []
