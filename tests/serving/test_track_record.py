"""Past forecasts through the API beside what happened, calibration over all symbols, and the health of forecasting."""

from __future__ import annotations

import io
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from starlette.testclient import TestClient

from altforecast.forecast_params import HORIZONS
from altforecast.types import Timeframe
from altforecast_io.lake import Lake
from altforecast_io.settings import Settings
from altforecast_serving.lineage import Envelope
from altforecast_serving.routes.forecast_models import ReliabilityResponse, SkillRow, TrackRecordResponse
from tests.serving.conftest import BTC, client_of, put

URL = "/api/forecasts/BTC-USDT"


# ---- track record


def test_track_record_pages_hold_every_forecast_once(told: TestClient) -> None:
    url = f"{URL}/track-record"
    params: dict[str, str | int] = {"horizon": "4h", "origin": "all", "limit": 150}
    rows: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        body = told.get(url, params={**params, **({"cursor": cursor} if cursor else {})}).json()
        found = Envelope[TrackRecordResponse].model_validate(body).data
        assert bool(found.summary) == (cursor is None)
        rows += body["data"]["rows"]
        cursor = body["next_cursor"]
        if cursor is None:
            break
    assert len(rows) == len({(r["ts"], r["origin"]) for r in rows}) == 400
    assert [r["ts"] for r in rows] == sorted((r["ts"] for r in rows), reverse=True)
    assert [r["outcome"] is None for r in rows[:5]] == [True] * 4 + [False]


def test_track_record_row_is_what_happened(told: TestClient, forecast_lake: Lake) -> None:
    row = told.get(f"{URL}/track-record", params={"horizon": "4h", "limit": 10}).json()["data"]["rows"][6]
    closes = forecast_lake.read("bars", "1h", series=[BTC]).select("ts", "close")
    at = datetime.fromisoformat(row["ts"])
    now = closes.filter(pl.col("ts") == at)["close"][0]
    then = closes.filter(pl.col("ts") == at + timedelta(hours=4))["close"][0]
    assert (row["price"], row["price_then"]) == (now, pytest.approx(then))
    assert row["is_up"] == (then > now)
    assert row["is_in_80"] == (row["q100"] <= row["outcome"] <= row["q900"])
    assert row["loss_climatology"] is not None
    assert row["forecaster"] == "champion"


def test_track_record_summary_is_of_all_outcomes(told: TestClient, forecast_lake: Lake) -> None:
    (summary,) = told.get(f"{URL}/track-record", params={"horizon": "1h", "limit": 1}).json()["data"]["summary"]
    outcomes = forecast_lake.read("forecast_outcomes", "1h", series=[BTC]).filter(
        (pl.col("horizon") == "1h") & (pl.col("origin") == "live")
    )
    mine, base = (outcomes.filter(pl.col("forecaster") == name) for name in ("champion", "climatology"))
    assert summary["n"] == mine.height == 199
    assert summary["coverage_80"] == pytest.approx(mine["is_in_80"].mean())
    assert summary["skill_climatology"] == pytest.approx(1 - mine["loss"].mean() / base["loss"].mean())  # type: ignore[operator]
    assert summary["skill_har"] is not None
    assert np.isfinite(summary["dm_t"])
    assert sum(column["n"] for column in summary["pit"]) == sum(b["n"] for b in summary["reliability"]) == 199


def test_track_record_summary_keeps_to_the_period(told: TestClient) -> None:
    params = {"from": "2025-07-26T00:00:00Z", "to": "2025-07-27T00:00:00Z"}
    data = told.get(f"{URL}/track-record", params=params).json()["data"]
    assert len(data["rows"]) == data["summary"][0]["n"] == 24
    assert data["summary"][0]["dm_t"] is None  # a day is too short for the test


def test_track_record_formats_and_baseline(told: TestClient) -> None:
    url = f"{URL}/track-record"
    params: dict[str, str | int] = {"horizon": "1h", "forecaster": "har", "limit": 20}
    csv = pl.read_csv(told.get(url, params={**params, "format": "csv"}).content)
    arrow = pl.read_ipc_stream(io.BytesIO(told.get(url, params={**params, "format": "arrow"}).content))
    rows = told.get(url, params=params).json()["data"]["rows"]
    assert csv.columns == arrow.columns == list(rows[0])
    assert csv["q975"].to_list() == pytest.approx([r["q975"] for r in rows])
    assert arrow.height == 20


def test_track_record_empty_and_bad(told: TestClient) -> None:
    assert told.get(f"{URL}/track-record", params={"origin": "dream"}).status_code == 422
    assert told.get(f"{URL}/track-record", params={"horizon": "2h"}).status_code == 422
    body = told.get(f"{URL}/track-record", params={"to": "2020-01-01"}).json()
    assert (body["data"]["rows"], body["data"]["summary"]) == ([], [])
    assert "no 1h forecast of BTC-USDT on binance matches" in body["warnings"]


# ---- skill and reliability


def test_read_skill_pages(told: TestClient) -> None:
    params: dict[str, str | int] = {"horizon": "1h", "forecaster": "champion", "limit": 5}
    first = told.get("/api/forecasts/skill", params=params).json()
    second = told.get("/api/forecasts/skill", params={**params, "cursor": first["next_cursor"]}).json()
    rows = Envelope[list[SkillRow]].model_validate(first).data + Envelope[list[SkillRow]].model_validate(second).data
    assert [row.ts.day for row in rows] == [27, 26, 25, 24, 23, 22, 21, 20]
    assert second["next_cursor"] is None


def test_read_reliability_sums_all_symbols(told: TestClient, forecast_lake: Lake) -> None:
    body = told.get("/api/forecasts/reliability", params={"horizon": "1h"}).json()
    found = Envelope[ReliabilityResponse].model_validate(body).data
    outcomes = forecast_lake.read("forecast_outcomes", "1h").filter(
        (pl.col("horizon") == "1h") & (pl.col("origin") == "live") & (pl.col("forecaster") == "champion")
    )
    assert found.forecaster == "champion"
    assert found.n == outcomes.height == sum(week.n for week in found.weeks) == sum(column.n for column in found.pit)
    assert found.coverage_95 == pytest.approx(outcomes["is_in_95"].mean())
    assert found.n_p_up == sum(b.n for b in found.reliability) == outcomes.height
    assert sum(b.n * b.happened_frac for b in found.reliability) == pytest.approx(outcomes["is_up"].sum())
    assert [b.mean_probability for b in found.reliability] == sorted(b.mean_probability for b in found.reliability)
    assert body["lineage"]["known_at"]


def test_read_reliability_of_the_baseline_and_of_the_past(told: TestClient) -> None:
    har = told.get("/api/forecasts/reliability", params={"forecaster": "har"}).json()["data"]
    assert (har["n_p_up"], har["reliability"], har["ece"]) == (0, [], None)
    past = told.get("/api/forecasts/reliability", params={"origin": "walk_forward", "horizon": "15m"}).json()["data"]
    assert past["n"] == 200


@pytest.mark.parametrize("url", ["/api/forecasts/skill", "/api/forecasts/reliability", f"{URL}/track-record"])
def test_forecast_routes_not_built_yet_say_so(client: TestClient, url: str) -> None:
    body = client.get(url).json()
    assert "have not been built" in body["warnings"][0] or "has not been built" in body["warnings"][0]


def test_forecasts_before_any_training_say_so(client: TestClient) -> None:
    assert client.get("/api/forecasts").json()["warnings"][0].startswith("no forecast has been made yet: nothing is trained yet")


# ---- health and metrics


def test_health_tells_the_newest_forecast(told: TestClient) -> None:
    found = told.get("/health").json()["components"]["forecasts"]
    assert (found["ok"], found["forecasters"]["1h"], found["age_s"]) == (True, "champion", 1200.0)
    assert found["bars_behind"] == dict.fromkeys(HORIZONS, 0)


def test_health_without_forecasts_is_well(client: TestClient) -> None:
    found = client.get("/health").json()["components"]["forecasts"]
    assert (found["ok"], found["detail"]) == (True, "no forecasts yet")


def test_health_late_forecasts_degrade(forecast_home: Settings) -> None:
    lake = Lake(forecast_home.lake_dir, forecast_home.environment)
    late = lake.read("forecasts", "1h").filter(pl.col("ts") <= pl.col("ts").max() - timedelta(hours=4))
    put(lake, "forecasts", late, Timeframe.H1)
    with client_of(forecast_home) as app:
        health = app.get("/health").json()
    assert (health["status"], health["components"]["forecasts"]["ok"]) == ("degraded", False)
    assert health["components"]["forecasts"]["bars_behind"] == {"15m": 0, "1h": 4, "4h": 4, "24h": 4}
    assert "1h, 4h, 24h are more than 3 bars behind" in health["components"]["forecasts"]["detail"]


def test_metrics_of_forecasts(told: TestClient) -> None:
    lines = told.get("/metrics").text.splitlines()
    assert 'forecast_age_seconds{forecaster="champion",horizon="1h"} 1200.0' in lines
    assert 'forecast_coverage_80{forecaster="har",horizon="24h"} 0.802' in lines
    assert 'forecast_skill_har{forecaster="champion",horizon="4h"} 0.008' in lines
    assert told.get("/metrics").text.count("forecast_age_seconds{") == 4
