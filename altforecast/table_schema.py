"""What a lake table is: columns with type and unit, key, sort order, and the check that a frame conforms.

What belongs here: the classes Column and Table. What does not: any table (`tables`, `arbitrage_tables`) and storage
(`altforecast_io.lake`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from altforecast.errors import SchemaError

TS = pl.Datetime("ms", "UTC")
_LARGEST_SHARE = 0.25
"""Runs among the rows beyond which looking up runs costs more than it saves."""
F64, I64, STR, BOOL = pl.Float64(), pl.Int64(), pl.String(), pl.Boolean()


@dataclass(frozen=True)
class Column:
    """One column: name, Polars type, unit in brackets, meaning; `nullable` says whether null may be written."""

    name: str
    dtype: pl.DataType
    unit: str
    meaning: str
    nullable: bool = False


@dataclass(frozen=True)
class Table:
    """One lake table; `key` is unique, rows are sorted by `sort`, files hold one month of `ts` (and one timeframe)."""

    name: str
    meaning: str
    grain: str
    key: tuple[str, ...]
    sort: tuple[str, ...]
    columns: tuple[Column, ...]
    by_timeframe: bool = True
    is_hot: bool = False
    """Whether the newest rows of every series are also kept in a small hot file."""
    hot_rows: int = 500
    """How many of them, for every value of the key apart from `ts`."""

    @property
    def groups(self) -> tuple[str, ...]:
        """The key without `ts`: what has one row at each time."""
        return tuple(name for name in self.key if name != "ts")

    @property
    def schema(self) -> pl.Schema:
        """Polars schema in column order."""
        return pl.Schema({c.name: c.dtype for c in self.columns})

    def empty(self) -> pl.DataFrame:
        """A frame with the right columns and no rows."""
        return pl.DataFrame(schema=self.schema)

    def conform(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The frame with columns in order and rows sorted; raises SchemaError on a wrong column, type, null or double key."""
        _check_columns(self, frame)
        ordered = sorted_rows(frame.select(self.schema.names()), self.sort)
        _check_values(self, ordered)
        return ordered


def sorted_rows(frame: pl.DataFrame, by: tuple[str, ...]) -> pl.DataFrame:
    """The frame sorted by columns of which the last may be `ts`, as `DataFrame.sort` would; rows with equal keys keep their order.

    Rows of one series mostly follow each other, so what comes before `ts` is sorted once per run of rows and not per row: a month
    to which some bars are added takes a tenth of the time.
    """
    names = by[:-1]
    if frame.is_empty() or by[-1] != "ts" or not names or frame["ts"].null_count():
        return frame.sort(by, maintain_order=True)
    is_new = frame.select(pl.any_horizontal(pl.col(name) != pl.col(name).shift(1) for name in names).fill_null(True)).to_series()
    heads = frame.select(names).filter(is_new)
    if heads.height > _LARGEST_SHARE * frame.height:
        return frame.sort(by, maintain_order=True)
    keys = heads.unique().sort(names).with_row_index("_rank")
    rank = heads.join(keys, on=names, how="left", nulls_equal=True, maintain_order="left")["_rank"].to_numpy().astype(np.int64)
    run, ts = is_new.cast(pl.Int64).cum_sum().to_numpy() - 1, frame["ts"].to_physical().cast(pl.Int64).to_numpy()
    order = np.lexsort((ts, rank[run])) if _is_out_of_order(rank[run], ts) else None
    return frame if order is None else frame[order]


def _is_out_of_order(rank: NDArray[np.int64], ts: NDArray[np.int64]) -> bool:
    step = np.diff(rank)
    return bool(((step < 0) | ((step == 0) & (np.diff(ts) < 0))).any())


def _check_columns(table: Table, frame: pl.DataFrame) -> None:
    wanted, got = table.schema, frame.schema
    missing = [n for n in wanted if n not in got]
    extra = [n for n in got if n not in wanted]
    if missing or extra:
        raise SchemaError(f"table {table.name}: missing columns {missing}, unknown columns {extra}")
    wrong = [f"{n}: {got[n]} instead of {wanted[n]}" for n in wanted if got[n] != wanted[n]]
    if wrong:
        raise SchemaError(f"table {table.name}: wrong types: {'; '.join(wrong)}")


def _check_values(table: Table, frame: pl.DataFrame) -> None:
    for column in table.columns:
        if not column.nullable and frame[column.name].null_count():
            raise SchemaError(f"table {table.name}: column {column.name} may not be null")
    floats = [column.name for column in table.columns if column.dtype.is_float()]
    for name, has_nan in zip(floats, frame.select(pl.col(floats).is_nan().any()).row(0) if floats else (), strict=True):
        if has_nan:
            raise SchemaError(f"table {table.name}: column {name} holds NaN (missing is null)")
    if _has_doubles(table, frame):
        raise SchemaError(f"table {table.name}: key {table.key} is not unique")


def _has_doubles(table: Table, frame: pl.DataFrame) -> bool:
    """Whether a key stands twice in the sorted frame; where the sort order is the key, doubles are neighbours."""
    if set(table.key) != set(table.sort):
        return bool(frame.select(table.key).is_duplicated().any())
    suspects = frame.select((pl.col("ts") == pl.col("ts").shift(1)).arg_true()).to_series()
    for name in table.key:
        if suspects.is_empty():
            return False
        if name != "ts":
            column = frame[name]
            suspects = suspects.filter(column.gather(suspects) == column.gather(suspects - 1))
    return not suspects.is_empty()
