"""Reading times and checking rows of bars."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from altforecast.bar_checks import ROW_REASONS, Checked, CheckOptions, check_bars
from altforecast.bar_times import parse_times
from altforecast.bars import merge
from altforecast.tables import BAR_GAPS, BARS, TS

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
START = datetime(2024, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


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
