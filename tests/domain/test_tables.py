"""The registry of tables: what it accepts and what it refuses."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from altforecast.errors import SchemaError, UnknownNameError
from altforecast.table_schema import sorted_rows
from altforecast.tables import MARKET_CONTEXT, TABLES, TS, table

START = datetime(2024, 1, 1, tzinfo=UTC)


def readings(keys: list[tuple[int, str]]) -> pl.DataFrame:
    ts = pl.Series("ts", [START + timedelta(hours=h) for h, _ in keys], dtype=TS)
    names = pl.Series("name", [n for _, n in keys], dtype=pl.String)
    return pl.DataFrame([ts, names]).with_columns(
        value=pl.lit(1.0), label=pl.lit(None, dtype=pl.String), source=pl.lit("coingecko"), known_at=pl.col("ts")
    )


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from("abc")), max_size=30))
def test_conform_refuses_a_key_exactly_when_it_stands_twice(keys: list[tuple[int, str]]) -> None:
    frame = readings(keys)
    if len(set(keys)) == len(keys):
        assert MARKET_CONTEXT.conform(frame).height == len(keys)
    else:
        with pytest.raises(SchemaError, match="not unique"):
            MARKET_CONTEXT.conform(frame)


def test_conform_orders_columns_and_rows() -> None:
    frame = readings([(2, "b"), (1, "b"), (3, "a")]).select(reversed(MARKET_CONTEXT.schema.names()))
    conformed = MARKET_CONTEXT.conform(frame)
    assert conformed.columns == MARKET_CONTEXT.schema.names()
    assert conformed["name"].to_list() == ["a", "b", "b"]
    assert conformed["ts"].dt.hour().to_list() == [3, 1, 2]


def test_conform_refuses_unknown_columns_and_nulls() -> None:
    with pytest.raises(SchemaError, match="unknown columns"):
        MARKET_CONTEXT.conform(readings([(1, "a")]).with_columns(extra=1))
    with pytest.raises(SchemaError, match="value may not be null"):
        MARKET_CONTEXT.conform(readings([(1, "a")]).with_columns(value=pl.lit(None, dtype=pl.Float64)))


@pytest.mark.parametrize("name", list(TABLES))
def test_registry_is_sound(name: str) -> None:
    spec = table(name)
    names = spec.schema.names()
    assert spec.name == name
    assert len(set(names)) == len(names)
    assert set(spec.key) <= set(names)
    assert set(spec.sort) <= set(names)
    assert "ts" in names
    assert spec.by_timeframe == ("timeframe" in names) or name == "evidence"
    assert all(c.meaning for c in spec.columns)


def test_table_unknown_lists_the_known() -> None:
    with pytest.raises(UnknownNameError, match="divergences"):
        table("divergence")


ROW = st.tuples(st.sampled_from(["A", "B", None]), st.sampled_from(["x", "y"]), st.integers(0, 4))


@given(st.lists(ROW, max_size=40), st.booleans())
def test_sorted_rows_are_those_of_a_plain_sort(rows: list[tuple[str | None, str, int]], is_by_series: bool) -> None:
    schema = {"symbol": pl.String(), "exchange": pl.String(), "ts": pl.Int64()}
    frame = pl.DataFrame(rows, schema=schema, orient="row").with_columns(pl.col("ts").cast(TS)).with_row_index("number")
    by = ("symbol", "exchange", "ts")
    given_rows = frame.sort(by[:2], maintain_order=True) if is_by_series else frame
    assert_frame_equal(sorted_rows(given_rows, by), given_rows.sort(by, maintain_order=True))
    assert_frame_equal(sorted_rows(given_rows, ("ts",)), given_rows.sort("ts", maintain_order=True))
