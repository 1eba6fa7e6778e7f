"""Health of forecasters: what counts, against whom, and the numbers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from altforecast.forecast_outcomes import LIVE, WALK_FORWARD
from altforecast.forecast_tables import FORECAST_OUTCOMES, MODEL_HEALTH
from altforecast.forecast_tests import diebold_mariano, dm_lag
from altforecast.model_health import model_health

MIDNIGHT = datetime(2024, 6, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def outcomes(forecaster: str, loss: float, n: int = 200, **values: object) -> pl.DataFrame:
    """Hourly outcomes of one series, the last known at midnight minus an hour."""
    ts = [MIDNIGHT - (n + 2 - k) * HOUR for k in range(n)]
    random = np.random.default_rng(len(forecaster))
    frame = pl.DataFrame({
        "ts": ts, "symbol": "BTC-USDT", "exchange": "binance", "timeframe": "1h", "horizon": "1h", "forecaster": forecaster, "origin": LIVE,
        "model": f"{forecaster}-1", "target_ts": [t + 2 * HOUR for t in ts], "outcome": 0.0, "loss": loss + random.uniform(0, 0.01, n),
        "pit": 0.5, "is_in_80": [k % 5 != 0 for k in range(n)], "is_in_95": [k % 20 != 0 for k in range(n)], "p_up": None,
        "is_up": [k % 2 == 0 for k in range(n)], "known_at": [t + 2 * HOUR for t in ts],
    }).with_columns(*(pl.lit(v).alias(k) for k, v in values.items()))  # fmt: skip
    return frame.select(pl.col(c).cast(t) for c, t in FORECAST_OUTCOMES.schema.items())


def market(**champion: object) -> pl.DataFrame:
    return pl.concat([outcomes("champion", 0.8, **champion), outcomes("har", 1.0), outcomes("climatology", 1.2)])


def row(frame: pl.DataFrame, forecaster: str = "champion") -> dict[str, Any]:
    return frame.filter(pl.col("forecaster") == forecaster).row(0, named=True)


def test_model_health_numbers() -> None:
    known = market()
    found = model_health(known, MIDNIGHT)
    assert found.schema == MODEL_HEALTH.schema
    assert found["forecaster"].to_list() == ["champion", "climatology", "har"]
    mine = row(found)
    losses = {name: known.filter(pl.col("forecaster") == name)["loss"].to_numpy() for name in ("champion", "har", "climatology")}
    assert mine["n"] == 200
    assert mine["skill_har"] == pytest.approx(1 - losses["champion"].mean() / losses["har"].mean())
    assert mine["skill_climatology"] == pytest.approx(1 - losses["champion"].mean() / losses["climatology"].mean())
    when = known.filter(pl.col("forecaster") == "champion")["ts"].dt.epoch("ms").to_numpy()
    assert mine["dm_t"] == pytest.approx(diebold_mariano(losses["champion"], losses["har"], when, dm_lag(1, 24)).t)
    assert (mine["coverage_80"], mine["coverage_95"]) == (0.8, 0.95)
    assert (mine["brier_skill"], mine["ece"]) == (None, None)
    assert mine["verdict"] == "ok"
    assert "200 outcomes" in mine["reason"]
    assert row(found, "har")["skill_har"] == 0.0


def test_model_health_counts_live_outcomes_known_before_midnight() -> None:
    known = market()
    later = known.with_columns(pl.col("known_at") + timedelta(days=31))
    past = known.with_columns(pl.lit(WALK_FORWARD).alias("origin"), (pl.col("ts") - HOUR / 2).alias("ts"))
    old = known.with_columns(pl.col("ts", "known_at") - timedelta(days=31))
    assert model_health(pl.concat([known, later, past, old]), MIDNIGHT).equals(model_health(known, MIDNIGHT))


def test_model_health_of_a_new_champion_starts_anew() -> None:
    known = market()
    newer = known.with_columns(
        pl.when((pl.col("forecaster") == "champion") & (pl.col("ts") >= MIDNIGHT - 12 * HOUR))
        .then(pl.lit("champion-2")).otherwise("model").alias("model")
    )  # fmt: skip
    mine = row(model_health(newer, MIDNIGHT))
    assert (mine["model"], mine["n"], mine["dm_t"]) == ("champion-2", 10, None)


def test_model_health_compares_bars_that_all_spoke_of() -> None:
    known = market().filter((pl.col("forecaster") != "har") | (pl.col("ts") >= MIDNIGHT - 52 * HOUR))
    assert row(model_health(known, MIDNIGHT))["n"] == 50
    alone = model_health(known.filter(pl.col("forecaster") == "champion"), MIDNIGHT)
    assert row(alone)["n"] == 0
    assert row(alone)["skill_har"] is None


def test_model_health_of_probabilities() -> None:
    mine = row(model_health(market(p_up=0.5).with_columns(p_base=0.6), MIDNIGHT))
    assert mine["brier_skill"] == pytest.approx(1 - 0.25 / 0.26, rel=1e-6)
    assert mine["ece"] == pytest.approx(0.0, abs=1e-9)


def test_model_health_asks_for_a_roll_back() -> None:
    worse = pl.concat([outcomes("champion", 1.1), outcomes("har", 1.0), outcomes("climatology", 1.2)])
    mine = row(model_health(worse, MIDNIGHT))
    assert mine["verdict"] == "roll_back"
    assert "skill over HAR-S" in mine["reason"]
    assert row(model_health(worse.filter(pl.col("ts") >= MIDNIGHT - 90 * HOUR), MIDNIGHT))["verdict"] == "too_few"


def test_model_health_of_nothing() -> None:
    assert model_health(FORECAST_OUTCOMES.empty(), MIDNIGHT).equals(MODEL_HEALTH.empty())
