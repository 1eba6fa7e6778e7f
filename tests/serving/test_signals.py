"""Indicators, pivots, divergences, levels, evidence, regime and report through the API."""

from __future__ import annotations

from datetime import timedelta

import pytest
from starlette.testclient import TestClient

from altforecast_serving.lineage import Envelope
from altforecast_serving.routes.divergences import DivergenceResponse
from altforecast_serving.routes.evidence import EvidenceResponse
from altforecast_serving.routes.indicators import IndicatorsResponse, PivotResponse
from altforecast_serving.routes.levels import LevelResponse
from altforecast_serving.routes.regime import RegimeResponse, ReportResponse
from tests.serving.conftest import END, START

ROUTES = {
    "/api/indicators/BTC/1h": list[IndicatorsResponse], "/api/pivots/BTC/1h": list[PivotResponse],
    "/api/divergences": list[DivergenceResponse], "/api/levels/BTC/1h": list[LevelResponse], "/api/evidence": list[EvidenceResponse],
    "/api/regime": RegimeResponse, "/api/report": ReportResponse,
}  # fmt: skip


@pytest.mark.parametrize("url", ROUTES)
def test_signal_routes_keep_their_documented_shape(client: TestClient, url: str) -> None:
    response = client.get(url)
    assert response.status_code == 200
    body = Envelope[ROUTES[url]].model_validate(response.json())  # type: ignore[misc]
    assert body.lineage.run_id
    assert body.lineage.known_at is not None
    assert client.get(url, headers={"If-None-Match": response.headers["etag"]}).status_code == 304


@pytest.mark.parametrize("url", ROUTES)
def test_signal_routes_empty_lake_says_why(empty: TestClient, url: str) -> None:
    body = empty.get(url).json()
    Envelope[ROUTES[url]].model_validate(body)  # type: ignore[misc]
    assert body["warnings"]
    assert body["lineage"]["parts"] == []


@pytest.mark.parametrize("url", ["/api/indicators/{}/{}", "/api/pivots/{}/{}", "/api/levels/{}/{}"])
def test_signal_routes_unknown_names(client: TestClient, url: str) -> None:
    assert client.get(url.format("DOGE", "1h")).status_code == 404
    response = client.get(url.format("BTC", "2h"))
    assert response.status_code == 422
    assert "1h" in response.json()["allowed"]


def test_signal_routes_not_built_yet_say_so(client: TestClient) -> None:
    for url in ("/api/indicators/BTC/15m", "/api/pivots/BTC/15m", "/api/levels/BTC/15m"):
        assert "not been built" in client.get(url).json()["warnings"][0]


def test_read_indicators_pages(client: TestClient) -> None:
    body = client.get("/api/indicators/BTC/1h", params={"limit": 600}).json()
    rest = client.get("/api/indicators/BTC/1h", params={"limit": 600, "cursor": body["next_cursor"]}).json()
    assert (body["count"], rest["count"], rest["next_cursor"]) == (600, 300, None)
    assert rest["data"][-1]["rsi_14"] is None


def test_read_pivots_pages(client: TestClient) -> None:
    body = client.get("/api/pivots/BTC/1h", params={"limit": 20}).json()
    rest = client.get("/api/pivots/BTC/1h", params={"limit": 100, "cursor": body["next_cursor"]}).json()
    assert len({r["ts"] for r in body["data"] + rest["data"]}) == 45


def test_list_divergences_gives_one_row_per_event_at_its_newest_status(client: TestClient) -> None:
    rows = client.get("/api/divergences").json()["data"]
    assert len(rows) == len({r["id"] for r in rows}) == 22
    assert sorted({r["status"] for r in rows}) == ["active", "confirmed"]
    assert [r["ts"] for r in rows] == sorted((r["ts"] for r in rows), reverse=True)


def test_list_divergences_filters(client: TestClient) -> None:
    def ids(**params: str) -> list[str]:
        return [r["id"] for r in client.get("/api/divergences", params=params).json()["data"]]

    assert len(ids(status="active")) == 6
    assert len(ids(status="confirmed")) == 16
    assert len(ids(kind="hidden_bearish")) == 11
    assert ids(oscillator="macd") == []
    assert len(ids(metric="BTC", timeframe="1h")) == 22
    assert ids(metric="ETH-USDT") == []


def test_list_divergences_pages_never_show_an_event_twice(client: TestClient) -> None:
    seen: list[str] = []
    cursor = None
    while True:
        body = client.get("/api/divergences", params={"limit": 5, **({"cursor": cursor} if cursor else {})}).json()
        seen += [r["id"] for r in body["data"]]
        cursor = body["next_cursor"]
        if cursor is None:
            break
    assert len(seen) == len(set(seen)) == 22


def test_list_divergences_as_of_knows_nothing_later(client: TestClient) -> None:
    cut = START + timedelta(hours=25)
    rows = client.get("/api/divergences", params={"to": cut.isoformat()}).json()["data"]
    assert [(r["id"], r["status"]) for r in rows] == [("event-1h-000", "active")]


def test_list_divergences_carries_the_words_of_the_evidence(client: TestClient) -> None:
    rows = client.get("/api/divergences").json()["data"]
    measured = next(r for r in rows if r["kind"] == "regular_bullish")
    assert measured["verdict"] == measured["evidence"]["verdict"] == "not better than base rate"
    assert measured["evidence"]["n"] == 400
    assert measured["implication"] == "bullish"
    unmeasured = next(r for r in rows if r["kind"] == "hidden_bearish")
    assert unmeasured["evidence"] is None
    assert "not measured" in unmeasured["verdict"]


def test_read_levels_gives_live_levels_nearest_first(client: TestClient) -> None:
    rows = client.get("/api/levels/BTC/1h").json()["data"]
    assert [r["id"] for r in rows] == ["level-a", "level-b"]
    assert rows[1]["price"] == 101.5
    assert rows[0]["evidence"]["n"] == 400
    assert rows[0]["n_bars_since_touch"] > 0


def test_read_levels_as_of_and_side(client: TestClient) -> None:
    then = (START + timedelta(hours=45)).isoformat()
    rows = client.get("/api/levels/BTC/1h", params={"as_of": then}).json()["data"]
    assert {r["id"]: r["price"] for r in rows} == {"level-a": 95.0, "level-b": 101.0, "level-c": 120.0}
    rows = client.get("/api/levels/BTC/1h", params={"side": "support"}).json()["data"]
    assert [r["id"] for r in rows] == ["level-a"]


def test_read_evidence_gives_the_newest_measurement(client: TestClient) -> None:
    rows = client.get("/api/evidence").json()["data"]
    assert [(r["signal"], r["n"]) for r in rows] == [("divergence", 400), ("level", 400)]
    assert len(client.get("/api/evidence", params={"signal": "level", "timeframe": "60"}).json()["data"]) == 1
    assert client.get("/api/evidence", params={"timeframe": "4h"}).json()["data"] == []


def test_read_regime_explains_itself(client: TestClient) -> None:
    body = client.get("/api/regime", params={"limit": 5}).json()
    newest = body["data"]["latest"]
    assert newest == body["data"]["history"][0]
    assert len(body["data"]["history"]) == 5
    assert newest["missing"] == ["ETHBTC"]
    assert "ETHBTC" in body["warnings"][0]
    assert [c["metric"] for c in newest["contributions"]] == ["ethbtc", "usdt_d", "btc_d", "total2", "total3"]


def test_read_regime_as_of_knows_nothing_later(client: TestClient) -> None:
    then = END - timedelta(hours=10)
    newest = client.get("/api/regime", params={"as_of": then.isoformat()}).json()["data"]["latest"]
    assert newest["known_at"] == then.strftime("%Y-%m-%dT%H:%M:%SZ")


def test_read_report_gives_the_newest_lines_in_order(client: TestClient) -> None:
    data = client.get("/api/report").json()["data"]
    assert [line["metric"] for line in data["lines"]] == ["BTC", "USDT.D"]
    assert data["text"] == "BTC: line of 23\nUSDT.D: line of 23"
    assert [c["over"] for c in data["lines"][0]["changes"]] == ["15m", "1h", "4h", "24h"]
    earlier = client.get("/api/report", params={"as_of": (END - timedelta(hours=1)).isoformat()}).json()["data"]
    assert earlier["text"].startswith("BTC: line of 22")
