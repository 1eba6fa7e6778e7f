"""The arbitrage routes over bus and lake."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import polars as pl
import pytest
from anyio.from_thread import start_blocking_portal
from starlette.testclient import TestClient

from altforecast.tables import TABLES
from altforecast_io.bus import Bus, MemoryBus, bus_namespace, open_bus
from altforecast_io.lake import Lake
from altforecast_io.settings import Settings
from altforecast_serving.app import create_app
from tests.serving.conftest import END, put
from tests.serving.live_rows import NOW, book, cut, opportunity, put_books, put_cut, put_venues, venue, write

CLOSED_AT = datetime(2025, 7, 30, 12, tzinfo=UTC)


@pytest.fixture
def bus() -> MemoryBus:
    """What a realtime process of a quiet moment has written."""
    made = MemoryBus()

    async def fill() -> None:
        await write(
            made, opportunity("a"),
            opportunity("b", net_edge_pct=0.9, risk_flags="thin,edge_too_good", symbol="ETH-USDT", sell_symbol="ETH-USDT"),
            opportunity("c", buy_exchange="gate", expected_profit_usdt=0.1, optimal_profit_usdt=0.2),
            opportunity("gone"), opportunity("gone", event="closed", reason="edge_gone"),
        )  # fmt: skip
        await put_books(made, book("kraken", "BTC-USDT"), book("okx", "BTC-USDT"), book("okx", "ETH-USDT", 3000.0))
        await put_venues(made, venue("kraken"), venue("binance"), venue("gate", state="backoff", n_live=0))
        await put_cut(made, cut(("BTC-USDT", "ETH-USDT"), ("binance", "okx", "kraken")))

    asyncio.run(fill())
    return made


@pytest.fixture
def live(bus: MemoryBus, make_settings: Callable[..., Settings]) -> Iterator[TestClient]:
    """An app that a realtime process hosts."""
    with TestClient(create_app(make_settings(), bus=bus), raise_server_exceptions=False) as client:
        client.app.state.services.clock = lambda: NOW  # type: ignore[attr-defined]
        yield client


def ids(answer: dict[str, Any]) -> list[str]:
    return [row["id"] for row in answer["data"]]


def test_list_opportunities_shows_what_is_open_best_first(live: TestClient) -> None:
    response = live.get("/api/arbitrage/opportunities")
    answer = response.json()
    assert ids(answer) == ["b", "a", "c"]
    assert answer["count"] == 3
    assert answer["warnings"] == []
    assert response.headers["Cache-Control"] == "no-store"
    row = answer["data"][1]
    assert row["risk_flags"] == ["transfer_cost_unknown"]
    assert row["edge_curve"] == [[500, 0.3], [3000, 0.19], [20000, 0.05]]
    assert row["status"] == "live"
    assert row["lifetime_ms"] == 3000
    assert answer["lineage"]["known_at"] == "2026-11-21T12:00:00Z"


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"symbol": "btcusdt"}, ["a", "c"]), ({"venue": "gate"}, ["c"]), ({"venue": "gateio"}, ["c"]), ({"min_edge": 0.5}, ["b"]),
        ({"min_profit": 10}, ["b", "a"]), ({"flag": "thin"}, ["b"]), ({"without_flag": "thin"}, ["a", "c"]),
        ({"type": "triangular"}, []), ({"since": "2026-11-21T12:00:00Z"}, []), ({"until": "2026-11-21T12:00:00Z"}, ["b", "a", "c"]),
        ({"flag": ["thin", "edge_too_good"]}, ["b"]),
    ],
)  # fmt: skip
def test_list_opportunities_filters(live: TestClient, params: dict[str, Any], expected: list[str]) -> None:
    assert ids(live.get("/api/arbitrage/opportunities", params=params).json()) == expected


def test_list_opportunities_says_what_a_limit_leaves_out(live: TestClient) -> None:
    answer = live.get("/api/arbitrage/opportunities", params={"limit": 2}).json()
    assert ids(answer) == ["b", "a"]
    assert answer["warnings"] == ["1 more are open: raise limit or filter"]


@pytest.mark.parametrize(
    ("path", "status", "field"),
    [
        ("opportunities?status=open", 422, "status"), ("opportunities?venue=nasdaq", 404, "venue"),
        ("opportunities?min_profit=-1", 422, "min_profit"),
        ("opportunities?since=2026-01-02&until=2026-01-01", 422, "since"), ("opportunities?cursor=x", 422, "cursor"),
        ("opportunities?flag=risky", 422, "flag"), ("books?depth=21", 422, "depth"), ("spreads?nope=1", 422, "nope"),
        ("stats?dimension=moon", 422, "dimension"),
    ],
)  # fmt: skip
def test_routes_name_what_is_wrong(live: TestClient, path: str, status: int, field: str) -> None:
    response = live.get(f"/api/arbitrage/{path}")
    assert response.status_code == status, response.text
    assert response.json()["field"].split(".")[0] == field


def test_list_books_cuts_and_chooses(live: TestClient) -> None:
    answer = live.get("/api/arbitrage/books", params={"symbol": "BTC-USDT", "depth": 3}).json()
    assert [(b["exchange"], b["symbol"]) for b in answer["data"]] == [("okx", "BTC-USDT"), ("kraken", "BTC-USDT")]
    first = answer["data"][0]
    assert first["bids"] == [[95000.0, 0.5], [94999.0, 1.5], [94998.0, 2.5]]
    assert len(first["asks"]) == 3
    assert first["age_ms"] == 0
    assert first["meta"]["seq_id"] == 7
    assert len(live.get("/api/arbitrage/books", params={"venue": "okx"}).json()["data"]) == 2


def test_read_spreads_gives_every_ordered_pair(live: TestClient) -> None:
    data = live.get("/api/arbitrage/spreads", params={"symbol": "ETH-USDT"}).json()["data"]
    assert data["venues"] == ["binance", "okx", "kraken"]
    assert data["symbols"] == ["BTC-USDT", "ETH-USDT"]
    assert {(e["buy_exchange"], e["sell_exchange"]) for e in data["edges"]} == {
        (a, b) for a in data["venues"] for b in data["venues"] if a != b
    }
    assert live.get("/api/arbitrage/spreads").json()["data"]["symbol"] in data["symbols"]


def test_list_venues_keeps_our_order(live: TestClient) -> None:
    answer = live.get("/api/venues").json()
    assert [v["venue"] for v in answer["data"]] == ["binance", "gate", "kraken"]
    assert answer["data"][1]["state"] == "backoff"


@pytest.mark.parametrize("path", ["arbitrage/opportunities", "arbitrage/books", "arbitrage/spreads", "venues"])
def test_routes_without_a_bus_say_so(empty: TestClient, path: str) -> None:
    response = empty.get(f"/api/{path}")
    assert response.status_code == 200
    assert response.json()["count"] == 0
    assert "no realtime process feeds this API" in response.json()["warnings"][0]


def test_list_venues_without_any_says_how_to_configure(make_settings: Callable[..., Settings]) -> None:
    with TestClient(create_app(make_settings(), bus=MemoryBus())) as client:
        assert "BOOK_VENUES" in client.get("/api/venues").json()["warnings"][0]


def test_routes_with_redis_down_answer_503(make_settings: Callable[..., Settings]) -> None:
    pytest.importorskip("redis")
    with TestClient(create_app(make_settings(redis_url="redis://127.0.0.1:1/0"))) as client:
        response = client.get("/api/arbitrage/opportunities")
        assert response.status_code == 503
        assert "REDIS_URL" in response.json()["detail"]
        assert client.get("/api/stats").status_code == 200
        health = client.get("/health").json()
        assert (health["status"], health["components"]["feed"]["ok"]) == ("degraded", False)


def test_routes_over_redis_show_what_another_process_wrote(make_settings: Callable[..., Settings]) -> None:
    """A writer with a loop of its own stands for the realtime process; the app opens its own connections."""
    redis = pytest.importorskip("redis")
    url, namespace = "redis://127.0.0.1:6379/14", bus_namespace("live")
    try:
        redis.Redis.from_url(url).ping()
    except redis.exceptions.ConnectionError:
        pytest.skip("no Redis at 127.0.0.1:6379")

    async def write_all(bus: Bus) -> None:
        await write(bus, opportunity("a"))
        await put_books(bus, book("okx", "BTC-USDT"))
        await put_venues(bus, venue("okx"))
        await asyncio.sleep(0.3)

    try:
        with TestClient(create_app(make_settings(redis_url=url, ws_publish_hz=20))) as client:
            assert "no realtime process writes" in client.get("/api/venues").json()["warnings"][0]
            assert client.get("/health").json()["components"]["feed"]["ok"] is False
            with start_blocking_portal() as portal, portal.wrap_async_context_manager(open_bus(url, namespace)) as bus:
                portal.call(write_all, bus)
                assert ids(client.get("/api/arbitrage/opportunities").json()) == ["a"]
                assert [b["exchange"] for b in client.get("/api/arbitrage/books").json()["data"]] == ["okx"]
                assert client.get("/api/venues").json()["warnings"] == []
                assert client.get("/health").json()["components"]["feed"] == {"ok": True}
                with client.websocket_connect("/ws/books") as socket:
                    message = socket.receive_json()
                    while not message.get("books"):
                        message = socket.receive_json()
                    assert message["books"][0]["symbol"] == "BTC-USDT"
            assert client.get("/api/arbitrage/opportunities").json()["data"] == []
    finally:
        keys = list(redis.Redis.from_url(url).scan_iter(f"{namespace}:*"))
        if keys:
            redis.Redis.from_url(url).delete(*keys)


def typed_rows(table: str, rows: list[dict[str, Any]]) -> pl.DataFrame:
    schema = TABLES[table].schema
    return pl.DataFrame([{c: row.get(c) for c in schema} for row in rows], schema=schema)


@pytest.fixture
def history(lake: Lake) -> Lake:
    """Six closed opportunities, one an hour, with outcomes of three delays, and statistics of two days."""
    closed, outcomes = [], []
    for i in range(6):
        at = CLOSED_AT - timedelta(hours=i)
        base = {
            "id": f"o{i}", "type": "spatial", "symbol": "BTC-USDT", "buy_exchange": "okx", "sell_exchange": "kraken" if i % 2 else "gate",
            "sell_symbol": "BTC-USDT", "opened_at": at - timedelta(milliseconds=900), "known_at": at,
        }  # fmt: skip
        closed.append(base | {
            "ts": at, "peak_at": at, "closed_at": at, "lifetime_ms": 900, "n_events": 3, "birth_edge_pct": 0.2 + i / 10,
            "peak_edge_pct": 0.3 + i / 10, "death_edge_pct": 0.0, "birth_profit_usdt": 6.0, "birth_optimal_qty": 1.0,
            "birth_optimal_profit_usdt": 9.0, "birth_edge_curve": "[[500,0.3]]", "peak_profit_usdt": 7.0 + i,
            "peak_optimal_profit_usdt": 10.0 + i, "reason": "edge_gone", "risk_flags": "thin" if i == 2 else "",
        })  # fmt: skip
        outcomes += [
            base | {"ts": at, "delay_ms": d, "outcome": "captured" if d < 1000 else "gone", "net_edge_pct": 0.1, "profit_usdt": 3.0}
            for d in (100, 500, 1000)
        ]  # fmt: skip
    stats = [
        {"ts": END - timedelta(days=1 + age), "dimension": d, "key": k, "n": n, "median_lifetime_ms": 900.0, "profit_usdt": 36.0,
         "known_at": END - timedelta(days=1 + age), "ci_method": "wilson", **{f"n_{ms}ms": n for ms in (100, 500, 1000, 5000)}}
        for age in (1, 0) for d, k, n in (("venue", "kraken", 3), ("venue", "okx", 6), ("hour", "12", 1))
    ]  # fmt: skip
    put(lake, "opportunities", typed_rows("opportunities", closed), run_id="run-7")
    put(lake, "opportunity_outcomes", typed_rows("opportunity_outcomes", outcomes), run_id="run-7")
    put(lake, "opportunity_stats", typed_rows("opportunity_stats", stats), run_id="run-8")
    return lake


@pytest.fixture
def both(history: Lake, bus: MemoryBus, make_settings: Callable[..., Settings]) -> Iterator[TestClient]:
    """Lake and bus."""
    with TestClient(create_app(make_settings(), bus=bus), raise_server_exceptions=False) as client:
        yield client


def test_list_opportunities_closed_come_with_outcomes_and_lineage(both: TestClient) -> None:
    answer = both.get("/api/arbitrage/opportunities", params={"status": "closed"}).json()
    assert ids(answer) == [f"o{i}" for i in range(6)]
    row = answer["data"][0]
    assert row["status"] == "closed"
    assert row["net_edge_pct"] == pytest.approx(0.2)
    assert row["edge_curve"] == [[500, 0.3]]
    assert row["risk_flags"] == []
    assert [o["delay_ms"] for o in row["outcomes"]] == [100, 500, 1000]
    assert row["outcomes"][2]["outcome"] == "gone"
    assert answer["lineage"]["run_id"] == "run-7"
    assert datetime.fromisoformat(answer["lineage"]["known_at"]) == CLOSED_AT


def test_list_opportunities_closed_pages_meet(both: TestClient) -> None:
    found, cursor = [], None
    for _ in range(4):
        params = {"status": "closed", "limit": 2} | ({"cursor": cursor} if cursor else {})
        answer = both.get("/api/arbitrage/opportunities", params=params).json()
        found += ids(answer)
        cursor = answer["next_cursor"]
        if cursor is None:
            break
    assert found == [f"o{i}" for i in range(6)]


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"venue": "kraken"}, ["o1", "o3", "o5"]), ({"min_edge": 0.65}, ["o4", "o5"]), ({"min_profit": 14.5}, ["o5"]),
        ({"flag": "thin"}, ["o2"]),
        ({"without_flag": "thin"}, ["o0", "o1", "o3", "o4", "o5"]), ({"symbol": "ETH-USDT"}, []),
        ({"since": "2025-07-30T11:00:00Z"}, ["o0", "o1"]), ({"until": "2025-07-30T08:00:00Z"}, ["o5"]),
    ],
)  # fmt: skip
def test_list_opportunities_closed_filters(both: TestClient, params: dict[str, Any], expected: list[str]) -> None:
    assert ids(both.get("/api/arbitrage/opportunities", params={"status": "closed", **params}).json()) == expected


def test_list_opportunities_all_begins_with_live_ones(both: TestClient) -> None:
    answer = both.get("/api/arbitrage/opportunities", params={"status": "all", "limit": 4}).json()
    assert ids(answer) == ["b", "a", "c", "o0", "o1", "o2", "o3"]
    more = both.get("/api/arbitrage/opportunities", params={"status": "all", "limit": 4, "cursor": answer["next_cursor"]}).json()
    assert ids(more) == ["o4", "o5"]


def test_list_opportunities_closed_of_an_empty_lake_says_why(empty: TestClient) -> None:
    answer = empty.get("/api/arbitrage/opportunities", params={"status": "closed"}).json()
    assert answer["data"] == []
    assert "no closed opportunity is in the lake yet" in answer["warnings"][0]


def test_read_arbitrage_stats_shows_the_newest(both: TestClient) -> None:
    answer = both.get("/api/arbitrage/stats", params={"dimension": "venue"}).json()
    assert [(r["key"], r["n"]) for r in answer["data"]] == [("okx", 6), ("kraken", 3)]
    assert {r["ts"] for r in answer["data"]} == {"2025-07-31T00:00:00Z"}
    assert answer["lineage"]["run_id"] == "run-8"
    assert len(both.get("/api/arbitrage/stats").json()["data"]) == 3


def test_head_answers_as_get_without_body(live: TestClient) -> None:
    for path in ("/api/venues", "/healthz", "/api/stats", "/", "/static/app.css"):
        got, head = live.get(path), live.head(path)
        assert head.status_code == got.status_code == 200, path
        assert head.content == b""
        assert head.headers["content-length"] == got.headers["content-length"]
    assert live.head("/nowhere").status_code == 404


def test_read_metrics_holds_the_process_too_and_nothing_twice(live: TestClient) -> None:
    text = live.get("/metrics").text
    types = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE ")]
    assert len(types) == len(set(types))
    assert {"outgoing_http_total", "bus_enqueued_total", "http_requests_total", "ws_clients", "process_resident_memory_bytes"} <= set(types)
    samples = [line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#")]
    assert len(samples) == len(set(samples))


def test_count_of_an_empty_regime_is_zero(empty: TestClient) -> None:
    answer = empty.get("/api/regime").json()
    assert answer["data"]["latest"] is None
    assert answer["count"] == 0


def test_write_setting_refuses_a_fraction_of_a_bar(live: TestClient, make_key: Callable[..., str]) -> None:
    headers = {"X-API-Key": make_key("admin")}
    refused = live.put("/api/settings/streams.lookback_bars", json={"value": 7.5}, headers=headers)
    assert refused.status_code == 422
    assert "whole number" in refused.json()["detail"]
    assert live.put("/api/settings/streams.lookback_bars", json={"value": 7}, headers=headers).status_code == 200
    assert orjson.loads(live.get("/api/settings", headers=headers).content)["data"]
