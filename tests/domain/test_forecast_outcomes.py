"""Outcomes of forecasts: the return, the loss, the place among the quantiles, and what is no outcome."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from altforecast.errors import InputError
from altforecast.forecast_outcomes import forecast_outcomes, pit
from altforecast.forecast_scores import LEVELS
from altforecast.forecast_tables import FORECAST_OUTCOMES, FORECASTS, QUANTILES
from altforecast.tables import BARS

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
SPREAD = np.array([-0.04, -0.03, -0.02, -0.01, 0.0, 0.01, 0.02, 0.03, 0.04])


def said(ts: datetime = NOON, horizon: str = "4h", bars: int = 4, **values: object) -> pl.DataFrame:
    row = {
        "ts": ts, "symbol": "BTC-USDT", "exchange": "binance", "timeframe": "1h", "horizon": horizon, "forecaster": "har",
        "target_ts": ts + (bars + 1) * HOUR, "price": 100.0, "sigma": 0.02, **dict(zip(QUANTILES, SPREAD.tolist(), strict=True)),
        "model": "har-1", "calibrated_at": ts.replace(hour=0), "known_at": ts + HOUR,
    }  # fmt: skip
    return pl.DataFrame([row | values], schema=FORECASTS.schema)


def bar(ts: datetime, close: float, quality: str = "observed", known_at: datetime | None = None) -> pl.DataFrame:
    row = {
        "ts": ts, "symbol": "BTC-USDT", "exchange": "binance", "timeframe": "1h", "open": close, "high": close, "low": close,
        "close": close, "volume": 1.0, "quality": quality, "source": "exchange", "received_at": ts + HOUR,
        "known_at": known_at or ts + HOUR,
    }  # fmt: skip
    return pl.DataFrame([row], schema=BARS.schema)


def test_forecast_outcomes_of_one_forecast() -> None:
    found = forecast_outcomes(said(), pl.concat([bar(NOON, 100.0), bar(NOON + 4 * HOUR, 100.0 * np.exp(0.015))]), "live")
    assert found.columns == FORECAST_OUTCOMES.schema.names()
    (row,) = found.to_dicts()
    assert row["outcome"] == pytest.approx(0.015)
    # by hand: q (y - q_k) above each quantile, (1 - q)(q_k - y) below, mean of nine
    by_hand = [max(q * (0.015 - s), (q - 1) * (0.015 - s)) for q, s in zip(LEVELS, SPREAD, strict=True)]
    assert row["loss"] == pytest.approx(sum(by_hand) / 9, rel=1e-6)
    assert row["pit"] == pytest.approx(0.825)
    assert (row["is_in_80"], row["is_in_95"], row["is_up"], row["origin"]) == (True, True, True, "live")
    assert row["known_at"] == row["target_ts"] == NOON + 5 * HOUR


def test_forecast_outcomes_is_known_when_the_bar_is() -> None:
    late = bar(NOON + 4 * HOUR, 101.0, known_at=NOON + 30 * HOUR)
    assert forecast_outcomes(said(), late, "live")["known_at"].item() == NOON + 30 * HOUR


@pytest.mark.parametrize(("made_at", "n"), [(NOON + 5 * HOUR - timedelta(seconds=1), 1), (NOON + 5 * HOUR, 0)])
def test_live_forecasts_made_after_their_outcome_do_not_count(made_at: datetime, n: int) -> None:
    late = said(known_at=made_at)
    assert forecast_outcomes(late, bar(NOON + 4 * HOUR, 101.0), "live").height == n
    assert forecast_outcomes(late, bar(NOON + 4 * HOUR, 101.0), "walk_forward").height == 1


@pytest.mark.parametrize("broken", [{"q500": None}, {"price": None}])
def test_forecast_outcomes_needs_a_forecast(broken: dict[str, None]) -> None:
    assert forecast_outcomes(said(**broken), bar(NOON + 4 * HOUR, 101.0), "live").is_empty()


@pytest.mark.parametrize("ahead", [
    bar(NOON + 4 * HOUR, 101.0, "feed_down"), bar(NOON + 4 * HOUR, 0.0), bar(NOON + 4 * HOUR, float("inf")), bar(NOON + 3 * HOUR, 101.0),
    BARS.empty(),
])  # fmt: skip
def test_forecast_outcomes_needs_the_bar(ahead: pl.DataFrame) -> None:
    assert forecast_outcomes(said(), ahead, "walk_forward").is_empty()


def test_forecast_outcomes_of_nothing_and_of_unknown_origin() -> None:
    assert forecast_outcomes(FORECASTS.empty(), BARS.empty(), "live").schema == FORECAST_OUTCOMES.schema
    with pytest.raises(InputError, match="origin"):
        forecast_outcomes(FORECASTS.empty(), BARS.empty(), "dreamt")


def test_forecast_outcomes_do_not_depend_on_other_rows() -> None:
    bars = pl.concat([bar(NOON + k * HOUR, 100.0 + k) for k in range(1, 8)])
    many = pl.concat([said(NOON + k * HOUR) for k in range(3)] + [said(horizon="1h", bars=1)])
    whole = forecast_outcomes(many, bars, "live")
    apart = pl.concat([forecast_outcomes(many[k : k + 1], bars, "live") for k in range(many.height)])
    assert whole.height == 4
    assert_frame_equal(whole, FORECAST_OUTCOMES.conform(apart), rel_tol=1e-12)


def test_pit_at_the_edges() -> None:
    spread = np.tile(SPREAD, (5, 1))
    assert pit(np.array([-0.05, -0.04, 0.0, 0.04, 0.05]), spread).tolist() == [0.0, 0.025, 0.5, 0.975, 1.0]
    flat = np.zeros((3, 9))
    assert pit(np.array([-1.0, 0.0, 1.0]), flat).tolist() == [0.0, 0.975, 1.0]
    assert np.isnan(pit(np.array([np.nan]), spread[:1])).all()


@given(st.lists(st.floats(-1, 1), min_size=9, max_size=9), st.floats(-2, 2), st.floats(0, 1))
def test_pit_grows_with_the_outcome(values: list[float], outcome: float, more: float) -> None:
    quantiles = np.sort(np.array([values, values]), axis=1)
    low, high = pit(np.array([outcome, outcome + more]), quantiles)
    assert 0.0 <= low <= high <= 1.0
