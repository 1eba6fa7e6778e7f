"""Bars through the API: pages, formats, provisional rows, names, bounds."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import polars as pl
import pytest
from starlette.testclient import TestClient

from altforecast.types import Timeframe
from altforecast_io.lake import HOT_ROWS, Lake
from altforecast_serving.lineage import Envelope
from altforecast_serving.routes.bars import BarResponse
from tests.serving.conftest import BTC, ETH_BYBIT, SECRET, START, bars_of, put

URL = "/api/bars/BTC/1h"


def alert(ts: datetime, close: str = "101", symbol: str = "BINANCE:BTCUSDT", tf: str = "60") -> dict[str, Any]:
    return {
        "v": 1,
        "token": SECRET,
        "symbol": symbol,
        "tf": tf,
        "t": int(ts.timestamp() * 1000),
        "o": "100",
        "h": "102",
        "l": "99",
        "c": close,
        "vol": "5",
    }


def test_read_bars_newest_first(client: TestClient) -> None:
    body = client.get(URL, params={"limit": 3}).json()
    Envelope[list[BarResponse]].model_validate(body)
    last = START + timedelta(hours=899)
    assert [r["ts"] for r in body["data"]] == [(last - timedelta(hours=i)).strftime("%Y-%m-%dT%H:%M:%SZ") for i in range(3)]
    assert body["count"] == 3
    assert body["environment"] == "live"
    assert body["lineage"]["known_at"] == (last + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert body["data"][0]["metric"] == "BTC"


def test_read_bars_names_run_and_version(client: TestClient, lake: Lake) -> None:
    lineage = client.get(URL).json()["lineage"]
    record = next(p for p in lake.files("bars", "1h") if p.month == "2025-07").provenance()
    assert (lineage["run_id"], lineage["data_version"], lineage["code_version"]) == ("run-1", record.data_version, record.code_version)
    assert [p["part"] for p in lineage["parts"]] == ["bars@1h@2025-07"]


@pytest.mark.parametrize("limit", [10, 250, 700])
def test_read_bars_pages_reach_every_row_once(client: TestClient, limit: int) -> None:
    for order in ("desc", "asc"):
        seen: list[str] = []
        cursor = None
        for _ in range(200):
            body = client.get(URL, params={"limit": limit, "order": order, **({"cursor": cursor} if cursor else {})}).json()
            seen += [r["ts"] for r in body["data"]]
            cursor = body["next_cursor"]
            if cursor is None:
                break
        assert len(seen) == 900
        assert seen == sorted(set(seen), reverse=order == "desc")


def test_read_bars_beyond_the_hot_rows_equals_the_lake(client: TestClient, lake: Lake) -> None:
    got = [r["close"] for r in client.get(URL, params={"limit": HOT_ROWS + 200}).json()["data"]]
    wanted = lake.read("bars", "1h", series=[BTC])["close"].reverse().head(HOT_ROWS + 200).to_list()
    assert got == wanted


@pytest.mark.parametrize("hours", [(10, 20), (100, 110), (880, 890)])
def test_read_bars_between_times(client: TestClient, hours: tuple[int, int]) -> None:
    start, end = (START + timedelta(hours=h) for h in hours)
    for order in ("asc", "desc"):
        body = client.get(URL, params={"from": start.isoformat(), "to": end.isoformat(), "order": order}).json()
        assert sorted(r["ts"] for r in body["data"]) == [(START + timedelta(hours=h)).strftime("%Y-%m-%dT%H:%M:%SZ") for h in range(*hours)]
        assert body["next_cursor"] is None


def test_list_bars_covers_all_series(client: TestClient) -> None:
    body = client.get("/api/bars", params={"limit": 5000}).json()
    assert body["count"] == 900 + 300 + 200 + 100 + 700
    assert {(r["exchange"], r["symbol"]) for r in body["data"]} == {
        ("binance", "BTC-USDT"), ("binance", "ETH-USDT"), ("bybit", "ETH-USDT"), ("cryptocap", "USDT.D"),
    }  # fmt: skip
    ts = [r["ts"] for r in body["data"]]
    assert ts == sorted(ts, reverse=True)


def test_list_bars_pages_over_series_with_equal_times(client: TestClient) -> None:
    seen: list[tuple[str, ...]] = []
    cursor = None
    while True:
        params = {"limit": 333, "timeframe": "1h", **({"cursor": cursor} if cursor else {})}
        body = client.get("/api/bars", params=params).json()
        seen += [(r["ts"], r["symbol"], r["exchange"]) for r in body["data"]]
        cursor = body["next_cursor"]
        if cursor is None:
            break
    assert len(seen) == len(set(seen)) == 1500


def test_list_bars_filters_by_exchange_and_symbol(client: TestClient) -> None:
    rows = client.get("/api/bars", params={"exchange": "bybit"}).json()["data"]
    assert {r["exchange"] for r in rows} == {"bybit"}
    rows = client.get("/api/bars", params={"symbol": "ethusdt", "timeframe": "60"}).json()["data"]
    assert {(r["exchange"], r["symbol"]) for r in rows} == {("binance", "ETH-USDT")}


def test_list_bars_refuses_metric_with_symbol(client: TestClient) -> None:
    assert client.get("/api/bars", params={"symbol": "BTC", "metric": "BTC"}).status_code == 422


@pytest.mark.parametrize(
    ("name", "exchange", "found"),
    [
        ("btc", None, ("binance", "BTC-USDT")), ("BINANCE:BTCUSDT", None, ("binance", "BTC-USDT")),
        ("usdt.d", None, ("cryptocap", "USDT.D")), ("ETHUSDT", None, ("binance", "ETH-USDT")),
        ("ETH-USDT", "bybit", ("bybit", "ETH-USDT")),
    ],
)  # fmt: skip
def test_read_bars_takes_any_spelling(client: TestClient, name: str, exchange: str | None, found: tuple[str, str]) -> None:
    row = client.get(f"/api/bars/{name}/1H", params={"exchange": exchange} if exchange else {}).json()["data"][0]
    assert (row["exchange"], row["symbol"]) == found


def test_read_bars_unknown_metric_lists_the_allowed(client: TestClient) -> None:
    response = client.get("/api/bars/DOGE/1h")
    assert response.status_code == 404
    assert response.json()["error"] == "unknown_name"
    assert {"BTC", "ETH-USDT"} <= set(response.json()["allowed"])


def test_read_bars_unknown_timeframe_lists_the_allowed(client: TestClient) -> None:
    response = client.get("/api/bars/BTC/7h")
    assert response.status_code == 422
    assert response.json()["allowed"] == [t.value for t in Timeframe]


def test_read_bars_of_known_series_without_timeframe_says_what_there_is(client: TestClient) -> None:
    body = client.get("/api/bars/ETH-USDT/4h").json()
    assert body["data"] == []
    assert "there are: 1h" in body["warnings"][0]


def test_read_bars_empty_lake_says_how_to_fill_it(empty: TestClient) -> None:
    for url in (URL, "/api/bars"):
        body = empty.get(url).json()
        assert body["data"] == []
        assert body["lineage"]["run_id"] is None
        assert "altforecast import" in body["warnings"][0]


@pytest.mark.parametrize(
    "params",
    [
        {"limit": 0}, {"limit": 10_001}, {"limit": "many"}, {"order": "up"}, {"cursor": "!!"}, {"cursor": "WzFd"}, {"from": "yesterday"},
        {"from": "2025-08-02", "to": "2025-08-01"}, {"from": "0001-01-01T00:00:00+14:00"}, {"quality": "good"},
        {"format": "xml"}, {"limt": 3},
    ],
)  # fmt: skip
def test_read_bars_bad_parameter_is_named(client: TestClient, params: dict[str, Any]) -> None:
    response = client.get(URL, params=params)
    assert response.status_code == 422
    body = response.json()
    assert set(body) >= {"error", "detail", "request_id"}
    assert body["request_id"] == response.headers["x-request-id"]
    assert next(iter(params)) in body["detail"]


def test_read_bars_csv_has_lineage_in_headers(client: TestClient) -> None:
    response = client.get(URL, params={"limit": 5}, headers={"Accept": "text/csv"})
    frame = pl.read_csv(io.BytesIO(response.content))
    assert response.headers["content-type"].startswith("text/csv")
    assert frame.height == 5
    assert frame["ts"][0].endswith("Z")
    assert response.headers["x-run-id"] == "run-1"
    assert response.headers["x-environment"] == "live"
    assert response.headers["x-next-cursor"]


def test_read_bars_arrow_keeps_types(client: TestClient) -> None:
    response = client.get(URL, params={"limit": 5, "format": "arrow"})
    frame = pl.read_ipc_stream(io.BytesIO(response.content))
    assert frame.height == 5
    assert frame.schema["ts"] == pl.Datetime("ms", "UTC")
    assert frame["close"].to_list() == [r["close"] for r in client.get(URL, params={"limit": 5}).json()["data"]]


def test_read_bars_etag_gives_304_until_data_change(client: TestClient, lake: Lake) -> None:
    first = client.get(URL)
    again = client.get(URL, headers={"If-None-Match": first.headers["etag"]})
    assert again.status_code == 304
    assert again.content == b""
    assert client.get(URL, params={"limit": 7}).headers["etag"] != first.headers["etag"]
    put(lake, "bars", bars_of(BTC, Timeframe.H1, 901, 0), Timeframe.H1, run_id="run-9")
    changed = client.get(URL, headers={"If-None-Match": first.headers["etag"]})
    assert changed.status_code == 200
    assert changed.json()["lineage"]["run_id"] == "run-9"


def test_read_bars_shows_a_new_alert_at_once_and_marks_it(client: TestClient) -> None:
    ts = START + timedelta(hours=900)
    before = client.get(URL, params={"limit": 1}).json()["data"][0]["ts"]
    assert client.post("/webhook", content=orjson.dumps(alert(ts))).status_code == 200
    body = client.get(URL, params={"limit": 2}).json()
    assert body["data"][0]["ts"] == ts.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert body["data"][0]["quality"] == "provisional"
    assert body["data"][0]["close"] == 101.0
    assert body["data"][1]["ts"] == before
    assert body["lineage"]["is_provisional"] is True
    hidden = client.get(URL, params={"limit": 1, "include_provisional": "false"}).json()
    assert hidden["data"][0]["ts"] == before
    assert hidden["lineage"]["is_provisional"] is False


def test_read_bars_provisional_revision_stands_in_place_of_the_lake_bar(client: TestClient) -> None:
    for hours in (899, 100):
        ts = START + timedelta(hours=hours)
        client.post("/webhook", content=orjson.dumps(alert(ts, "100.5")))
        client.post("/webhook", content=orjson.dumps(alert(ts, "101.5")))
        period = {"from": ts.isoformat(), "to": (ts + timedelta(hours=1)).isoformat()}
        rows = client.get(URL, params=period).json()["data"]
        assert [(r["close"], r["quality"]) for r in rows] == [(101.5, "provisional")]
        settled = client.get(URL, params={**period, "quality": "observed"}).json()["data"]
        assert settled == []


def test_read_bars_provisional_bar_of_an_empty_lake(empty: TestClient) -> None:
    empty.post("/webhook", content=orjson.dumps(alert(datetime(2025, 8, 1, tzinfo=UTC), symbol="CRYPTOCAP:TOTAL3", tf="240")))
    body = empty.get("/api/bars/TOTAL3/4h").json()
    assert [r["quality"] for r in body["data"]] == ["provisional"]
    assert body["data"][0]["metric"] == "TOTAL3"
    assert body["lineage"]["parts"] == []


def test_list_bars_sandbox_says_so(make_settings: Callable[..., Any]) -> None:
    from altforecast_serving.app import create_app

    with TestClient(create_app(make_settings(environment="sandbox"))) as client:
        assert client.get("/api/bars").json()["environment"] == "sandbox"
        assert client.get("/health").json()["environment"] == "sandbox"


def test_read_bars_follows_a_replaced_month(client: TestClient, lake: Lake) -> None:
    old = {"from": START.isoformat(), "to": (START + timedelta(hours=5)).isoformat(), "exchange": ETH_BYBIT.exchange}
    before = client.get("/api/bars/ETH-USDT/1h", params=old).json()["data"]
    assert len(before) == 5
    frame = lake.read("bars", "1h").filter(pl.col("exchange") != "bybit")
    put(lake, "bars", frame, Timeframe.H1)
    assert client.get("/api/bars/ETH-USDT/1h", params=old).status_code == 404
