"""The lake: schema enforced, atomic, scoped, traced, never mixed with another environment."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from altforecast.errors import EnvironmentMismatchError, SchemaError, StorageError, UnknownNameError
from altforecast.tables import TABLES, table
from altforecast.types import Series, Timeframe, Window
from altforecast_io.lake import Lake, Scope, months_between
from altforecast_io.provenance import Input, Provenance, data_version
from altforecast_io.query import connect, export

START = datetime(2024, 1, 1, tzinfo=UTC)
NOW = datetime(2024, 6, 1, tzinfo=UTC)
RECORD = Provenance("bars", "run-1", "v1", "live", NOW, (Input("import", "file.csv"),))


def bars(symbol: str, start: datetime, n: int, close: float = 100.0) -> pl.DataFrame:
    ts = [start + timedelta(hours=i) for i in range(n)]
    frame = pl.DataFrame({"ts": ts, "close": [close + i for i in range(n)]}, schema={"ts": pl.Datetime("ms", "UTC"), "close": pl.Float64})
    return frame.select(
        "ts", pl.lit(symbol).alias("symbol"), pl.lit("binance").alias("exchange"), pl.lit("1h").alias("timeframe"),
        pl.col("close").alias("open"), (pl.col("close") + 1).alias("high"), (pl.col("close") - 1).alias("low"), "close",
        pl.lit(1.0).alias("volume"), pl.lit("observed").alias("quality"), pl.lit("ccxt").alias("source"),
        pl.lit(NOW).cast(pl.Datetime("ms", "UTC")).alias("received_at"),
        (pl.col("ts") + pl.duration(hours=1)).cast(pl.Datetime("ms", "UTC")).alias("known_at"),
    )  # fmt: skip


def scope(start: datetime, end: datetime, *series: Series) -> Scope:
    return Scope(Window(start, end), (Timeframe.H1,), frozenset(series) if series else None)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake", "live")


def test_replace_then_read_gives_the_same_rows(lake: Lake) -> None:
    frame = bars("BTC-USDT", START, 24 * 70)
    parts = lake.replace("bars", frame, scope(START, START + timedelta(days=70)), RECORD)
    assert [p.month for p in parts] == ["2024-01", "2024-02", "2024-03"]
    assert lake.read("bars", "1h").equals(table("bars").conform(frame))


def test_replace_keeps_other_series_and_months(lake: Lake) -> None:
    end = START + timedelta(days=60)
    both = pl.concat([bars("BTC-USDT", START, 24 * 60), bars("ETH-USDT", START, 24 * 60)])
    lake.replace("bars", both, scope(START, end), RECORD)
    untouched = lake.part("bars", "1h", datetime(2024, 1, 1, tzinfo=UTC)).stamp()
    february = datetime(2024, 2, 1, tzinfo=UTC)
    lake.replace("bars", bars("BTC-USDT", february, 5, 999.0), scope(february, end, Series("binance", "BTC-USDT")), RECORD)
    assert lake.part("bars", "1h", datetime(2024, 1, 1, tzinfo=UTC)).stamp() == untouched
    read = lake.read("bars", "1h", start=february)
    assert read.filter(pl.col("symbol") == "BTC-USDT").height == 5
    assert read.filter(pl.col("symbol") == "ETH-USDT").height == 29 * 24


def test_replace_with_nothing_empties_the_scope(lake: Lake) -> None:
    lake.replace("bars", bars("BTC-USDT", START, 10), scope(START, NOW), RECORD)
    lake.replace("bars", table("bars").empty(), scope(START, NOW), RECORD)
    assert lake.files("bars") == []
    assert lake.read("bars", "1h").is_empty()


@pytest.mark.parametrize(
    "change", [pl.col("close").cast(pl.Float32), pl.lit(None, dtype=pl.Float64).alias("open"), pl.lit(float("nan")).alias("high")]
)
def test_replace_refuses_a_wrong_schema(lake: Lake, change: pl.Expr) -> None:
    with pytest.raises(SchemaError):
        lake.replace("bars", bars("BTC-USDT", START, 3).with_columns(change), scope(START, NOW), RECORD)
    assert lake.files("bars") == []


def test_replace_refuses_double_keys_and_rows_outside(lake: Lake) -> None:
    one = bars("BTC-USDT", START, 3)
    with pytest.raises(SchemaError, match="not unique"):
        lake.replace("bars", pl.concat([one, one]), scope(START, NOW), RECORD)
    with pytest.raises(SchemaError, match="outside the scope"):
        lake.replace("bars", one, scope(datetime(2024, 2, 1, tzinfo=UTC), NOW), RECORD)


def test_provenance_travels_in_the_file(lake: Lake) -> None:
    frame = bars("BTC-USDT", START, 5)
    (part,) = lake.replace("bars", frame, scope(START, NOW), RECORD)
    record = part.provenance()
    assert (record.run_id, record.part, record.n_rows) == ("run-1", "bars@1h@2024-01", 5)
    assert record.inputs == (Input("import", "file.csv"),)
    assert record.data_version == data_version(table("bars").conform(frame))


def test_data_version_tells_content_apart() -> None:
    frame = bars("BTC-USDT", START, 50)
    assert data_version(frame) == data_version(frame.clone())
    assert data_version(frame) != data_version(frame.with_columns(close=pl.col("close") + 1e-9))
    first = pl.when(pl.col("ts") == START)
    with_null, with_zero = (frame.with_columns(volume=first.then(v).otherwise(pl.col("volume"))) for v in (None, 0.0))
    assert data_version(with_null) != data_version(with_zero)


def test_data_version_is_the_same_in_another_process(tmp_path: Path) -> None:
    frame = bars("BTC-USDT", START, 50)
    frame.write_parquet(tmp_path / "f.parquet")
    path = str(tmp_path / "f.parquet")
    code = f"import polars as pl; from altforecast_io.provenance import data_version; print(data_version(pl.read_parquet({path!r})))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == data_version(frame)


def test_lake_refuses_the_other_environment(tmp_path: Path) -> None:
    Lake(tmp_path / "lake", "sandbox")
    with pytest.raises(EnvironmentMismatchError, match="sandbox"):
        Lake(tmp_path / "lake", "live")


def test_hot_holds_the_newest_rows_of_each_series(lake: Lake) -> None:
    end = START + timedelta(days=60)
    lake.replace("bars", pl.concat([bars("BTC-USDT", START, 1440), bars("ETH-USDT", START, 30)]), scope(START, end), RECORD)
    hot = lake.hot("bars", "1h")
    assert hot.filter(pl.col("symbol") == "BTC-USDT").height == 500
    assert hot.filter(pl.col("symbol") == "ETH-USDT").height == 30
    newest = lake.read("bars", "1h", series=[Series("binance", "BTC-USDT")]).tail(500)
    assert hot.filter(pl.col("symbol") == "BTC-USDT").equals(newest)
    lake.replace("bars", bars("ETH-USDT", START, 31, 7.0), scope(START, START + timedelta(days=31), Series("binance", "ETH-USDT")), RECORD)
    assert lake.hot("bars", "1h").filter(pl.col("symbol") == "ETH-USDT")["close"][0] == 7.0


def test_write_killed_in_the_middle_leaves_the_old_file(lake: Lake, tmp_path: Path) -> None:
    lake.replace("bars", bars("BTC-USDT", START, 5), scope(START, NOW), RECORD)
    before = lake.read("bars", "1h")
    code = f"""
import os
import altforecast_io.lake as lake_module
from tests.io.test_lake import bars, scope, RECORD, START, NOW
lake_module._sync_and_rename = lambda *_: os.kill(os.getpid(), 9)
lake_module.Lake({str(lake.root)!r}, "live").replace("bars", bars("BTC-USDT", START, 9, 1.5), scope(START, NOW), RECORD)
"""
    killed = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False)
    assert killed.returncode == -9
    assert list(lake.root.rglob("*.tmp")), "the kill must have come after the temporary file was written"
    assert lake.read("bars", "1h").equals(before)
    assert connect(lake).execute("SELECT count(*) FROM bars").fetchone() == (5,)


def test_concurrent_reader_sees_old_or_new_never_a_half(lake: Lake) -> None:
    old, new = bars("BTC-USDT", START, 700, 1.5), bars("BTC-USDT", START, 700, 5000.0)
    lake.replace("bars", old, scope(START, NOW), RECORD)
    versions = {data_version(table("bars").conform(f)) for f in (old, new)}
    seen: set[str] = set()
    done = threading.Event()

    def write() -> None:
        for i in range(40):
            lake.replace("bars", new if i % 2 == 0 else old, scope(START, NOW), RECORD)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        seen.add(data_version(lake.read("bars", "1h")))
    writer.join()
    assert seen <= versions
    assert seen


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_disk_full_is_a_clear_error_and_old_data_stay(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(disk)], check=False, capture_output=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount a small disk here: {mounted.stderr.decode().strip()}")
    try:
        lake = Lake(disk / "lake", "live")
        lake.replace("bars", bars("BTC-USDT", START, 5), scope(START, NOW), RECORD)
        before = lake.read("bars", "1h")
        noise = np.random.default_rng(1).random(700 * 40)
        big = pl.concat([bars(f"C{i}-USDT", START, 700) for i in range(40)]).with_columns(volume=pl.Series(noise))
        with pytest.raises(StorageError, match="intact"):
            lake.replace("bars", big, scope(START, NOW), RECORD)
        assert lake.read("bars", "1h").equals(before)
        assert not list(lake.root.rglob("*.tmp"))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_connect_gives_a_view_per_table_even_when_empty(lake: Lake) -> None:
    connection = connect(lake)
    for name, spec in TABLES.items():
        relation = connection.sql(f'SELECT * FROM "{name}"')
        assert relation.columns == spec.schema.names()
        assert relation.fetchall() == []


def test_export_writes_every_table(lake: Lake, tmp_path: Path) -> None:
    lake.replace("bars", bars("BTC-USDT", START, 5), scope(START, NOW), RECORD)
    assert export(lake, tmp_path / "out.duckdb")["bars"] == 5


def test_read_unknown_table_lists_the_known(lake: Lake) -> None:
    with pytest.raises(UnknownNameError, match="bars"):
        lake.read("barz")


def test_months_between_counts_partial_months() -> None:
    window = Window(datetime(2023, 12, 31, 23, tzinfo=UTC), datetime(2024, 2, 1, tzinfo=UTC))
    assert [m.month for m in months_between(window)] == [12, 1]
