"""Bars on one clock, windows that pass holes by, and the variance inside a bar."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from altforecast.bar_grid import bar_grid, bar_variance, log_returns
from altforecast.errors import InputError
from altforecast.rolling import Trailing, ewma, lag, newest_rows, rolling_max, rolling_mean, rolling_min
from altforecast.table_schema import TS
from altforecast.types import Timeframe
from tests.domain.forecast_panel import START_MS, panel

HOUR = 3_600_000


def bars(rows: list[tuple[str, int, float, float, float, float]], **extra: list[object]) -> pl.DataFrame:
    frame = pl.DataFrame(rows, schema=["symbol", "at", "open", "high", "low", "close"], orient="row")
    columns = {"exchange": ["x"] * len(rows), "timeframe": ["1h"] * len(rows), "volume": [1.0] * len(rows), **extra}
    ts = (START_MS + frame["at"] * HOUR).cast(TS).alias("ts")
    return frame.with_columns(ts, *(pl.Series(k, v) for k, v in columns.items()))


def test_bar_grid_keeps_holes_as_nan() -> None:
    grid = bar_grid(bars([("B", 0, 1, 1, 1, 1), ("B", 3, 2, 2, 2, 2), ("A", 1, 5, 5, 5, 5)]), Timeframe.H1)
    assert grid.series == (("A", "x"), ("B", "x"))
    np.testing.assert_array_equal(grid.close, [[np.nan, 1], [5, np.nan], [np.nan, np.nan], [np.nan, 2]])
    np.testing.assert_array_equal(grid.ts, START_MS + np.arange(4) * HOUR)


def test_bar_grid_does_not_depend_on_order() -> None:
    frame = panel(30)
    one, other = bar_grid(frame, Timeframe.H1), bar_grid(frame.sample(fraction=1.0, shuffle=True, seed=1), Timeframe.H1)
    np.testing.assert_array_equal(one.close, other.close)


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
def test_bar_grid_takes_impossible_prices_for_missing(bad: float) -> None:
    grid = bar_grid(bars([("A", 0, 1, 1, 1, 1), ("A", 1, 1, 1, bad, 1), ("A", 2, 1, 1, 1, 1)]), Timeframe.H1)
    np.testing.assert_array_equal(np.isnan(grid.close[:, 0]), [False, True, False])


def test_bar_grid_takes_placeholders_of_a_dead_feed_for_missing() -> None:
    rows = [("A", 0, 1.0, 1.0, 1.0, 1.0), ("A", 1, 1.0, 1.0, 1.0, 1.0), ("A", 2, 1.0, 1.0, 1.0, 1.0)]
    grid = bar_grid(bars(rows, quality=["observed", "feed_down", "quiet"]), Timeframe.H1)
    np.testing.assert_array_equal(np.isnan(grid.close[:, 0]), [False, True, False])


def test_bar_grid_known_at_is_the_latest_so_far() -> None:
    late = [START_MS + HOUR, START_MS + 9 * HOUR, START_MS + 3 * HOUR]
    frame = bars([("A", n, 1, 1, 1, 1) for n in range(3)], known_at=late).with_columns(pl.col("known_at").cast(TS))
    np.testing.assert_array_equal(bar_grid(frame, Timeframe.H1).known_at, [late[0], late[1], late[1]])


def test_bar_grid_refuses_doubled_misplaced_and_absent_bars() -> None:
    with pytest.raises(InputError, match="doubled"):
        bar_grid(bars([("A", 0, 1, 1, 1, 1), ("A", 0, 1, 1, 1, 1)]), Timeframe.H1)
    with pytest.raises(InputError, match="not the open"):
        bar_grid(bars([("A", 0, 1, 1, 1, 1)]).with_columns(pl.col("ts") + pl.duration(minutes=7)), Timeframe.H1)
    with pytest.raises(InputError, match="no usable bar"):
        bar_grid(bars([("A", 0, 1, 1, 1, 1)]), Timeframe.M15)
    with pytest.raises(InputError, match="slots"):
        bar_grid(bars([("A", 0, 1, 1, 1, 1), ("A", 200_000_000, 1, 1, 1, 1)]), Timeframe.H1)


def test_bar_variance_equals_the_written_formula() -> None:
    grid = bar_grid(bars([("A", 0, 100, 110, 95, 105), ("A", 1, 104, 108, 101, 102), ("A", 3, 7, 7, 7, 7)]), Timeframe.H1)
    inside = 0.5 * np.log(108 / 101) ** 2 - (2 * np.log(2) - 1) * np.log(102 / 104) ** 2
    expected = inside + np.log(104 / 105) ** 2
    found = bar_variance(grid)[:, 0]
    assert found[1] == pytest.approx(expected, rel=1e-12)
    assert np.isnan(found[2])
    assert found[3] == 0.0, "no movement, and no jump is known after a hole"


def test_bar_variance_is_unbiased_for_a_random_walk() -> None:
    rng = np.random.default_rng(3)
    steps = rng.normal(0, 0.01 / np.sqrt(3000), (1000, 3000))
    path = np.cumsum(steps).reshape(1000, 3000)
    opening = np.append(0.0, path[:-1, -1])
    edges = np.exp(np.column_stack([opening, path]))
    rows = [("A", n, edges[n, 0], edges[n].max(), edges[n].min(), edges[n, -1]) for n in range(1000)]
    assert bar_variance(bar_grid(bars(rows), Timeframe.H1)).mean() == pytest.approx(1e-4, rel=0.08)


def test_log_returns_are_missing_on_both_sides_of_a_hole() -> None:
    grid = bar_grid(bars([("A", 0, 1, 1, 1, 1), ("A", 1, 2, 2, 2, 2), ("A", 3, 4, 4, 4, 4)]), Timeframe.H1)
    np.testing.assert_allclose(log_returns(grid)[:, 0], [np.nan, np.log(2), np.nan, np.nan])


def column(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float64)[:, None]


def test_rolling_mean_counts_known_values_only() -> None:
    found = rolling_mean(column(1, np.nan, 3, np.nan, np.nan, 5), 2)
    np.testing.assert_array_equal(found, column(1, 1, 3, 3, np.nan, 5))


@pytest.mark.parametrize("bars_", [1, 2, 3, 5, 8, 13])
def test_rolling_extremes_equal_a_loop(bars_: int) -> None:
    rng = np.random.default_rng(bars_)
    values = rng.normal(size=(40, 3))
    values[rng.random((40, 3)) < 0.3] = np.nan
    for found, pick in ((rolling_max(values, bars_), np.nanmax), (rolling_min(values, bars_), np.nanmin)):
        for row in range(40):
            for col in range(3):
                window = values[max(row - bars_ + 1, 0) : row + 1, col]
                expected = np.nan if np.isnan(window).all() else pick(window)
                assert found[row, col] == expected or (np.isnan(expected) and np.isnan(found[row, col]))


def test_rolling_windows_refuse_the_future_and_odd_shapes() -> None:
    with pytest.raises(InputError, match="lag"):
        lag(column(1, 2), -1)
    with pytest.raises(InputError, match="at least one"):
        rolling_mean(column(1, 2), 0)
    with pytest.raises(InputError, match="shape"):
        rolling_max(np.array([1.0]), 1)


def test_lag_longer_than_the_data_is_all_missing() -> None:
    assert np.isnan(lag(column(1, 2), 2)).all()


def test_ewma_starts_with_a_mean_and_passes_holes_by() -> None:
    found = ewma(column(1, np.nan, 3, 4, np.nan, 6), 0.5, start_bars=2)
    np.testing.assert_allclose(found, column(np.nan, np.nan, 2, 3, 3, 4.5))


def test_trailing_means_of_the_newest_rows_equal_those_of_all_rows() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(size=(40, 3))
    values[rng.random(values.shape) < 0.2] = np.nan
    values[:, 2] = rng.normal(size=40)
    for path in (values, values[:, 2:]):
        for bars in (1, 5, 39, 40, 60):
            for before in (0, 3, 39, 40, 50):
                whole = lag(rolling_mean(path, bars), before)
                for rows in (0, 1, 7, 40, 50):
                    found = Trailing(path, rows)
                    np.testing.assert_array_equal(found.mean(bars, before=before), newest_rows(whole, rows))
                    np.testing.assert_array_equal(found.at(before), newest_rows(lag(path, before), rows))
    with pytest.raises(InputError, match="negative"):
        Trailing(values).at(-1)
    with pytest.raises(InputError, match="at least one"):
        Trailing(values).mean(0)
    with pytest.raises(InputError, match="shape"):
        Trailing(values[:, 0])
