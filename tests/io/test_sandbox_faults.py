"""Fault switches of the stand-ins: each does to an answer what its name says, and is counted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from altforecast.errors import InputError, UnknownNameError
from altforecast_sandbox.faults import KINDS, Bodies, Fault, Switchboard
from altforecast_sandbox.market import Market
from altforecast_sandbox.services import BOARD, create_app

pytestmark = pytest.mark.anyio
NOW = datetime(2026, 11, 21, 9, 3, 20, tzinfo=UTC)
KLINES = "/binance/api/v3/klines?symbol=BTCUSDT&interval=1h&limit=6"


@pytest.fixture(scope="module")
def market() -> Market:
    return Market(7)


@pytest.fixture
async def client(market: Market) -> AsyncIterator[aiohttp.ClientSession]:
    runner = web.AppRunner(create_app(market, lambda: NOW))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with aiohttp.ClientSession(f"http://127.0.0.1:{runner.addresses[0][1]}") as session:
        yield session
    await runner.cleanup()


async def switch(client: aiohttp.ClientSession, kind: str, **more: Any) -> None:
    async with client.post("/_faults", json={"service": "binance", "kind": kind} | more) as answer:
        assert answer.status == 200, await answer.text()


async def rows(client: aiohttp.ClientSession) -> list[list[Any]]:
    async with client.get(KLINES) as answer:
        found: list[list[Any]] = await answer.json()
        return found


async def test_latency_waits(client: aiohttp.ClientSession) -> None:
    await switch(client, "latency", value=0.3)
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(rows(client), 0.15)


async def test_rate_limit_says_when_to_come_back(client: aiohttp.ClientSession) -> None:
    await switch(client, "rate_limit", value=7)
    async with client.get(KLINES) as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (429, "7")
        assert (await answer.json())["code"] == -1003


async def test_server_error_has_the_status_asked_for(client: aiohttp.ClientSession) -> None:
    await switch(client, "server_error", value=502)
    async with client.get(KLINES) as answer:
        assert answer.status == 502


async def test_error_body_comes_with_200(client: aiohttp.ClientSession) -> None:
    await switch(client, "error_body")
    async with client.get(KLINES) as answer:
        assert (answer.status, (await answer.json())["code"]) == (200, -1001)


async def test_truncated_is_not_json(client: aiohttp.ClientSession) -> None:
    await switch(client, "truncated")
    async with client.get(KLINES) as answer:
        text = await answer.text()
    assert text.startswith("[[")
    with pytest.raises(json.JSONDecodeError):
        json.loads(text)


async def test_html_is_html(client: aiohttp.ClientSession) -> None:
    await switch(client, "html")
    async with client.get(KLINES) as answer:
        assert (answer.status, answer.content_type) == (200, "text/html")


async def test_empty_nulls_duplicate_and_out_of_order_change_the_rows(client: aiohttp.ClientSession) -> None:
    true = await rows(client)
    spoiled = {}
    for kind in ("empty", "nulls", "duplicate", "out_of_order"):
        await switch(client, kind, times=1)
        spoiled[kind] = await rows(client)
    assert spoiled["empty"] == []
    assert spoiled["nulls"] == [[row[0]] + [None] * 11 for row in true]
    assert spoiled["duplicate"] == [*true, true[-1]]
    assert spoiled["out_of_order"] != true
    assert sorted(spoiled["out_of_order"]) == true
    assert await rows(client) == true


async def test_disconnect_breaks_the_connection(client: aiohttp.ClientSession) -> None:
    await switch(client, "disconnect", times=2)
    with pytest.raises(aiohttp.ClientError):
        await rows(client)


async def test_clock_skew_moves_the_service_alone(client: aiohttp.ClientSession) -> None:
    await switch(client, "clock_skew", value=45)
    times = {}
    for venue, path in (("binance", "/api/v3/time"), ("mexc", "/api/v3/time")):
        async with client.get(f"/{venue}{path}") as answer:
            times[venue] = (await answer.json())["serverTime"]
    assert times["binance"] - times["mexc"] == 45_000


async def test_times_and_path_limit_a_switch_and_counts_tell(client: aiohttp.ClientSession) -> None:
    await switch(client, "server_error", times=2, path="klines")
    statuses = []
    for path in ("/binance/api/v3/time", KLINES, KLINES, KLINES, "/okx/api/v5/public/time"):
        async with client.get(path) as answer:
            statuses.append(answer.status)
    assert statuses == [200, 503, 503, 200, 200]
    async with client.get("/_faults") as answer:
        assert await answer.json() == {"faults": [], "counts": {"binance.server_error": 2}}


async def test_every_service_and_clear(client: aiohttp.ClientSession) -> None:
    await switch(client, "server_error", service="*")
    for path in ("/coingecko/api/v3/global", "/alternative_me/fng/", KLINES):
        async with client.get(path) as answer:
            assert answer.status == 503
    await client.delete("/_faults")
    assert len(await rows(client)) == 6


@pytest.mark.parametrize(("body", "word"), [
    (b'{"service":"ftx","kind":"html"}', "service"), (b'{"service":"okx","kind":"fire"}', "latency"),
    (b'{"service":"okx","kind":"html","times":0}', "times"), (b'{"kind":"html"}', "service"), (b"no", ""),
])  # fmt: skip
async def test_wrong_switch_is_refused(client: aiohttp.ClientSession, body: bytes, word: str) -> None:
    async with client.post("/_faults", data=body) as answer:
        assert answer.status == 422
        assert word in (await answer.json())["detail"]


def test_switchboard_is_bounded() -> None:
    board = Switchboard({"binance": Bodies((429, {}), {})})
    for _ in range(100):
        board.set(Fault("binance", "html"))
    with pytest.raises(InputError, match="100 switches"):
        board.set(Fault("binance", "html"))
    with pytest.raises(UnknownNameError, match=", ".join(KINDS[:2])):
        board.set(Fault("binance", "fire"))


async def test_nulls_and_empty_reach_answers_without_rows(client: aiohttp.ClientSession) -> None:
    got = {}
    for kind in ("nulls", "empty"):
        await switch(client, kind, service="coingecko", times=1)
        async with client.get("/coingecko/api/v3/global") as answer:
            got[kind] = (await answer.json())["data"]
    assert set(got["nulls"]["market_cap_percentage"].values()) == {None}
    assert got["empty"]["market_cap_percentage"] == {}


async def test_nulls_keep_the_time_of_rows_that_are_objects(client: aiohttp.ClientSession) -> None:
    await switch(client, "nulls", service="alternative_me")
    async with client.get("/alternative_me/fng/?limit=2") as answer:
        newest = (await answer.json())["data"][0]
    assert newest["timestamp"] == str(int(NOW.timestamp()) // 86_400 * 86_400)
    assert newest["value"] is None


def test_board_is_reachable_from_the_application(market: Market) -> None:
    board = create_app(market)[BOARD]
    board.set(Fault("okx", "latency"))
    assert board.state()["faults"][0]["value"] == 1.0
