"""Outcomes, maturity and the calendar of training and testing."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from altforecast.errors import InputError
from altforecast.forecast_params import VARIANCE_FLOOR
from altforecast.forecast_targets import (
    Fold,
    log_variance_ahead,
    matured_rows,
    quarter_names,
    quarter_starts,
    return_ahead,
    walk_forward_folds,
)

HOUR = 3_600_000


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def test_return_ahead_is_the_log_ratio_of_closes() -> None:
    close = np.array([[1.0], [2.0], [np.nan], [8.0]])
    np.testing.assert_allclose(return_ahead(close, 1), np.array([[np.log(2)], [np.nan], [np.nan], [np.nan]]))
    np.testing.assert_allclose(return_ahead(close, 3), np.array([[np.log(8)], [np.nan], [np.nan], [np.nan]]))
    assert np.isnan(return_ahead(close, 4)).all()


def test_log_variance_ahead_sums_the_next_bars_only() -> None:
    variance = np.array([[9.0], [1.0], [2.0], [4.0], [np.nan], [5.0]])
    found = log_variance_ahead(variance, 2)[:, 0]
    np.testing.assert_allclose(found, [np.log(3 + VARIANCE_FLOOR), np.log(6 + VARIANCE_FLOOR), np.nan, np.nan, np.nan, np.nan])


@pytest.mark.parametrize("function", [return_ahead, log_variance_ahead])
def test_outcomes_refuse_the_present(function: object) -> None:
    with pytest.raises(InputError, match="horizon"):
        function(np.ones((3, 1)), 0)  # type: ignore[operator]


def test_matured_rows_are_those_whose_label_has_closed() -> None:
    close = np.arange(1.0, 21.0)[:, None]
    for horizon in (1, 4):
        for row in range(20):
            seen = np.where(np.arange(20)[:, None] <= row, close, np.nan)
            assert matured_rows(row, horizon) == int((~np.isnan(return_ahead(seen, horizon))).sum())


def test_quarter_starts_are_calendar_quarters_in_utc() -> None:
    assert quarter_starts(ms("2023-11-29"), ms("2024-07-01")) == [ms("2024-01-01"), ms("2024-04-01"), ms("2024-07-01")]
    assert quarter_starts(ms("2024-04-01"), ms("2024-04-01")) == [ms("2024-04-01")]
    assert quarter_starts(ms("2024-04-01") + 1, ms("2024-06-30")) == []


@pytest.mark.parametrize("horizon", [1, 4, 24])
def test_walk_forward_folds_purge_and_embargo_as_written(horizon: int) -> None:
    ts = np.arange(ms("2023-01-01"), ms("2024-02-10"), HOUR)
    folds = walk_forward_folds(ts, horizon, HOUR, 90)
    assert [fold.test_start for fold in folds] == [ms(d) for d in ("2023-04-01", "2023-07-01", "2023-10-01", "2024-01-01")]
    assert folds[-1].test_stop == int(ts[-1]) + HOUR
    for fold in folds:
        allowed = ts[ts + (horizon + 1) * HOUR <= fold.test_start - horizon * HOUR]
        assert fold.train_until == allowed[-1]
    assert [f.test_stop for f in folds[:-1]] == [f.test_start for f in folds[1:]], "no row is tested twice or never"


def test_walk_forward_folds_end_where_asked() -> None:
    ts = np.arange(ms("2023-01-01"), ms("2024-02-10"), HOUR)
    assert walk_forward_folds(ts, 1, HOUR, 90, ms("2023-07-01")) == [Fold(ms("2023-04-01") - 3 * HOUR, ms("2023-04-01"), ms("2023-07-01"))]
    assert walk_forward_folds(ts[:1000], 1, HOUR, 90) == []


def test_quarter_names() -> None:
    found = quarter_names(np.array([ms("2024-03-31"), ms("2024-04-01"), ms("2025-12-31")]))
    assert found.tolist() == ["2024Q1", "2024Q2", "2025Q4"]
