"""Tests of `altforecast.indicators`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import talib
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from altforecast import tables
from altforecast.errors import InputError
from altforecast.indicators import WARMUP_BARS, compute_indicators, on_balance_volume
from altforecast.params import IndicatorParams
from altforecast.types import Timeframe
from tests.domain.synthetic_bars import frame_of, many_series, months, random_series, real_bars, with_warmup, within

H1 = Timeframe.H1
VALUES = [c.name for c in tables.INDICATORS.columns if c.nullable]

# The worked example of Wilder's RSI(14) in StockCharts' ChartSchool (closes of QQQQ, RSI rounded to two places).
TEXTBOOK_CLOSES = [
    44.3389, 44.0902, 44.1497, 43.6124, 44.3278, 44.8264, 45.0955, 45.4245, 45.8433, 46.0826, 45.8931, 46.0328, 45.6140, 46.2820, 46.2820,
    46.0028, 46.0328, 46.4116, 46.2222, 45.6439, 46.2122, 46.2521, 45.7137, 46.4515, 45.7835, 45.3548, 44.0288, 44.1783, 44.2181, 44.5672,
    43.4205, 42.6628, 43.1314,
]  # fmt: skip
TEXTBOOK_RSI = [
    70.53, 66.32, 66.55, 69.41, 66.36, 57.97, 62.93, 63.26, 56.06, 62.38, 54.71, 50.42, 39.99, 41.46, 41.87, 45.46, 37.30, 33.08, 37.77,
]  # fmt: skip


def flat(n: int, price: float = 5.0) -> pl.DataFrame:
    return frame_of(*[np.full(n, price)] * 3)


def test_compute_indicators_rsi_equals_textbook() -> None:
    bars = frame_of(TEXTBOOK_CLOSES, TEXTBOOK_CLOSES, TEXTBOOK_CLOSES)
    rsi = compute_indicators(bars, H1)["rsi_14"]
    assert rsi[:14].null_count() == 14
    assert rsi[14:].to_list() == pytest.approx(TEXTBOOK_RSI, abs=0.011)


def test_compute_indicators_equal_definitions() -> None:
    bars = random_series(150, seed=3)
    got = compute_indicators(bars, H1)
    high, low, close = (bars[c].to_list() for c in ("high", "low", "close"))

    ema, alpha = [sum(close[:20]) / 20], 2 / 21
    for c in close[20:]:
        ema.append(ema[-1] + alpha * (c - ema[-1]))
    assert got["ema_20"][19:].to_list() == pytest.approx(ema, rel=1e-12)

    ranges = [max(h, p) - min(x, p) for h, x, p in zip(high[1:], low[1:], close[:-1], strict=True)]
    atr = [sum(ranges[:14]) / 14]
    for r in ranges[14:]:
        atr.append((atr[-1] * 13 + r) / 14)
    assert got["atr_14"][14:].to_list() == pytest.approx(atr, rel=1e-12)

    middle = [np.mean(close[i - 19 : i + 1]) for i in range(19, 150)]
    sd = [np.std(close[i - 19 : i + 1]) for i in range(19, 150)]
    assert got["bb_middle"][19:].to_list() == pytest.approx(middle, rel=1e-12)
    assert (got["bb_upper"] - got["bb_middle"])[19:].to_list() == pytest.approx([2 * s for s in sd], rel=1e-6, abs=1e-9)
    assert (got["macd"] - got["macd_signal"] - got["macd_hist"]).drop_nulls().abs().max() < 1e-12

    obv = [bars["volume"][0]]
    for i in range(1, 150):
        obv.append(obv[-1] + float(np.sign(close[i] - close[i - 1])) * bars["volume"][i])
    assert got["obv"].to_list() == obv


def test_compute_indicators_equal_talib_bit_for_bit() -> None:
    bars = many_series()
    got = compute_indicators(bars, H1)
    one = bars.filter(pl.col("symbol") == "AAA-USDT")
    high, low, close, volume = (one[c].to_numpy() for c in ("high", "low", "close", "volume"))
    wanted = {
        "ema_20": talib.EMA(close, 20), "ema_50": talib.EMA(close, 50), "rsi_14": talib.RSI(close, 14),
        "atr_14": talib.ATR(high, low, close, 14),
        **dict(zip(("macd", "macd_signal", "macd_hist"), talib.MACD(close, 12, 26, 9), strict=True)),
        **dict(zip(("bb_upper", "bb_middle", "bb_lower"), talib.BBANDS(close, 20, 2.0, 2.0), strict=True)),
        "adx_14": talib.ADX(high, low, close, 14), "obv": talib.OBV(close, volume),
    }  # fmt: skip
    mine = got.filter(pl.col("symbol") == "AAA-USDT")
    for name, values in wanted.items():
        assert mine[name].equals(pl.Series(name, values, nan_to_null=True)), name


def test_compute_indicators_conforms_to_table() -> None:
    got = compute_indicators(many_series(), H1)
    assert_frame_equal(tables.INDICATORS.conform(got), got)
    assert (got["known_at"] - got["ts"]).unique().to_list() == [H1.duration]


def test_compute_indicators_empty() -> None:
    assert_frame_equal(compute_indicators(tables.BARS.empty(), H1), tables.INDICATORS.empty())


@pytest.mark.parametrize("n", [1, 2, 13, 14, 15, 34])
def test_compute_indicators_short_series_is_all_warmup(n: int) -> None:
    got = compute_indicators(random_series(n, seed=n), H1)
    assert got.height == n
    assert got["rsi_14"].null_count() == min(n, 14)
    assert got["macd"].null_count() == min(n, 33)
    assert got["obv"].null_count() == 0


def test_compute_indicators_flat_series_as_talib_documents() -> None:
    last = compute_indicators(flat(120), H1).row(-1, named=True)
    assert (last["rsi_14"], last["adx_14"], last["atr_14"], last["macd"]) == (0.0, 0.0, 0.0, 0.0)
    assert last["bb_upper"] == last["bb_lower"] == last["ema_50"] == 5.0


@pytest.mark.parametrize("column", ["high", "low", "close"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), None])
def test_compute_indicators_refuses_bad_price(column: str, bad: float | None) -> None:
    bars = random_series(50, seed=1).with_columns(pl.when(pl.int_range(pl.len()) == 17).then(pl.lit(bad)).otherwise(column).alias(column))
    with pytest.raises(InputError, match=rf"{column}.*row 17"):
        compute_indicators(bars, H1)


def test_compute_indicators_refuses_nan_volume() -> None:
    bars = random_series(50, seed=1).with_columns(volume=pl.lit(float("nan")))
    with pytest.raises(InputError, match="volume"):
        compute_indicators(bars, H1)


@pytest.mark.parametrize(
    "break_it",
    [
        lambda b: b.reverse(),
        lambda b: pl.concat([b, b.tail(1)]),
        lambda b: b.sort("symbol", descending=True),
        lambda b: b.sort("ts"),
        lambda b: b.with_columns(timeframe=pl.lit("4h")),
    ],
)
def test_compute_indicators_refuses_unordered_or_foreign_rows(break_it: object) -> None:
    with pytest.raises(InputError):
        compute_indicators(break_it(many_series()), H1)  # type: ignore[operator]


def test_compute_indicators_long_hole_restarts_but_obv_goes_on() -> None:
    steps = np.ones(200, dtype=int)
    steps[100] = 102  # 101 missing bars
    bars = random_series(200, seed=5, steps=steps)
    got = compute_indicators(bars, H1)
    second = compute_indicators(bars[100:], H1)
    recursive = [c for c in VALUES if c != "obv"]
    assert_frame_equal(got[100:].select(recursive), second.select(recursive))
    assert got["obv"].equals(compute_indicators(random_series(200, seed=5), H1)["obv"])


def test_compute_indicators_short_hole_is_passed_over() -> None:
    steps = np.ones(200, dtype=int)
    steps[100] = 101  # 100 missing bars: not more than restart_gap_bars
    with_hole = compute_indicators(random_series(200, seed=5, steps=steps), H1)
    assert_frame_equal(with_hole.select(VALUES), compute_indicators(random_series(200, seed=5), H1).select(VALUES))


@pytest.mark.parametrize("price", [1e-6, 1e-9])
def test_compute_indicators_of_tiny_prices_keep_their_bands(price: float) -> None:
    """TA-Lib alone takes variances below 1e-14 for zero: Bollinger bands of PEPE at 1e-6 would be a line."""
    tiny = random_series(200, seed=9, tick=price * 1e-5, price=price)
    got = compute_indicators(tiny, H1)
    exponent = 2.0**40
    large = tiny.with_columns(pl.col("high", "low", "close") * exponent)
    expected = compute_indicators(large, H1)
    assert ((got["bb_upper"] - got["bb_lower"]).drop_nulls() > 0).all()
    for name in ("bb_upper", "macd", "atr_14", "ema_50"):
        assert (got[name] * exponent).equals(expected[name].alias(name)), name
    assert got["rsi_14"].equals(expected["rsi_14"])


def test_compute_indicators_threads_change_nothing() -> None:
    bars = many_series()
    assert_frame_equal(compute_indicators(bars, H1, threads=3), compute_indicators(bars, H1, threads=1))


def test_compute_indicators_uses_given_lengths() -> None:
    bars = random_series(60, seed=2)
    got = compute_indicators(bars, H1, IndicatorParams(rsi_bars=5))
    assert got["rsi_14"].null_count() == 5


def test_compute_indicators_null_volume_is_left_out_of_obv() -> None:
    bars = frame_of([2, 3, 4, 3], [1, 1, 1, 1], [1.0, 2.0, 1.5, 1.8], volume=[10.0, 5.0, None, 7.0])
    assert compute_indicators(bars, H1)["obv"].to_list() == [10.0, 15.0, None, 8.0]
    assert compute_indicators(bars.with_columns(volume=pl.lit(None, dtype=pl.Float64)), H1)["obv"].null_count() == 4


def test_on_balance_volume_empty() -> None:
    assert len(on_balance_volume(np.empty(0), np.empty(0))) == 0


@given(seed=st.integers(0, 10_000), cut=st.integers(1, 80), has_bar=st.booleans(), holes=st.booleans())
@settings(max_examples=40, deadline=None)
def test_compute_indicators_carry_continues_obv_bit_for_bit(seed: int, cut: int, has_bar: bool, holes: bool) -> None:
    bars = random_series(100, seed=seed)
    if holes:
        bars = bars.with_columns(pl.when(pl.int_range(pl.len()) % 7 == seed % 7).then(None).otherwise("volume").alias("volume"))
    whole = compute_indicators(bars, H1)["obv"]
    known = bars[:cut].with_columns(obv=whole[:cut]).filter(pl.col("obv").is_not_null())
    if known.is_empty():
        return
    carry = known.tail(1).select("symbol", "exchange", "ts", "obv", "close")
    part = bars[max(0, cut - 10) :] if has_bar else bars.filter(pl.col("ts") > carry["ts"][0])
    got = compute_indicators(part, H1, carry=carry)["obv"]
    expected = bars.select("ts", whole).join(part.select("ts"), on="ts", maintain_order="right")
    after = expected["ts"] >= carry["ts"][0]
    assert got.filter(after).equals(expected["obv"].filter(after))
    assert got.filter(~after).null_count() == (~after).sum()


def test_compute_indicators_carry_without_close_or_bar_is_refused() -> None:
    bars = random_series(30, seed=1)
    carry = compute_indicators(bars, H1)[9:10].select("symbol", "exchange", "ts", "obv")
    assert compute_indicators(bars[5:], H1, carry=carry)["obv"][5:].equals(compute_indicators(bars, H1)["obv"][10:])
    with pytest.raises(InputError, match=r"carry\.close"):
        compute_indicators(bars[10:], H1, carry=carry)


@pytest.mark.parametrize("n", [1, 40, 99, 250, 399])
def test_compute_indicators_are_causal(n: int) -> None:
    bars = many_series()
    past = bars.group_by(["symbol", "exchange"], maintain_order=True).head(n).sort(tables.SERIES_SORT)
    whole = compute_indicators(bars, H1)
    expected = whole.join(past.select(tables.SERIES_KEY), on=tables.SERIES_KEY, how="semi").sort(tables.SERIES_SORT)
    assert_frame_equal(compute_indicators(past, H1), expected, check_exact=True)


@given(seed=st.integers(0, 10_000), n=st.integers(2, 120))
@settings(max_examples=30, deadline=None)
def test_compute_indicators_stay_in_their_ranges(seed: int, n: int) -> None:
    got = compute_indicators(random_series(n, seed=seed), H1)
    for name in ("rsi_14", "adx_14"):
        assert got[name].drop_nulls().is_between(-1e-9, 100 + 1e-9).all()
    assert (got["atr_14"].drop_nulls() >= 0).all()
    assert (got["bb_upper"] >= got["bb_lower"]).drop_nulls().all()


def test_compute_indicators_month_by_month_equal_all_at_once(real_data: Path) -> None:
    bars = real_bars(real_data, "binance_spot_1h_2024", H1, ["BTC-USDT", "PEPE-USDT", "RENDER-USDT"])
    whole = compute_indicators(bars, H1)
    done = None
    for start, end in months(bars):
        part = with_warmup(bars, start, end, WARMUP_BARS)
        carry = None
        if done is not None:
            last = done.filter(pl.col("obv").is_not_null()).group_by(["symbol", "exchange"], maintain_order=True).last()
            carry = last.join(bars, on=["symbol", "exchange", "timeframe", "ts"]).select("symbol", "exchange", "ts", "obv", "close")
        month = within(compute_indicators(part, H1, carry=carry), start, end)
        done = month if done is None else pl.concat([done, month])
    assert done is not None
    done = done.sort(tables.SERIES_SORT)
    assert done["obv"].equals(whole["obv"])
    assert_frame_equal(done, whole, rel_tol=1e-9, abs_tol=1e-12)
