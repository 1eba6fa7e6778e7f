"""Merging, resampling and naming holes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from altforecast.bar_checks import check_bars
from altforecast.bars import find_gaps, merge, resample
from altforecast.errors import InputError
from altforecast.tables import BAR_GAPS, BAR_REVISIONS, BARS
from altforecast.types import Timeframe

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
START = datetime(2024, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def bar(n: int = 0, close: float = 100.0, received_h: int = 1000, **changes: Any) -> dict[str, Any]:
    """One hourly bar that opens n hours after START."""
    ts = START + n * HOUR
    base = {
        "ts": ts, "symbol": "BTC-USDT", "exchange": "binance", "timeframe": "1h",
        "open": 100.0, "high": max(101.0, close), "low": min(99.0, close), "close": close, "volume": 5.0,
        "quality": "observed", "source": "ccxt", "received_at": START + received_h * HOUR, "known_at": ts + HOUR,
    }  # fmt: skip
    return base | changes


def bars(*rows: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=BARS.schema)


def real_bars(folder: Path, name: str) -> pl.DataFrame:
    frame = pl.read_parquet(folder / "bars" / f"{name}.parquet").rename({"ts": "time"}).with_row_index("row").cast({"row": pl.Int64})
    return check_bars(frame, NOW).accepted


# ---- merge


def test_merge_identical_changes_nothing() -> None:
    old = bars(bar(0), bar(1))
    merged, revisions = merge(old, bars(bar(1, received_h=2000, source="import"), bar(0, received_h=1500)))
    assert_frame_equal(merged, old)
    assert revisions.is_empty()


def test_merge_later_value_wins_and_loser_is_kept() -> None:
    merged, revisions = merge(bars(bar(0, close=100)), bars(bar(0, close=105, received_h=1001, source="import")))
    assert merged["close"].to_list() == [105]
    assert revisions.select("close", "source", "superseded_by").row(0) == (100, "ccxt", "import")
    assert revisions["superseded_at"][0] == START + 1001 * HOUR
    BAR_REVISIONS.conform(revisions)


def test_merge_earlier_value_arriving_late_loses() -> None:
    merged, revisions = merge(bars(bar(0, close=105, received_h=1001)), bars(bar(0, close=100, received_h=1000)))
    assert merged["close"].to_list() == [105]
    assert revisions["close"].to_list() == [100]


@pytest.mark.parametrize("quality", ["quiet", "feed_down"])
def test_merge_placeholder_never_replaces_a_traded_bar(quality: str) -> None:
    placeholder = bars(bar(0, close=100, volume=0.0, high=100.0, low=100.0, quality=quality, received_h=2000))
    for old, new in [(bars(bar(0, close=105)), placeholder), (placeholder, bars(bar(0, close=105)))]:
        merged, revisions = merge(old, new)
        assert merged["close"].to_list() == [105]
        assert revisions["volume"].to_list() == [0.0]


def test_merge_missing_volume_does_not_erase_volume() -> None:
    merged, revisions = merge(bars(bar(0)), bars(bar(0, volume=None, received_h=2000)))
    assert merged["volume"].to_list() == [5.0]
    assert revisions.is_empty()
    merged, revisions = merge(bars(bar(0, volume=None)), bars(bar(0, received_h=2000)))
    assert merged["volume"].to_list() == [5.0]
    assert revisions["volume"].to_list() == [None]


def test_merge_several_vintages_give_one_revision_each() -> None:
    vintages = bars(*(bar(0, close=100.0 + n, received_h=1000 + n) for n in range(5)))
    merged, revisions = merge(bars(), vintages)
    assert merged["close"].to_list() == [104]
    assert revisions["close"].to_list() == [100, 101, 102, 103]
    assert revisions["superseded_at"].to_list() == [START + (1001 + n) * HOUR for n in range(4)]


def test_merge_same_instant_keeps_revision_keys_unique() -> None:
    merged, revisions = merge(bars(bar(0, close=100)), bars(bar(0, close=101), bar(0, close=102)))
    assert merged["close"].to_list() == [102]
    assert revisions.height == 2
    BAR_REVISIONS.conform(revisions)


def test_merge_empty() -> None:
    merged, revisions = merge(bars(), bars())
    assert merged.is_empty()
    assert merged.schema == BARS.schema
    assert revisions.schema == BAR_REVISIONS.schema


ANY_BAR = st.builds(
    bar,
    n=st.integers(0, 2),
    close=st.sampled_from([99.5, 100.0, 100.5]),
    received_h=st.integers(100, 104),
    volume=st.sampled_from([None, 0.0, 5.0]),
    quality=st.sampled_from(["observed", "backfilled", "quiet", "feed_down"]),
    source=st.sampled_from(["tradingview", "ccxt", "import"]),
)
ANY_BARS = st.lists(ANY_BAR, max_size=12).map(lambda rows: bars(*rows))
VALUE = ["symbol", "exchange", "timeframe", "ts", "open", "high", "low", "close", "volume", "received_at"]


@settings(max_examples=150, deadline=None)
@given(ANY_BARS, ANY_BARS)
def test_merge_is_commutative_idempotent_and_conserves(a: pl.DataFrame, b: pl.DataFrame) -> None:
    merged, revisions = merge(a, b)
    other, other_revisions = merge(b, a)
    assert_frame_equal(merged.select(VALUE), other.select(VALUE))
    assert_frame_equal(
        revisions.select("ts", "close", "volume", "superseded_at"), other_revisions.select("ts", "close", "volume", "superseded_at")
    )
    BARS.conform(merged)
    BAR_REVISIONS.conform(revisions)
    has_volume = pl.concat([a, b])["volume"].null_count() == 0
    for again in (pl.concat([a, b]), merged):
        assert_frame_equal(merge(merged, again)[0].select(VALUE), merged.select(VALUE))
    for again in (a, b) if has_volume else ():
        assert_frame_equal(merge(merged, again)[0].select(VALUE[:-1]), merged.select(VALUE[:-1]))
    kept = pl.concat([merged.select("ts", "close"), revisions.select("ts", "close")]).unique()
    assert set(kept.iter_rows()) == set(pl.concat([a, b]).select("ts", "close").iter_rows())


# ---- resample


def test_resample_four_hours() -> None:
    rows = [bar(n, close=100.0 + n, volume=float(n), high=110.0 + n, low=90.0 - n) for n in range(6)]
    built = resample(bars(*rows), Timeframe.H4)
    assert built.height == 1
    found = built.row(0, named=True)
    assert (found["open"], found["high"], found["low"], found["close"], found["volume"]) == (100, 113, 87, 103, 6)
    assert found["known_at"] == START + 4 * HOUR
    assert found["timeframe"] == "4h"


def test_resample_edges_incomplete_are_dropped_and_quiet_holes_are_not() -> None:
    built = resample(bars(*(bar(n) for n in (1, 2, 3, 4, 7, 8, 9, 10))), Timeframe.H4)
    assert built["ts"].to_list() == [START + 4 * HOUR]


def test_resample_quality_and_null_volume() -> None:
    rows = [bar(n, quality=q) for n, q in enumerate(["observed", "quiet", "backfilled", "observed"])]
    rows += [bar(4 + n, quality="quiet", volume=None if n == 2 else 0.0) for n in range(4)]
    rows += [bar(8 + n, quality="feed_down" if n == 1 else "observed") for n in range(4)]
    built = resample(bars(*rows), Timeframe.H4)
    assert built["quality"].to_list() == ["backfilled", "quiet", "feed_down"]
    assert built["volume"].to_list() == [20, None, 20]


def test_resample_refuses_what_does_not_divide() -> None:
    assert resample(bars(), Timeframe.D1).is_empty()
    with pytest.raises(InputError, match="cannot be resampled to 15m"):
        resample(bars(bar(0)), Timeframe.M15)
    with pytest.raises(InputError, match="1h,4h"):
        resample(bars(bar(0), bar(0, timeframe="4h")), Timeframe.D1)


@pytest.mark.slow
def test_resample_reproduces_published_hours(real_data: Path) -> None:
    total = 0
    for fine, coarse in [("5m_2024", "1h_2024"), ("5m_2025-01_2025-08", "1h_2024-09_2025-08")]:
        built = resample(real_bars(real_data, f"binance_spot_{fine}"), Timeframe.H1)
        both = built.join(real_bars(real_data, f"binance_spot_{coarse}"), on=["symbol", "exchange", "ts"])
        assert both.height == built.height
        for column in ("open", "high", "low", "close"):
            assert (both[column] == both[f"{column}_right"]).all()
        assert ((both["volume"] - both["volume_right"]).abs() <= 1e-9 * both["volume"]).all()
        total += both.height
    assert total == 29_674


# ---- gaps


def series(symbol: str, hours: list[int], exchange: str = "binance") -> list[dict[str, Any]]:
    return [bar(n, symbol=symbol, exchange=exchange) for n in hours]


def without(*missing: int) -> list[int]:
    return [n for n in range(48) if n not in missing]


def kinds(frame: pl.DataFrame) -> dict[str, str]:
    return dict(find_gaps(frame, Timeframe.H1).select("symbol", "kind").iter_rows())


def test_find_gaps_quiet_when_others_of_the_market_traded() -> None:
    frame = bars(*series("BTC-USDT", without()), *series("SHIB-USDT", without(20, 21)))
    found = find_gaps(frame, Timeframe.H1)
    assert found.select("symbol", "ts", "end_ts", "n_bars", "kind").row(0) == (
        "SHIB-USDT",
        START + 20 * HOUR,
        START + 22 * HOUR,
        2,
        "quiet",
    )
    assert found["known_at"][0] == START + 23 * HOUR
    BAR_GAPS.conform(found)


def test_find_gaps_feed_down_when_all_are_missing() -> None:
    frame = bars(*series("BTC-USDT", without(20, 21)), *series("ETH-USDT", without(20, 21)), *series("BTC-USDT-PERP", without()))
    assert kinds(frame) == {"BTC-USDT": "feed_down", "ETH-USDT": "feed_down"}


def test_find_gaps_unknown_without_witness_or_when_too_long() -> None:
    assert kinds(bars(*series("BTC-USDT", without(20)))) == {"BTC-USDT": "unknown"}
    halted = bars(*series("BTC-USDT", without()), *series("LOST-USDT", without(*range(20, 40))))
    assert kinds(halted) == {"LOST-USDT": "unknown"}
    other_venue = bars(*series("BTC-USDT", without(20)), *series("BTC-USDT", without(), "bybit"), *series("ETH-USDT", without(), "bybit"))
    assert kinds(other_venue) == {"BTC-USDT": "unknown"}


def test_find_gaps_sparse_venue_prints_no_bar_without_a_trade() -> None:
    assert kinds(bars(*series("BTC-USDT", without(20), "kraken"))) == {"BTC-USDT": "quiet"}
    assert kinds(bars(*series("BTC-USDT", without(*range(20, 30)), "kraken"))) == {"BTC-USDT": "unknown"}


def test_find_gaps_looks_at_nothing_after_the_hole() -> None:
    frame = bars(*series("BTC-USDT", without(20, 30)), *series("ETH-USDT", without(20, 21)), *series("ADA-USDT", without(21, 30)))
    whole = find_gaps(frame, Timeframe.H1)
    for hole in whole.iter_rows(named=True):
        known = find_gaps(frame.filter(pl.col("known_at") <= hole["known_at"]), Timeframe.H1)
        assert hole in known.to_dicts()


def test_find_gaps_empty_and_other_timeframes() -> None:
    assert find_gaps(bars(), Timeframe.H1).schema == BAR_GAPS.schema
    assert find_gaps(bars(*series("BTC-USDT", without(20))), Timeframe.M5).is_empty()


def test_find_gaps_kraken_quarter(real_data: Path) -> None:
    found = find_gaps(real_bars(real_data, "kraken_spot_2023Q1"), Timeframe.M5)
    missing = dict(found.group_by("symbol").agg(pl.col("n_bars").sum()).iter_rows())
    assert missing == {"BTC-USDT": 975, "BTC-USD": 19}
    assert set(found.filter(pl.col("symbol") == "BTC-USD")["kind"]) == {"feed_down"}
    assert dict(found.filter(pl.col("symbol") == "BTC-USDT").group_by("kind").agg(pl.col("n_bars").sum()).iter_rows()) == {
        "quiet": 958,
        "feed_down": 17,
    }
