"""Changes and their standard deviations against numpy, gaps, and where the frame begins."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from altforecast.changes import hours_between, read_change, trailing_sd
from altforecast.errors import InputError
from altforecast.tables import TS


def now(n: int) -> np.ndarray:
    return np.zeros(n)


def test_trailing_sd_equals_numpy() -> None:
    values = np.random.default_rng(1).normal(0, 1, 200)
    values[[20, 21, 90]] = np.nan
    at = np.arange(200)
    found = trailing_sd(values, at, 30, 15)
    for i in (14, 29, 50, 95, 199):
        assert found[i] == pytest.approx(np.nanstd(values[max(0, i - 29) : i + 1], ddof=1), rel=1e-12)
    assert np.isnan(found[13])


def test_trailing_sd_does_not_depend_on_where_values_begin() -> None:
    values = np.random.default_rng(2).normal(0, 1e-3, 3000)
    whole = trailing_sd(values, np.arange(2500, 3000, 4), 720, 360)
    late = trailing_sd(values[1700:], np.arange(800, 1300, 4), 720, 360)
    assert np.array_equal(whole, late)
    assert np.array_equal(trailing_sd(values, np.array([2500, 2504, 2509]), 720, 360)[:2], whole[:2])


def test_trailing_sd_constant_and_empty() -> None:
    assert np.isnan(trailing_sd(np.zeros(50), np.array([49]), 20, 5)).all()
    assert trailing_sd(np.zeros(5), np.array([], dtype=np.int64), 20, 5).shape == (0,)


def test_read_change_bridges_one_missing_bar_and_not_two() -> None:
    closes = np.arange(10.0) ** 2
    closes[[5, 6]] = np.nan
    found = read_change(closes, np.arange(10), now(10), 1, 5, 1.5, 0.2).log
    # 5 reads bar 4 (age 1), 6 is stale, 7 has neither the close one step before nor the one before that.
    assert found[:6] == pytest.approx([np.nan, 1, 3, 5, 7, 7], nan_ok=True)
    assert np.isnan(found[6:8]).all()
    assert found[8:] == pytest.approx([15, 17])


def test_read_change_late_bar_of_a_long_timeframe_is_stale_by_the_clock() -> None:
    closes = np.array([0.0, 1.0, 3.0, np.nan])
    lags = np.array([0.0, 0.5, 0.75])
    found = read_change(closes, np.array([3, 3, 3]), lags, 1, 3, 1.5, 0.2).log
    assert found == pytest.approx([2.0, 2.0, np.nan], nan_ok=True)


def test_read_change_z_is_change_over_its_sd() -> None:
    closes = np.cumsum(np.random.default_rng(3).normal(0, 1, 100))
    found = read_change(closes, np.array([99]), now(1), 4, 50, 1.5, 0.5)
    steps = closes[4:] - closes[:-4]
    assert found.log[0] == pytest.approx(steps[-1])
    assert found.z[0] == pytest.approx(steps[-1] / steps[-50:].std(ddof=1))


def test_hours_between_bounds() -> None:
    ts = [datetime(2025, 1, 1, h, tzinfo=UTC) for h in (3, 5)]
    bars = pl.DataFrame({"ts": ts}).with_columns(pl.col("ts").cast(TS))
    start, hour = datetime(2025, 1, 1, 0, 30, tzinfo=UTC), 3_600_000
    newest = int(ts[1].timestamp() * 1000)
    assert hours_between(start, None, bars, False).tolist() == [newest - 2 * hour, newest - hour, newest]
    assert len(hours_between(start, None, bars, True)) == 5
    assert len(hours_between(start, datetime(2025, 1, 1, 9, tzinfo=UTC), bars, True)) == 8
    assert len(hours_between(start, None, bars.clear(), True)) == 0
    with pytest.raises(InputError, match="end"):
        hours_between(start, datetime(2025, 1, 1), bars, True)  # noqa: DTZ001
