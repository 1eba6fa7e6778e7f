"""Newest bars of the followed series."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
import stamina

from altforecast.tables import BARS
from altforecast.types import Series, Timeframe
from altforecast_io.exchanges import connection
from altforecast_io.exchanges.latest import latest_bars, tracked_series
from altforecast_io.settings import Settings
from altforecast_sandbox.market import Market
from tests.stand_in import NOON, StandIn, running

H1, M15 = Timeframe.H1, Timeframe.M15


@pytest.fixture(scope="module")
def market() -> Market:
    return Market(7)


@pytest.fixture
def outside(market: Market) -> Iterator[StandIn]:
    connection._MARKETS.clear()
    stamina.set_testing(True, attempts=2, cap=True)
    with running(market) as stand_in:
        yield stand_in
    stamina.set_testing(False)


def test_tracked_series_default(tmp_path: Path) -> None:
    settings = Settings.load(base=tmp_path)
    assert tracked_series(settings) == [Series("binance", s) for s in ("BTC-USDT", "ETH-USDT", "SOL-USDT", "ETH-BTC")]


def test_tracked_series_names_each_once(tmp_path: Path) -> None:
    settings = Settings.load(base=tmp_path, tracked_symbols="BTCUSDT,btc-usdt,ETH/USDT", bars_exchange="gateio")
    assert tracked_series(settings) == [Series("gate", "BTC-USDT"), Series("gate", "ETH-USDT")]


def test_latest_bars_of_all_followed_series(outside: StandIn, tmp_path: Path) -> None:
    settings = outside.settings(tmp_path)
    found = latest_bars(settings, tracked_series(settings), [M15, H1], NOON)
    assert not found.failures
    assert BARS.conform(found.bars).height == 4 * 2 * 3
    newest = found.bars.group_by("timeframe").agg(pl.col("ts").max())
    assert dict(newest.iter_rows()) == {"15m": datetime(2026, 3, 1, 11, 45, tzinfo=UTC), "1h": datetime(2026, 3, 1, 11, tzinfo=UTC)}
    assert sum("exchangeInfo" in r for r in outside.requests) == 1
    assert sum("klines" in r for r in outside.requests) == 8


def test_latest_bars_go_on_from_what_is_held(outside: StandIn, tmp_path: Path) -> None:
    series = Series("binance", "BTC-USDT")
    last = datetime(2026, 2, 27, 12, tzinfo=UTC)
    found = latest_bars(outside.settings(tmp_path), [series], [H1], NOON, since={(series, H1): last})
    assert found.bars["ts"].min() == last + timedelta(hours=1)
    assert found.bars["ts"].max() == datetime(2026, 3, 1, 11, tzinfo=UTC)


def test_latest_bars_a_failing_series_or_venue_does_not_stop_the_others(outside: StandIn, tmp_path: Path) -> None:
    outside.fault("okx", "server_error")
    good, bad, down = Series("binance", "BTC-USDT"), Series("binance", "NOPE-USDT"), Series("okx", "BTC-USDT")
    found = latest_bars(outside.settings(tmp_path), [bad, good, down], [H1], NOON)
    assert found.bars.select("exchange", "symbol").unique().rows() == [("binance", "BTC-USDT")]
    assert {series for series, _ in found.failures} == {bad, down}
    assert any("not traded on binance" in why for _, why in found.failures)


def test_latest_bars_of_nothing_is_empty(outside: StandIn, tmp_path: Path) -> None:
    found = latest_bars(outside.settings(tmp_path), [], [H1], NOON)
    assert found.bars.schema == BARS.schema
    assert found.bars.is_empty()
