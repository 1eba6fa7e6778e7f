"""The venues' stand-ins, read by the real ccxt classes."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import ccxt.async_support as ccxt
import pytest
from aiohttp import web

from altforecast.symbols import VENUES
from altforecast.types import Timeframe
from altforecast_sandbox.market import Market
from altforecast_sandbox.services import create_app, venue_urls

pytestmark = pytest.mark.anyio
NOW = datetime(2026, 11, 21, 9, 3, 20, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)
TIMEFRAMES = ("1m", "15m", "1h", "4h", "1d")
NO_4H = ("coinbase",)


@pytest.fixture(scope="module")
def market() -> Market:
    return Market(7)


@pytest.fixture
async def base_url(market: Market) -> AsyncIterator[str]:
    runner = web.AppRunner(create_app(market, lambda: NOW))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


def relocated(node: Any, base: str) -> Any:
    """ccxt's addresses with scheme and host replaced, path kept."""
    if isinstance(node, dict):
        return {key: relocated(value, base) for key, value in node.items()}
    return re.sub(r"^https?://[^/]+", base, node)


@asynccontextmanager
async def exchange_of(venue: str, base_url: str) -> AsyncIterator[Any]:
    exchange = getattr(ccxt, venue)({"enableRateLimit": False})
    exchange.urls["api"] = relocated(exchange.urls["api"], venue_urls(base_url)[venue])
    # ccxt asks its own clock for default windows: it has to stand where the server's stands.
    exchange.milliseconds, exchange.seconds, exchange.microseconds = lambda: NOW_MS, lambda: NOW_MS // 1000, lambda: NOW_MS * 1000
    try:
        yield exchange
    finally:
        await exchange.close()


def rows_of(market: Market, venue: str, symbol: str, timeframe: str, start: datetime, end: datetime) -> list[list[float]]:
    c = market.candles(symbol, timeframe, start, end, venue, now=NOW)
    return [list(row) for row in zip(*(a.tolist() for a in (c.ts_ms, c.open, c.high, c.low, c.close, c.volume)), strict=True)]


@pytest.mark.parametrize("venue", VENUES)
async def test_ccxt_reads_exactly_the_market(market: Market, base_url: str, venue: str) -> None:
    async with exchange_of(venue, base_url) as exchange:
        markets = await exchange.load_markets()
        assert {"BTC/USDT", "ETH/USDT", "ETH/BTC"} <= set(markets)
        assert markets["ETH/USDT"]["spot"]
        if exchange.has["fetchTime"]:
            assert abs(await exchange.fetch_time() - NOW_MS) < 1000
        for timeframe in (t for t in TIMEFRAMES if venue not in NO_4H or t != "4h"):
            length = Timeframe(timeframe).duration
            start = NOW - 20 * length
            got = await exchange.fetch_ohlcv("ETH/USDT", timeframe, int(start.timestamp() * 1000), 50)
            assert got == rows_of(market, venue, "ETH-USDT", timeframe, start, NOW + length)
            assert got[-1][0] == NOW_MS // Timeframe(timeframe).ms * Timeframe(timeframe).ms


@pytest.mark.parametrize("venue", VENUES)
async def test_ccxt_reads_closed_bars_of_the_past(market: Market, base_url: str, venue: str) -> None:
    start = datetime(2026, 11, 12, 5, tzinfo=UTC)
    async with exchange_of(venue, base_url) as exchange:
        got = await exchange.fetch_ohlcv("BTC/USDT", "1h", int(start.timestamp() * 1000), 30)
    assert got == rows_of(market, venue, "BTC-USDT", "1h", start, start + timedelta(hours=30))
    assert len(got) == 30


@pytest.mark.parametrize("venue", VENUES)
async def test_ccxt_pages_meet_without_gap(market: Market, base_url: str, venue: str) -> None:
    start = NOW.replace(minute=0, second=0) - timedelta(hours=6)
    since, got = int(start.timestamp() * 1000), []
    async with exchange_of(venue, base_url) as exchange:
        for _ in range(40):
            page = await exchange.fetch_ohlcv("LINK/USDT", "5m", since, 10)
            if not page:
                # A window of quiet minutes only is empty on venues that leave them out.
                since += 10 * 300_000
                if since > NOW_MS:
                    break
                continue
            got += page
            since = page[-1][0] + 300_000
    assert got == rows_of(market, venue, "LINK-USDT", "5m", start, NOW + timedelta(hours=1))


@pytest.mark.parametrize("venue", ["kraken", "coinbase", "bitfinex", "bitstamp", "cryptocom"])
async def test_ccxt_reads_dollar_pairs(market: Market, base_url: str, venue: str) -> None:
    start = NOW - timedelta(hours=5)
    async with exchange_of(venue, base_url) as exchange:
        got = await exchange.fetch_ohlcv("BTC/USD", "1h", int(start.timestamp() * 1000), 10)
    assert got == rows_of(market, venue, "BTC-USD", "1h", start, NOW)
    assert got != rows_of(market, venue, "BTC-USDT", "1h", start, NOW)


async def test_kraken_never_reaches_behind_720_bars(base_url: str) -> None:
    async with exchange_of("kraken", base_url) as exchange:
        got = await exchange.fetch_ohlcv("BTC/USDT", "1h", NOW_MS - 5000 * 3_600_000, 1000)
    assert len(got) == 720
    assert got[0][0] > NOW_MS - 721 * 3_600_000


async def test_coinbase_has_no_4h_and_leaves_quiet_minutes_out(market: Market, base_url: str) -> None:
    async with exchange_of("coinbase", base_url) as exchange:
        assert "4h" not in exchange.timeframes
        got = await exchange.fetch_ohlcv("DOT/USDT", "1m", NOW_MS - 200 * 60_000, 300)
    assert 150 < len(got) < 200
    assert all(row[5] > 0 for row in got)


async def get(url: str, **query: Any) -> tuple[int, Any]:
    async with aiohttp.ClientSession() as session, session.get(url, params=query) as answer:
        return answer.status, await answer.json()


async def test_bybit_answers_newest_first_in_strings(base_url: str) -> None:
    _, body = await get(f"{base_url}/bybit/v5/market/kline", category="spot", symbol="BTCUSDT", interval="60", limit=3)
    listed = body["result"]["list"]
    assert [int(row[0]) for row in listed] == sorted((int(row[0]) for row in listed), reverse=True)
    assert all(isinstance(value, str) for row in listed for value in row)


async def test_gate_row_order_is_close_high_low_open(market: Market, base_url: str) -> None:
    _, body = await get(f"{base_url}/gate/api/v4/spot/candlesticks", currency_pair="BTC_USDT", interval="1h", limit=2)
    first = market.candles("BTC-USDT", "1h", NOW - timedelta(hours=2), NOW, "gate", now=NOW)
    assert [float(v) for v in body[0][2:6]] == [first.close[0], first.high[0], first.low[0], first.open[0]]
    assert [row[7] for row in body] == ["true", "false"]


async def test_okx_marks_closed_candles(base_url: str) -> None:
    _, body = await get(f"{base_url}/okx/api/v5/market/candles", instId="BTC-USDT", bar="1H", limit=3)
    assert [row[8] for row in body["data"]] == ["0", "1", "1"]
    _, body = await get(f"{base_url}/okx/api/v5/market/history-candles", instId="BTC-USDT", bar="1H", limit=3)
    assert [row[8] for row in body["data"]] == ["1", "1", "1"]


UNKNOWN = {
    "binance": ("/api/v3/klines?symbol=NOPEUSDT&interval=1h", ccxt.BadSymbol),
    "okx": ("/api/v5/market/candles?instId=NOPE-USDT&bar=1H", ccxt.BadSymbol),
    "bybit": ("/v5/market/kline?category=spot&symbol=NOPEUSDT&interval=60", ccxt.BadRequest),
    "gate": ("/api/v4/spot/candlesticks?currency_pair=NOPE_USDT&interval=1h", ccxt.BadSymbol),
    "kucoin": ("/api/v1/market/candles?symbol=NOPE-USDT&type=1hour", ccxt.BadRequest),
    "bitget": ("/api/v2/spot/market/candles?symbol=NOPEUSDT&granularity=1h", ccxt.BadSymbol),
    "mexc": ("/api/v3/klines?symbol=NOPEUSDT&interval=60m", ccxt.BadSymbol),
    "htx": ("/market/history/candles?symbol=nopeusdt&period=60min", ccxt.BadSymbol),
    "kraken": ("/0/public/OHLC?pair=NOPEUSDT&interval=60", ccxt.ExchangeError),
    "coinbase": ("/api/v3/brokerage/market/products/NOPE-USDT/candles?granularity=ONE_HOUR&start=1&end=2", ccxt.ExchangeError),
    "bitfinex": ("/v2/candles/trade:1h:tNOPEUST/hist", ccxt.BadSymbol),
    "cryptocom": ("/exchange/v1/public/get-candlestick?instrument_name=NOPE_USDT&timeframe=1h", ccxt.BadSymbol),
    "bingx": ("/openApi/spot/v1/market/kline?symbol=NOPE-USDT&interval=1h", ccxt.BadSymbol),
    "bitstamp": ("/api/v2/ohlc/nopeusdt/?step=3600&limit=5", ccxt.ExchangeError),
}


@pytest.mark.parametrize("venue", VENUES)
async def test_unknown_symbol_is_refused_in_the_venues_words(base_url: str, venue: str) -> None:
    path, wanted = UNKNOWN[venue]
    async with exchange_of(venue, base_url) as exchange:
        with pytest.raises(wanted):
            await exchange.fetch(f"{base_url}/{venue}{path}")


TOO_MUCH = {
    "okx": "/api/v5/market/candles?instId=BTC-USDT&bar=1H&limit=301",
    "bybit": "/v5/market/kline?category=spot&symbol=BTCUSDT&interval=60&limit=1001",
    "gate": "/api/v4/spot/candlesticks?currency_pair=BTC_USDT&interval=1h&limit=1001",
    "bitget": "/api/v2/spot/market/history-candles?symbol=BTCUSDT&granularity=1h&limit=201&endTime=1795251800000",
    "htx": "/market/history/candles?symbol=btcusdt&period=60min&size=1001",
    "coinbase": "/api/v3/brokerage/market/products/BTC-USDT/candles?granularity=ONE_HOUR&start=1790000000&end=1795251800",
    "bitfinex": "/v2/candles/trade:1h:tBTCUST/hist?limit=10001",
    "cryptocom": "/exchange/v1/public/get-candlestick?instrument_name=BTC_USDT&timeframe=1h&count=301",
    "bingx": "/openApi/spot/v1/market/kline?symbol=BTC-USDT&interval=1h&limit=1441",
    "bitstamp": "/api/v2/ohlc/btcusdt/?step=3600&limit=1001",
}


@pytest.mark.parametrize("venue", sorted(TOO_MUCH))
async def test_too_large_limit_is_refused(base_url: str, venue: str) -> None:
    async with exchange_of(venue, base_url) as exchange:
        with pytest.raises(ccxt.ExchangeError):
            await exchange.fetch(f"{base_url}/{venue}{TOO_MUCH[venue]}")


@pytest.mark.parametrize(("venue", "interval", "most"), [("binance", "1h", 1000), ("mexc", "60m", 500)])
async def test_too_large_limit_is_cut_in_silence(base_url: str, venue: str, interval: str, most: int) -> None:
    status, body = await get(f"{base_url}/{venue}/api/v3/klines", symbol="BTCUSDT", interval=interval, limit=5000)
    assert (status, len(body)) == (200, most)


async def test_gate_refuses_limit_with_from_and_reach_behind_10000_bars(base_url: str) -> None:
    url = f"{base_url}/gate/api/v4/spot/candlesticks"
    status, body = await get(url, currency_pair="BTC_USDT", interval="1m", limit=5, **{"from": NOW_MS // 1000 - 600})
    assert (status, body["label"]) == (400, "INVALID_PARAM_VALUE")
    status, body = await get(
        url, currency_pair="BTC_USDT", interval="1m", **{"from": NOW_MS // 1000 - 700_000, "to": NOW_MS // 1000 - 690_000}
    )
    assert (status, "too long ago" in body["message"]) == (400, True)


LIMITED = {
    "binance": ccxt.DDoSProtection, "bitget": ccxt.DDoSProtection, "kraken": ccxt.DDoSProtection, "bingx": ccxt.OperationFailed,
    "bitstamp": ccxt.ExchangeError,
}  # fmt: skip
"""What ccxt makes of a rate limit where it is not RateLimitExceeded."""


@pytest.mark.parametrize("venue", VENUES)
async def test_rate_limit_is_told_in_the_venues_words(base_url: str, venue: str) -> None:
    async with aiohttp.ClientSession() as session:
        await session.post(f"{base_url}/_faults", json={"service": venue, "kind": "rate_limit", "value": 7, "times": 1})
    async with exchange_of(venue, base_url) as exchange:
        with pytest.raises(LIMITED.get(venue, ccxt.RateLimitExceeded)):
            await exchange.fetch(f"{base_url}/{venue}{UNKNOWN[venue][0]}")


@pytest.mark.parametrize("venue", [v for v in VENUES if v != "bitfinex"])
async def test_error_body_under_status_200_is_an_error(base_url: str, venue: str) -> None:
    async with aiohttp.ClientSession() as session:
        await session.post(f"{base_url}/_faults", json={"service": venue, "kind": "error_body"})
    async with exchange_of(venue, base_url) as exchange:
        with pytest.raises(ccxt.BaseError):
            await exchange.load_markets()


async def test_error_body_under_status_200_is_taken_for_data_on_bitfinex(base_url: str) -> None:
    async with aiohttp.ClientSession() as session:
        await session.post(f"{base_url}/_faults", json={"service": "bitfinex", "kind": "error_body"})
    async with exchange_of("bitfinex", base_url) as exchange:
        assert "BTC/USDT" not in await exchange.load_markets()
