"""Landing files: whole or absent, read back as written."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from altforecast.errors import InputError, SchemaError, StorageError, UnknownNameError
from altforecast.tables import BARS
from altforecast.types import Series, Timeframe
from altforecast_io.exchanges.ohlcv import bars_frame
from altforecast_io.landing import landing_dir, landing_files, landing_provenance, read_landing, remove_landing, write_landing
from altforecast_io.provenance import Provenance

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ROWS = bars_frame([(7_200_000, 1, 2, 1, 2, 3), (3_600_000, 1, 2, 1, 2, None)], Series("binance", "BTC-USDT"), Timeframe.H1, NOW)


def test_write_landing_reads_back_sorted_with_provenance(tmp_path: Path) -> None:
    provenance = Provenance("bars", "run", "v1", "sandbox", NOW)
    path = write_landing(tmp_path, "a-1", ROWS, provenance)
    assert path == landing_dir(tmp_path) / "a-1.parquet"
    assert read_landing(path).equals(ROWS.sort("ts"))
    assert landing_provenance(path) == provenance
    assert landing_provenance(write_landing(tmp_path, "a-2", ROWS)) is None


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "a b", "x" * 300])
def test_write_landing_refuses_names_that_are_no_file_names(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError):
        write_landing(tmp_path, name, ROWS)
    assert not (tmp_path / "landing").exists()


def test_write_landing_refuses_a_wrong_schema(tmp_path: Path) -> None:
    with pytest.raises(SchemaError):
        write_landing(tmp_path, "a", ROWS.drop("close"))
    with pytest.raises(UnknownNameError):
        write_landing(tmp_path, "a", ROWS, table="nope")
    assert landing_files(tmp_path) == []


def test_write_landing_refused_by_the_disk_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "landing").mkdir()
    (tmp_path / "landing" / "bars").symlink_to("/proc", target_is_directory=True)
    with pytest.raises(StorageError):
        write_landing(tmp_path, "a", ROWS)


def test_landing_files_in_order_and_by_prefix(tmp_path: Path) -> None:
    assert landing_files(tmp_path) == []
    for name in ("b", "a", "ab"):
        write_landing(tmp_path, name, ROWS)
    (landing_dir(tmp_path) / ".c.parquet.12.tmp").write_text("half")
    assert [p.stem for p in landing_files(tmp_path)] == ["a", "ab", "b"]
    assert [p.stem for p in landing_files(tmp_path, prefix="a")] == ["a", "ab"]


def test_read_landing_of_nothing_and_of_a_removed_file(tmp_path: Path) -> None:
    assert read_landing([]).schema == BARS.schema
    path = write_landing(tmp_path, "a", ROWS)
    other = write_landing(tmp_path, "b", ROWS)
    assert remove_landing([path, path]) == 1
    assert read_landing([path, other]).height == 2
