"""`GET /context` over suppliers that work, fail and heal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from altforecast_sandbox.market import Market
from altforecast_serving.app import create_app
from altforecast_serving.lineage import Envelope
from altforecast_serving.routes.context import Context
from tests.stand_in import StandIn, running


@pytest.fixture(scope="module")
def market() -> Market:
    return Market(7)


@pytest.fixture
def outside(market: Market) -> Iterator[StandIn]:
    with running(market) as stand_in:
        yield stand_in


@pytest.fixture
def ask(outside: StandIn, tmp_path: Path) -> Any:
    """Answers of several GETs of one app under given settings."""

    def run(times: int = 1, path: str = "/context", **overrides: Any) -> list[Any]:
        with TestClient(create_app(outside.settings(tmp_path, **overrides)), raise_server_exceptions=False) as client:
            return [client.get(path) for _ in range(times)]

    return run


def test_context_gives_all_figures(ask: Any, outside: StandIn) -> None:
    (answer,) = ask()
    assert answer.status_code == 200
    body = answer.json()
    assert body["environment"] == "sandbox"
    assert 20 < body["data"]["btc_dominance"] < 80
    assert body["data"]["total_market_cap_usd"] > 1e11
    assert set(body["data"]["fear_greed"]) == {"value", "class", "ts"}
    assert body["data"]["fear_greed"]["class"] in ("Extreme Fear", "Fear", "Neutral", "Greed", "Extreme Greed")
    assert body["data"]["dxy"] == 104.25
    assert body["lineage"]["known_at"]
    assert body["warnings"] == []


def test_context_is_cached(ask: Any, outside: StandIn) -> None:
    first, second = ask(2)
    assert second.json()["data"]["btc_dominance"] == first.json()["data"]["btc_dominance"]
    assert {s["state"] for s in second.json()["data"]["sources"]} == {"cached"}
    assert len(outside.requests) == 3


@pytest.mark.parametrize("kind", ["server_error", "rate_limit", "error_body", "truncated", "html", "disconnect"])
def test_context_is_null_where_a_supplier_fails(kind: str, ask: Any, outside: StandIn) -> None:
    outside.fault("coingecko", kind)
    outside.fault("alternative_me", kind)
    (answer,) = ask()
    assert answer.status_code == 200
    data = answer.json()["data"]
    assert (data["btc_dominance"], data["total_market_cap_usd"], data["fear_greed"], data["dxy"]) == (None, None, None, 104.25)
    assert len(answer.json()["warnings"]) == 2


def test_context_breaker_spares_a_dead_supplier(ask: Any, outside: StandIn) -> None:
    outside.fault("coingecko", "server_error")
    answers = ask(6)
    assert {a.status_code for a in answers} == {200}
    # aiohttp asks no second time after a plain 503: three attempts open the breaker
    assert sum("coingecko" in r for r in outside.requests) == 3
    assert "not called" in answers[-1].json()["warnings"][0]


def test_context_without_any_supplier_is_all_null(ask: Any, outside: StandIn) -> None:
    for off in ({"context_enable": False}, {"degradation_level": "no_market_context"}):
        (answer,) = ask(**off)
        assert answer.status_code == 200
        data = answer.json()["data"]
        assert (data["btc_dominance"], data["fear_greed"], data["dxy"]) == (None, None, None)
        assert {s["state"] for s in data["sources"]} == {"disabled"}
    assert outside.requests == []


def test_context_empty_dxy_address_is_disabled(ask: Any) -> None:
    (answer,) = ask(context_dxy_url="")
    data = answer.json()["data"]
    assert data["dxy"] is None
    assert {s["name"]: s["state"] for s in data["sources"]}["dxy"] == "disabled"
    assert answer.json()["warnings"] == []


def test_context_breakers_are_in_metrics(outside: StandIn, tmp_path: Path) -> None:
    outside.fault("coingecko", "server_error")
    with TestClient(create_app(outside.settings(tmp_path))) as client:
        for _ in range(4):
            client.get("/context")
        text = client.get("/metrics").text
    assert 'breaker_state{name="context:coingecko"} 2.0' in text
    assert 'breaker_state{name="context:dxy"} 0.0' in text


def test_context_answer_matches_its_documented_model(ask: Any, outside: StandIn) -> None:
    outside.fault("alternative_me", "nulls")
    (answer,) = ask()
    Envelope[Context].model_validate(answer.json())
    (schema,) = ask(path="/openapi.json")
    assert "/context" in schema.json()["paths"]
