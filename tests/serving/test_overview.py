"""Counts, symbols, streams, lineage, health, metrics, settings report and chart through the API."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from xml.etree import ElementTree

import orjson
import pytest
from starlette.testclient import TestClient

from altforecast.types import Metric
from altforecast_io.lake import Lake
from altforecast_io.landing import remove_landing, write_landing
from altforecast_io.provenance import Input, Provenance
from altforecast_io.settings import Settings
from altforecast_io.store import heartbeats, inbox
from altforecast_io.store.engine import open_store
from altforecast_serving.app import create_app
from altforecast_serving.lineage import Envelope
from altforecast_serving.queries.health import judge
from altforecast_serving.routes.health import HealthResponse
from altforecast_serving.routes.lineage import LineageRecord
from altforecast_serving.routes.settings import ConfigReport
from altforecast_serving.routes.stats import MetricsStatsResponse, StatsResponse, SymbolResponse
from altforecast_serving.routes.streams import StreamsResponse
from tests.serving.conftest import SECRET, START
from tests.serving.test_bars import alert


def test_read_stats_counts_everything(client: TestClient) -> None:
    body = client.get("/api/stats").json()
    Envelope[StatsResponse].model_validate(body)
    data = body["data"]
    assert data["n_bars"] == 2200
    assert data["n_bars_by_timeframe"] == {"15m": 700, "1h": 1500}
    assert data["n_series"] == 4
    assert (data["n_active_divergences"], data["n_divergences"]) == (6, 22)
    assert data["metrics"] == [m.value for m in Metric]
    assert body["lineage"]["n_parts"] == 3


def test_read_stats_counts_provisional_bars(client: TestClient) -> None:
    client.post("/webhook", content=orjson.dumps(alert(START + timedelta(hours=900))))
    body = client.get("/api/stats").json()
    assert body["data"]["n_provisional_bars"] == 1
    assert body["lineage"]["is_provisional"] is True


def test_read_stats_follows_new_bars_only_in_the_changed_part(client: TestClient, lake: Lake) -> None:
    from tests.serving.conftest import BTC, Timeframe, bars_of, put

    client.get("/api/stats")
    put(lake, "bars", bars_of(BTC, Timeframe.M15, 701, 9), Timeframe.M15)
    assert client.get("/api/stats").json()["data"]["n_bars"] == 2201


def test_read_metric_stats_has_a_row_for_each_metric_and_timeframe(client: TestClient, lake: Lake) -> None:
    body = client.get("/api/metrics/stats").json()
    Envelope[list[MetricsStatsResponse]].model_validate(body)
    rows = {(r["metric"], r["timeframe"]): r for r in body["data"]}
    assert len(rows) == 24
    bars = lake.read("bars", "1h").filter(symbol="BTC-USDT")
    btc = rows[("BTC", "1h")]
    assert btc["n_bars"] == 900
    assert btc["mean_close"] == pytest.approx(bars["close"].mean())
    assert (btc["low"], btc["high"], btc["last_close"]) == (bars["low"].min(), bars["high"].max(), bars["close"][-1])
    assert rows[("TOTAL2", "4h")]["n_bars"] == 0


def test_list_symbols_names_each_series_with_its_timeframes(client: TestClient) -> None:
    body = client.get("/api/symbols").json()
    Envelope[list[SymbolResponse]].model_validate(body)
    btc = next(r for r in body["data"] if r["metric"] == "BTC")
    assert [(t["timeframe"], t["n_bars"]) for t in btc["timeframes"]] == [("15m", 700), ("1h", 900)]
    assert len(body["data"]) == 4


def test_overview_routes_empty_lake_says_how_to_fill_it(empty: TestClient) -> None:
    for url in ("/api/stats", "/api/metrics/stats", "/api/symbols"):
        assert "altforecast import" in empty.get(url).json()["warnings"][0]


def test_read_streams_judges_each_expected_stream(empty: TestClient) -> None:
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    empty.post("/webhook", content=orjson.dumps(alert(now - timedelta(hours=1))))
    body = empty.get("/api/streams").json()
    Envelope[StreamsResponse].model_validate(body)
    rows = {(r["metric"], r["timeframe"]): r for r in body["data"]["streams"]}
    assert len(rows) == body["data"]["n_streams"] == 24
    assert rows[("BTC", "1h")]["state"] == "on_time"
    assert rows[("BTC", "1h")]["n_received"] == 1
    assert rows[("TOTAL2", "1d")]["state"] == "never_seen"
    assert body["data"]["summary"] == {"on_time": 1, "never_seen": 23}


def test_read_lineage_of_a_part_opens_its_inputs(client: TestClient) -> None:
    body = client.get("/api/lineage/divergences@1h@2025-07", params={"depth": 3}).json()
    Envelope[LineageRecord].model_validate(body)
    chain = []
    record = body["data"]
    while record is not None:
        chain.append((record["asset"], record["run_id"]))
        record = record["inputs"][0].get("record")
    assert chain == [("divergences", "run-3"), ("pivots", "run-2"), ("indicators", "run-2"), ("bars", "run-1")]


def test_read_lineage_depth_cuts_and_says_so(client: TestClient) -> None:
    data = client.get("/api/lineage/divergences@1h@2025-07", params={"depth": 0}).json()["data"]
    assert data["inputs"][0]["record"] is None
    assert data["inputs"][0]["is_cut"] is True


def test_read_lineage_of_every_version_that_answers_name(client: TestClient) -> None:
    for url in ("/api/bars/BTC/1h", "/api/divergences", "/api/regime", "/api/levels/BTC/1h", "/api/evidence", "/api/report"):
        for part in client.get(url).json()["lineage"]["parts"]:
            by_version = client.get(f"/api/lineage/{part['data_version']}").json()["data"]
            by_name = client.get(f"/api/lineage/{part['part']}").json()["data"]
            assert by_version["part"] == by_name["part"] == part["part"]
            assert by_version["is_current"] is True


def test_read_lineage_of_a_replaced_version_is_still_known(client: TestClient, lake: Lake) -> None:
    from tests.serving.conftest import BTC, Timeframe, bars_of, put

    old = client.get("/api/bars/BTC/15m").json()["lineage"]["data_version"]
    put(lake, "bars", bars_of(BTC, Timeframe.M15, 10, 1), Timeframe.M15, run_id="run-9")
    data = client.get(f"/api/lineage/{old}").json()["data"]
    assert (data["run_id"], data["is_current"]) == ("run-1", False)


def test_read_lineage_of_a_delivery_hides_its_raw_body(client: TestClient) -> None:
    receipt = client.post("/webhook", content=orjson.dumps(alert(START))).json()
    response = client.get(f"/api/lineage/inbox:{receipt['id']}")
    assert response.json()["data"]["symbol"] == "BTC-USDT"
    assert SECRET not in response.text


def test_read_lineage_of_bars_ends_at_the_imported_file(client: TestClient, lake: Lake) -> None:
    from tests.serving.conftest import BTC, END, Timeframe, bars_of, put

    rows, name = bars_of(BTC, Timeframe.M15, 10, 1), "import-abc123-0000"
    record = Provenance("import", "import-abc123", "1", lake.environment, END, (Input("import", "btc.csv", "abc123"),), n_rows=10)
    path = write_landing(lake.root, name, rows, record)
    assert client.get(f"/api/lineage/{name}").json()["data"]["inputs"][0]["name"] == "btc.csv"
    put(lake, "bars", rows, Timeframe.M15, run_id="run-9", inputs=(Input("import", path.name),))
    assert remove_landing([path]) == 1
    data = client.get(f"/api/lineage/{lake.files('bars', Timeframe.M15)[-1].name}", params={"depth": 1}).json()["data"]
    assert data["inputs"][0]["record"]["inputs"][0] == {
        "kind": "import", "name": "btc.csv", "data_version": "abc123", "record": None, "is_cut": False,
    }  # fmt: skip
    assert client.get("/api/lineage/import-unknown-0000").status_code == 404


def test_read_lineage_of_a_range_of_deliveries_names_them(client: TestClient) -> None:
    for hours in range(3):
        client.post("/webhook", content=orjson.dumps(alert(START + timedelta(hours=hours))))
    data = client.get("/api/lineage/inbox:1..2").json()["data"]
    assert data["n_rows"] == 2
    assert [i["name"] for i in data["inputs"]] == ["inbox:1", "inbox:2"]
    assert client.get("/api/lineage/inbox%201..3").json()["data"]["n_rows"] == 3
    assert client.get("/api/lineage/inbox:7..9").status_code == 404


@pytest.mark.parametrize(
    "name", ["0" * 16, "bars@1h@1999-01", "bars@1h", "inbox:99", "inbox:x", "inbox:" + "9" * 60, "no@1h@2025-07", "%F0%9F%92%A9"]
)
def test_read_lineage_unknown_id(client: TestClient, name: str) -> None:
    response = client.get(f"/api/lineage/{name}")
    assert response.status_code == 404
    assert response.json()["error"] == "unknown_name"


def test_read_liveness_is_constant(client: TestClient) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}


def test_read_health_has_the_old_shape(client: TestClient) -> None:
    body = client.get("/health").json()
    HealthResponse.model_validate(body)
    assert body["status"] == "healthy"
    parts = body["components"]
    assert {"db", "broker", "bus", "time_sync", "lake", "dagster"} <= set(parts)
    assert parts["db"]["latency_ms"] >= 0
    assert parts["broker"]["mode"] == "paper"
    assert (parts["bus"]["ok"], parts["bus"]["queue_size"], parts["bus"]["kind"]) == (True, 0, "none")
    assert (parts["inbox"]["ok"], parts["inbox"]["queue_size"], parts["inbox"]["n_pending"]) == (True, 0, 0)


def test_read_health_stale_dagster_degrades(client: TestClient, make_settings: Callable[..., Settings]) -> None:
    store = open_store(make_settings().database_url, clock=lambda: datetime.now(UTC) - timedelta(hours=1))
    heartbeats.beat(store, "dagster-daemon", datetime.now(UTC), {})
    store.close()
    response = client.get("/health")
    assert (response.status_code, response.json()["status"]) == (200, "degraded")
    assert response.json()["components"]["dagster"]["ok"] is False


def test_read_health_takes_components_of_the_live_engine(make_settings: Callable[..., Settings]) -> None:
    class Engine:
        def health(self) -> dict[str, dict[str, Any]]:
            return {"time_sync": {"ok": False, "drift_ms": 5000.0}}

    with TestClient(create_app(make_settings(), Engine())) as client:
        body = client.get("/health").json()
        assert (body["status"], body["components"]["time_sync"]["drift_ms"]) == ("degraded", 5000.0)
        assert "time_drift_ms 5000.0" in client.get("/metrics").text


def test_judge_vital_component_makes_unhealthy() -> None:
    good, bad = {"ok": True}, {"ok": False}
    assert judge({"db": good, "lake": good, "dagster": good}) == "healthy"
    assert judge({"db": good, "lake": good, "dagster": bad}) == "degraded"
    assert judge({"db": bad, "lake": good, "dagster": bad}) == "unhealthy"


def test_read_metrics_counts_by_route_template(client: TestClient) -> None:
    client.get("/api/bars/BTC/1h")
    client.get("/nowhere/at/all")
    text = client.get("/metrics").text
    assert 'http_requests_total{method="GET",route="/api/bars/{metric}/{timeframe}",status="200"} 1.0' in text
    assert 'route="unmatched",status="404"} 1.0' in text
    assert "sqlite_file_size_bytes" in text
    assert "_created" not in text


def test_validate_config_masks_secrets(client: TestClient) -> None:
    response = client.get("/config/validate")
    ConfigReport.model_validate(response.json())
    assert SECRET not in response.text
    row = next(r for r in response.json()["settings"] if r["name"] == "SECRET_WEBHOOK_TOKEN")
    assert row["value"] == "***"


def test_draw_price_is_svg_with_a_candle_per_bar(client: TestClient) -> None:
    response = client.get("/chart/test", params={"symbol": "BTC", "timeframe": "60", "limit": 50})
    assert response.headers["content-type"] == "image/svg+xml"
    root = ElementTree.fromstring(response.text)
    wicks = [e for e in root.iter("{http://www.w3.org/2000/svg}line") if e.get("x1") == e.get("x2")]
    assert len(wicks) == 50
    assert "http" not in response.text.replace("http://www.w3.org/2000/svg", "")


def test_draw_price_empty_lake_is_still_a_picture(empty: TestClient) -> None:
    assert "no bars" in empty.get("/chart/test").text
    assert empty.get("/chart/test", params={"symbol": "<script>"}).status_code == 404


def test_tail_survives_a_store_that_does_not_answer(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    from altforecast.errors import StorageError

    def gone(*_: object) -> None:
        raise StorageError("operational store: gone")

    monkeypatch.setattr(inbox, "pending", gone)
    body = client.get("/api/bars/BTC/1h", params={"limit": 2}).json()
    assert body["count"] == 2
    assert "provisional bars may be missing" in body["warnings"][0]
