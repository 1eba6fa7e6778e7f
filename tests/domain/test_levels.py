"""Levels against a plain-Python oracle, hand-made bars, and their promises: causality, partitions, gaps."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from altforecast.errors import InputError
from altforecast.event_ids import event_ids, hex_ids
from altforecast.levels import EVENTS, find_levels, level_strength, level_warmup_bars, levels_at, levels_now
from altforecast.params import LEVELS, PIVOTS, LevelParams
from altforecast.tables import LEVELS as TABLE
from altforecast.tables import TS
from altforecast.types import Timeframe

START = datetime(2024, 1, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)
EVER = datetime(2000, 1, 1, tzinfo=UTC)
SMALL = LevelParams(max_levels=4, half_life_bars=50.0)


def market(seed: int, rows: int, symbol: str = "AAA-USDT", hole: tuple[int, int] | None = None) -> pl.DataFrame:
    """A random walk with ticks coarse enough for plateaus; `hole` = (row, missing bars)."""
    rng = np.random.default_rng(seed)
    close = np.round(100 * np.exp(np.cumsum(rng.normal(0, 0.004, rows))), 1)
    open_ = np.concatenate([[100.0], close[:-1]])
    high = np.round(np.maximum(open_, close) + np.abs(rng.normal(0, 0.2, rows)), 1)
    low = np.round(np.minimum(open_, close) - np.abs(rng.normal(0, 0.2, rows)), 1)
    steps = np.arange(rows) + (np.where(np.arange(rows) >= hole[0], hole[1], 0) if hole else 0)
    ts = [START + HOUR * int(k) for k in steps]
    return pl.DataFrame({"ts": ts, "symbol": symbol, "exchange": "binance", "high": high, "low": low, "close": close}).with_columns(
        pl.col("ts").cast(TS)
    )


def mean_range(bars: pl.DataFrame) -> pl.DataFrame:
    """Stand-in for ATR: mean range of 14 bars, null while warming up."""
    atr = (pl.col("high") - pl.col("low")).rolling_mean(14).over("symbol")
    return bars.select("symbol", "exchange", "ts", atr_14=atr)


def oracle(bars: pl.DataFrame, ind: pl.DataFrame, p: LevelParams = LEVELS) -> list[dict[str, Any]]:
    """Methods 4.3 written out with lists and dictionaries; one series."""
    tf, rows, out = HOUR, bars.join(ind, on=["symbol", "exchange", "ts"], how="left").to_dicts(), []
    live: list[dict[str, Any]] = []
    month, left, right = None, PIVOTS.left_bars, PIVOTS.right_bars
    for i, bar in enumerate(rows):
        marks: list[tuple[dict[str, Any], str]] = []
        atr, ts, close = bar["atr_14"], bar["ts"], bar["close"]
        ok = atr is not None and atr > 0
        since_hole = next((k for k in range(i, 0, -1) if (rows[k]["ts"] - rows[k - 1]["ts"]) > (PIVOTS.restart_gap_bars + 1) * tf), 0)
        if ok:
            band = p.touch_atr * atr
            for lv in live:
                prev = rows[i - 1]["close"] if i > since_hole else math.nan
                is_in = bar["low"] <= lv["price"] + band and bar["high"] >= lv["price"] - band
                if is_in and abs(prev - lv["price"]) > band and ts - lv["last"] >= p.min_bars_between_touches * tf:
                    lv["touches"] += 1
                    lv["last"] = ts
                    marks.append((lv, "touched"))
                through = lv["price"] - close if lv["side"] == "support" else close - lv["price"]
                if through > p.break_atr * atr:
                    lv["breaks"] += 1
                    lv["side"] = "resistance" if lv["side"] == "support" else "support"
                    marks.append((lv, "broken"))
            at = i - right
            if at - left >= since_hole:
                for side, key, sign in (("low", "low", 1), ("high", "high", -1)):
                    x = [sign * r[key] for r in rows[at - left : i + 1]]
                    if not (all(x[left] < v for v in x[:left]) and all(x[left] <= v for v in x[left + 1 :])):
                        continue
                    price = rows[at][key]
                    near = min(live, key=lambda lv: abs(lv["price"] - price), default=None)
                    if near is not None and abs(near["price"] - price) <= p.join_atr * atr:
                        near["price"] = (near["price"] * near["pivots"] + price) / (near["pivots"] + 1)
                        near["pivots"] += 1
                        marks.append((near, "joined"))
                        continue
                    if len(live) == p.max_levels:
                        half_ms = p.half_life_bars * tf.total_seconds() * 1000
                        rank = [math.log2(lv["touches"]) + lv["last"].timestamp() * 1000 / half_ms for lv in live]
                        weakest = live[rank.index(min(rank))]
                        marks.append((weakest, "evicted"))
                        live = [lv for lv in live if lv is not weakest]
                    role = "support" if side == "low" else "resistance"
                    new = {
                        "price": price,
                        "side": role,
                        "pivots": 1,
                        "touches": 1,
                        "breaks": 0,
                        "first": rows[at]["ts"],
                        "last": rows[at]["ts"],
                        "born": side,
                    }
                    live.append(new)
                    marks.append((new, "opened"))
        if (ts.year, ts.month) != month:
            month = (ts.year, ts.month)
            marks += [(lv, "carried") for lv in live]
        for lv in {id(lv): lv for lv, _ in marks}.values():
            if ok:
                lv["band"] = p.touch_atr * atr
        out += [
            {
                "ts": ts,
                "event": e,
                "born": (lv["first"], lv["born"]),
                **{k: lv[k] for k in ("price", "band", "side", "pivots", "touches", "breaks", "last")},
            }
            for lv, e in marks
        ]
    return out


def born(levels: pl.DataFrame) -> pl.DataFrame:
    """Which pivot side opened a level: its side, flipped once per break."""
    is_high = (pl.col("side") == "resistance") ^ (pl.col("n_breaks") % 2 == 1)
    return levels.with_columns(born=pl.when(is_high).then(pl.lit("high")).otherwise(pl.lit("low")))


def as_tuples(levels: pl.DataFrame) -> list[tuple[Any, ...]]:
    names = ("ts", "event", "first_touch_ts", "born", "price", "band", "side", "n_pivots", "n_touches", "n_breaks", "last_touch_ts")
    return sorted(born(levels).select(names).iter_rows())


def oracle_tuples(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return sorted(
        (r["ts"], r["event"], *r["born"], r["price"], r["band"], r["side"], r["pivots"], r["touches"], r["breaks"], r["last"]) for r in rows
    )


@pytest.mark.parametrize(
    ("seed", "hole", "params"), [(1, None, LEVELS), (2, (700, 300), SMALL), (3, (300, 60), SMALL), (4, (500, 101), LEVELS)]
)
def test_find_levels_equals_oracle(seed: int, hole: tuple[int, int] | None, params: LevelParams) -> None:
    bars = market(seed, 1500, hole=hole)
    found = find_levels(bars, mean_range(bars), Timeframe.H1, EVER, params=params)
    assert set(found["event"].unique()) >= set(EVENTS) - ({"evicted"} if params is LEVELS else set())
    assert as_tuples(found) == oracle_tuples(oracle(bars, mean_range(bars), params))


@pytest.mark.parametrize("params", [LEVELS, SMALL])
def test_find_levels_by_partition_equals_all_at_once(params: LevelParams) -> None:
    bars = pl.concat([market(5, 2500, "AAA-USDT", (900, 1500)), market(6, 2200, "BBB-USDT", (1000, 40))])
    ind = mean_range(bars)
    whole = find_levels(bars, ind, Timeframe.H1, EVER, params=params)
    edges = [*(datetime(2024, m, 1, tzinfo=UTC) for m in range(1, 9)), datetime(2024, 2, 14, 7, tzinfo=UTC)]
    parts: list[pl.DataFrame] = []
    for begin, end in zip(sorted(edges), [*sorted(edges)[1:], datetime(2025, 1, 1, tzinfo=UTC)], strict=True):
        seen = bars.filter(pl.col("ts").is_between(begin - level_warmup_bars() * HOUR, end, closed="left"))
        carry = pl.concat(parts) if parts else None
        seen_ind = ind.join(seen.select("symbol", "ts"), on=["symbol", "ts"], how="semi")
        parts.append(find_levels(seen, seen_ind, Timeframe.H1, begin, carry, params))
    assert TABLE.conform(pl.concat(parts)).equals(whole)


def test_find_levels_newest_month_file_is_carry_enough() -> None:
    bars = market(7, 2000)
    ind, begin = mean_range(bars), datetime(2024, 3, 1, tzinfo=UTC)
    whole = find_levels(bars, ind, Timeframe.H1, EVER)
    february = whole.filter(pl.col("ts").is_between(datetime(2024, 2, 1, tzinfo=UTC), begin, closed="left"))
    resumed = find_levels(bars.filter(pl.col("ts") >= begin - 20 * HOUR), ind, Timeframe.H1, begin, february)
    assert resumed.equals(whole.filter(pl.col("ts") >= begin))
    state = find_levels(bars.filter(pl.col("ts") >= begin - 20 * HOUR), ind, Timeframe.H1, begin, levels_at(whole, begin))
    assert state.equals(resumed)


def test_find_levels_is_causal() -> None:
    bars = market(8, 1200)
    cut = START + 800 * HOUR
    noise = np.exp(np.random.default_rng(9).normal(0, 0.1, 1200))
    bent = bars.with_columns(
        (pl.col(c) * pl.when(pl.col("ts") >= cut).then(pl.Series(noise)).otherwise(1.0)) for c in ("high", "low", "close")
    )
    before, after = (find_levels(b, mean_range(b), Timeframe.H1, EVER) for b in (bars, bent))
    assert before.filter(pl.col("ts") < cut).equals(after.filter(pl.col("ts") < cut))
    assert not before.equals(after)
    assert ((before["known_at"] - before["ts"]) == HOUR).all()


def hand(prices: list[tuple[float, float, float]], atr: float = 4.0) -> tuple[pl.DataFrame, pl.DataFrame]:
    ts = [START + k * HOUR for k in range(len(prices))]
    high, low, close = zip(*prices, strict=True)
    bars = pl.DataFrame({"ts": ts, "symbol": "AAA-USDT", "exchange": "x", "high": high, "low": low, "close": close}).with_columns(
        pl.col("ts").cast(TS)
    )
    return bars, bars.select("symbol", "exchange", "ts", atr_14=pl.lit(atr))


def test_find_levels_hand_computed_life() -> None:
    """V with its low of 100 at row 5 -> support, known at row 10; touched at row 20; broken at row 21; touched from below at row 33."""
    down = [(110 - 2 * k + 1.0, 110 - 2 * k - 0.5, 110 - 2 * k) for k in range(5)]
    up = [(101.0 + 2 * k, 100.5 + 1.7 * k, 101.0 + 2 * k) for k in range(1, 15)]
    path = [*down, (102.0, 100.0, 101.0), *up, (110.0, 100.9, 110.0), (110.0, 96.0, 96.9)]
    path += [(96.0 - 0.1 * k, 95.0 - 0.1 * k, 95.5 - 0.1 * k) for k in range(11)] + [(99.1, 94.0, 95.0)]
    found = find_levels(*hand([(float(a), float(b), float(c)) for a, b, c in path]), Timeframe.H1, EVER)
    life = (
        found.filter(pl.col("first_touch_ts") == START + 5 * HOUR)
        .select("ts", "event", "price", "side", "n_touches", "n_breaks", "band")
        .rows()
    )
    assert life == [
        (START + 10 * HOUR, "opened", 100.0, "support", 1, 0, 1.0),
        (START + 20 * HOUR, "touched", 100.0, "support", 2, 0, 1.0),
        (START + 21 * HOUR, "broken", 100.0, "resistance", 2, 1, 1.0),
        (START + 33 * HOUR, "touched", 100.0, "resistance", 3, 1, 1.0),
    ]
    opened = found.row(0, named=True)
    assert (opened["n_bars_since_touch"], opened["strength"]) == (5, pytest.approx(0.5 ** (5 / 500)))
    assert opened["distance_atr"] == pytest.approx((path[10][2] - 100.0) / 4.0)


def test_find_levels_empty_in_empty_out() -> None:
    bars = market(1, 30).clear()
    assert find_levels(bars, mean_range(bars), Timeframe.H1, EVER).equals(TABLE.empty())
    late = market(1, 300)
    assert find_levels(late, mean_range(late), Timeframe.H1, datetime(2030, 1, 1, tzinfo=UTC)).equals(TABLE.empty())


@pytest.mark.parametrize("atr", [None, 0.0])
def test_find_levels_unknown_atr_changes_nothing(atr: float | None) -> None:
    bars = market(1, 300)
    ind = bars.select("symbol", "exchange", "ts", atr_14=pl.lit(atr, dtype=pl.Float64))
    assert find_levels(bars, ind, Timeframe.H1, EVER).is_empty()


def test_find_levels_carried_where_atr_is_unknown_at_month_start() -> None:
    bars = market(11, 1200)
    month = datetime(2024, 2, 1, tzinfo=UTC)
    ind = mean_range(bars).with_columns(atr_14=pl.when(pl.col("ts").is_between(month, month + 3 * HOUR)).then(None).otherwise("atr_14"))
    found = find_levels(bars, ind, Timeframe.H1, EVER)
    carried = found.filter((pl.col("ts") == month) & (pl.col("event") == "carried"))
    assert set(carried["id"]) == set(levels_at(found.filter(pl.col("ts") < month), month)["id"])
    assert carried["distance_atr"].is_finite().all()


def test_find_levels_misaligned_indicators_are_joined() -> None:
    bars = market(12, 600)
    ind = mean_range(bars)
    shuffled = ind.sample(fraction=1.0, shuffle=True, seed=1).vstack(mean_range(market(1, 10, "ZZZ-USDT")))
    assert find_levels(bars, shuffled, Timeframe.H1, EVER).equals(find_levels(bars, ind, Timeframe.H1, EVER))


def test_find_levels_unsorted_bars() -> None:
    bars = market(12, 60)
    with pytest.raises(InputError):
        find_levels(bars.reverse(), mean_range(bars).reverse(), Timeframe.H1, EVER)


def test_find_levels_naive_start() -> None:
    bars = market(12, 60)
    with pytest.raises(InputError, match="start"):
        find_levels(bars, mean_range(bars), Timeframe.H1, datetime(2024, 1, 1))  # noqa: DTZ001


def test_find_levels_id_is_stable() -> None:
    """The same pivot has the same name whatever was read before it; symbol and timeframe are part of the name."""
    bars = market(13, 900)
    ids = set(find_levels(bars, mean_range(bars), Timeframe.H1, EVER)["id"])
    late = bars.filter(pl.col("ts") > START + 300 * HOUR)
    late_ids = set(find_levels(late, mean_range(bars), Timeframe.H1, EVER)["id"])
    assert len(late_ids & ids) > 0.5 * len(late_ids)
    other = bars.with_columns(symbol=pl.lit("BBB-USDT"))
    assert not ids & set(find_levels(other, mean_range(other), Timeframe.H1, EVER)["id"])
    first = find_levels(bars, mean_range(bars), Timeframe.H1, EVER).filter(pl.col("event") == "opened").pipe(born)
    keys = (first["born"] == "high").cast(pl.Int64).to_numpy(), first["first_touch_ts"].to_physical().to_numpy()
    names = event_ids("level", [("AAA-USDT", "binance")], Timeframe.H1, np.zeros(first.height, np.int64), *keys)
    assert hex_ids(names).to_list() == first["id"].to_list()


def test_levels_at_ages_and_leaves_out_the_evicted() -> None:
    bars = market(14, 1500)
    found = find_levels(bars, mean_range(bars), Timeframe.H1, EVER, params=SMALL)
    as_of = START + 1000 * HOUR
    state = levels_at(found, as_of)
    assert 0 < state.height <= SMALL.max_levels
    assert (state["known_at"] <= as_of).all()
    row = state.row(0, named=True)
    assert row["n_bars_since_touch"] == (as_of - HOUR - row["last_touch_ts"]) // HOUR
    gone = found.filter((pl.col("event") == "evicted") & (pl.col("known_at") <= as_of))["id"]
    assert gone.len() > 0
    assert not set(gone) & set(state["id"])
    assert levels_at(TABLE.empty(), as_of).is_empty()


def test_levels_now_equals_what_the_log_would_say_at_that_bar() -> None:
    """A `carried` row shows every level as of its own bar: moving the rows before it there must give the same numbers."""
    bars = market(17, 1400)
    ind, month = mean_range(bars), datetime(2024, 2, 1, tzinfo=UTC)
    found = find_levels(bars, ind, Timeframe.H1, EVER)
    at_bar = found.filter(pl.col("ts") == month)
    plain = at_bar.filter(pl.len().over("id") == 1, pl.col("event") == "carried")
    before = levels_at(found.filter(pl.col("ts") < month), month).join(plain, on="id", how="semi").sort("id")
    assert before.height > 10
    close = bars.filter(pl.col("ts") == month)["close"][0]
    atr = ind.filter(pl.col("ts") == month)["atr_14"][0]
    since = np.array([(month - ts) // HOUR for ts in before["ts"]])
    now = levels_now(before, close, atr, since)
    moved = ("id", "price", "side", "n_touches", "n_bars_since_touch")
    assert now.select(moved).equals(plain.sort("id").select(moved))
    for name in ("band", "distance_atr", "strength"):
        assert now[name].to_list() == pytest.approx(plain.sort("id")[name].to_list())
    assert not before["distance_atr"].equals(now["distance_atr"])
    assert now.schema == TABLE.schema


def one_level(side: str = "support") -> pl.DataFrame:
    """A level at 100, ATR 4 then, last event two bars after its last touch."""
    row = {
        "ts": START, "symbol": "AAA-USDT", "exchange": "x", "timeframe": "1h", "id": "0" * 16, "event": "joined", "price": 100.0,
        "band": 1.0, "side": side, "n_pivots": 2, "n_touches": 4, "n_breaks": 0, "strength": 4.0, "distance_atr": 0.5,
        "first_touch_ts": START - 20 * HOUR, "last_touch_ts": START - 2 * HOUR, "n_bars_since_touch": 2, "known_at": START + HOUR,
    }  # fmt: skip
    return pl.DataFrame([row]).cast(TABLE.schema).select(TABLE.schema.names())


@pytest.mark.parametrize(
    ("side", "close", "since", "expected"),
    [
        ("support", 98.6, 5, "support"), ("support", 98.4, 5, "resistance"), ("support", 98.4, 0, "support"),
        ("resistance", 101.6, 5, "support"), ("resistance", 90.0, 5, "resistance"),
    ],
)  # fmt: skip
def test_levels_now_turns_broken_levels(side: str, close: float, since: int, expected: str) -> None:
    now = levels_now(one_level(side), close, 2.0, np.array([since])).row(0, named=True)
    assert (now["side"], now["band"], now["n_breaks"]) == (expected, 0.5, 0)
    assert now["distance_atr"] == pytest.approx((close - 100.0) / 2.0)
    assert now["n_bars_since_touch"] == 2 + since
    assert now["strength"] == pytest.approx(4 * 0.5 ** ((2 + since) / 500))
    assert (now["ts"], now["event"], now["known_at"]) == (START, "joined", START + HOUR)


@pytest.mark.parametrize("atr", [None, math.nan, 0.0])
def test_levels_now_without_atr_measures_by_the_old_band(atr: float | None) -> None:
    now = levels_now(one_level(), 80.0, atr, np.array([7])).row(0, named=True)
    assert (now["side"], now["band"], now["distance_atr"], now["n_bars_since_touch"]) == ("support", 1.0, -5.0, 9)


def test_levels_now_of_nothing() -> None:
    assert levels_now(TABLE.empty(), 1.0, 1.0, np.empty(0, np.int64)).equals(TABLE.empty())


@pytest.mark.parametrize(
    ("close", "since", "field"), [(math.nan, [1], "close"), (1.0, [1, 2], "n_bars_since"), (1.0, [-1], "n_bars_since")]
)
def test_levels_now_refuses(close: float, since: list[int], field: str) -> None:
    with pytest.raises(InputError, match=field):
        levels_now(one_level(), close, 1.0, np.array(since))


def test_level_strength_values() -> None:
    touches, age = np.array([4.0, 4.0, 1.0, np.nan, 2.0]), np.array([0.0, 500.0, 1000.0, 3.0, np.nan])
    assert level_strength(touches, age, 500.0) == pytest.approx([4.0, 2.0, 0.25, np.nan, np.nan], nan_ok=True)


def test_find_levels_real_bars(real_data: Path) -> None:
    bars = pl.read_parquet(real_data / "bars" / "binance_spot_1h_2024.parquet").filter(pl.col("symbol").is_in(["BTC-USDT", "PEPE-USDT"]))
    bars = bars.sort("symbol", "ts").with_columns(pl.col("ts").cast(TS))
    ind = mean_range(bars)
    found = find_levels(bars, ind, Timeframe.H1, EVER)
    live = found.filter(pl.col("event").is_in(["opened", "evicted"])).with_columns(
        step=pl.when(pl.col("event") == "opened").then(1).otherwise(-1)
    )
    assert live.group_by("symbol").agg(pl.col("step").sum())["step"].max() <= LEVELS.max_levels  # type: ignore[operator]
    assert found.group_by("symbol").len()["len"].min() > 1000  # type: ignore[operator]
    one = bars.filter(pl.col("symbol") == "PEPE-USDT").head(1500)
    ours = found.filter((pl.col("symbol") == "PEPE-USDT") & (pl.col("ts") <= one["ts"][-1]))
    assert as_tuples(ours) == oracle_tuples(oracle(one, mean_range(one)))
