"""The feature matrix sees the past only, has no scale, and keeps what is missing missing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from altforecast.bar_grid import BarGrid, bar_grid, bar_variance, log_returns
from altforecast.errors import InputError
from altforecast.feature_table import BAR_COLUMNS
from altforecast.forecast_features import FeatureMatrix, build_features, feature_frame, market_mean
from altforecast.forecast_params import feature_params
from altforecast.forecast_targets import log_variance_ahead, return_ahead
from altforecast.look_ahead import Columns, changed_columns
from altforecast.types import Timeframe
from tests.domain.forecast_panel import START_MS, panel

HOUR = 3_600_000
BARS = panel(60)
CUT = START_MS + 45 * 24 * HOUR


def columns(bars: pl.DataFrame, timeframe: Timeframe = Timeframe.H1) -> Columns:
    grid = bar_grid(bars, timeframe)
    matrix = build_features(grid)
    return {"ts": grid.ts, **{name: matrix.values[:, :, i] for i, name in enumerate(matrix.names)}}


@pytest.mark.parametrize("seed", [1, 2])
def test_build_features_does_not_see_the_future(seed: int) -> None:
    assert changed_columns(columns, BARS, CUT + seed * 7 * HOUR, np.random.default_rng(seed)) == {}


def test_build_features_of_quarter_hours_does_not_see_the_future() -> None:
    bars = panel(40, ("BTC-USDT", "ETH-USDT", "SOL-USDT"), timeframe=Timeframe.M15)
    assert changed_columns(lambda b: columns(b, Timeframe.M15), bars, START_MS + 35 * 24 * HOUR, np.random.default_rng(1)) == {}


def test_every_column_depends_on_the_bars_before() -> None:
    """A column that never moves would pass the test above for the wrong reason."""
    found = changed_columns(lambda b: {**columns(b), "ts": columns(b)["ts"] - 10 * 24 * HOUR}, BARS, CUT, np.random.default_rng(1))
    calendar = {"time_of_day", "weekday", "time_of_week"}
    assert set(found) == {column.name for column in BAR_COLUMNS} - calendar


def _grid(bars: pl.DataFrame) -> BarGrid:
    return bar_grid(bars, Timeframe.H1)


def _next_close(bars: pl.DataFrame) -> np.ndarray:
    return return_ahead(_grid(bars).close, 1)


def _label(bars: pl.DataFrame) -> np.ndarray:
    return log_variance_ahead(bar_variance(_grid(bars)), 4)


def _centred_mean(bars: pl.DataFrame) -> np.ndarray:
    r = np.nan_to_num(log_returns(_grid(bars)))
    return np.apply_along_axis(lambda x: np.convolve(x, np.ones(25) / 25, mode="same"), 0, r)


def _backward_fill(bars: pl.DataFrame) -> np.ndarray:
    close = _grid(bars).close
    return pl.DataFrame(close).select(pl.all().fill_nan(None).fill_null(strategy="backward")).to_numpy()


def _whole_sample_score(bars: pl.DataFrame) -> np.ndarray:
    r = log_returns(_grid(bars))
    return (r - np.nanmean(r)) / np.nanstd(r)


def _whole_sample_rank(bars: pl.DataFrame) -> np.ndarray:
    return np.argsort(np.argsort(_grid(bars).volume, axis=0), axis=0)


def _whole_sample_range(bars: pl.DataFrame) -> np.ndarray:
    close = _grid(bars).close
    return (close - np.nanmin(close, axis=0)) / (np.nanmax(close, axis=0) - np.nanmin(close, axis=0))


def _day_bucket(bars: pl.DataFrame) -> np.ndarray:
    close = _grid(bars).close
    last = np.minimum(np.arange(len(close)) // 24 * 24 + 23, len(close) - 1)
    return close[last]


def _detrended(bars: pl.DataFrame) -> np.ndarray:
    y = np.log(_grid(bars).close[:, 0])
    x = np.arange(len(y))
    return y - np.polyval(np.polyfit(x, y, 1), x)


def _leader_tomorrow(bars: pl.DataFrame) -> np.ndarray:
    return market_mean(return_ahead(_grid(bars).close, 24))


LEAKS: list[Callable[[pl.DataFrame], np.ndarray]] = [
    _next_close, _label, _centred_mean, _backward_fill, _whole_sample_score, _whole_sample_rank, _whole_sample_range, _day_bucket,
    _detrended, _leader_tomorrow,
]  # fmt: skip


@pytest.mark.parametrize("leak", LEAKS)
def test_changed_columns_catches_each_of_ten_injected_leaks(leak: Callable[[pl.DataFrame], np.ndarray]) -> None:
    late = BARS.filter((pl.col("ts").dt.epoch("ms") != CUT - HOUR) | (pl.col("symbol") != "ETH-USDT"))
    found = changed_columns(
        lambda b: {**columns(b), "leak": leak(b)}, late, CUT + 5 * HOUR * (leak is not _backward_fill), np.random.default_rng(1)
    )
    assert list(found) == ["leak"]


@pytest.mark.parametrize("horizon", [1, 4, 24])
def test_changed_columns_of_a_target_are_exactly_the_purged_rows(horizon: int) -> None:
    bars = BARS.filter(pl.col("symbol") == "BTC-USDT")
    found = changed_columns(lambda b: {"ts": _grid(b).ts, "y": return_ahead(_grid(b).close, horizon)}, bars, CUT, np.random.default_rng(1))
    assert found == {"y": horizon}


def test_changed_columns_refuses_proofs_that_prove_nothing() -> None:
    with pytest.raises(InputError, match="depends on the bars"):
        changed_columns(lambda b: {"ts": _grid(b).ts, "x": _grid(b).ts}, BARS, CUT, np.random.default_rng(1))
    with pytest.raises(InputError, match="inside"):
        changed_columns(columns, BARS, START_MS, np.random.default_rng(1))


def test_build_features_have_no_scale() -> None:
    scaled = BARS.with_columns(*(pl.col(c) * 1024.0 for c in ("open", "high", "low", "close")), pl.col("volume") * 4.0)
    one, other = build_features(_grid(BARS)).values, build_features(_grid(scaled)).values
    np.testing.assert_allclose(one, other, rtol=2e-4, atol=2e-4)


def test_build_features_equal_those_of_a_longer_grid() -> None:
    params = feature_params(Timeframe.H1)
    whole = build_features(_grid(BARS), last=100)
    start = BARS["ts"].max() - pl.duration(hours=params.lookback_bars + 99)  # type: ignore[operator]
    short = build_features(_grid(BARS.filter(pl.col("ts") >= start)), last=100)
    assert short.values.shape == whole.values.shape == (100, 4, len(whole.names))
    np.testing.assert_allclose(short.values, whole.values, rtol=1e-3, atol=1e-4)


def test_build_features_of_a_missing_bar_are_missing() -> None:
    grid = _grid(BARS)
    matrix = build_features(grid)
    hole = np.isnan(grid.close[:, 3])
    own = [i for i, n in enumerate(matrix.names) if n in {"logvar_bar", "return_1", "close_in_bar", "volume_bar_day", "return_to_market"}]
    assert hole[20 * 24 : -24].any()
    assert np.isnan(matrix.values[hole][:, 3, own]).all()
    assert not np.isinf(matrix.values).any()


def test_build_features_without_btc_leave_the_leader_missing() -> None:
    matrix = build_features(_grid(BARS.filter(pl.col("symbol") != "BTC-USDT")))
    leader = [i for i, name in enumerate(matrix.names) if name.startswith("leader_")]
    assert len(leader) == 8
    assert np.isnan(matrix.values[:, :, leader]).all()


def test_build_features_of_flat_bars_without_trades_are_finite_or_missing() -> None:
    flat = BARS.with_columns(*(pl.lit(5.0).alias(c) for c in ("open", "high", "low", "close")), pl.lit(0.0).alias("volume"))
    assert not np.isinf(build_features(_grid(flat)).values).any()


def test_feature_frame_has_one_row_per_bar_and_its_known_at() -> None:
    grid = _grid(BARS)
    frame = feature_frame(grid, build_features(grid, last=48))
    newest = BARS.filter(pl.col("ts").dt.epoch("ms") >= grid.ts[-48])
    assert frame.select("symbol", "exchange", "ts").rows() == newest.select("symbol", "exchange", "ts").rows()
    assert (frame["known_at"] - frame["ts"]).unique().to_list() == [Timeframe.H1.duration]
    assert not any(frame[c].is_nan().any() for c in build_features(grid).names)


def test_feature_params_refuse_other_bar_lengths() -> None:
    with pytest.raises(InputError, match="no forecasts"):
        feature_params(Timeframe.D1)


def test_build_features_of_real_bars_do_not_see_the_future(real_data: Path) -> None:
    bars = pl.read_parquet(real_data / "bars" / "binance_perp_1h_2023-01_2025-08.parquet")
    year, month = pl.col("ts").dt.year(), pl.col("ts").dt.month()
    bars = bars.filter(pl.col("symbol").is_in(["BTC-USDT-PERP", "SHIB-USDT", "SOL-USDT-PERP"]), year == 2023, month < 5)
    cut = int(bars["ts"].dt.epoch("ms").median())  # type: ignore[arg-type]
    assert changed_columns(columns, bars, cut, np.random.default_rng(1)) == {}


def test_matrix_is_single_precision() -> None:
    assert isinstance(build_features(_grid(BARS), 2), FeatureMatrix)
    assert build_features(_grid(BARS), 2).values.dtype == np.float32
