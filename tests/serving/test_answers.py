"""Rendering, cursors, names and the bounded cache."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import orjson
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from altforecast.errors import InputError, UnknownNameError
from altforecast.types import Series, Timeframe
from altforecast_serving.answers import MAX_CACHED_ANSWERS, MAX_CACHED_BYTES, MAX_HELD_BYTES, AnswerCache, Rendered
from altforecast_serving.charts.price import format_price
from altforecast_serving.lineage import JSON_OPTIONS, json_rows
from altforecast_serving.queries.cursors import decode_cursor, encode_cursor
from altforecast_serving.queries.names import resolve_series

TS = datetime(2025, 8, 1, tzinfo=UTC)


@given(st.lists(st.text(max_size=12), max_size=5))
def test_json_rows_are_the_objects_of_the_frame(texts: list[str]) -> None:
    texts = [*texts, ',{"ts":', "}"]
    frame = pl.DataFrame({"ts": [TS] * len(texts), "text": texts})
    assert [orjson.loads(row) for row in json_rows(frame)] == orjson.loads(orjson.dumps(frame.to_dicts(), option=JSON_OPTIONS))


def test_json_rows_of_nothing() -> None:
    assert json_rows(pl.DataFrame({"ts": []})) == []


def test_answer_cache_is_bounded_in_number_and_size() -> None:
    cache = AnswerCache()
    for i in range(MAX_CACHED_ANSWERS + 5):
        cache.put(i, Rendered(b"x", {}, ""))
    assert cache.get(4) is None
    assert cache.get(5) is not None
    cache.put("large", Rendered(b"x" * (MAX_CACHED_BYTES + 1), {}, ""))
    assert cache.get("large") is None


@given(st.integers(0, 7_000_000_000_000), st.text(max_size=20))
def test_cursor_comes_back_as_it_went(ms: int, text: str) -> None:
    aware = datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=ms)
    assert decode_cursor(encode_cursor([aware, text]), 2) == [aware, text]


@given(st.text(max_size=60))
def test_cursor_refuses_anything_else(text: str) -> None:
    with pytest.raises(InputError):
        decode_cursor(text, 4)


def test_resolve_series_prefers_venues_in_order() -> None:
    known = {Series(v, "SOL-USDT"): [Timeframe.H1] for v in ("zeta", "kraken", "bybit")}
    assert resolve_series("sol_usdt", None, known, "BINANCE:BTCUSDT").exchange == "bybit"
    assert resolve_series("SOLUSDT", "Kraken", known, "BINANCE:BTCUSDT").exchange == "kraken"
    with pytest.raises(UnknownNameError):
        resolve_series("SOLUSDT", "okx", known, "BINANCE:BTCUSDT")


def test_resolve_series_follows_the_chosen_source_of_btc() -> None:
    assert resolve_series("btc", None, {}, "BYBIT:BTCUSDC") == Series("bybit", "BTC-USDC")


@pytest.mark.parametrize(
    ("price", "text"), [(108246.3, "108,246"), (99.5, "99.500"), (0.0001234, "0.00012340"), (0.0, "0"), (float("nan"), "0")]
)
def test_format_price_shows_five_digits(price: float, text: str) -> None:
    assert format_price(price) == text


def test_answer_cache_holds_only_so_many_bytes() -> None:
    cache = AnswerCache()
    n = MAX_HELD_BYTES // MAX_CACHED_BYTES
    for i in (*range(n), n - 1, n):
        cache.put(i, Rendered(b"x" * MAX_CACHED_BYTES, {}, ""))
    assert cache.get(0) is None
    assert all(cache.get(i) is not None for i in range(1, n + 1))
