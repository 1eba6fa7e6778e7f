"""Suppliers of market context: CoinGecko, alternative.me, the dollar index, all of them together, reachability."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import stamina
from aiohttp import web
from pydantic import SecretStr

from altforecast.tables import MARKET_CONTEXT
from altforecast_io.http import Failure, HttpClient, ServiceError
from altforecast_io.market_context import ContextView, MarketContext, fetch_market_context
from altforecast_io.reachability import reachability
from altforecast_io.settings import Settings
from altforecast_io.sources import coingecko, dxy, feargreed
from altforecast_io.sources.readings import Reading, number, readings_frame
from altforecast_sandbox.market import Market
from tests.stand_in import NOON, StandIn, running


@pytest.fixture(scope="module")
def market() -> Market:
    return Market(7)


@pytest.fixture
def outside(market: Market) -> Iterator[StandIn]:
    stamina.set_testing(True, attempts=3, cap=True)
    with running(market) as stand_in:
        yield stand_in
    stamina.set_testing(False)


class Hand:
    """A monotonic clock that stands until it is moved."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def reads(context: MarketContext, times: int = 1) -> list[ContextView]:
    async def run() -> list[ContextView]:
        return [await context.read() for _ in range(times)]

    return asyncio.run(run())


def states(view: ContextView) -> dict[str, str]:
    return {s.name: s.state for s in view.sources}


def test_global_maps_dominance_and_market_cap(outside: StandIn, tmp_path: Path) -> None:
    async def run() -> list[Reading]:
        async with HttpClient() as http:
            return await coingecko.global_(http, outside.settings(tmp_path), NOON)

    found = {r.name: r for r in asyncio.run(run())}
    total = outside.market.caps(NOON.replace(second=0))
    assert found["btc_dominance_pct"].value == pytest.approx(total["btc"] / total["total"] * 100, rel=0.1)
    assert found["total_market_cap_usd"].value > 1e11
    assert found["btc_dominance_pct"].ts == NOON.replace(second=0)
    assert found["btc_dominance_pct"].known_at == NOON


@pytest.mark.parametrize(
    "answer", [None, [], {}, {"data": None}, {"data": []}, {"data": {"market_cap_percentage": {"btc": None}, "total_market_cap": {}}},
               {"data": {"market_cap_percentage": [], "total_market_cap": {"usd": "NaN"}}}, {"data": {"market_cap_percentage": {"btc": 0}}}]
)  # fmt: skip
def test_parse_global_missing_is_absent_never_zero(answer: Any) -> None:
    assert coingecko.parse_global(answer, NOON) == []


def test_parse_global_keeps_the_other_figure_and_refuses_the_future() -> None:
    answer = {"data": {"market_cap_percentage": {"btc": "54.5"}, "updated_at": NOON.timestamp() + 900}}
    (reading,) = coingecko.parse_global(answer, NOON)
    assert (reading.name, reading.value, reading.ts) == ("btc_dominance_pct", 54.5, NOON)


@pytest.mark.parametrize(
    ("status", "body", "failure"),
    [
        (401, b'{"error":{"status":{"timestamp":"x","error_code":10012,"error_message":"older than 365 days"}}}', Failure.BAD_REQUEST),
        (200, b'{"status":{"error_code":10005,"error_message":"PRO only"}}', Failure.AUTH),
        (400, b'{"status":{"error_code":10010,"error_message":"wrong base"}}', Failure.AUTH),
        (429, b'{"status":{"error_code":429,"error_message":"slow down"}}', None),
        (404, b'{"error":"coin not found"}', None),
        (200, b'{"data":{"error_code":1}}', None),
        (500, b"<html>error_code", None),
    ],
)
def test_classify_coingecko_codes(status: int, body: bytes, failure: Failure | None) -> None:
    assert coingecko.classify(status, body) == failure


def test_service_sends_the_key_in_the_header_of_its_host(tmp_path: Path) -> None:
    key = SecretStr("CG-secret")
    demo = Settings.load(base=tmp_path, coingecko_api_key=key)
    pro = Settings.load(base=tmp_path, coingecko_api_key=key, context_btc_dominance_url="https://pro-api.coingecko.com/api/v3/global")
    assert coingecko.service(demo).headers == {"x-cg-demo-api-key": "CG-secret"}
    assert coingecko.service(pro).headers == {"x-cg-pro-api-key": "CG-secret"}
    assert "CG-secret" not in repr(coingecko.service(pro))


def test_latest_fear_greed_keeps_the_suppliers_word(outside: StandIn, tmp_path: Path) -> None:
    async def run() -> Reading:
        async with HttpClient() as http:
            return await feargreed.latest(http, outside.settings(tmp_path), NOON)

    reading = asyncio.run(run())
    assert reading.value == outside.market.fear_greed(NOON.date())
    assert reading.label in ("Extreme Fear", "Fear", "Neutral", "Greed", "Extreme Greed")
    assert reading.ts == datetime(2026, 3, 1, tzinfo=UTC)


@pytest.mark.parametrize("kind", ["error_body", "empty", "nulls"])
def test_latest_fear_greed_without_value_is_a_failure(kind: str, outside: StandIn, tmp_path: Path) -> None:
    outside.fault("alternative_me", kind)

    async def run() -> None:
        async with HttpClient() as http:
            await feargreed.latest(http, outside.settings(tmp_path), NOON)

    with pytest.raises(ServiceError, match="without a value"):
        asyncio.run(run())


def test_parse_fear_greed_leaves_impossible_rows_out() -> None:
    def row(value: Any, at: Any = "1767225600") -> dict[str, Any]:
        return {"value": value, "value_classification": "Fear", "timestamp": at}

    rows = [row("41"), row("101"), row(None), row("41", "yesterday"), "x", row("41", None)]
    (reading,) = feargreed.parse({"data": rows}, NOON)
    assert (reading.value, reading.label, reading.ts) == (41.0, "Fear", datetime(2026, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize(("answer", "value"), [({"value": 104.2}, 104.2), ({"value": "99.5"}, 99.5), ({"value": None}, None),
                                               ({"value": True}, None), ({"value": 0}, None), ({}, None), (7, None)])  # fmt: skip
def test_parse_dxy_forms(answer: Any, value: float | None) -> None:
    assert dxy.parse(answer) == value


@pytest.mark.parametrize(("given", "wanted"), [("1.5", 1.5), (2, 2.0), (None, None), ("", None), ("inf", None), (True, None), ([], None)])
def test_number_boundary(given: Any, wanted: float | None) -> None:
    assert number(given) == wanted


def test_readings_frame_is_table_market_context() -> None:
    ahead = Reading(NOON + timedelta(hours=1), "fear_greed", 40.0, "Fear", "alternative_me", NOON)
    frame = readings_frame([ahead, Reading(NOON, "fear_greed", 30.0, None, "alternative_me", NOON), ahead])
    assert frame.schema == MARKET_CONTEXT.schema
    assert frame["value"].to_list() == [30.0, 40.0]
    assert frame["known_at"].to_list() == [NOON, NOON + timedelta(hours=1)]
    assert readings_frame([]).is_empty()


def test_fetch_market_context_keeps_what_answers(outside: StandIn, tmp_path: Path) -> None:
    outside.fault("coingecko", "server_error")
    frame, found = fetch_market_context(outside.settings(tmp_path), outside.clock)
    assert frame["name"].to_list() == ["fear_greed"]
    assert {s.name: s.state for s in found} == {"coingecko": "failed", "alternative_me": "ok"}
    assert outside.board.counts["coingecko.server_error"] == 3


def test_fetch_market_context_survives_passing_faults(outside: StandIn, tmp_path: Path) -> None:
    outside.fault("coingecko", "truncated", times=2)
    outside.fault("alternative_me", "html", times=2)
    frame, found = fetch_market_context(outside.settings(tmp_path), outside.clock)
    assert set(frame["name"]) == {"btc_dominance_pct", "total_market_cap_usd", "fear_greed"}
    assert {s.state for s in found} == {"ok"}


def test_market_context_caches_and_refreshes(outside: StandIn, tmp_path: Path) -> None:
    hand = Hand()
    context = MarketContext(outside.settings(tmp_path), clock=outside.clock, monotonic=hand)
    first, second = reads(context, 2)
    assert set(first.readings) == {"btc_dominance_pct", "total_market_cap_usd", "fear_greed", "dxy"}
    assert set(states(first).values()) == {"ok"}
    assert set(states(second).values()) == {"cached"}
    assert len(outside.requests) == 3
    hand.now += 301
    reads(context)
    assert len(outside.requests) == 6


def test_market_context_failing_source_is_absent_and_breaks(outside: StandIn, tmp_path: Path) -> None:
    hand = Hand()
    outside.fault("coingecko", "server_error")
    context = MarketContext(outside.settings(tmp_path), clock=outside.clock, monotonic=hand)
    views = reads(context, 6)
    assert all(states(v)["coingecko"] == "failed" for v in views)
    assert all("btc_dominance_pct" not in v.readings and "fear_greed" in v.readings for v in views)
    asked = [r for r in outside.requests if "coingecko" in r]
    assert len(asked) == 3
    assert "not called" in next(s.detail for s in views[-1].sources if s.name == "coingecko")
    outside.board.clear()
    hand.now += 60
    (healed,) = reads(context)
    assert states(healed)["coingecko"] == "ok"


def test_market_context_slow_source_costs_one_timeout(outside: StandIn, tmp_path: Path) -> None:
    outside.fault("alternative_me", "latency", value=5.0)
    context = MarketContext(outside.settings(tmp_path, context_http_timeout_sec=0.3), clock=outside.clock)
    (view,) = reads(context)
    assert states(view) == {"coingecko": "ok", "alternative_me": "failed", "dxy": "ok"}


def test_market_context_hourly_limit_holds(outside: StandIn, tmp_path: Path) -> None:
    hand = Hand()
    settings = outside.settings(tmp_path, rate_limit_market_context_per_hour=4)
    context = MarketContext(settings, clock=outside.clock, monotonic=hand)
    reads(context)
    hand.now += 301
    (view,) = reads(context)
    assert len(outside.requests) == 4
    assert sorted(states(view).values()) == ["failed", "failed", "ok"]
    assert any("RATE_LIMIT_MARKET_CONTEXT_PER_HOUR=4" in s.detail for s in view.sources)
    hand.now += 3600
    reads(context)
    assert len(outside.requests) == 7


@pytest.mark.parametrize("off", [{"context_enable": False}, {"degradation_level": "no_market_context"}])
def test_market_context_switched_off_asks_nobody(off: dict[str, Any], outside: StandIn, tmp_path: Path) -> None:
    context = MarketContext(outside.settings(tmp_path, **off), clock=outside.clock)
    (view,) = reads(context)
    assert view.readings == {}
    assert set(states(view).values()) == {"disabled"}
    assert outside.requests == []


def test_market_context_shares_one_fetch_among_waiting_callers(outside: StandIn, tmp_path: Path) -> None:
    context = MarketContext(outside.settings(tmp_path), clock=outside.clock)

    async def storm() -> None:
        await asyncio.gather(*(context.read() for _ in range(20)))

    asyncio.run(storm())
    assert len(outside.requests) == 3


def test_reachability_tells_each_service(outside: StandIn, tmp_path: Path) -> None:
    outside.fault("alternative_me", "server_error")
    outside.fault("binance", "clock_skew", value=3.0)
    found = {name: (ok, detail) for name, ok, detail in reachability(outside.settings(tmp_path), outside.clock)}
    assert found["coingecko"][0]
    assert found["binance"] == (True, "its clock is 3000 ms ahead of ours")
    assert found["gate"][0]
    assert found["alternative_me"] == (False, "alternative_me: answered HTTP 503 (transient)")


def test_reachability_of_nothing_never_raises(tmp_path: Path) -> None:
    gone = "http://127.0.0.1:1"
    settings = Settings.load(
        base=tmp_path, environment="sandbox", context_btc_dominance_url=gone, context_fear_greed_url=gone,
        exchange_base_urls_text=f"binance={gone}",
    )  # fmt: skip
    stamina.set_testing(True, attempts=1, cap=True)
    try:
        found = reachability(settings)
    finally:
        stamina.set_testing(False)
    assert [ok for _, ok, _ in found] == [False] * 4
    assert "EXCHANGE_BASE_URLS" in {name: detail for name, _, detail in found}["gate"]


def test_dxy_html_answer_is_a_failure(market: Market, tmp_path: Path) -> None:
    async def page(_: web.Request) -> web.Response:
        return web.Response(text="<html></html>", content_type="text/html")

    stamina.set_testing(True, attempts=1, cap=True)
    try:
        with running(market, {"/page": page}) as outside:
            context = MarketContext(outside.settings(tmp_path, context_dxy_url=f"{outside.url}/page"), clock=outside.clock)
            (view,) = reads(context)
    finally:
        stamina.set_testing(False)
    assert "HTML instead of JSON" in next(s.detail for s in view.sources if s.name == "dxy")
