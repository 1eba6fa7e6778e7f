"""Forecasts through the API: who answers, what it says of itself, and what became of what was said before."""

from __future__ import annotations

import io
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from math import exp
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from starlette.testclient import TestClient

from altforecast.forecast_params import HORIZONS
from altforecast.forecast_scores import LEVELS
from altforecast.forecast_tables import FORECASTS
from altforecast.types import Timeframe
from altforecast_io.lake import Lake
from altforecast_io.settings import Settings
from altforecast_io.store.engine import Store, open_store
from altforecast_io.store.models import Event, ModelEvent, add_event, add_model
from altforecast_serving.app import create_app
from altforecast_serving.lineage import Envelope
from altforecast_serving.queries.direction import direction
from altforecast_serving.routes.forecast_models import ForecastLine, ForecastResponse, ReliabilityResponse, SkillRow, TrackRecordResponse
from tests.serving import forecast_rows as made
from tests.serving.conftest import BTC, SECRET, fill, put

URL = "/api/forecasts/BTC-USDT"
NOW = datetime.fromisoformat("2025-07-27T12:20:00Z")
"""Twenty minutes after the newest 1h bar of BTC has closed."""


@contextmanager
def _client(settings: Settings) -> Iterator[TestClient]:
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        client.app.state.services.clock = lambda: NOW  # type: ignore[attr-defined]
        yield client


@contextmanager
def _store(settings: Settings) -> Iterator[Store]:
    with closing(open_store(settings.database_url, settings.environment)) as store:
        yield store


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A lake with forecasts and a champion at every horizon; nobody writes to it."""
    settings = Settings.load(base=tmp_path_factory.mktemp("template"), database_url_override="", secret_webhook_token=SECRET)
    settings.make_folders()
    lake = Lake(settings.lake_dir, settings.environment)
    fill(lake)
    made.fill_forecasts(lake)
    with _store(settings) as store:
        made.add_models(store)
    return settings


@pytest.fixture(scope="module")
def told(template: Settings) -> Iterator[TestClient]:
    with _client(template) as client:
        yield client


@pytest.fixture(scope="module")
def filled(template: Settings) -> Lake:
    return Lake(template.lake_dir, template.environment)


@pytest.fixture
def home(template: Settings, make_settings: Callable[..., Settings], tmp_path: Path) -> Settings:
    """A copy of the template to write to."""
    shutil.copytree(template.base, tmp_path, dirs_exist_ok=True)
    return make_settings()


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


def test_read_forecasts_quantiles_are_prices_from_the_close(told: TestClient, filled: Lake) -> None:
    found = _of(told, "4h")
    close = filled.read("bars", "1h", series=[BTC])["close"][-1]
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
    assert "forecasts have not been built" in client.get(URL).json()["warnings"][0]
    assert "no bars of 15m or 1h" not in str(client.get(URL).json())


def test_read_forecasts_index_has_none(told: TestClient) -> None:
    body = told.get("/api/forecasts/USDT.D").json()
    assert body["data"]["horizons"] == []
    assert "no forecast of USDT.D" in body["warnings"][0]


def test_read_btc_falls_back_to_a_venue_that_has_bars(make_settings: Callable[..., Settings], lake: Lake) -> None:
    made.fill_forecasts(lake)
    with _client(make_settings(tv_btc_symbol="KRAKEN:BTCUSDT")) as client:
        assert client.get("/api/forecasts/btc").json()["data"]["exchange"] == "binance"


# ---- who answers


def test_no_champion_yet_baseline_answers_and_says_so(lake: Lake, make_settings: Callable[..., Settings]) -> None:
    settings = make_settings()
    made.fill_forecasts(lake, forecasters=("har", "climatology"))
    with _store(settings) as store:
        made.add_models(store, has_champion=False)
    with _client(settings) as client:
        found = _of(client, "1h")
    assert (found["forecaster"], found["is_baseline"]) == ("har", True)
    assert found["note"] == "no champion yet: the baseline HAR-S-FHS answers"
    assert found["p_up"] is None
    assert found["direction"]["word"] == "no directional edge"
    assert found["walk_forward"]["coverage_80"] == 0.801


def test_rolled_back_baseline_answers_at_once(home: Settings) -> None:
    with _client(home) as client:
        before = client.get(URL, params={"horizon": "1h"})
        with _store(home) as store:
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
    with _store(settings) as store:
        made.add_models(store)
    with _client(settings) as client:
        found = _of(client, "1h")
    assert (found["forecaster"], len(found["quantiles"])) == ("har", 9)
    assert "(model file missing)" in found["note"]


def test_champion_behind_the_baseline_does_not_answer(lake: Lake, make_settings: Callable[..., Settings]) -> None:
    settings = make_settings()
    bars = lake.read("bars", "1h", series=[BTC])
    rows = [made.forecast_rows(bars.tail(9).head(6), "1h", "champion"), made.forecast_rows(bars.tail(9), "1h", "har")]
    put(lake, "forecasts", pl.concat(rows), Timeframe.H1)
    with _store(settings) as store:
        made.add_models(store)
    with _client(settings) as client:
        found = _of(client, "1h")
    assert (found["forecaster"], found["ts"]) == ("har", "2025-07-27T11:00:00Z")
    assert "has not forecast this bar" in found["note"]


def test_new_champion_the_former_answers_until_the_next_bar(home: Settings) -> None:
    version = made.version_of("1h", "challenger")
    with _store(home) as store:
        add_model(store, made.model("1h", "challenger"))
        promoted = ModelEvent("1h", version, Event.PROMOTED, "gate", "all gates are met", at=NOW)
        add_event(store, promoted)
    with _client(home) as client:
        assert _of(client, "1h")["model"] == made.version_of("1h", "champion")


def test_series_with_too_little_history_gives_the_reason(lake: Lake, make_settings: Callable[..., Settings]) -> None:
    settings = make_settings()
    bars = lake.read("bars", "1h", series=[BTC]).tail(3)
    put(lake, "forecasts", made.forecast_rows(bars, "1h", "har", reason="3 of 12 bars that are needed"), Timeframe.H1)
    with _client(settings) as client:
        found = _of(client, "1h")
    assert (found["quantiles"], found["sigma"], found["reason"]) == ([], None, "3 of 12 bars that are needed")


def test_stale_forecast_is_called_so(home: Settings) -> None:
    lake = Lake(home.lake_dir, home.environment)
    bars = lake.read("bars", "1h", series=[BTC])
    put(lake, "forecasts", made.forecast_rows(bars.head(bars.height - 2), "1h", "champion"), Timeframe.H1)
    with _client(home) as client:
        body = client.get(URL, params={"horizon": "1h"}).json()
    assert body["data"]["horizons"][0]["is_stale"] is True
    assert body["warnings"][0].startswith("1h: the newest forecast is of the bar of 2025-07-27 09:00 UTC")


def test_old_lake_is_called_so(home: Settings) -> None:
    with _client(home) as client:
        client.app.state.services.clock = lambda: NOW + timedelta(days=400)  # type: ignore[attr-defined]
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


def test_hot_file_holds_every_forecaster_and_horizon(filled: Lake) -> None:
    hot = filled.hot("forecasts", "1h")
    assert set(hot.group_by(FORECASTS.groups).len()["len"]) == {FORECASTS.hot_rows}
    assert hot.select(FORECASTS.groups).unique().height == 3 * 3 * 3


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


def test_track_record_row_is_what_happened(told: TestClient, filled: Lake) -> None:
    row = told.get(f"{URL}/track-record", params={"horizon": "4h", "limit": 10}).json()["data"]["rows"][6]
    closes = filled.read("bars", "1h", series=[BTC]).select("ts", "close")
    at = datetime.fromisoformat(row["ts"])
    now = closes.filter(pl.col("ts") == at)["close"][0]
    then = closes.filter(pl.col("ts") == at + timedelta(hours=4))["close"][0]
    assert (row["price"], row["price_then"]) == (now, pytest.approx(then))
    assert row["is_up"] == (then > now)
    assert row["is_in_80"] == (row["q100"] <= row["outcome"] <= row["q900"])
    assert row["loss_climatology"] is not None
    assert row["forecaster"] == "champion"


def test_track_record_summary_is_of_all_outcomes(told: TestClient, filled: Lake) -> None:
    (summary,) = told.get(f"{URL}/track-record", params={"horizon": "1h", "limit": 1}).json()["data"]["summary"]
    outcomes = filled.read("forecast_outcomes", "1h", series=[BTC]).filter((pl.col("horizon") == "1h") & (pl.col("origin") == "live"))
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


def test_read_reliability_sums_all_symbols(told: TestClient, filled: Lake) -> None:
    body = told.get("/api/forecasts/reliability", params={"horizon": "1h"}).json()
    found = Envelope[ReliabilityResponse].model_validate(body).data
    outcomes = filled.read("forecast_outcomes", "1h").filter(
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


@pytest.mark.parametrize("url", ["/api/forecasts/skill", "/api/forecasts/reliability", f"{URL}/track-record", "/api/forecasts"])
def test_forecast_routes_not_built_yet_say_so(client: TestClient, url: str) -> None:
    body = client.get(url).json()
    assert "have not been built" in body["warnings"][0] or "has not been built" in body["warnings"][0]


# ---- the rest


def test_store_that_fails_forecasts_go_on(home: Settings) -> None:
    with closing(sqlite3.connect(home.database_url.removeprefix("sqlite:///"))) as raw:
        raw.execute("DROP TABLE model_events")
    with _client(home) as client:
        body = client.get(URL).json()
        assert client.get("/api/models").status_code == 503
    assert [h["forecaster"] for h in body["data"]["horizons"]] == ["champion"] * 4
    assert "the model log cannot be read" in " ".join(body["warnings"])
