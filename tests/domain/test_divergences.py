"""Tests of `altforecast.divergences`."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from altforecast import tables
from altforecast.divergences import WARMUP_BARS, find_divergences
from altforecast.errors import InputError
from altforecast.indicators import compute_indicators
from altforecast.params import DIVERGENCES, DivergenceParams, PivotParams
from altforecast.types import Oscillator, Timeframe
from tests.domain.synthetic_bars import START_MS, frame_of, many_series, months, random_series, real_bars, with_warmup, within
from tests.domain.test_pivots import by_definition

H1 = Timeframe.H1
RSI = (Oscillator.RSI,)
SMALL = DivergenceParams(min_span_bars=2, max_span_bars=9, expire_bars=6, pivots=PivotParams(left_bars=1, right_bars=1, restart_gap_bars=3))


def indicators_of(bars: pl.DataFrame, rsi: object) -> pl.DataFrame:
    """An indicator frame that holds just an RSI."""
    empty = {c: pl.lit(None, dtype=pl.Float64) for c in ("macd", "atr_14", "obv")}
    return bars.select("ts", "symbol", "exchange", "timeframe").with_columns(pl.Series("rsi_14", rsi, dtype=pl.Float64), **empty)


@dataclass
class Live:
    """One open event of the oracle; prices and closes are mirrored for highs, so that every event is a bullish one."""

    kind: str
    p1: int
    p2: int
    active: int
    goal: float
    fail: float


def oracle(
    low: list[float], high: list[float], close: list[float], osc: list[float | None], params: DivergenceParams
) -> set[tuple[int, int, str, str, int]]:
    """(p1, p2, kind, status, bar) of one side without holes, bar by bar from the definitions: no look ahead by construction."""
    rows: set[tuple[int, int, str, str, int]] = set()
    live: list[Live] = []
    left, right = params.pivots.left_bars, params.pivots.right_bars
    for t in range(len(close)):
        known = by_definition(low[: t + 1], left, right)
        opened = _opened(low, high, osc, known, t, params) if known and known[-1] == t - right else None
        for event in list(live):
            status = _status(event, close[t], t, opened, params)
            if status:
                rows.add((event.p1, event.p2, event.kind, status, t))
                live.remove(event)
        if opened:
            rows.add((opened.p1, opened.p2, opened.kind, "active", t))
            live.append(opened)
    return rows


def _opened(
    low: list[float], high: list[float], osc: list[float | None], known: list[int], t: int, params: DivergenceParams
) -> Live | None:
    if len(known) < 2:
        return None
    p1, p2 = known[-2:]
    o1, o2 = osc[p1], osc[p2]
    if not params.min_span_bars <= p2 - p1 <= params.max_span_bars or o1 is None or o2 is None:
        return None
    is_regular = low[p2] < low[p1] and o2 - o1 > params.eps_rsi_points
    is_hidden = low[p2] > low[p1] and o1 - o2 > params.eps_rsi_points
    if not is_regular and not is_hidden:
        return None
    return Live("regular" if is_regular else "hidden", p1, p2, t, max(high[p2 : t + 1]), low[p2])


def _status(event: Live, close: float, t: int, opened: Live | None, params: DivergenceParams) -> str | None:
    if close > event.goal:
        return "confirmed"
    if close < event.fail:
        return "invalidated"
    if opened and opened.p1 == event.p2 and opened.kind == event.kind:
        return "superseded"
    return "expired" if t == event.active + params.expire_bars else None


def numbered(found: pl.DataFrame, bars: pl.DataFrame) -> set[tuple[int, int, str, str, int]]:
    """The log with bar numbers instead of times."""
    number = {ts: n for n, ts in enumerate(bars["ts"].to_list())}
    rows = found.select("p1_ts", "p2_ts", "kind", "status", "ts").iter_rows()
    return {(number[a], number[b], kind, status, number[t]) for a, b, kind, status, t in rows}


def both_sides(
    low: list[float], high: list[float], close: list[float], osc: list[float | None], params: DivergenceParams
) -> set[tuple[int, int, str, str, int]]:
    def mirrored(x: list[float]) -> list[float]:
        return [-v for v in x]

    bulls = {(a, b, f"{k}_bullish", s, t) for a, b, k, s, t in oracle(low, high, close, osc, params)}
    flipped = [None if o is None else -o for o in osc]
    bears = oracle(mirrored(high), mirrored(low), mirrored(close), flipped, params)
    return bulls | {(a, b, f"{k}_bearish", s, t) for a, b, k, s, t in bears}


@st.composite
def small_markets(draw: st.DrawFn) -> tuple[list[float], list[float], list[float], list[float | None]]:
    """Bars on a coarse grid, so that ties and every terminal state happen."""
    n = draw(st.integers(0, 60))
    close = draw(st.lists(st.integers(-4, 4), min_size=n, max_size=n))
    wings = draw(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=n, max_size=n))
    osc = draw(st.lists(st.one_of(st.none(), st.integers(0, 8)), min_size=n, max_size=n))
    high = [float(c + w[0]) for c, w in zip(close, wings, strict=True)]
    low = [float(c - w[1]) for c, w in zip(close, wings, strict=True)]
    return low, high, [float(c) for c in close], [None if o is None else float(o) for o in osc]


@given(small_markets())
@settings(max_examples=300, deadline=None)
def test_find_divergences_equal_bar_by_bar_oracle(market: tuple[list[float], list[float], list[float], list[float | None]]) -> None:
    low, high, close, osc = market
    bars = frame_of(high, low, close)
    found = find_divergences(bars, indicators_of(bars, osc), H1, SMALL, RSI)
    assert numbered(found, bars) == both_sides(low, high, close, osc, SMALL)


@pytest.mark.parametrize("seed", range(4))
def test_find_divergences_equal_oracle_with_standard_params(seed: int) -> None:
    bars = random_series(600, seed=seed)
    indicators = compute_indicators(bars, H1)
    low, high, close = (bars[c].to_list() for c in ("low", "high", "close"))
    expected = both_sides(low, high, close, indicators["rsi_14"].to_list(), DIVERGENCES)
    found = find_divergences(bars, indicators, H1, oscillators=RSI)
    assert len(expected) > 10
    assert numbered(found, bars) == expected


# Lows at bars 1 and 4 (one bar on each side), second lower, RSI higher: regular bullish, active at bar 5 with goal 7.
LOW = [5.0, 3.0, 5.0, 5.0, 2.0, 5.0]
HIGH = [6.0, 6.0, 6.0, 6.0, 6.0, 7.0]
OSC = [50.0, 30.0, 50.0, 50.0, 40.0, 50.0]


def life(closes: list[float], params: DivergenceParams = SMALL, steps: object = None, osc: object = None) -> list[tuple[str, int]]:
    """(status, bar) of the hand-made event when these closes follow it."""
    n = len(closes)
    low, high = LOW + [5.0] * n, HIGH + [6.0] * n
    bars = frame_of(high, low, [5.5] * 6 + closes, steps=steps)
    indicators = indicators_of(bars, [*(OSC if osc is None else osc), *[50.0] * n])  # type: ignore[misc]
    found = find_divergences(bars, indicators, H1, params, RSI)
    return sorted(((s, t) for _, p2, kind, s, t in numbered(found, bars) if (p2, kind) == (4, "regular_bullish")), key=lambda r: r[1])


@pytest.mark.parametrize(
    ("closes", "expected"),
    [
        ([], [("active", 5)]),
        ([7.0, 2.0, 7.0], [("active", 5)]),
        ([7.0, 7.1, 1.0], [("active", 5), ("confirmed", 7)]),
        ([1.9, 9.0], [("active", 5), ("invalidated", 6)]),
        ([5.0] * 5, [("active", 5)]),
        ([5.0] * 8, [("active", 5), ("expired", 11)]),
        ([5.0] * 5 + [7.1], [("active", 5), ("confirmed", 11)]),
        ([5.0] * 6 + [7.1], [("active", 5), ("expired", 11)]),
    ],
)
def test_find_divergences_life_cycle(closes: list[float], expected: list[tuple[str, int]]) -> None:
    assert life(closes) == expected


def test_find_divergences_row_holds_what_decides() -> None:
    bars = frame_of(HIGH, LOW, [5.5] * 6)
    row = find_divergences(bars, indicators_of(bars, OSC), H1, SMALL, RSI).row(0, named=True)
    ts = bars["ts"]
    assert (row["oscillator"], row["kind"], row["status"]) == ("rsi", "regular_bullish", "active")
    assert (row["p1_ts"], row["p2_ts"], row["ts"]) == (ts[1], ts[4], ts[5])
    assert (row["p1_price"], row["p2_price"], row["p1_osc"], row["p2_osc"]) == (3.0, 2.0, 30.0, 40.0)
    assert (row["confirm_price"], row["invalidate_price"]) == (7.0, 2.0)
    assert row["known_at"] == row["active_at"] == ts[5] + H1.duration


def test_find_divergences_superseded_by_the_next_of_its_kind() -> None:
    low = [*LOW, 5.0, 1.5, 5.0, 5.0]
    high = [*HIGH, 6.0, 6.0, 6.0, 6.0]
    bars = frame_of(high, low, [5.5] * 10)
    found = find_divergences(bars, indicators_of(bars, [*OSC, 50.0, 45.0, 50.0, 50.0]), H1, SMALL, RSI)
    rows = numbered(found, bars)
    assert (1, 4, "regular_bullish", "superseded", 8) in rows
    assert (4, 7, "regular_bullish", "active", 8) in rows


def test_find_divergences_hole_expires_open_events_at_the_first_bar_behind_it() -> None:
    steps = [0] + [1] * 5 + [1, 5, 1]
    assert life([5.0, 9.0, 9.0], steps=steps) == [("active", 5), ("expired", 7)]
    steps[7] = 4  # three missing bars are passed over
    assert life([5.0, 9.0, 9.0], steps=steps) == [("active", 5), ("confirmed", 7)]


@pytest.mark.parametrize(("second", "n_rows"), [(31.0, 0), (31.0001, 1), (None, 0)])
def test_find_divergences_gap_must_exceed_eps(second: float | None, n_rows: int) -> None:
    assert len(life([], osc=[50.0, 30.0, 50.0, 50.0, second, 50.0])) == n_rows


@pytest.mark.parametrize(("between", "is_clear"), [(50.0, True), (33.0, False), (34.0, True), (None, False)])
def test_find_divergences_line_of_sight(between: float | None, is_clear: bool) -> None:
    bars = frame_of(HIGH, LOW, [5.5] * 6)
    osc = [50.0, 30.0, between, 50.0, 40.0, 50.0]
    found = find_divergences(bars, indicators_of(bars, osc), H1, SMALL, RSI)
    assert found["is_line_of_sight"].to_list() == [is_clear]
    filtered = find_divergences(bars, indicators_of(bars, osc), H1, replace(SMALL, require_line_of_sight=True), RSI)
    assert_frame_equal(filtered, found.filter("is_line_of_sight"))


def test_find_divergences_macd_is_read_in_atr() -> None:
    bars = frame_of(HIGH, LOW, [5.5] * 6)
    frame = indicators_of(bars, [None] * 6).with_columns(
        macd=pl.Series([1.0, 1.0, 1.0, 1.0, 1.2, 1.0]), atr_14=pl.Series([2.0, 2.0, 2.0, 2.0, 2.0, 2.0])
    )
    row = find_divergences(bars, frame, H1, SMALL).row(0, named=True)
    assert (row["oscillator"], row["p1_osc"], row["p2_osc"]) == ("macd", 0.5, 0.6)
    flat = frame.with_columns(atr_14=pl.lit(0.0))
    assert find_divergences(bars, flat, H1, SMALL).is_empty()


def test_find_divergences_without_indicators_computes_them() -> None:
    bars = many_series()
    assert_frame_equal(find_divergences(bars, None, H1), find_divergences(bars, compute_indicators(bars, H1), H1))


def test_find_divergences_joins_incomplete_indicators() -> None:
    bars = many_series()
    indicators = compute_indicators(bars, H1)
    some = indicators.filter(pl.col("symbol") != "BBB-USDT")
    expected = find_divergences(bars, indicators, H1).filter(pl.col("symbol") != "BBB-USDT")
    assert_frame_equal(find_divergences(bars, some, H1), expected)


def test_find_divergences_in_batches_equal_series_by_series(monkeypatch: pytest.MonkeyPatch) -> None:
    bars = pl.concat([random_series(300, seed, f"S{seed:02d}-USDT") for seed in range(8)])
    one_by_one = [find_divergences(part, None, H1) for part in bars.partition_by("symbol", maintain_order=True)]
    for rows in (1, 299, 300, 650, 10_000):
        monkeypatch.setattr("altforecast.divergences._BATCH_ROWS", rows)
        assert_frame_equal(find_divergences(bars, None, H1), pl.concat(one_by_one))


def test_find_divergences_refuses_unsorted_series(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [random_series(50, seed, name) for seed, name in enumerate(("B-USDT", "A-USDT", "C-USDT", "B-USDT"))]
    monkeypatch.setattr("altforecast.divergences._BATCH_ROWS", 50)
    for order in ([0, 1, 2], [1, 0, 2, 3], [0, 3]):
        with pytest.raises(InputError):
            find_divergences(pl.concat([parts[i] for i in order]), None, H1)


def test_find_divergences_refuses_nan() -> None:
    with pytest.raises(InputError, match="close"):
        find_divergences(random_series(30, seed=1).with_columns(close=pl.lit(float("nan"))), tables.INDICATORS.empty(), H1)


def test_find_divergences_empty() -> None:
    assert_frame_equal(find_divergences(tables.BARS.empty(), tables.INDICATORS.empty(), H1), tables.DIVERGENCES.empty())
    assert_frame_equal(find_divergences(random_series(9, seed=1), None, H1), tables.DIVERGENCES.empty())


def test_find_divergences_conforms_to_table() -> None:
    found = find_divergences(many_series(2000), None, H1)
    assert set(found["oscillator"].unique()) == {"rsi", "macd", "volume"}
    assert_frame_equal(tables.DIVERGENCES.conform(found), found)


def test_find_divergences_each_event_ends_at_most_once_and_later() -> None:
    found = find_divergences(many_series(2000), None, H1)
    per_id = found.group_by("id").agg(
        pl.col("status").eq("active").sum().alias("n_active"),
        pl.len(),
        (pl.col("known_at").max() - pl.col("active_at").first()).alias("age"),
    )
    assert (per_id["n_active"] == 1).all()
    assert per_id["len"].is_in([1, 2]).all()
    ended = per_id.filter(pl.col("len") == 2)["age"]
    assert (ended > H1.duration * 0).all()
    active = found.filter(pl.col("status") == "active")
    assert (active["known_at"] == active["active_at"]).all()


def test_find_divergences_id_is_the_documented_hash() -> None:
    bars = frame_of(HIGH, LOW, [5.5] * 6)
    row = find_divergences(bars, indicators_of(bars, OSC), H1, SMALL, RSI).row(0, named=True)
    state = int.from_bytes(hashlib.blake2b(b"divergence|BTC-USDT|binance|1h", digest_size=8).digest(), "big")
    for part in (0, START_MS + 1 * H1.ms, START_MS + 4 * H1.ms):  # rsi and regular_bullish are 0 * 4 + 0
        x = (state + part + 0x9E3779B97F4A7C15) % 2**64
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
        state = x ^ (x >> 31)
    assert row["id"] == f"{state:016x}"


@pytest.mark.parametrize("n", [20, 77, 150, 201, 399])
def test_find_divergences_are_causal(n: int) -> None:
    bars = many_series()
    past = bars.group_by(["symbol", "exchange"], maintain_order=True).head(n).sort(tables.SERIES_SORT)
    whole = find_divergences(bars, None, H1).join(past.select(tables.SERIES_KEY), on=tables.SERIES_KEY, how="semi", maintain_order="left")
    assert_frame_equal(find_divergences(past, None, H1), whole, check_exact=True)


@pytest.mark.parametrize("cut", [120, 333])
def test_find_divergences_ignore_a_changed_future(cut: int) -> None:
    bars = random_series(600, seed=12)
    noise = pl.Series(np.exp(np.random.default_rng(1).normal(0, 0.1, 600)))
    later = pl.int_range(pl.len()) >= cut
    changed = bars.with_columns(pl.when(later).then(pl.col(c) * noise).otherwise(c).alias(c) for c in ("high", "low", "close", "volume"))
    before = pl.col("ts") < bars["ts"][cut]
    assert_frame_equal(
        find_divergences(changed, None, H1).filter(before), find_divergences(bars, None, H1).filter(before), check_exact=True
    )


def test_find_divergences_month_by_month_equal_all_at_once(real_data: Path) -> None:
    bars = real_bars(real_data, "binance_spot_1h_2024", H1, ["BTC-USDT", "PEPE-USDT", "RENDER-USDT", "SHIB-USDT"])
    indicators = compute_indicators(bars, H1)
    whole = find_divergences(bars, indicators, H1)
    parts = []
    for start, end in months(bars):
        part, values = (with_warmup(f, start, end, WARMUP_BARS) for f in (bars, indicators))
        parts.append(within(find_divergences(part, values, H1), start, end))
    assert whole.height > 500
    assert_frame_equal(pl.concat(parts).sort(tables.DIVERGENCES.sort), whole, check_exact=True)


def test_find_divergences_warmup_is_enough_and_a_day_less_is_not(real_data: Path) -> None:
    bars = real_bars(real_data, "binance_spot_1h_2024", H1, ["BTC-USDT"])
    indicators = compute_indicators(bars, H1)
    whole = find_divergences(bars, indicators, H1)
    needed = DIVERGENCES.expire_bars + DIVERGENCES.pivots.right_bars + DIVERGENCES.max_span_bars + DIVERGENCES.pivots.left_bars
    assert needed <= WARMUP_BARS
    wrong = 0
    for start in range(needed, bars.height, 13):
        first = bars["ts"][start]
        exact = find_divergences(bars[start - needed :], indicators[start - needed :], H1).filter(pl.col("ts") >= first)
        assert exact.equals(whole.filter(pl.col("ts") >= first))
        short = find_divergences(bars[start - 24 :], indicators[start - 24 :], H1).filter(pl.col("ts") >= first)
        wrong += not short.equals(whole.filter(pl.col("ts") >= first))
    assert wrong > 0


@pytest.mark.parametrize(
    ("file", "timeframe", "symbol"), [("binance_spot_15m_2024", "15m", "BTC-USDT"), ("kraken_spot_2023Q1", "5m", "BTC-USDT")]
)
def test_find_divergences_replayed_bar_by_bar(real_data: Path, file: str, timeframe: str, symbol: str) -> None:
    """Streaming = batch: what each new bar adds, with the indicators known then, is what the batch says was known then."""
    frame = Timeframe(timeframe)
    bars = real_bars(real_data, file, frame, [symbol])[:500]
    seen = []
    for n in range(1, bars.height + 1):
        so_far = bars[:n]
        found = find_divergences(so_far, compute_indicators(so_far, frame), frame)
        seen.append(found.filter(pl.col("known_at") == so_far["ts"][-1] + frame.duration))
    whole = find_divergences(bars, compute_indicators(bars, frame), frame)
    assert whole.height > 30
    assert_frame_equal(pl.concat(seen), whole, check_exact=True)
