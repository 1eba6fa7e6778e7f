"""Files of settled funding: recognised by their columns, read as candidate rows for `altforecast.funding_rates`.

What belongs here: the published layouts of funding files, and adding their rows to the lake. What does not: judging rows
(`altforecast.funding_rates`) and bar files (`bar_files`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from altforecast.funding_rates import CANDIDATE
from altforecast.tables import FUNDING_RATES
from altforecast.types import Window
from altforecast_io.bar_formats import Hints, RefusedFileError
from altforecast_io.lake import Lake, Scope, month_start, next_month
from altforecast_io.provenance import Provenance

MAX_BYTES = 256 * 1024**2
"""A larger file is not looked at as funding: that would be millions of settlements."""
_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "time": ("ts", "fundingtime", "calc_time", "time", "timestamp"),
    "funding_rate": ("funding_rate", "fundingrate", "last_funding_rate"),
    "symbol": ("symbol", "instid"),
    "exchange": ("exchange", "venue"),
    "interval_h": ("interval_h", "funding_interval_hours"),
}
_CORRUPT = (pl.exceptions.PolarsError, OSError, ValueError)


@dataclass(frozen=True)
class FundingFile:
    """One readable file of funding."""

    rows: pl.DataFrame
    """Columns of CANDIDATE."""
    source: pl.DataFrame
    """The original columns, with `row`."""


def open_funding_file(path: Path, hints: Hints) -> FundingFile | None:
    """A file with a column of funding rates and one of times (Parquet, CSV, or the JSON list of an exchange); None for any other.

    hints: symbol and exchange of all rows, where the user said so; they win over the file. Raises RefusedFileError (unknown_symbol,
    unknown_exchange) where neither the file nor the user tells whose funding it is.
    """
    if not 0 < path.stat().st_size <= MAX_BYTES:
        return None
    table = _table(path)
    if table is None:
        return None
    names = {c.strip().lower(): c for c in table.columns}
    found = {target: next((names[s] for s in spellings if s in names), None) for target, spellings in _COLUMNS.items()}
    said = {"symbol": hints.symbol, "exchange": hints.exchange}
    for key in said:
        if said[key] is None and found[key] is None:
            raise RefusedFileError(f"unknown_{key}", f"no column tells the {key} of this funding: give --{key}")
    source = table.with_row_index("row").with_columns(pl.col("row").cast(pl.Int64))
    return FundingFile(source.select("row", *(_column(key, said.get(key), found[key]) for key in CANDIDATE[1:])), source)


def _column(name: str, said: str | None, source: str | None) -> pl.Expr:
    return (pl.lit(said) if said is not None or source is None else pl.col(source)).alias(name)


def _table(path: Path) -> pl.DataFrame | None:
    """The whole file, where its columns are those of funding."""
    with path.open("rb") as file:
        head = file.read(4096)
    read: Callable[[], pl.DataFrame] | None = None
    try:
        if head.startswith(b"PAR1"):
            read = (lambda: pl.read_parquet(path)) if _is_funding(list(pl.read_parquet_schema(path))) else None
        elif head.lstrip().startswith(b"[") and b"undingRate" in head:
            read = lambda: pl.DataFrame(json.loads(path.read_bytes()), infer_schema_length=None)  # noqa: E731
        elif _is_funding(head.split(b"\n", 1)[0].decode("utf-8", "replace").split(",")):
            read = lambda: pl.read_csv(path, infer_schema=False)  # noqa: E731
        return read() if read is not None else None
    except _CORRUPT:
        return None  # the reader of bar files says what is wrong with it


def _is_funding(header: list[str]) -> bool:
    names = {h.strip().lower() for h in header}
    return bool(names & set(_COLUMNS["funding_rate"])) and bool(names & set(_COLUMNS["time"]))


def add_funding(lake: Lake, rows: pl.DataFrame, record: Provenance) -> int:
    """Put settlements into the table `funding_rates` and count the new ones; those that are there already stay as they are.

    Raises StorageError where the lake refuses the write.
    """
    if rows.is_empty():
        return 0
    first, last = (rows["ts"].sort()[at] for at in (0, -1))
    window = Window(month_start(first), next_month(last))
    old = lake.read(FUNDING_RATES.name, start=window.start, end=window.end)
    new = rows.join(old, on=list(FUNDING_RATES.key), how="anti")
    if not new.is_empty():
        lake.replace(FUNDING_RATES.name, pl.concat([old, new]), Scope(window), record)
    return new.height
