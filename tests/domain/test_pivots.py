"""Tests of `altforecast.pivots`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from altforecast import tables
from altforecast.errors import InputError
from altforecast.indicators import compute_indicators
from altforecast.params import PIVOTS, PivotParams
from altforecast.pivots import WARMUP_BARS, find_pivots
from altforecast.types import Timeframe
from tests.domain.synthetic_bars import frame_of, many_series, months, random_series, real_bars, with_warmup, within

H1 = Timeframe.H1


def bars_of(low: list[float], high: list[float] | None = None, steps: object = None) -> pl.DataFrame:
    return frame_of(high or [x + 100 for x in range(len(low))], low, low, steps=steps)


def lows(low: list[float], params: PivotParams = PIVOTS, steps: object = None) -> list[int]:
    """Bar numbers of the lows found."""
    bars = bars_of(low, steps=steps)
    found = find_pivots(bars, compute_indicators(bars, H1), H1, params).filter(pl.col("side") == "low")
    return bars.with_row_index().join(found.select(ts="pivot_ts"), on="ts")["index"].to_list()


def by_definition(x: list[float], left: int, right: int) -> list[int]:
    """Left strict, right non-strict, nothing skipped."""
    inside = range(left, len(x) - right)
    return [i for i in inside if all(x[i] < x[j] for j in range(i - left, i)) and all(x[i] <= x[j] for j in range(i + 1, i + right + 1))]


def test_find_pivots_v_shape() -> None:
    low = [9, 8, 7, 6, 5, 4, 5, 6, 7, 8, 9, 10]
    bars = bars_of([float(x) for x in low])
    row = find_pivots(bars, compute_indicators(bars, H1), H1).row(0, named=True)
    assert (row["side"], row["price"]) == ("low", 4.0)
    assert row["pivot_ts"] == bars["ts"][5]
    assert row["ts"] == bars["ts"][10]
    assert row["known_at"] == bars["ts"][11]


def test_find_pivots_plateau_yields_its_first_bar() -> None:
    assert lows([9, 8, 7, 6, 5, 4, 4, 4, 5, 6, 7, 8, 9, 10]) == [5]


def test_find_pivots_left_is_strict() -> None:
    assert lows([4, 8, 7, 6, 5, 4, 5, 6, 7, 8, 9, 10]) == []


def test_find_pivots_equal_on_the_right_counts() -> None:
    assert lows([9, 8, 7, 6, 5, 4, 5, 6, 7, 8, 4, 10]) == [5]


@pytest.mark.parametrize("n", [0, 1, 5, 10])
def test_find_pivots_too_short(n: int) -> None:
    assert lows([float(x) for x in range(n)]) == []


def test_find_pivots_bar_is_both_low_and_high() -> None:
    low, high = [5.0] * 11, [6.0] * 11
    low[5], high[5] = 4.0, 7.0
    bars = bars_of(low, high)
    found = find_pivots(bars, compute_indicators(bars, H1), H1)
    assert found["side"].to_list() == ["high", "low"]
    assert found["price"].to_list() == [7.0, 4.0]


def test_find_pivots_not_across_a_long_hole() -> None:
    low = [9.0, 8, 7, 6, 5, 4, 5, 6, 7, 8, 9, 10]
    steps = [0] + [1] * 11
    steps[8] = 101
    assert lows(low, steps=steps) == [5]
    steps[8] = 102
    assert lows(low, steps=steps) == []


def test_find_pivots_reads_indicators_at_their_bars() -> None:
    bars = random_series(300, seed=4)
    indicators = compute_indicators(bars, H1)
    found = find_pivots(bars, indicators, H1)
    at = indicators.select(pivot_ts="ts", rsi="rsi_14", m="macd", o="obv")
    joined = found.join(at, on="pivot_ts").join(indicators.select("ts", a="atr_14"), on="ts")
    for mine, theirs in (("rsi_14", "rsi"), ("macd", "m"), ("obv", "o"), ("atr_14", "a")):
        assert joined[mine].equals(joined[theirs].alias(mine), null_equal=True)
    assert joined["rsi_14"].null_count() < joined.height


def test_find_pivots_without_indicators_has_nulls() -> None:
    found = find_pivots(random_series(100, seed=4), tables.INDICATORS.empty(), H1)
    assert found.height > 0
    assert found["rsi_14"].null_count() == found["atr_14"].null_count() == found.height


def test_find_pivots_conforms_to_table() -> None:
    bars = many_series()
    found = find_pivots(bars, compute_indicators(bars, H1), H1)
    assert found["symbol"].n_unique() == 3
    assert_frame_equal(tables.PIVOTS.conform(found), found)


def test_find_pivots_empty() -> None:
    assert_frame_equal(find_pivots(tables.BARS.empty(), tables.INDICATORS.empty(), H1), tables.PIVOTS.empty())


def test_find_pivots_refuses_nan() -> None:
    bars = random_series(30, seed=1)
    with pytest.raises(InputError, match="low"):
        find_pivots(bars.with_columns(low=pl.lit(float("nan"))), tables.INDICATORS.empty(), H1)


@given(st.lists(st.integers(0, 6), max_size=80), st.integers(0, 6), st.integers(0, 6))
@settings(max_examples=150, deadline=None)
def test_find_pivots_equal_definition(values: list[int], left: int, right: int) -> None:
    low = [float(v) for v in values]
    bars = frame_of([-x for x in low], low, low)
    found = find_pivots(bars, tables.INDICATORS.empty(), H1, PivotParams(left_bars=left, right_bars=right))
    numbers = bars.with_row_index().select("index", pivot_ts="ts")
    for side in ("low", "high"):
        rows = found.filter(pl.col("side") == side).join(numbers, on="pivot_ts", maintain_order="left")["index"].to_list()
        assert rows == by_definition(low, left, right)


@pytest.mark.parametrize("n", [11, 60, 150, 399])
def test_find_pivots_are_causal(n: int) -> None:
    bars = many_series()
    indicators = compute_indicators(bars, H1)
    past = bars.group_by(["symbol", "exchange"], maintain_order=True).head(n).sort(tables.SERIES_SORT)
    whole = find_pivots(bars, indicators, H1).join(past.select(tables.SERIES_KEY), on=tables.SERIES_KEY, how="semi", maintain_order="left")
    assert_frame_equal(find_pivots(past, compute_indicators(past, H1), H1), whole)


def test_find_pivots_month_by_month_equal_all_at_once(real_data: Path) -> None:
    bars = real_bars(real_data, "binance_spot_1h_2024", H1, ["BTC-USDT", "PEPE-USDT", "RENDER-USDT"])
    indicators = compute_indicators(bars, H1)
    parts = []
    for start, end in months(bars):
        part, values = (with_warmup(f, start, end, WARMUP_BARS) for f in (bars, indicators))
        parts.append(within(find_pivots(part, values, H1), start, end))
    whole = find_pivots(bars, indicators, H1)
    assert whole.height > 1000
    assert_frame_equal(pl.concat(parts).sort(tables.PIVOTS.sort), whole, check_exact=True)


def test_find_pivots_replayed_bar_by_bar(real_data: Path) -> None:
    bars = real_bars(real_data, "binance_spot_15m_2024", Timeframe.M15, ["BTC-USDT"])[:400]
    indicators = compute_indicators(bars, Timeframe.M15)
    seen = [find_pivots(bars[:n], indicators[:n], Timeframe.M15).filter(pl.col("ts") == bars["ts"][n - 1]) for n in range(1, 401)]
    assert_frame_equal(pl.concat(seen), find_pivots(bars, indicators, Timeframe.M15))


def test_find_pivots_known_at_is_after_right_wing() -> None:
    bars = random_series(200, seed=6)
    found = find_pivots(bars, tables.INDICATORS.empty(), H1)
    assert (found["known_at"] - found["pivot_ts"]).unique().to_list() == [np.timedelta64(6, "h").astype("timedelta64[ms]").item()]
