"""Merging, resampling, naming holes and checking bars."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from altforecast.bar_checks import ROW_REASONS, Checked, CheckOptions, check_bars
from altforecast.bar_times import parse_times
from altforecast.bars import find_gaps, merge, resample
from altforecast.errors import InputError
from altforecast.tables import BAR_GAPS, BAR_REVISIONS, BARS, TS
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


def candidates(*rows: dict[str, Any], **columns: Any) -> pl.DataFrame:
    """Rows as a reader gives them: 24 clean hourly bars with the given changes (by row number) and whole columns replaced."""
    found = [
        {"row": n, "time": START + n * HOUR, "symbol": "BTCUSDT", "exchange": "Binance", "timeframe": "60"}
        | {"open": 100.0 + n, "high": 102.0 + n, "low": 99.0 + n, "close": 101.0 + n, "volume": 5.0 + n % 3}
        for n in range(24)
    ]
    for change in rows:
        found[change["row"]] |= change
    return pl.DataFrame(found).with_columns(**columns)


def reasons(checked: Checked) -> dict[int, str]:
    return dict(checked.quarantined.select("row", "reason").iter_rows())


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
    for again in (pl.concat([a, b]), merged, *((a, b) if has_volume else ())):
        assert_frame_equal(merge(merged, again)[0].select(VALUE), merged.select(VALUE))
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


# ---- times


@pytest.mark.parametrize("factor", [1, 10**3, 10**6, 10**9])
def test_parse_times_units_are_told_by_their_size(factor: int) -> None:
    found = parse_times(pl.Series([1_704_067_200 * factor]), NOW, 2009)
    assert found["ts"].to_list() == [START]
    assert found["unit"].to_list() == [{1: "s", 10**3: "ms", 10**6: "us", 10**9: "ns"}[factor]]


def test_parse_times_text() -> None:
    texts = [
        "2024-01-01",
        "2024-01-01 00:00",
        "2024-01-01T00:00:00Z",
        "2024-01-01T02:00:00.000+02:00",
        "2023-12-31 19:00:00-0500",
        "1704067200",
    ]
    found = parse_times(pl.Series(texts), NOW, 2009)
    assert found["ts"].to_list() == [START] * 6
    assert found["is_naive"].to_list() == [True, True, False, False, False, False]


def test_parse_times_problems_are_named() -> None:
    found = parse_times(pl.Series(["soon", None, "1999-01-01", "5", "99999999999999999999"]), NOW, 2009)
    assert found["ts"].null_count() == 5
    assert found["problem"].to_list() == ["unreadable_time", "unreadable_time", "wrong_time_unit", "wrong_time_unit", "wrong_time_unit"]


def test_parse_times_datetime_stored_in_the_wrong_unit() -> None:
    wrong = pl.Series([1_704_067_200]).cast(pl.Datetime("ms"))
    assert parse_times(wrong, NOW, 2009).select("ts", "unit").row(0) == (START, "s")


def test_parse_times_empty() -> None:
    assert parse_times(pl.Series([], dtype=pl.String), NOW, 2009).height == 0


# ---- checks


def test_check_bars_clean_rows_are_accepted() -> None:
    checked = check_bars(candidates(), NOW)
    assert checked.accepted.height == 24
    assert checked.quarantined.is_empty()
    assert checked.repaired.is_empty()
    first = checked.accepted.row(0, named=True)
    assert (first["symbol"], first["exchange"], first["timeframe"], first["quality"]) == ("BTC-USDT", "binance", "1h", "backfilled")
    assert (first["source"], first["received_at"], first["known_at"]) == ("import", NOW, START + HOUR)
    BARS.conform(checked.accepted)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"open": float("nan")}, "nan_value"),
        ({"high": float("inf")}, "nan_value"),
        ({"close": None}, "nan_value"),
        ({"volume": float("nan")}, "nan_value"),
        ({"volume": None}, "missing_volume"),
        ({"low": 0.0}, "nonpositive_price"),
        ({"low": -36.98}, "nonpositive_price"),
        ({"volume": -1.0}, "negative_volume"),
        ({"open": 500.0}, "ohlc_order"),
        ({"low": 108.0}, "ohlc_order"),
        ({"high": 1000.0}, "spike"),
        ({"low": 1.0}, "spike"),
        ({"time": START + timedelta(hours=5, minutes=7)}, "misaligned_ts"),
        ({"time": NOW + 5 * HOUR}, "future_bar"),
        ({"time": NOW.replace(minute=0)}, "unfinished_last_bar"),
        ({"time": datetime(1850, 1, 1, tzinfo=UTC)}, "wrong_time_unit"),
        ({"time": None}, "unreadable_time"),
        ({"timeframe": "1M"}, "unsupported_timeframe"),
        ({"timeframe": "3d"}, "unsupported_timeframe"),
        ({"timeframe": None}, "unsupported_timeframe"),
        ({"symbol": "XYZ"}, "unknown_symbol"),
        ({"symbol": None}, "unknown_symbol"),
        ({"exchange": "?"}, "unknown_exchange"),
    ],
)
def test_check_bars_one_bad_row(change: dict[str, Any], reason: str) -> None:
    checked = check_bars(candidates({"row": 5, **change}), NOW)
    assert reasons(checked) == {5: reason}
    assert reason in ROW_REASONS
    assert checked.quarantined["detail"][0]
    assert checked.accepted.height == 23


@pytest.mark.parametrize("jump", [1.72, 1.96, 0.24, 0.16])
def test_check_bars_one_way_jumps_are_real(jump: float) -> None:
    """ADA +72 %, TRX +96 %, OM -76 % and -84 %: prices that do not come back are no bad ticks."""
    after = [
        {"row": n} | {c: v * jump for c, v in (("open", 100.0), ("high", 102.0), ("low", 99.0), ("close", 101.0))} for n in range(12, 24)
    ]
    before = [{"row": n, "open": 100.0, "high": 102.0, "low": 99.0, "close": 101.0} for n in range(12)]
    after[0] |= {"open": 101.0, "high": max(102.0, 102 * jump), "low": min(99.0, 99 * jump)}
    assert check_bars(candidates(*before, *after), NOW).quarantined.is_empty()


def test_check_bars_rounding_is_repaired() -> None:
    checked = check_bars(candidates({"row": 5, "high": 107.0, "close": 107.00000000001}), NOW)
    assert checked.accepted.height == 24
    assert checked.repaired.select("row", "reason").row(0) == (5, "ohlc_order")
    assert checked.accepted["high"][5] == 107.00000000001


def test_check_bars_duplicates() -> None:
    doubled = pl.concat([candidates(), candidates().tail(2)])
    checked = check_bars(doubled.with_columns(row=pl.int_range(pl.len())), NOW)
    assert (checked.accepted.height, checked.n_dropped, checked.quarantined.height) == (24, 2, 0)


def test_check_bars_conflict_keeps_what_was_written_later() -> None:
    other = candidates({"row": 5, "close": 106.5}).slice(5, 1).with_columns(row=pl.lit(24, pl.Int64))
    checked = check_bars(pl.concat([candidates(), other]), NOW)
    assert reasons(checked) == {5: "duplicate_conflict"}
    assert checked.accepted["close"][5] == 106.5
    newest_first = pl.concat([candidates(), other]).sort("time", "row", descending=[True, False])
    again = check_bars(newest_first.with_columns(row=pl.int_range(pl.len())), NOW)
    assert again.accepted["close"][5] == 106.0, "in a file that begins with the newest bar, the upper row is the later one"


def test_check_bars_autumn_hour_twice() -> None:
    night = datetime(2024, 10, 27, tzinfo=UTC)
    texts = [(night + timedelta(hours=max(0, n - 1))).strftime("%Y-%m-%d %H:%M:%S") for n in range(24)]
    checked = check_bars(candidates(time=pl.Series(texts)), NOW)
    assert reasons(checked) == {0: "ambiguous_local_time", 1: "ambiguous_local_time"}
    assert "times carry no zone and were read as UTC" in checked.notes


def test_check_bars_wrong_unit_is_repaired_and_counted() -> None:
    micros = pl.col("time").dt.epoch("us")
    checked = check_bars(candidates(time=micros), NOW, options=CheckOptions(units=("ms",)))
    assert checked.accepted["ts"][0] == START
    assert dict(checked.repaired.group_by("reason").len().iter_rows()) == {"wrong_time_unit": 24}
    assert check_bars(candidates(time=micros), NOW).notes == ("times are numbers in us",)


def test_check_bars_without_ohlc_are_not_invented() -> None:
    checked = check_bars(candidates().drop("open", "high", "low"), NOW)
    assert set(reasons(checked).values()) == {"missing_ohlc"}
    assert checked.accepted.is_empty()


def test_check_bars_frozen_close_with_interpolated_volume_is_feed_down() -> None:
    flat = [{"row": n, "open": 107.0, "high": 107.0, "low": 107.0, "close": 107.0, "volume": 10.0 * (n - 5)} for n in range(6, 12)]
    checked = check_bars(candidates(*flat), NOW)
    assert checked.accepted["quality"].to_list()[8:12] == ["feed_down"] * 4
    closes_only = check_bars(candidates(*flat).drop("open", "high", "low"), NOW)
    assert [r for r, why in reasons(closes_only).items() if why == "frozen_close_filling"] == [8, 9, 10, 11]


def test_check_bars_flat_bar_without_volume_is_quiet() -> None:
    flat = {"open": 105.0, "high": 105.0, "low": 105.0, "close": 105.0, "volume": 0.0}
    assert check_bars(candidates({"row": 5, **flat}), NOW).accepted["quality"][5] == "quiet"


def test_check_bars_index_series_need_no_volume() -> None:
    index = candidates(symbol=pl.lit("USDT.D"), exchange=pl.lit("CRYPTOCAP"), volume=pl.lit(None, pl.Float64))
    accepted = check_bars(index, NOW).accepted
    assert accepted["symbol"].unique().to_list() == ["USDT.D"]
    assert accepted["volume"].null_count() == 24


def test_check_bars_recorded_before_the_close_is_unfinished() -> None:
    early = START + timedelta(hours=5, minutes=30)
    checked = check_bars(candidates(recorded_at=pl.lit(early).cast(TS)), NOW)
    assert sorted(reasons(checked)) == list(range(5, 24))
    assert checked.accepted["received_at"].unique().to_list() == [early]


def test_check_bars_vintages_stay_apart() -> None:
    late = candidates({"row": 5, "close": 106.5}).with_columns(recorded_at=pl.lit(NOW).cast(TS))
    early = candidates().with_columns(recorded_at=pl.lit(START + 48 * HOUR).cast(TS))
    checked = check_bars(pl.concat([early, late]).with_columns(row=pl.int_range(pl.len())), NOW)
    assert (checked.accepted.height, checked.n_dropped) == (48, 0)
    merged, revisions = merge(BARS.empty(), checked.accepted)
    assert merged["close"][5] == 106.5
    assert revisions["close"].to_list() == [106.0]


def test_check_bars_chart_export_ends_with_the_forming_bar() -> None:
    checked = check_bars(candidates(), NOW, options=CheckOptions(ends_unfinished=True))
    assert reasons(checked) == {23: "unfinished_last_bar"}


def test_check_bars_forming_bar_shown_by_a_finer_timeframe() -> None:
    day = candidates().head(1).with_columns(row=pl.lit(24, pl.Int64), timeframe=pl.lit("1d"))
    fits = pl.concat([candidates(), day])
    assert check_bars(fits, NOW).quarantined.is_empty()
    cut = fits.filter(~pl.col("row").is_in([22, 23]))
    assert reasons(check_bars(cut, NOW)) == {21: "unfinished_last_bar", 24: "unfinished_last_bar"}


def test_check_bars_empty() -> None:
    checked = check_bars(candidates().head(0), NOW)
    assert checked.accepted.schema == BARS.schema
    assert checked.quarantined.is_empty()
    assert checked.gaps.schema == BAR_GAPS.schema


PRICE = st.sampled_from([None, float("nan"), float("inf"), -1.0, 0.0, 99.0, 100.0, 100.5, 101.0, 900.0])
JUNK = st.fixed_dictionaries(
    {
        "time": st.sampled_from([None, "junk", "1999-01-01", "2030-01-01", "2024-01-01 00:30", *(f"2024-01-01 0{n}:00" for n in range(9))]),
        "symbol": st.sampled_from([None, "", "BTCUSDT", "BTC/USDT", "ETH-BTC", "???"]),
        "exchange": st.sampled_from([None, "binance", "BINANCE", "kraken"]),
        "timeframe": st.sampled_from([None, "60", "1h", "1M", "4h"]),
        "open": PRICE, "high": PRICE, "low": PRICE, "close": PRICE,
        "volume": st.sampled_from([None, float("nan"), -1.0, 0.0, 5.0]),
    }
)  # fmt: skip
TEXTS, NUMBERS = ("time", "symbol", "exchange", "timeframe"), ("open", "high", "low", "close", "volume")
SCHEMA = dict.fromkeys(TEXTS, pl.String) | dict.fromkeys(NUMBERS, pl.Float64)


@settings(max_examples=80, deadline=None)
@given(st.lists(JUNK, max_size=30))
def test_check_bars_conserves_rows(rows: list[dict[str, Any]]) -> None:
    frame = pl.DataFrame(rows, schema=SCHEMA).with_columns(row=pl.int_range(pl.len(), dtype=pl.Int64))
    checked = check_bars(frame, NOW)
    assert checked.accepted.height + checked.quarantined.height + checked.n_dropped == len(rows)
    assert checked.quarantined["row"].n_unique() == checked.quarantined.height
    assert set(checked.quarantined["reason"]) <= set(ROW_REASONS)
    BARS.conform(checked.accepted)
