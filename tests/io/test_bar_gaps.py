"""Holes asked again: filled, judged, counted."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
import stamina

from altforecast.bars import find_gaps
from altforecast.symbols import metric_series
from altforecast.tables import BAR_GAPS
from altforecast.types import Metric, Series, Timeframe, Window
from altforecast_io.backfill import Span, backfill_bars
from altforecast_io.bar_gaps import MAX_ASKS, apply_verdicts, known_verdicts, refill_gaps, repair_bars
from altforecast_io.exchanges import connection
from altforecast_io.lake import Lake, Scope
from altforecast_io.landing import landing_files, read_landing, remove_landing
from altforecast_io.provenance import Provenance
from altforecast_sandbox.market import Market
from tests.stand_in import NOON, StandIn, running

H1, M1 = Timeframe.H1, Timeframe.M1
BTC = Series("binance", "BTC-USDT")
START = datetime(2026, 2, 20, tzinfo=UTC)
PROVENANCE = Provenance("bars", "test", "test", "sandbox", NOON)


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


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake", "sandbox")


def fill(outside: StandIn, lake: Lake, venue: str = "binance", timeframe: Timeframe = H1, start: datetime = START) -> pl.DataFrame:
    backfill_bars(outside.settings(lake.root.parent), lake, venue, ["BTC-USDT"], [timeframe], start, NOON, clock=outside.clock)
    files = landing_files(lake.root)
    rows = read_landing(files)
    remove_landing(files)
    return rows


def keep(lake: Lake, rows: pl.DataFrame, timeframe: Timeframe = H1) -> None:
    lake.replace("bars", rows, Scope(Window(START - timedelta(days=30), NOON), (timeframe,)), PROVENANCE)


def hours(*numbers: int) -> pl.Expr:
    return pl.col("ts").is_in([START + timedelta(hours=n) for n in numbers])


def test_refill_gaps_fills_what_the_venue_has(outside: StandIn, lake: Lake) -> None:
    rows = fill(outside, lake)
    keep(lake, rows.filter(~hours(5, 6, 7, 40)))
    gaps = find_gaps(lake.read("bars", H1), H1)
    assert gaps["n_bars"].to_list() == [3, 1]
    done = refill_gaps(outside.settings(lake.root.parent), lake, gaps, clock=outside.clock)
    assert (done.n_asked, done.n_filled) == (2, 4)
    assert done.verdicts.is_empty()
    landed = read_landing(landing_files(lake.root))
    assert landed.select("ts", "close").sort("ts").equals(rows.filter(hours(5, 6, 7, 40)).select("ts", "close").sort("ts"))


def test_refill_gaps_judges_what_the_venue_has_not(outside: StandIn, lake: Lake) -> None:
    rows = fill(outside, lake, "coinbase", M1, NOON - timedelta(hours=20))
    keep(lake, rows, M1)
    gaps = find_gaps(lake.read("bars", M1), M1).with_columns(kind=pl.lit("unknown"))
    assert gaps.height > 3
    done = refill_gaps(outside.settings(lake.root.parent), lake, gaps, clock=outside.clock)
    assert (done.n_filled, done.n_files) == (0, 0)
    assert done.verdicts.select("ts", "end_ts", "n_bars").equals(gaps.select("ts", "end_ts", "n_bars"))
    assert set(done.verdicts["kind"]) == {"quiet"}
    assert done.verdicts["evidence"][0].startswith("asked 1 of 3 times, last 2026-03-01 12:07 UTC: coinbase has the bars on both sides")
    judged = apply_verdicts(gaps, lake.root)
    assert set(judged["kind"]) == {"quiet"}
    assert set(judged["known_at"]) == {NOON}
    again = refill_gaps(outside.settings(lake.root.parent), lake, gaps, clock=outside.clock)
    assert again.n_asked == 0


def test_refill_gaps_splits_a_hole_that_is_half_filled(outside: StandIn, lake: Lake) -> None:
    rows = fill(outside, lake, "coinbase", M1, NOON - timedelta(hours=20))
    hole = find_gaps(rows, M1).row(0, named=True)
    around = pl.col("ts").is_between(hole["ts"] - timedelta(minutes=2), hole["end_ts"] + timedelta(minutes=1))
    keep(lake, rows.filter(~around), M1)
    wide = find_gaps(lake.read("bars", M1), M1).filter(pl.col("ts") == hole["ts"] - timedelta(minutes=2))
    assert wide["n_bars"].item() > hole["n_bars"]
    done = refill_gaps(outside.settings(lake.root.parent), lake, wide.with_columns(kind=pl.lit("feed_down")), clock=outside.clock)
    assert done.n_filled == rows.filter(around).height
    assert (hole["ts"], hole["end_ts"], "quiet") in done.verdicts.select("ts", "end_ts", "kind").rows()


def test_refill_gaps_asks_an_unreachable_venue_three_times_only(outside: StandIn, lake: Lake) -> None:
    rows = fill(outside, lake)
    keep(lake, rows.filter(~hours(5, 6)))
    gaps = find_gaps(lake.read("bars", H1), H1)
    outside.fault("binance", "server_error", path="klines")
    for asks in range(1, MAX_ASKS + 1):
        done = refill_gaps(outside.settings(lake.root.parent), lake, gaps, clock=outside.clock)
        assert done.verdicts["kind"].to_list() == ["unknown"]
        assert done.verdicts["evidence"].item().startswith(f"asked {asks} of 3 times")
        assert "ExchangeNotAvailable" in done.verdicts["evidence"].item()
    before = len(outside.requests)
    assert refill_gaps(outside.settings(lake.root.parent), lake, gaps, clock=outside.clock).n_asked == 0
    assert len(outside.requests) == before
    assert known_verdicts(lake.root).height == 1


def test_refill_gaps_silence_on_all_sides_proves_nothing(outside: StandIn, lake: Lake) -> None:
    old = datetime(2017, 6, 1, tzinfo=UTC)
    rows = [(old, "BTC-USDT", "binance", "1h", old + timedelta(hours=3), 3, "unknown", "", old)]
    gaps = pl.DataFrame(rows, schema=BAR_GAPS.schema, orient="row")
    done = refill_gaps(outside.settings(lake.root.parent), lake, gaps, clock=outside.clock)
    assert done.verdicts["kind"].to_list() == ["unknown"]
    assert "proves nothing" in done.verdicts["evidence"].item()


def test_refill_gaps_leaves_quiet_and_index_holes_alone(outside: StandIn, lake: Lake) -> None:
    at = START
    rows = [
        (at, "BTC-USDT", "binance", "1h", at + timedelta(hours=1), 1, "quiet", "", at),
        (at, "USDT.D", "cryptocap", "1h", at + timedelta(hours=1), 1, "unknown", "", at),
        (at, "BTC-USDT", "mtgox", "1h", at + timedelta(hours=1), 1, "feed_down", "", at),
        (at, "ETH-USDT", "binance", "1h", at + timedelta(hours=90_000), 90_000, "unknown", "", at),
    ]
    gaps = pl.DataFrame(rows, schema=BAR_GAPS.schema, orient="row")
    assert refill_gaps(outside.settings(lake.root.parent), lake, gaps, clock=outside.clock).n_asked == 0
    assert outside.requests == []
    assert refill_gaps(outside.settings(lake.root.parent), lake, BAR_GAPS.empty(), clock=outside.clock).n_asked == 0


def test_repair_bars_of_tradingview_metrics(outside: StandIn, lake: Lake) -> None:
    holes = [Span(metric_series(m), Timeframe.M15, START, START + timedelta(hours=1)) for m in Metric]
    done = repair_bars(outside.settings(lake.root.parent), lake, holes, clock=outside.clock)
    assert done.n_filled == 8
    assert {h.series.symbol for h in done.unrepairable} == {"USDT.D", "BTC.D", "TOTAL2", "TOTAL3"}
    landed = read_landing(landing_files(lake.root))
    inside = landed.filter(pl.col("ts").is_between(START, START + timedelta(minutes=45)))
    assert inside.group_by("symbol").len().sort("symbol").rows() == [("BTC-USDT", 4), ("ETH-BTC", 4)]
