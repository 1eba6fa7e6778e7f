"""Forecasts through the API: who answers, what it says of itself, and what became of what was said before."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from math import exp
from typing import Any

import polars as pl
import pytest
from starlette.testclient import TestClient

from altforecast.forecast_params import HORIZONS
from altforecast.forecast_scores import LEVELS
from altforecast.forecast_tables import FORECASTS
from altforecast.types import Timeframe
from altforecast_io.lake import Lake
from altforecast_io.settings import Settings
from altforecast_io.store.models import Event, ModelEvent, add_event, add_model
from altforecast_serving.lineage import Envelope
from altforecast_serving.queries.direction import direction
from altforecast_serving.routes.forecast_models import ForecastLine, ForecastResponse
from tests.serving import forecast_rows as made
from tests.serving.conftest import BTC, FORECAST_NOW, client_of, put, store_of

URL = "/api/forecasts/BTC-USDT"


def _of(client: TestClient, horizon: str, url: str = URL) -> dict[str, Any]:
    (found,) = client.get(url, params={"horizon": horizon}).json()["data"]["horizons"]
    return dict(found)


# ---- the newest forecasts


def test_read_forecasts_says_all_of_every_horizon(told: TestClient) -> None:
    response = told.get(URL)
    body = Envelope[ForecastResponse].model_validate(response.json())
    assert [h.horizon for h in body.data.horizons] == list(HORIZONS)
    assert (body.data.symbol, body.data.exchange, body.data.metric) == ("BTC-USDT", "binance", "BTC")
    assert {p.part.split("@")[0] for p in body.lineage.parts} == {"forecasts", "forecast_calibrations"}
    assert body.lineage.known_at == max(h.made_at for h in body.data.horizons)
    hour = body.data.horizons[1]
    assert (hour.forecaster, hour.is_baseline, hour.is_stale, hour.note) == ("champion", False, False, None)
    assert hour.calibration is not None
    assert (hour.calibration.n_own, hour.calibration.n_pooled) == (1000, 9000)
    assert hour.calibration.window_start == hour.calibration.renewed_at - timedelta(days=240)
    assert hour.recent is not None
    assert (hour.recent.coverage_80, hour.recent.verdict) == (0.802, "ok")
    assert hour.walk_forward is not None
    assert (hour.walk_forward.skill_har, hour.walk_forward.coverage_80) == (0.009, 0.801)
    assert told.get(URL, headers={"If-None-Match": response.headers["etag"]}).status_code == 304


def test_read_forecasts_quantiles_are_prices_from_the_close(told: TestClient, forecast_lake: Lake) -> None:
    found = _of(told, "4h")
    close = forecast_lake.read("bars", "1h", series=[BTC])["close"][-1]
    assert found["price"] == close
    assert [q["level"] for q in found["quantiles"]] == list(LEVELS)
    z975 = 1.959964
    assert found["quantiles"][-1]["price"] == pytest.approx(close * exp(0.02 * z975), rel=1e-6)
    assert found["quantiles"][4]["return_frac"] == pytest.approx(0.0, abs=1e-9)
    assert found["target_ts"] == "2025-07-27T16:00:00Z"


@pytest.mark.parametrize(("text", "horizon"), [("1d", "24h"), ("24h", "24h"), ("60", "1h"), ("4h", "4h"), ("15", "15m")])
def test_read_forecasts_btc_takes_timeframe_as_horizon(told: TestClient, text: str, horizon: str) -> None:
    body = told.get("/api/forecasts/btc", params={"timeframe": text}).json()
    assert [h["horizon"] for h in body["data"]["horizons"]] == [horizon]
    assert body["data"]["symbol"] == "BTC-USDT"


def test_read_forecasts_unknown_names(told: TestClient) -> None:
    for name, value in (("horizon", "2h"), ("timeframe", "5m"), ("horizon", "soon")):
        response = told.get(URL, params={name: value})
        assert response.status_code == 422
        assert (response.json()["field"], response.json()["allowed"]) == (name, list(HORIZONS))
    assert told.get(URL, params={"horizon": "1h", "timeframe": "4h"}).status_code == 422
    missing = told.get("/api/forecasts/DOGE")
    assert missing.status_code == 404
    assert "ETH-USDT" in missing.json()["allowed"]


def test_read_forecasts_empty_lake_says_why(empty: TestClient) -> None:
    for url in ("/api/forecasts/btc", "/api/forecasts"):
        body = empty.get(url).json()
        assert body["warnings"][0].startswith("the lake holds no bars yet")
    assert empty.get("/api/forecasts/btc").json()["data"]["horizons"] == []


def test_read_forecasts_none_yet_says_why(client: TestClient) -> None:
    assert "nothing is trained yet" in client.get(URL).json()["warnings"][0]
    assert "no bars of 15m or 1h" not in str(client.get(URL).json())


def test_read_forecasts_index_has_none(told: TestClient) -> None:
    body = told.get("/api/forecasts/USDT.D").json()
    assert body["data"]["horizons"] == []
    assert body["warnings"][0] == "USDT.D is an index: forecasts are made of what can be traded"


def test_read_btc_falls_back_to_a_venue_that_has_bars(make_settings: Callable[..., Settings], lake: Lake) -> None:
    made.fill_forecasts(lake)
    with client_of(make_settings(tv_btc_symbol="KRAKEN:BTCUSDT")) as client:
        assert client.get("/api/forecasts/btc").json()["data"]["exchange"] == "binance"


# ---- who answers


def test_no_champion_yet_baseline_answers_and_says_so(lake: Lake, make_settings: Callable[..., Settings]) -> None:
    settings = make_settings()
    made.fill_forecasts(lake, forecasters=("har", "climatology"))
    with store_of(settings) as store:
        made.add_models(store, has_champion=False)
    with client_of(settings) as client:
        found = _of(client, "1h")
    assert (found["forecaster"], found["is_baseline"]) == ("har", True)
    assert found["note"] == "no champion yet: the baseline HAR-S-FHS answers"
    assert found["p_up"] is None
    assert found["direction"]["word"] == "no directional edge"
    assert found["walk_forward"]["coverage_80"] == 0.801


def test_rolled_back_baseline_answers_at_once(forecast_home: Settings) -> None:
    with client_of(forecast_home) as client:
        before = client.get(URL, params={"horizon": "1h"})
        with store_of(forecast_home) as store:
            add_event(store, made.event("1h", None, Event.ROLLED_BACK, "coverage 71.2 % of the 80 % interval"))
        after = client.get(URL, params={"horizon": "1h"}, headers={"If-None-Match": before.headers["etag"]})
        assert after.status_code == 200
        (found,) = after.json()["data"]["horizons"]
        assert _of(client, "4h")["forecaster"] == "champion"
    assert found["forecaster"] == "har"
    version = made.version_of("1h", "champion")
    assert found["note"].startswith(f"{version} was rolled back on 2025-07-01 12:05 UTC because coverage 71.2 %")
    assert found["note"].endswith("the baseline HAR-S-FHS answers")


def test_champion_that_cannot_forecast_gives_way_with_the_reason(lake: Lake, make_settings: Callable[..., Settings]) -> None:
    settings = make_settings()
    made.fill_forecasts(lake, forecasters=("har", "climatology"))
    bars = lake.read("bars", "1h", series=[BTC]).tail(5)
    failed = made.forecast_rows(bars, "1h", "champion", reason="model file missing")
    put(lake, "forecasts", pl.concat([lake.read("forecasts", "1h"), failed]), Timeframe.H1)
    with store_of(settings) as store:
        made.add_models(store)
    with client_of(settings) as client:
        found = _of(client, "1h")
    assert (found["forecaster"], len(found["quantiles"])) == ("har", 9)
    assert "(model file missing)" in found["note"]


def test_champion_behind_the_baseline_does_not_answer(lake: Lake, make_settings: Callable[..., Settings]) -> None:
    settings = make_settings()
    bars = lake.read("bars", "1h", series=[BTC])
    rows = [made.forecast_rows(bars.tail(9).head(6), "1h", "champion"), made.forecast_rows(bars.tail(9), "1h", "har")]
    put(lake, "forecasts", pl.concat(rows), Timeframe.H1)
    with store_of(settings) as store:
        made.add_models(store)
    with client_of(settings) as client:
        found = _of(client, "1h")
    assert (found["forecaster"], found["ts"]) == ("har", "2025-07-27T11:00:00Z")
    assert "has not forecast this bar" in found["note"]


def test_new_champion_the_former_answers_until_the_next_bar(forecast_home: Settings) -> None:
    version = made.version_of("1h", "challenger")
    with store_of(forecast_home) as store:
        add_model(store, made.model("1h", "challenger"))
        promoted = ModelEvent("1h", version, Event.PROMOTED, "gate", "all gates are met", at=FORECAST_NOW)
        add_event(store, promoted)
    with client_of(forecast_home) as client:
        assert _of(client, "1h")["model"] == made.version_of("1h", "champion")


def test_series_with_too_little_history_gives_the_reason(lake: Lake, make_settings: Callable[..., Settings]) -> None:
    settings = make_settings()
    bars = lake.read("bars", "1h", series=[BTC]).tail(3)
    put(lake, "forecasts", made.forecast_rows(bars, "1h", "har", reason="3 of 12 bars that are needed"), Timeframe.H1)
    with client_of(settings) as client:
        found = _of(client, "1h")
    assert (found["quantiles"], found["sigma"], found["reason"]) == ([], None, "3 of 12 bars that are needed")


def test_stale_forecast_is_called_so(forecast_home: Settings) -> None:
    lake = Lake(forecast_home.lake_dir, forecast_home.environment)
    bars = lake.read("bars", "1h", series=[BTC])
    put(lake, "forecasts", made.forecast_rows(bars.head(bars.height - 2), "1h", "champion"), Timeframe.H1)
    with client_of(forecast_home) as client:
        body = client.get(URL, params={"horizon": "1h"}).json()
    assert body["data"]["horizons"][0]["is_stale"] is True
    assert body["warnings"][0].startswith("1h: the newest forecast is of the bar of 2025-07-27 09:00 UTC")


def test_old_lake_is_called_so(forecast_home: Settings) -> None:
    with client_of(forecast_home) as client:
        client.app.state.services.clock = lambda: FORECAST_NOW + timedelta(days=400)  # type: ignore[attr-defined]
        assert "newest bar is 400 days old" in client.get(URL).json()["warnings"]


# ---- direction


def _proof(**changes: Any) -> dict[str, Any]:
    proven = {"accuracy": 0.519, "accuracy_interval": [0.514, 0.524], "majority": 0.504, "brier_skill": 0.0014}
    return proven | changes


@pytest.mark.parametrize(
    ("p_up", "p_base", "test", "word"),
    [
        (0.531, 0.503, _proof(), "up"),
        (0.480, 0.503, _proof(), "down"),
        (0.513, 0.503, _proof(), "up"),
        (0.5129, 0.503, _proof(), "no directional edge"),
        (0.531, 0.503, _proof(accuracy_interval=[0.504, 0.53]), "no directional edge"),
        (0.531, 0.503, _proof(brier_skill=0.0), "no directional edge"),
        (0.531, 0.503, _proof(brier_skill=None), "no directional edge"),
        (0.531, 0.503, {}, "no directional edge"),
        (None, None, _proof(), "no directional edge"),
    ],
)
def test_direction_word_needs_proof_and_tilt(p_up: float | None, p_base: float | None, test: dict[str, Any], word: str) -> None:
    said = direction(p_up, p_base, test)
    assert said["word"] == word
    assert said["why"]


def test_direction_of_24h_is_not_proven_and_says_the_figures(told: TestClient) -> None:
    said = _of(told, "24h")["direction"]
    assert said["word"] == "no directional edge"
    assert "50.2% of signs were right [48.5%, 52.0%]" in said["why"]


# ---- overview


def test_list_forecasts_one_line_per_series_and_horizon(told: TestClient) -> None:
    body = told.get("/api/forecasts").json()
    lines = Envelope[list[ForecastLine]].model_validate(body).data
    assert len(lines) == 10  # BTC has all four horizons, the two ETH series have no bars of 15m
    btc = [line for line in lines if line.symbol == "BTC-USDT"]
    assert [line.horizon for line in btc] == list(HORIZONS)
    for line in lines:
        assert line.low_95 < line.low_80 < line.median < line.high_80 < line.high_95  # type: ignore[operator]
    assert {line.horizon for line in Envelope[list[ForecastLine]].model_validate(told.get("/api/forecasts?horizon=4h").json()).data} == {
        "4h"
    }


def test_hot_file_holds_every_forecaster_and_horizon(forecast_lake: Lake) -> None:
    hot = forecast_lake.hot("forecasts", "1h")
    assert set(hot.group_by(FORECASTS.groups).len()["len"]) == {FORECASTS.hot_rows}
    assert hot.select(FORECASTS.groups).unique().height == 3 * 3 * 3


def test_store_that_fails_forecasts_go_on(forecast_home: Settings) -> None:
    with closing(sqlite3.connect(forecast_home.database_url.removeprefix("sqlite:///"))) as raw:
        raw.execute("DROP TABLE model_events")
    with client_of(forecast_home) as client:
        body = client.get(URL).json()
        assert client.get("/api/models").status_code == 503
    assert [h["forecaster"] for h in body["data"]["horizons"]] == ["champion"] * 4
    assert "the model log cannot be read" in " ".join(body["warnings"])
