"""CoinGecko and alternative.me stand-ins: shapes and agreement with the market."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from altforecast.types import Metric
from altforecast_sandbox.market import Market
from altforecast_sandbox.services import create_app

pytestmark = pytest.mark.anyio
NOW = datetime(2026, 11, 21, 9, 3, 20, tzinfo=UTC)


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


async def get(client: aiohttp.ClientSession, path: str) -> dict[str, Any]:
    async with client.get(path) as answer:
        assert answer.status == 200
        body: dict[str, Any] = await answer.json()
        return body


async def test_global_has_coingeckos_shape(client: aiohttp.ClientSession) -> None:
    data = (await get(client, "/coingecko/api/v3/global"))["data"]
    assert {"btc", "eth", "usdt"} <= set(data["market_cap_percentage"])
    assert isinstance(data["total_market_cap"]["usd"], float)
    assert isinstance(data["total_volume"]["usd"], float)
    assert data["updated_at"] == int(NOW.timestamp()) // 60 * 60
    assert -50 < data["market_cap_change_percentage_24h_usd"] < 50
    assert 80 < sum(data["market_cap_percentage"].values()) <= 100


async def test_global_dominance_is_below_tradingviews(client: aiohttp.ClientSession, market: Market) -> None:
    data = (await get(client, "/coingecko/api/v3/global"))["data"]
    tradingview = market.index_bars(Metric.BTC_D, "1m", NOW - timedelta(minutes=2), NOW)["close"][0]
    assert 0.9 * tradingview < data["market_cap_percentage"]["btc"] < tradingview


async def test_fng_numbers_are_strings_newest_first(client: aiohttp.ClientSession, market: Market) -> None:
    body = await get(client, "/alternative_me/fng/?limit=3")
    assert body["metadata"] == {"error": None}
    assert [int(row["timestamp"]) for row in body["data"]] == [int(NOW.timestamp()) // 86_400 * 86_400 - k * 86_400 for k in range(3)]
    assert all(isinstance(value, str) for row in body["data"] for value in row.values())
    assert body["data"][0]["value"] == str(market.fear_greed(NOW.date()))
    assert body["data"][0]["time_until_update"] == str(86_400 - (9 * 3600 + 3 * 60 + 20))
    assert "time_until_update" not in body["data"][1]


async def test_fng_limit_zero_is_all_history(client: aiohttp.ClientSession) -> None:
    rows = (await get(client, "/alternative_me/fng/?limit=0"))["data"]
    assert len(rows) == (NOW.date() - datetime(2018, 2, 1, tzinfo=UTC).date()).days + 1
    assert {row["value_classification"] for row in rows} == {"Extreme Fear", "Fear", "Neutral", "Greed", "Extreme Greed"}


async def test_fng_default_is_the_newest_alone(client: aiohttp.ClientSession) -> None:
    assert len((await get(client, "/alternative_me/fng/"))["data"]) == 1


async def test_fng_bad_limit_is_an_error_under_200(client: aiohttp.ClientSession) -> None:
    assert (await get(client, "/alternative_me/fng/?limit=many"))["metadata"]["error"]
