"""Reading bar files of every format, compression and kind of breakage."""

from __future__ import annotations

import gzip
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import polars as pl
import pytest

from altforecast.bars import merge
from altforecast.tables import BARS
from altforecast.types import Timeframe
from altforecast_io import bar_files as bar_files_module
from altforecast_io.bar_formats import Hints
from altforecast_io.importer import FileReport, ImportOptions, import_paths
from altforecast_io.lake import Lake
from altforecast_io.landing import landing_files, read_landing

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
START_S = 1_704_067_200
OWN_HEADER = "ts,symbol,open,high,low,close,volume,exchange,timeframe"


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


# ---- formats

KLINES = [
    "1704067200000,100,102,99,101,5.5,1704070799999,550,10,2,200,0",
    "1704070800000,101,103,100,102,6.5,1704074399999,650,11,3,300,0",
]


@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("zeros", ["", "000"])
def test_import_paths_binance_klines(tmp_path: Path, lake: Lake, header: bool, zeros: str) -> None:
    names = "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,taker_buy_quote_volume,ignore"
    lines = [line.replace("0000,", f"0000{zeros},", 1) for line in KLINES]
    path = write(tmp_path, "BTCUSDT-1h-2024-01.csv", *([names] if header else []), *lines)
    report = run(lake, path)
    assert (report.format, report.accepted, report.repaired) == ("binance_klines", 2, {})
    first = staged(lake).row(0, named=True)
    assert (first["symbol"], first["exchange"], first["timeframe"], first["ts"]) == (
        "BTC-USDT",
        "binance",
        "1h",
        datetime(2024, 1, 1, tzinfo=UTC),
    )
    assert (first["open"], first["high"], first["low"], first["close"], first["volume"]) == (100, 102, 99, 101, 5.5)


def test_import_paths_binance_seconds_are_repaired(tmp_path: Path, lake: Lake) -> None:
    path = write(tmp_path, "BTCUSDT-1h-2024-01.csv", *(line.replace("0000,", "0,", 1) for line in KLINES))
    report = run(lake, path)
    assert (report.accepted, report.repaired) == (2, {"wrong_time_unit": 2})


@pytest.mark.parametrize("zeros", ["", "000"])
def test_import_paths_cryptodatadownload(tmp_path: Path, lake: Lake, zeros: str) -> None:
    path = write(
        tmp_path,
        "Binance_BTCUSDT_1h.csv",
        "https://www.CryptoDataDownload.com",
        "unix,date,symbol,open,high,low,close,Volume BTC,Volume USDT,tradecount",
        f"1704070800{zeros},2024-01-01 01:00:00,BTC/USDT,101,103,100,102,6.5,650,11",
        f"1704067200{zeros},2024-01-01 00:00:00,BTC/USDT,100,102,99,101,5.5,550,10",
    )
    report = run(lake, path)
    assert (report.format, report.accepted) == ("cryptodatadownload", 2)
    found = staged(lake)
    assert found["volume"].to_list() == [5.5, 6.5]
    assert found.select("symbol", "exchange", "timeframe").row(0) == ("BTC-USDT", "binance", "1h")


@pytest.mark.parametrize(
    ("name", "series"),
    [
        ("BINANCE_BTCUSDT, 60.csv", ("binance", "BTC-USDT", "1h")),
        ("BINANCE_BTCUSDT.P, 60.csv", ("binance", "BTC-USDT-PERP", "1h")),
        ("CRYPTOCAP_USDT.D, 240.csv", ("cryptocap", "USDT.D", "4h")),
        ("CRYPTOCAP_TOTAL3, 1D.csv", ("cryptocap", "TOTAL3", "1d")),
    ],
)
def test_import_paths_tradingview_export(tmp_path: Path, lake: Lake, name: str, series: tuple[str, str, str]) -> None:
    step = Timeframe(series[2]).ms // 1000
    rows = [f"{START_S + n * step},4.1,4.3,4.0,4.2" for n in range(3)]
    report = run(lake, write(tmp_path, name, "time,open,high,low,close", *rows))
    assert (report.format, report.accepted, report.quarantined) == ("tradingview_chart", 2, {"unfinished_last_bar": 1})
    found = staged(lake)
    assert found.select("exchange", "symbol", "timeframe").row(0) == series
    assert found["volume"].null_count() == 2


def test_import_paths_tradingview_iso_times_and_volume(tmp_path: Path, lake: Lake) -> None:
    rows = [f"2024-01-01T0{n}:00:00+01:00,4.1,4.3,4.0,4.2,7" for n in range(1, 4)]
    report = run(lake, write(tmp_path, "BINANCE_BTCUSDT, 60.csv", "time,open,high,low,close,Volume", *rows))
    assert report.accepted == 2
    assert staged(lake)["ts"][0] == datetime(2024, 1, 1, tzinfo=UTC)
    assert staged(lake)["volume"].to_list() == [7, 7]


def test_import_paths_own_csv_with_vintages_and_extra_columns(tmp_path: Path, lake: Lake) -> None:
    rows = [f"{r},2024-01-05T00:00:00Z" for r in own_rows()] + [own_rows()[0].replace(",100,5,", ",101,5,") + ",2024-01-06T00:00:00Z"]
    report = run(lake, write(tmp_path, "own.csv", OWN_HEADER + ",recorded_at", *rows))
    assert report.accepted == 6
    bars, revisions = merge(BARS.empty(), staged(lake))
    assert (bars["close"][0], revisions["close"].to_list()) == (101, [100])
    assert bars["received_at"][0] == datetime(2024, 1, 6, tzinfo=UTC)


def test_import_paths_generic_ticker_needs_hints(tmp_path: Path, lake: Lake) -> None:
    rows = [f"BTC,2024-01-{d:02d},100,102,99,101,5,1.5" for d in range(1, 9)]
    path = write(tmp_path, "prices.csv", "ticker,time,open,high,low,close,volume,ma10", *rows)
    assert run(lake, path).refused == "unknown_exchange"
    assert run(lake, path, hints=Hints(exchange="binance")).quarantined == {"unknown_symbol": 8}
    report = run(lake, path, hints=Hints(exchange="binance", symbol="BTC-USD"))
    assert report.accepted == 8
    assert "timeframe 1d taken from the steps between rows" in report.notes
    assert "ignored columns: ticker, ma10" in report.notes


@pytest.mark.parametrize("kind", ["gz", "zip"])
def test_import_paths_compressed(tmp_path: Path, lake: Lake, kind: str) -> None:
    content = "\n".join([OWN_HEADER, *own_rows()]).encode()
    path = tmp_path / f"own.csv.{kind}"
    if kind == "gz":
        path.write_bytes(gzip.compress(content))
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("own.csv", content)
    assert run(lake, path).accepted == 5


def test_import_paths_zip_of_two_files_is_refused(tmp_path: Path, lake: Lake) -> None:
    path = tmp_path / "two.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.csv", "a")
        archive.writestr("b.csv", "b")
    assert run(lake, path).refused == "unsupported_file_type"


# ---- broken text


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty_file"),
        (OWN_HEADER.encode(), "empty_file"),
        (f"{OWN_HEADER}\n{own_rows()[0]}\n".encode("utf-16"), "wrong_encoding"),
        (f"{OWN_HEADER}\n{own_rows()[0]}\nvolum\xe9,,,,,,,,\n".encode("latin-1"), "wrong_encoding"),
        (b"\x00\x01\x02\x03", "not_a_bars_file"),
        (b"PAR1 but nothing else", "corrupt_parquet"),
        (b"\x1f\x8b\x08broken", "unreadable"),
        (b"PK\x03\x04broken", "unreadable"),
        (b"hello world\n", "not_a_bars_file"),
        (b"<<<<<<< HEAD\na,b\n=======\n>>>>>>> other\n", "merge_conflict_markers"),
        (b"ts,price_bid,price_ask\n1704067200,1,2\n", "not_a_bars_file"),
    ],
)
def test_import_paths_broken_files(tmp_path: Path, lake: Lake, content: bytes, reason: str) -> None:
    path = tmp_path / "file.csv"
    path.write_bytes(content)
    report = run(lake, path)
    assert report.refused == reason
    assert not landing_files(lake.root)


def test_import_paths_malformed_rows_are_quarantined(tmp_path: Path, lake: Lake) -> None:
    rows = own_rows()
    path = write(
        tmp_path, "own.csv", "\ufeff" + OWN_HEADER, rows[0], rows[1] + ",surplus", rows[2].replace("100,102", "100,NaN"), "", rows[4]
    )
    report = run(lake, path)
    assert (report.accepted, report.quarantined) == (2, {"malformed_row": 1, "nan_value": 1})
    kept = dict(lake.read("quarantine").select("row", "raw").iter_rows())
    assert set(kept) == {1, 2}
    assert "surplus" in kept[1]
    assert orjson.loads(kept[2])["line"] == rows[2].replace("100,102", "100,NaN")


def test_import_paths_large_files_are_read_in_batches(tmp_path: Path, lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bar_files_module, "BATCH_LINES", 100)
    monkeypatch.setattr(bar_files_module, "CHUNK_ROWS", 300)
    rows = [r for s in ("BTC-USDT", "ETH-USDT", "SOL-USDT") for r in own_rows(250, s)]
    report = run(lake, write(tmp_path, "own.csv", OWN_HEADER, *rows, "one,field,too,few"))
    assert (report.rows, report.accepted, report.quarantined) == (751, 750, {"malformed_row": 1})
    assert len(report.landing) == 3
    assert staged(lake).height == 750
    assert not list((lake.root / "import-work").iterdir())


def test_import_paths_mark_prices_do_not_pass_for_trades(tmp_path: Path, lake: Lake) -> None:
    rows = [",".join([*r.split(",")[:6], *r.split(",")[7:]]) for r in own_rows()]
    report = run(lake, write(tmp_path, "mark.csv", OWN_HEADER.replace(",volume", ""), *rows))
    assert report.quarantined == {"missing_volume": 5}
