"""Bars of venues through the real ccxt classes against the sandbox's exchanges."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import polars as pl
import pytest
import stamina
from aiohttp import ClientSession, web

from altforecast.errors import SettingsError, UnknownNameError
from altforecast.symbols import VENUES
from altforecast.tables import BARS
from altforecast.types import Series, Timeframe
from altforecast_io.exchanges import connection
from altforecast_io.exchanges.connection import classify, make_exchange, open_venue, with_base_url
from altforecast_io.exchanges.markets import Market as Listed
from altforecast_io.exchanges.markets import list_markets
from altforecast_io.exchanges.ohlcv import FetchReport, bars_frame, fetch_bars, parse_rows
from altforecast_io.exchanges.venues import VENUES_BY_SLUG, base_timeframe, venue_of
from altforecast_io.http import Failure, ServiceError
from altforecast_io.settings import Settings
from altforecast_sandbox.market import Market
from tests.stand_in import NOON, StandIn, running

H1, D1 = Timeframe.H1, Timeframe.D1
BTC = "BTC-USDT"


@pytest.fixture(scope="module")
def market() -> Market:
    return Market(7)


@pytest.fixture
def outside(market: Market) -> Iterator[StandIn]:
    connection._MARKETS.clear()
    with running(market) as stand_in:
        yield stand_in


@pytest.fixture(autouse=True)
def _quick_retries() -> Iterator[None]:
    stamina.set_testing(True, attempts=connection.ATTEMPTS, cap=True)
    yield
    stamina.set_testing(False)


def fetch(
    outside: StandIn, home: Path, start: datetime, end: datetime = NOON, *, venue: str = "binance", symbol: str = BTC,
    timeframe: Timeframe = H1, clock: Callable[[], datetime] | None = None, before: Callable[[], Any] | None = None, **more: Any,
) -> tuple[pl.DataFrame, FetchReport]:  # fmt: skip
    """All bars of one fetch and its report; `before` runs once the venue is open."""
    report = FetchReport(Series(venue, symbol), timeframe)

    async def run() -> list[pl.DataFrame]:
        async with open_venue(venue, outside.settings(home), clock or outside.clock, random.Random(1)) as client:
            if before:
                before()
            return [frame async for frame in fetch_bars(client, symbol, timeframe, start, end, report=report, **more)]

    frames = asyncio.run(run())
    return pl.concat([BARS.empty(), *frames]), report


def asked(outside: StandIn, path: str) -> list[dict[str, list[str]]]:
    return [parse_qs(urlsplit(r).query) for r in outside.requests if path in r]


def truth(outside: StandIn, start: datetime, end: datetime, timeframe: Timeframe = H1, venue: str = "binance") -> pl.DataFrame:
    found = outside.market.candles(BTC, timeframe, start, end, venue, now=outside.now)
    frame = pl.DataFrame({"ts": found.ts_ms, "close": found.close})
    return frame.filter(pl.col("ts") + timeframe.ms <= outside.now.timestamp() * 1000)


def test_fetch_bars_pages_through_all_closed_bars(outside: StandIn, tmp_path: Path) -> None:
    start = NOON - timedelta(days=100)
    frame, report = fetch(outside, tmp_path, start)
    wanted = truth(outside, start, NOON)
    assert frame["ts"].dt.epoch("ms").to_list() == wanted["ts"].to_list()
    assert frame["close"].to_list() == pytest.approx(wanted["close"].to_list(), abs=1e-8)
    assert (report.n_pages, report.n_forming, report.n_duplicates) == (3, 1, 0)
    assert BARS.conform(frame).height == report.n_rows
    assert [int(q["limit"][0]) for q in asked(outside, "/klines")] == [1000] * 3


def test_fetch_bars_drops_the_forming_bar_by_the_venues_clock(outside: StandIn, tmp_path: Path) -> None:
    start = NOON - timedelta(hours=5)
    wrong = {"fast": timedelta(hours=3), "slow": timedelta(hours=-3)}
    for error in wrong.values():
        frame, _ = fetch(outside, tmp_path, start, NOON + timedelta(days=1), clock=lambda e=error: NOON + e)  # type: ignore[misc]
        assert frame["ts"].max() == datetime(2026, 3, 1, 11, tzinfo=UTC)


def test_fetch_bars_takes_skew_of_the_venue_into_account(outside: StandIn, tmp_path: Path) -> None:
    outside.fault("binance", "clock_skew", value=-1800.0)
    frame, _ = fetch(outside, tmp_path, NOON - timedelta(hours=5), NOON)
    assert frame["ts"].max() == datetime(2026, 3, 1, 10, tzinfo=UTC)


def test_fetch_bars_quality_by_age(outside: StandIn, tmp_path: Path) -> None:
    frame, _ = fetch(outside, tmp_path, NOON - timedelta(hours=6))
    traded = frame.filter(pl.col("quality") != "quiet")
    assert dict(zip(traded["ts"].dt.hour(), traded["quality"], strict=True))[11] == "observed"
    assert set(traded.filter(pl.col("ts") < NOON - timedelta(hours=4))["quality"]) == {"backfilled"}
    assert frame["received_at"].unique().to_list() == [NOON]
    assert (frame["known_at"] - frame["ts"]).unique().to_list() == [timedelta(hours=1)]


def test_fetch_bars_outside_the_span_are_not_given(outside: StandIn, tmp_path: Path) -> None:
    start, end = datetime(2026, 2, 1, 0, 30, tzinfo=UTC), datetime(2026, 2, 1, 4, 0, tzinfo=UTC)
    frame, _ = fetch(outside, tmp_path, start, end)
    assert frame["ts"].dt.hour().to_list() == [1, 2, 3]


def test_fetch_bars_empty_span_asks_nothing(outside: StandIn, tmp_path: Path) -> None:
    frame, report = fetch(outside, tmp_path, NOON, NOON + timedelta(hours=3))
    assert frame.is_empty()
    assert report.n_pages == 0


@pytest.mark.parametrize("kind", ["rate_limit", "server_error", "truncated", "html", "disconnect", "error_body"])
def test_fetch_bars_survives_a_passing_fault(kind: str, outside: StandIn, tmp_path: Path) -> None:
    start = NOON - timedelta(days=2)
    frame, _ = fetch(outside, tmp_path, start, before=lambda: outside.fault("binance", kind, times=2, path="klines"))
    assert frame["ts"].dt.epoch("ms").to_list() == truth(outside, start, NOON)["ts"].to_list()
    assert outside.board.counts[f"binance.{kind}"] == 2


def test_call_resynchronises_a_refused_clock_once(outside: StandIn, tmp_path: Path) -> None:
    import ccxt.async_support as ccxt

    async def run() -> tuple[int, int]:
        async with open_venue("binance", outside.settings(tmp_path), outside.clock) as client:
            asked_times: list[int] = []

            async def signed() -> int:
                asked_times.append(client.offset_ms)
                if client.offset_ms == 0:
                    outside.fault("binance", "clock_skew", value=7.0)
                    raise ccxt.InvalidNonce("Timestamp for this request is outside of the recvWindow.")
                return client.offset_ms

            client.exchange.signed = signed
            return await client.call("signed"), len(asked_times)

    assert asyncio.run(run()) == (7000, 2)


@pytest.mark.parametrize("kind", ["rate_limit", "server_error", "truncated", "html", "disconnect"])
def test_fetch_bars_lasting_fault_ends_after_capped_attempts(kind: str, outside: StandIn, tmp_path: Path) -> None:
    with pytest.raises(ServiceError) as caught:
        fetch(outside, tmp_path, NOON - timedelta(days=2), before=lambda: outside.fault("binance", kind, path="klines"))
    assert caught.value.failure is Failure.TRANSIENT
    assert caught.value.service == "binance"
    # aiohttp itself asks once more when a kept connection turns out to be closed
    times = 2 if kind == "disconnect" else 1
    assert connection.ATTEMPTS <= len(asked(outside, "/klines")) <= times * connection.ATTEMPTS


def test_fetch_bars_waits_as_long_as_the_venue_asks(outside: StandIn, tmp_path: Path) -> None:
    stamina.set_testing(False)
    began: list[float] = []

    def spoil() -> None:
        outside.fault("binance", "rate_limit", value=1.0, times=1, path="klines")
        began.append(asyncio.get_running_loop().time())

    async def elapsed() -> float:
        async with open_venue("binance", outside.settings(tmp_path), outside.clock, random.Random(1)) as client:
            spoil()
            _ = [f async for f in fetch_bars(client, BTC, H1, NOON - timedelta(hours=3), NOON)]
            return asyncio.get_running_loop().time() - began[0]

    assert asyncio.run(elapsed()) >= 1.0


@pytest.mark.parametrize("kind", ["duplicate", "out_of_order"])
def test_fetch_bars_orders_and_dedupes_pages(kind: str, outside: StandIn, tmp_path: Path) -> None:
    start = NOON - timedelta(days=60)
    frame, report = fetch(outside, tmp_path, start, before=lambda: outside.fault("binance", kind, path="klines"))
    assert frame["ts"].dt.epoch("ms").to_list() == truth(outside, start, NOON)["ts"].to_list()
    # of a full page ccxt itself cuts the row beyond the limit, so only the last page shows its double
    assert report.n_duplicates == (1 if kind == "duplicate" else 0)


def test_fetch_bars_empty_page_ends_and_is_no_zero(outside: StandIn, tmp_path: Path) -> None:
    frame, report = fetch(outside, tmp_path, NOON - timedelta(days=2), before=lambda: outside.fault("binance", "empty", path="klines"))
    assert frame.is_empty()
    assert report.n_pages <= 2
    assert report.n_rows == 0


def test_fetch_bars_null_rows_are_refused(outside: StandIn, tmp_path: Path) -> None:
    frame, report = fetch(outside, tmp_path, NOON - timedelta(hours=20), before=lambda: outside.fault("binance", "nulls", path="klines"))
    assert frame.is_empty()
    assert report.n_refused >= 20
    assert any("refused" in note for note in report.notes())


def test_fetch_bars_cap_on_pages_is_said(outside: StandIn, tmp_path: Path) -> None:
    frame, report = fetch(outside, tmp_path, NOON - timedelta(days=120), max_pages=2)
    assert frame.height == 2000
    assert report.is_cut
    assert "stopped after 2 pages" in report.notes()[-1]


def test_fetch_bars_before_the_listing_is_said(outside: StandIn, tmp_path: Path) -> None:
    frame, report = fetch(outside, tmp_path, datetime(2009, 1, 1, tzinfo=UTC), timeframe=D1)
    first = frame["ts"].min()
    assert report.history_starts_at == first
    assert report.history_reason == "start"
    assert f"history not available before {first:%Y-%m-%d}" in report.notes()[0]


@pytest.mark.parametrize("venue", VENUES)
def test_fetch_bars_of_every_venue(venue: str, outside: StandIn, tmp_path: Path) -> None:
    start = NOON - timedelta(days=25)
    frame, report = fetch(outside, tmp_path, start, venue=venue)
    wanted = truth(outside, start, NOON, venue=venue)
    assert frame["ts"].dt.epoch("ms").to_list() == wanted["ts"].to_list()
    assert frame["close"].to_list() == pytest.approx(wanted["close"].to_list(), rel=1e-6)
    assert frame["exchange"].unique().to_list() == [venue]
    assert report.n_pages >= (600 // VENUES_BY_SLUG[venue].max_bars or 1)
    assert not report.history_starts_at


@pytest.mark.parametrize("venue", ["okx", "coinbase", "kucoin", "bitstamp", "binance"])
def test_fetch_bars_finds_the_listing_within_few_pages(venue: str, outside: StandIn, tmp_path: Path) -> None:
    listed = datetime(2018, 1, 1, tzinfo=UTC)
    start, end = listed - timedelta(days=900), listed + timedelta(days=3)
    frame, report = fetch(outside, tmp_path, start, end, venue=venue, timeframe=Timeframe.M15)
    assert frame["ts"].dt.epoch("ms").to_list() == truth(outside, listed, end, Timeframe.M15, venue)["ts"].to_list()
    assert (report.history_starts_at, report.history_reason) == (listed, "start")
    assert report.n_pages <= 8


def test_fetch_bars_builds_4h_where_the_venue_has_none(outside: StandIn, tmp_path: Path) -> None:
    start = NOON - timedelta(days=30)
    frame, _ = fetch(outside, tmp_path, start, venue="coinbase", timeframe=Timeframe.H4)
    wanted = truth(outside, start, NOON, Timeframe.H4, "coinbase")
    assert frame["ts"].dt.epoch("ms").to_list() == wanted["ts"].to_list()
    assert frame["close"].to_list() == pytest.approx(wanted["close"].to_list(), rel=1e-6)
    assert {q["granularity"][0] for q in asked(outside, "/candles")} == {"ONE_HOUR"}
    assert (frame["known_at"] - frame["ts"]).unique().to_list() == [timedelta(hours=4)]


def test_fetch_bars_says_how_far_kraken_reaches(outside: StandIn, tmp_path: Path) -> None:
    frame, report = fetch(outside, tmp_path, NOON - timedelta(days=60), venue="kraken")
    assert frame.height == 719
    assert (report.history_starts_at, report.history_reason) == (frame["ts"].min(), "reach")
    assert "history not available before 2026-01-30 13:00 UTC (the venue gives only its newest bars)" in report.notes()[0]


def test_fetch_bars_beyond_the_reach_of_gate_starts_at_its_edge(outside: StandIn, tmp_path: Path) -> None:
    frame, report = fetch(outside, tmp_path, NOON - timedelta(days=120), venue="gate", timeframe=Timeframe.M15)
    assert report.history_reason == "reach"
    assert frame["ts"].min() == report.history_starts_at
    assert 9_900 <= frame.height <= 10_000


def test_fetch_bars_notices_a_venue_that_ignores_since(market: Market, tmp_path: Path) -> None:
    async def deaf(request: web.Request) -> web.Response:
        """The stand-in of htx with `from` left out of every question."""
        query = {k: v for k, v in request.query.items() if k != "from"}
        async with ClientSession() as session, session.get(f"{outside.url}/htx/{request.match_info['tail']}", params=query) as answer:
            return web.Response(body=await answer.read(), content_type="application/json")

    connection._MARKETS.clear()
    with running(market, {"/deaf/{tail:.*}": deaf}) as outside:
        report = FetchReport(Series("htx", BTC), H1)
        settings = outside.settings(tmp_path, exchange_base_urls_text=f"htx={outside.url}/deaf")

        async def run() -> pl.DataFrame:
            async with open_venue("htx", settings, outside.clock) as client:
                start = NOON - timedelta(days=200)
                return pl.concat([f async for f in fetch_bars(client, BTC, H1, start, NOON, report=report)])

        frame = asyncio.run(run())
    assert report.history_reason == "reach"
    assert frame["ts"].min() == report.history_starts_at
    assert frame.height == 999


def test_list_markets_are_canonical(outside: StandIn, tmp_path: Path) -> None:
    async def run() -> list[Listed]:
        async with open_venue("binance", outside.settings(tmp_path), outside.clock) as client:
            return list_markets(client)

    markets = asyncio.run(run())
    assert {m.symbol for m in markets} >= {BTC, "ETH-USDT", "ETH-BTC"}
    assert all(m.is_active and m.symbol == f"{m.base}-{m.quote}" for m in markets)


def test_fetch_bars_unknown_symbol_lists_what_there_is(outside: StandIn, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="BTC-USDT") as caught:
        fetch(outside, tmp_path, NOON - timedelta(days=1), symbol="BTC-JPY")
    assert caught.value.field == "symbol"


def test_open_venue_unknown_name_lists_venues(outside: StandIn, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="binance, okx, bybit"):
        fetch(outside, tmp_path, NOON - timedelta(days=1), venue="mtgox")


def test_open_venue_in_the_sandbox_needs_a_stand_in(tmp_path: Path) -> None:
    settings = Settings.load(base=tmp_path, environment="sandbox")
    with pytest.raises(SettingsError, match="EXCHANGE_BASE_URLS"):
        make_exchange(venue_of("binance"), settings)


@pytest.mark.parametrize("slug", sorted(VENUES_BY_SLUG))
def test_make_exchange_points_every_address_at_the_stand_in(slug: str, tmp_path: Path) -> None:
    settings = Settings.load(base=tmp_path, exchange_base_urls_text=f"{slug}=http://127.0.0.1:9/{slug}")
    if slug == "bitmart":
        pytest.skip("not in this ccxt")
    real = make_exchange(venue_of(slug), Settings.load(base=tmp_path))
    exchange = make_exchange(venue_of(slug), settings)
    pairs = list(zip(_leaves(real.urls["api"]), _leaves(exchange.urls["api"]), strict=True))
    assert pairs
    for before, after in pairs:
        assert after == f"http://127.0.0.1:9/{slug}" + urlsplit(before).path


def _leaves(node: Any) -> list[str]:
    return [leaf for child in node.values() for leaf in _leaves(child)] if isinstance(node, dict) else [node]


def test_with_base_url_replaces_hostname_templates() -> None:
    api = {"rest": "https://api.{hostname}/openApi", "deep": {"v5": "https://www.okx.com"}}
    assert with_base_url(api, "http://h:1/okx/") == {"rest": "http://h:1/okx/openApi", "deep": {"v5": "http://h:1/okx"}}


@pytest.mark.parametrize("slug", sorted(VENUES_BY_SLUG))
def test_venues_agree_with_ccxt(slug: str, tmp_path: Path) -> None:
    venue = venue_of(slug)
    exchange = make_exchange(venue, Settings.load(base=tmp_path))
    native = {t for t in Timeframe if t.value in exchange.timeframes}
    assert venue.timeframes == native
    assert venue.has_time == bool(exchange.has.get("fetchTime"))
    assert exchange.enableRateLimit
    assert exchange.rateLimit > 0


def test_base_timeframe_builds_4h_from_1h() -> None:
    assert base_timeframe(venue_of("coinbase"), Timeframe.H4) is H1
    assert base_timeframe(venue_of("binance"), Timeframe.H4) is Timeframe.H4


def test_venue_of_accepts_old_names() -> None:
    assert (venue_of("gateio").slug, venue_of("huobi").slug) == ("gate", "htx")


def test_classify_ccxt_errors() -> None:
    import ccxt.async_support as ccxt

    wanted = {
        ccxt.AuthenticationError: Failure.AUTH, ccxt.PermissionDenied: Failure.AUTH, ccxt.RestrictedLocation: Failure.AUTH,
        ccxt.RateLimitExceeded: Failure.TRANSIENT, ccxt.DDoSProtection: Failure.TRANSIENT, ccxt.ExchangeNotAvailable: Failure.TRANSIENT,
        ccxt.BadResponse: Failure.TRANSIENT, ccxt.BadSymbol: Failure.BAD_REQUEST, ccxt.BadRequest: Failure.BAD_REQUEST,
        ccxt.NotSupported: Failure.BAD_REQUEST,
    }  # fmt: skip
    assert {kind: classify(kind("x")) for kind in wanted} == wanted


def test_parse_rows_refuses_the_malformed() -> None:
    hour = 3_600_000
    good = [hour, 2.0, 3.0, 1.0, 2.5, 10.0]
    raw: list[Any] = [
        good, [2 * hour, "0.1", 0.1, 0.1, 0.1, None], [hour + 1, 2, 3, 1, 2, 1], [3 * hour, 2, 1, 1, 2, 1], [4 * hour, -2, 3, 1, 2, 1],
        [5 * hour, 2, 3, 1, float("nan"), 1], [6 * hour, 2, 3, 1, None, 1], [7 * hour, 2, 3, 1, 2, -1], [8 * hour, 2], [None] * 6, "[",
    ]  # fmt: skip
    rows, refused = parse_rows(raw, H1)
    assert rows == [(hour, 2.0, 3.0, 1.0, 2.5, 10.0), (2 * hour, 0.1, 0.1, 0.1, 0.1, None)]
    assert refused == 9


def test_bars_frame_of_no_rows_is_empty() -> None:
    frame = bars_frame([], Series("binance", BTC), H1, NOON)
    assert frame.schema == BARS.schema
    assert frame.is_empty()


def test_bars_frame_marks_quiet_only_when_flat_without_volume() -> None:
    rows = [(0, 1.0, 1.0, 1.0, 1.0, 0.0), (3_600_000, 1.0, 1.0, 1.0, 1.0, 5.0), (7_200_000, 1.0, 1.0, 1.0, 1.0, None)]
    assert bars_frame(rows, Series("binance", BTC), H1, NOON)["quality"].to_list() == ["quiet", "backfilled", "backfilled"]
