"""The sandbox market: the same whatever is asked, consistent between timeframes, alive like a real one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from altforecast.errors import InputError, UnknownNameError
from altforecast.types import Metric, Timeframe
from altforecast_sandbox.caps import INDEX_METRICS
from altforecast_sandbox.coins import COINS
from altforecast_sandbox.market import Market
from altforecast_sandbox.quotes import HABITS

NOW = datetime(2026, 11, 21, 9, 3, 20, tzinfo=UTC)
MIDNIGHT = NOW.replace(hour=0, minute=0, second=0)
OHLC = ["open", "high", "low", "close"]


@pytest.fixture(scope="module")
def market() -> Market:
    return Market(7)


def incident_days(market: Market, kind: str, scope: str | None = None) -> datetime:
    found = market.incidents(MIDNIGHT - timedelta(days=400), MIDNIGHT)
    return next(i for i in found if i.kind == kind and scope in (None, i.scope)).start.replace(hour=0, minute=0)


def test_bars_same_seed_same_bars(market: Market) -> None:
    start, end = MIDNIGHT - timedelta(days=3), MIDNIGHT
    assert_frame_equal(Market(7).bars("SOL-USDT", "5m", start, end), market.bars("SOL-USDT", "5m", start, end))
    assert not Market(8).bars("SOL-USDT", "5m", start, end).equals(market.bars("SOL-USDT", "5m", start, end))


@pytest.mark.parametrize("timeframe", list(Timeframe))
def test_bars_window_is_slice_of_wider_window(market: Market, timeframe: Timeframe) -> None:
    start, end = MIDNIGHT - timedelta(hours=31, minutes=7), MIDNIGHT + timedelta(hours=5, minutes=22)
    narrow = Market(7).bars("ETH-USDT", timeframe, start, end)
    wide = market.bars("ETH-USDT", timeframe, start - timedelta(days=9), end + timedelta(days=4))
    assert_frame_equal(narrow, wide.filter(pl.col("ts").is_between(start, end, closed="left")))
    assert narrow.height >= 1


@pytest.mark.parametrize("venue", ["binance", "kraken", "coinbase"])
@pytest.mark.parametrize("symbol", ["BTC-USDT", "DOGE-USDT", "ETH-BTC"])
@pytest.mark.parametrize("timeframe", ["5m", "15m", "1h", "4h", "1d"])
def test_bars_longer_equal_aggregated_minutes(market: Market, venue: str, symbol: str, timeframe: str) -> None:
    outage = incident_days(market, "outage", venue)
    start, end = outage - timedelta(days=1), outage + timedelta(days=1)
    minutes = market.bars(symbol, "1m", start, end, venue)
    built = (
        minutes.sort("ts")
        .group_by_dynamic("ts", every=timeframe)
        .agg(pl.col("open").first(), pl.col("high").max(), pl.col("low").min(), pl.col("close").last(), pl.col("volume").sum())
    )
    longer = market.bars(symbol, timeframe, start, end, venue)
    assert longer.select("ts", *OHLC).equals(built.select("ts", *OHLC))
    assert np.allclose(longer["volume"], built["volume"], rtol=1e-12)


@pytest.mark.parametrize("symbol", ["BTC-USDT", "XRP-USDT", "ETH-BTC", "BTC-USD"])
@pytest.mark.parametrize("venue", ["binance", "bitstamp"])
def test_bars_keep_ohlc_order(market: Market, symbol: str, venue: str) -> None:
    bars = market.bars(symbol, "1m", MIDNIGHT - timedelta(days=20), MIDNIGHT, venue)
    wrong = bars.filter((pl.col("low") > pl.min_horizontal("open", "close")) | (pl.col("high") < pl.max_horizontal("open", "close")))
    assert wrong.is_empty()
    assert bars.select(pl.min_horizontal(*OHLC).min()).item() > 0
    assert bars["volume"].min() >= 0
    assert bars["ts"].is_sorted()
    assert bars["ts"].is_unique().all()


def test_bars_days_join_without_jump(market: Market) -> None:
    bars = market.bars("BTC-USDT", "1m", MIDNIGHT - timedelta(days=30), MIDNIGHT)
    step = np.log(bars["open"].to_numpy()[1:] / bars["close"].to_numpy()[:-1])
    steady = np.diff(bars["ts"].dt.epoch("ms").to_numpy()) == 60_000
    assert np.abs(step[steady]).max() == 0.0


def test_bars_volatility_clusters(market: Market) -> None:
    closes = market.bars("BTC-USDT", "1h", MIDNIGHT - timedelta(days=400), MIDNIGHT)["close"].to_numpy()
    size = np.abs(np.diff(np.log(closes)))
    away = size - size.mean()
    lags = [float((away[k:] * away[:-k]).mean() / away.var()) for k in (1, 2, 6, 24)]
    assert min(lags) > 0.03
    assert lags[0] > 0.15


def test_bars_tails_are_fat_and_coins_move_together(market: Market) -> None:
    start = MIDNIGHT - timedelta(days=200)
    returns = {s: np.diff(np.log(market.bars(s, "4h", start, MIDNIGHT)["close"].to_numpy())) for s in ("BTC-USDT", "ETH-USDT", "SOL-USDT")}
    btc = returns["BTC-USDT"]
    assert float((btc**4).mean() / (btc**2).mean() ** 2) > 4.0
    least = min(len(r) for r in returns.values())
    assert np.corrcoef(btc[-least:], returns["SOL-USDT"][-least:])[0, 1] > 0.4


def test_bars_follow_the_time_of_day(market: Market) -> None:
    bars = market.bars("BTC-USDT", "1h", MIDNIGHT - timedelta(days=400), MIDNIGHT)
    ranges = bars.with_columns((pl.col("high") / pl.col("low")).log().alias("r"), pl.col("ts").dt.hour().alias("hour"))
    mean = dict(ranges.group_by("hour").agg(pl.col("r").median()).iter_rows())
    assert mean[14] > 1.3 * mean[3]


@pytest.mark.parametrize("symbol", ["BTC-USDT", "SOL-USDT"])
def test_bars_volatility_remembers_hours_days_and_a_week_like_real_markets(market: Market, symbol: str) -> None:
    bars = market.bars(symbol, "1h", MIDNIGHT - timedelta(days=400), MIDNIGHT)
    high_low, close_open = ((bars[a] / bars[b]).log().to_numpy() for a, b in (("high", "low"), ("close", "open")))
    variance = 0.5 * high_low**2 - (2 * np.log(2) - 1) * close_open**2
    away = np.log(np.maximum(variance, np.quantile(variance[variance > 0], 0.01)))
    away -= away.mean()
    hour, four, day, week = (float((away[k:] * away[:-k]).mean() / away.var()) for k in (1, 4, 24, 168))
    # Binance perpetuals 2023-01 to 2025-08: 0.60-0.70, 0.42-0.55, 0.38-0.51, 0.22-0.43
    assert 0.55 < hour < 0.80
    assert 0.35 < four < 0.65
    assert 0.15 < day < 0.55
    assert 0.10 < week < 0.45
    assert 0.9 < np.sqrt(away.var()) < 1.5


def test_bars_weekends_are_quieter(market: Market) -> None:
    bars = market.bars("ETH-USDT", "1h", MIDNIGHT - timedelta(days=400), MIDNIGHT)
    size = np.log((bars["high"] / bars["low"]).to_numpy())
    is_weekend = bars["ts"].dt.weekday().to_numpy() >= 6
    assert 0.5 < np.median(size[is_weekend]) / np.median(size[~is_weekend]) < 0.9


def test_bars_midnight_is_no_seam_in_volatility(market: Market) -> None:
    bars = market.bars("BTC-USDT", "15m", MIDNIGHT - timedelta(days=400), MIDNIGHT).filter(pl.col("ts").dt.weekday().is_in([2, 3, 4, 5]))
    log_size = np.log(np.maximum((bars["high"] / bars["low"]).log().to_numpy(), 1e-6))
    minute = bars["ts"].dt.hour().cast(pl.Int32).to_numpy() * 60 + bars["ts"].dt.minute().to_numpy()
    following = np.diff(bars["ts"].dt.epoch("ms").to_numpy()) == 900_000

    def together(at: int) -> float:
        here = np.flatnonzero(following & (minute[:-1] == at))
        return float(np.corrcoef(log_size[here], log_size[here + 1])[0, 1])

    within = [together(at) for at in (60, 180, 300, 1200, 1320)]
    assert together(1425) > min(within) - 0.1


def test_bars_direction_is_hardly_predictable_and_never_pays(market: Market) -> None:
    """A coin that left the others behind in an hour falls back a little in the next: as weak as in real markets."""
    start = MIDNIGHT - timedelta(days=400)
    names = [symbol for symbol in market.symbols if symbol.endswith("-USDT")]
    closes = [market.bars(s, "1h", start, MIDNIGHT).select("ts", pl.col("close").log().alias(s)) for s in names]
    joined = closes[0]
    for other in closes[1:]:
        joined = joined.join(other, on="ts")
    step = np.diff(joined.drop("ts").to_numpy(), axis=0)
    own = step - step.mean(axis=1, keepdims=True)
    guess, truth = -np.sign(own[:-1]), own[1:]
    hit = float(np.mean(guess == np.sign(truth)))
    assert 0.505 < hit < 0.535
    strongest = np.abs(own[:-1]) > np.quantile(np.abs(own[:-1]), 0.9)
    gain_bps = float((guess * truth)[strongest].mean() * 1e4)
    assert gain_bps < 10.0, "two taker fees of 0.1 % are 20 bps"
    total = np.sign(step[:-1, 0]) == np.sign(step[1:, 0])
    assert abs(float(total.mean()) - 0.5) < 0.03, "Bitcoin's own direction"


def test_regime_all_states_occur_and_panic_is_loudest(market: Market) -> None:
    days = [MIDNIGHT - timedelta(days=k) for k in range(1500)]
    names = [market.regime(day) for day in days]
    assert set(names) == {"calm", "trend_up", "trend_down", "panic"}
    assert names.count("calm") > 3 * names.count("panic")
    bars = market.bars("BTC-USDT", "1d", days[399], days[0] + timedelta(days=1))
    size = dict(zip(bars["ts"].to_list(), np.log(bars["high"].to_numpy() / bars["low"].to_numpy()), strict=True))
    loud = {name: np.mean([size[d] for d, n in zip(days[:400], names[:400], strict=True) if n == name]) for name in ("calm", "panic")}
    assert loud["panic"] > 1.5 * loud["calm"]


def test_bars_cross_is_quotient(market: Market) -> None:
    start, end = MIDNIGHT - timedelta(hours=6), MIDNIGHT
    cross, eth, btc = (market.bars(s, "1m", start, end) for s in ("ETH-BTC", "ETH-USDT", "BTC-USDT"))
    assert np.abs(cross["close"].to_numpy() - eth["close"].to_numpy() / btc["close"].to_numpy()).max() <= 0.5e-5 + 1e-12


@pytest.mark.parametrize("venue", sorted(set(HABITS) - {"binance"}))
def test_bars_venues_differ_by_few_basis_points(market: Market, venue: str) -> None:
    start, end = MIDNIGHT - timedelta(hours=8), MIDNIGHT
    both = market.bars("BTC-USDT", "1m", start, end).join(market.bars("BTC-USDT", "1m", start, end, venue), on="ts")
    basis = np.abs(np.log(both["close_right"].to_numpy() / both["close"].to_numpy())) * 1e4
    assert 0.0 < np.median(basis) < 12.0


def test_incidents_flash_crash_falls_and_comes_back(market: Market) -> None:
    crash = next(i for i in market.incidents(MIDNIGHT - timedelta(days=400), MIDNIGHT) if i.kind == "flash_crash" and i.depth_frac > 0.05)
    bars = market.bars("ETH-USDT", "1m", crash.start - timedelta(minutes=10), crash.end + timedelta(minutes=10))
    before, low, after = bars["close"][0], bars["low"].min(), bars["close"][-1]
    assert low < before * (1 - 0.8 * crash.depth_frac)
    assert after > low * (1 + 0.5 * crash.depth_frac)


def test_incidents_outage_leaves_hole_on_its_venue_alone(market: Market) -> None:
    outage = next(i for i in market.incidents(MIDNIGHT - timedelta(days=400), MIDNIGHT) if (i.kind, i.scope) == ("outage", "okx"))
    assert market.bars("BTC-USDT", "1m", outage.start, outage.end, "okx").is_empty()
    assert market.bars("BTC-USDT", "1m", outage.start, outage.end, "binance").height == outage.n_minutes


def test_incidents_halt_stands_still(market: Market) -> None:
    halt = next(i for i in market.incidents(MIDNIGHT - timedelta(days=400), MIDNIGHT) if i.kind == "halt")
    bars = market.bars(halt.scope, "1m", halt.start, halt.end, "bybit")
    assert bars["volume"].sum() == 0
    assert bars["close"].n_unique() == 1


def test_bars_quiet_minutes_flat_or_left_out(market: Market) -> None:
    start, end = MIDNIGHT - timedelta(days=1), MIDNIGHT
    flat = market.bars("DOT-USDT", "1m", start, end, "bitstamp").filter(pl.col("volume") == 0)
    assert flat.height > 100
    assert flat.filter(pl.min_horizontal(*OHLC) != pl.max_horizontal(*OHLC)).is_empty()
    assert market.bars("DOT-USDT", "1m", start, end, "bitfinex").filter(pl.col("volume") == 0).is_empty()


@pytest.mark.parametrize("metric", INDEX_METRICS)
def test_index_bars_aggregate_and_slice(market: Market, metric: Metric) -> None:
    minutes = market.index_bars(metric, "1m", MIDNIGHT - timedelta(days=2), MIDNIGHT)
    hours = Market(7).index_bars(metric, "1h", MIDNIGHT - timedelta(days=2), MIDNIGHT)
    assert hours["high"].to_list() == [minutes["high"][k : k + 60].max() for k in range(0, 2880, 60)]
    assert hours["close"].to_list() == minutes["close"].gather_every(60, 59).to_list()
    assert hours["volume"].null_count() == hours.height


def test_index_bars_agree_with_coins(market: Market) -> None:
    at = MIDNIGHT + timedelta(hours=3)
    caps = market.caps(at)
    last = {m: market.index_bars(m, "1m", at - timedelta(minutes=1), at)["close"][0] for m in INDEX_METRICS}
    btc = market.bars("BTC-USDT", "1m", at - timedelta(minutes=1), at)["close"][0]
    assert caps["btc"] == pytest.approx(btc * COINS[0].supply, rel=1e-5)
    assert last[Metric.TOTAL2] == pytest.approx(caps["total"] - caps["btc"], rel=1e-9)
    assert last[Metric.TOTAL3] == pytest.approx(caps["total"] - caps["btc"] - caps["eth"], rel=1e-9)
    assert last[Metric.BTC_D] == pytest.approx(100 * caps["btc"] / caps["total"], abs=1e-6)
    assert last[Metric.USDT_D] == pytest.approx(100 * caps["usdt"] / caps["total"], abs=1e-6)
    assert caps["total"] > sum(caps[c.code.lower()] for c in COINS) + caps["usdt"]


def test_candles_now_shows_forming_bar_last(market: Market) -> None:
    start = NOW - timedelta(hours=3)
    seen = market.candles("BTC-USDT", "1h", start, NOW + timedelta(days=1), now=NOW)
    final = market.candles("BTC-USDT", "1h", start, NOW + timedelta(days=1))
    assert seen.ts_ms[-1] == NOW.replace(minute=0, second=0).timestamp() * 1000
    assert seen.close[:-1].tolist() == final.close[: len(seen) - 1].tolist()
    assert 0 < seen.volume[-1] < final.volume[len(seen) - 1]
    assert seen.high[-1] <= final.high[len(seen) - 1]


def test_candles_forming_bar_grows_to_the_final_one(market: Market) -> None:
    opened = NOW.replace(minute=0, second=0)
    volumes = [market.candles("BTC-USDT", "15m", opened, NOW, now=opened + timedelta(seconds=s)).volume[0] for s in range(0, 900, 45)]
    final = market.candles("BTC-USDT", "15m", opened, opened + timedelta(seconds=1)).volume[0]
    assert volumes[0] == 0
    assert volumes == sorted(volumes)
    assert volumes[-1] <= final


def test_fear_greed_moves_between_bounds(market: Market) -> None:
    values = [market.fear_greed((MIDNIGHT - timedelta(days=k)).date()) for k in range(400)]
    assert min(values) >= 0
    assert max(values) <= 100
    assert max(values) - min(values) > 40
    assert max(abs(a - b) for a, b in pairwise(values)) < 45


def test_bars_bad_questions_name_the_field(market: Market) -> None:
    with pytest.raises(UnknownNameError, match="symbol: not traded in the sandbox, got 'PEPE-USDT'; allowed: BTC-USDT"):
        market.bars("PEPE-USDT", "1h", MIDNIGHT, NOW)
    with pytest.raises(UnknownNameError, match="venue: unknown venue, got 'ftx'"):
        market.bars("BTC-USDT", "1h", MIDNIGHT, NOW, "ftx")
    with pytest.raises(InputError, match="must be UTC-aware"):
        market.bars("BTC-USDT", "1h", datetime(2026, 1, 1), NOW)  # noqa: DTZ001
    with pytest.raises(InputError, match="runs from 2018-01-01"):
        market.bars("BTC-USDT", "1h", datetime(2016, 1, 1, tzinfo=UTC), datetime(2016, 1, 2, tzinfo=UTC))
    with pytest.raises(UnknownNameError, match="not an index series"):
        market.index_bars(Metric.BTC, "1h", MIDNIGHT, NOW)


def test_bars_empty_window_is_empty(market: Market) -> None:
    assert market.bars("BTC-USDT", "1h", NOW, NOW).is_empty()
    assert market.bars("BTC-USDT", "1h", NOW, MIDNIGHT).columns == ["ts", "open", "high", "low", "close", "volume"]
