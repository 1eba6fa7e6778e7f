"""Tests of `altforecast.outcomes`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from altforecast import tables
from altforecast.divergences import find_divergences
from altforecast.errors import InputError
from altforecast.indicators import compute_indicators
from altforecast.outcomes import BETTER, NOT_BETTER, TOO_FEW, WARMUP_BARS, WORSE, divergence_outcomes, evidence
from altforecast.params import OUTCOMES, OutcomeParams
from altforecast.pivots import find_pivots
from altforecast.types import Timeframe
from tests.domain.synthetic_bars import START_MS, frame_of, many_series, months, random_series, real_bars, with_warmup, within

H1 = Timeframe.H1
START = datetime.fromtimestamp(START_MS / 1000, tz=UTC)


def inputs(bars: pl.DataFrame, timeframe: Timeframe = H1) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    indicators = compute_indicators(bars, timeframe)
    return bars, indicators, find_divergences(bars, indicators, timeframe), find_pivots(bars, indicators, timeframe)


def event(bars: pl.DataFrame, kind: str, row: int = 0) -> pl.DataFrame:
    """An `active` row of a divergence at a bar; only the columns that outcomes read."""
    names = pl.lit("rsi").alias("oscillator"), pl.lit("active").alias("status"), pl.lit("00").alias("id"), pl.lit(kind).alias("kind")
    return bars[row : row + 1].select("ts", "symbol", "exchange", "timeframe", *names)


def outcome(
    after: list[tuple[float, float, float]], kind: str, atr: float | None = 2.0, steps: object = None
) -> tuple[bool, float, int] | None:
    """(is_hit, return_atr, bar) of an event at a close of 100 followed by (high, low, close); barriers at 97 and 103."""
    high, low, close = zip((100.0, 100.0, 100.0), *after, strict=True)
    bars = frame_of(high, low, close, steps=steps)
    indicators = bars.select("ts", "symbol", "exchange").with_columns(atr_14=pl.lit(atr, dtype=pl.Float64))
    params = OutcomeParams(horizon_bars=3)
    found = divergence_outcomes(bars, indicators, event(bars, kind), tables.PIVOTS.empty(), H1, params)
    if found.is_empty():
        return None
    row = found.row(0, named=True)
    assert row["event_ts"] == bars["ts"][0]
    assert row["known_at"] == row["ts"] + H1.duration
    return row["is_hit"], row["return_atr"], bars["ts"].to_list().index(row["ts"])


CALM = (101.0, 99.0, 100.0)


@pytest.mark.parametrize(
    ("after", "up", "down"),
    [
        ([(103.0, 99.0, 100.0)], (True, 1.5, 1), (False, -1.5, 1)),
        ([(102.9, 97.0, 100.0)], (False, -1.5, 1), (True, 1.5, 1)),
        ([CALM, (104.0, 96.0, 103.0)], (False, -1.5, 2), (False, -1.5, 2)),
        ([CALM, CALM, (102.0, 100.0, 101.0)], (True, 0.5, 3), (False, -0.5, 3)),
        ([CALM, CALM, CALM], (False, 0.0, 3), (False, 0.0, 3)),
        ([CALM, CALM, CALM, (110.0, 100.0, 110.0)], (False, 0.0, 3), (False, 0.0, 3)),
        ([CALM, CALM], None, None),
        ([], None, None),
    ],
)
def test_divergence_outcomes_barriers(after: list[tuple[float, float, float]], up: object, down: object) -> None:
    assert outcome(after, "regular_bullish") == outcome(after, "hidden_bullish") == up
    assert outcome(after, "regular_bearish") == outcome(after, "hidden_bearish") == down


@pytest.mark.parametrize("atr", [None, 0.0])
def test_divergence_outcomes_need_an_atr(atr: float | None) -> None:
    assert outcome([CALM] * 5, "regular_bullish", atr=atr) is None


def test_divergence_outcomes_horizon_meets_a_hole() -> None:
    steps = [0, 1, 102, 1, 1]
    assert outcome([CALM] * 4, "regular_bullish", steps=steps) is None
    assert outcome([(103.0, 99.0, 100.0), *[CALM] * 3], "regular_bullish", steps=steps) == (True, 1.5, 1)
    assert outcome([CALM] * 4, "regular_bullish", steps=[0, 1, 101, 1, 1]) == (False, 0.0, 3)


def test_divergence_outcomes_only_active_rows_and_known_bars() -> None:
    bars = random_series(100, seed=1)
    indicators = compute_indicators(bars, H1)
    ended = event(bars, "regular_bullish", 40).with_columns(status=pl.lit("confirmed"))
    elsewhere = event(bars, "regular_bullish", 40).with_columns(symbol=pl.lit("XXX-USDT"))
    for rows in (ended, elsewhere):
        assert divergence_outcomes(bars, indicators, rows, tables.PIVOTS.empty(), H1).is_empty()


def test_divergence_outcomes_control_is_every_confirmed_pivot() -> None:
    bars, indicators, divergences, pivots = inputs(random_series(800, seed=3))
    found = divergence_outcomes(bars, indicators, divergences, pivots, H1)
    controls = found.filter(pl.col("oscillator") == "control")
    old = bars["ts"][-1 - OUTCOMES.horizon_bars]
    matured = pivots.filter(pl.col("atr_14").is_not_null(), pl.col("ts") <= old)
    assert_frame_equal(
        controls.select("event_ts", "kind").filter(pl.col("event_ts") <= old).sort(pl.all()),
        matured.select(event_ts="ts", kind="side").sort(pl.all()),
    )
    assert found["id"].n_unique() == found.height


def test_divergence_outcomes_divergence_and_its_pivot_agree() -> None:
    """Same bar, same side, same rule: the outcome of an event is that of the pivot that made it known."""
    found = divergence_outcomes(*inputs(many_series(1500)), H1)
    sides = pl.when(pl.col("kind").str.ends_with("bullish")).then(pl.lit("low")).otherwise(pl.lit("high")).alias("kind")
    keys = ["symbol", "exchange", "event_ts", "kind"]
    events = found.filter(pl.col("oscillator") != "control").with_columns(sides)
    both = events.join(found.filter(pl.col("oscillator") == "control"), on=keys, suffix="_control")
    assert both.height == events.height > 100
    assert both["is_hit"].equals(both["is_hit_control"].alias("is_hit"))
    assert both["return_atr"].equals(both["return_atr_control"].alias("return_atr"))


def test_divergence_outcomes_empty() -> None:
    empty = [tables.BARS.empty(), tables.INDICATORS.empty(), tables.DIVERGENCES.empty(), tables.PIVOTS.empty()]
    assert_frame_equal(divergence_outcomes(*empty, H1), tables.DIVERGENCE_OUTCOMES.empty())  # type: ignore[call-arg]
    bars, indicators, _, _ = inputs(random_series(60, seed=1))
    assert divergence_outcomes(bars, indicators, tables.DIVERGENCES.empty(), tables.PIVOTS.empty(), H1).is_empty()


def test_divergence_outcomes_refuse_nan() -> None:
    bars, indicators, divergences, pivots = inputs(random_series(200, seed=1))
    with pytest.raises(InputError, match="high"):
        divergence_outcomes(bars.with_columns(high=pl.lit(float("nan"))), indicators, divergences, pivots, H1)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_divergence_outcomes_equal_bar_by_bar_walk(seed: int) -> None:
    bars, indicators, divergences, pivots = inputs(random_series(250, seed=seed))
    found = divergence_outcomes(bars, indicators, divergences, pivots, H1)
    high, low, close = (bars[c].to_list() for c in ("high", "low", "close"))
    number = {ts: n for n, ts in enumerate(bars["ts"].to_list())}
    atr = indicators["atr_14"].to_list()
    for row in found.iter_rows(named=True):
        t, sign = number[row["event_ts"]], 1 if row["kind"] in {"low", "regular_bullish", "hidden_bullish"} else -1
        for u in range(t + 1, t + 25):
            up, down = high[u] - close[t] >= 1.5 * atr[t], low[u] - close[t] <= -1.5 * atr[t]
            if up or down:
                expected = (up and not down) if sign > 0 else (down and not up)
                break
        else:
            expected = sign * (close[t + 24] - close[t]) > 0
        assert (row["is_hit"], number[row["ts"]]) == (expected, u)


@pytest.mark.parametrize("n", [30, 100, 250, 399])
def test_divergence_outcomes_are_causal(n: int) -> None:
    bars = many_series()
    past = bars.group_by(["symbol", "exchange"], maintain_order=True).head(n).sort(tables.SERIES_SORT)
    whole = divergence_outcomes(*inputs(bars), H1)
    known = whole.join(past.select(tables.SERIES_KEY), on=tables.SERIES_KEY, how="semi", maintain_order="left")
    assert_frame_equal(divergence_outcomes(*inputs(past), H1), known, check_exact=True)


def test_divergence_outcomes_month_by_month_equal_all_at_once(real_data: Path) -> None:
    frames = inputs(real_bars(real_data, "binance_spot_1h_2024", H1, ["BTC-USDT", "PEPE-USDT", "RENDER-USDT"]))
    whole = divergence_outcomes(*frames, H1)
    parts = []
    for start, end in months(frames[0]):
        bars, indicators = (with_warmup(f, start, end, WARMUP_BARS) for f in frames[:2])
        divergences, pivots = (f.join(bars.select(tables.SERIES_KEY), on=tables.SERIES_KEY, how="semi") for f in frames[2:])
        parts.append(within(divergence_outcomes(bars, indicators, divergences, pivots, H1), start, end))
    assert whole.height > 1000
    assert_frame_equal(pl.concat(parts).sort(tables.DIVERGENCE_OUTCOMES.sort), whole, check_exact=True)


def test_divergence_outcomes_replayed_bar_by_bar(real_data: Path) -> None:
    bars = real_bars(real_data, "binance_spot_15m_2024", Timeframe.M15, ["ETH-USDT"])[:300]
    seen = []
    for n in range(1, bars.height + 1):
        found = divergence_outcomes(*inputs(bars[:n], Timeframe.M15), Timeframe.M15)
        seen.append(found.filter(pl.col("ts") == bars["ts"][n - 1]))
    assert_frame_equal(pl.concat(seen), divergence_outcomes(*inputs(bars, Timeframe.M15), Timeframe.M15), check_exact=True)


def outcomes_of(oscillator: str, kind: str, hits: np.ndarray, hours_apart: int = 7) -> pl.DataFrame:
    n = len(hits)
    ts = [START + timedelta(hours=hours_apart * i) for i in range(n)]
    columns = {"ts": ts, "event_ts": ts, "is_hit": hits.astype(bool), "known_at": [t + timedelta(hours=1) for t in ts]}
    frame = pl.DataFrame(columns, schema_overrides=dict.fromkeys(("ts", "event_ts", "known_at"), tables.TS))
    names = {"symbol": "BTC-USDT", "exchange": "binance", "timeframe": "1h", "oscillator": oscillator, "kind": kind}
    ids = pl.Series("id", [f"{oscillator}-{kind}-{i}" for i in range(n)], dtype=pl.String)
    filled = frame.with_columns(*(pl.lit(v).alias(k) for k, v in names.items()), ids, return_atr=pl.lit(0.0))
    return filled.select(tables.DIVERGENCE_OUTCOMES.schema.names())


def measured(hit_frac: float, n: int = 800, seed: int = 1) -> pl.DataFrame:
    """Evidence on regular bullish RSI events with this true hit rate against a control of one half."""
    rng = np.random.default_rng(seed)
    events = outcomes_of("rsi", "regular_bullish", rng.random(n) < hit_frac)
    control = outcomes_of("control", "low", rng.random(4 * n) < 0.5, hours_apart=2)
    return evidence(pl.concat([events, control]), H1, datetime(2030, 1, 1, tzinfo=UTC))


def first(rows: pl.DataFrame) -> dict[str, object]:
    return rows.row(by_predicate=(pl.col("oscillator") == "rsi") & (pl.col("kind") == "regular_bullish"), named=True)


@pytest.mark.parametrize(("hit_frac", "verdict"), [(0.5, NOT_BETTER), (0.65, BETTER), (0.35, WORSE)])
def test_evidence_verdict(hit_frac: float, verdict: str) -> None:
    row = first(measured(hit_frac))
    assert row["verdict"] == verdict
    assert row["is_significant"] == (verdict != NOT_BETTER)
    assert (row["n"], row["n_control"]) == (800, 3200)
    assert row["ci_low_pp"] < row["lift_pp"] < row["ci_high_pp"]  # type: ignore[operator]
    assert row["lift_pp"] == pytest.approx(100 * (row["hit_frac"] - row["base_frac"]), abs=1e-9)  # type: ignore[operator]


def test_evidence_too_few_events_or_weeks() -> None:
    for rows in (measured(0.9, n=OUTCOMES.min_events - 1), evidence(*_one_week(), datetime(2030, 1, 1, tzinfo=UTC))):
        row = first(rows)
        assert row["verdict"] == TOO_FEW
        assert row["is_significant"] is False
        assert row["ci_low_pp"] is None
        assert row["p_value"] is None
        assert row["hit_frac"] is not None


def _one_week() -> tuple[pl.DataFrame, Timeframe]:
    hits = np.ones(100, dtype=bool)
    return pl.concat([outcomes_of("rsi", "regular_bullish", hits, 1), outcomes_of("control", "low", ~hits, 1)]), H1


def test_evidence_has_a_row_per_oscillator_and_kind_and_conforms() -> None:
    rows = measured(0.5)
    assert rows.height == 12
    assert_frame_equal(tables.EVIDENCE.conform(rows), rows)
    others = rows.filter(~((pl.col("oscillator") == "rsi") & (pl.col("kind") == "regular_bullish")))
    assert others["verdict"].unique().to_list() == [TOO_FEW]
    assert others["n"].sum() == 0


def test_evidence_is_causal() -> None:
    rng = np.random.default_rng(3)
    whole = pl.concat([outcomes_of("rsi", "regular_bullish", rng.random(900) < 0.6), outcomes_of("control", "low", rng.random(900) < 0.5)])
    as_of = START + timedelta(days=150)
    past = whole.filter(pl.col("known_at") <= as_of)
    assert 0 < past.height < whole.height
    assert_frame_equal(evidence(whole, H1, as_of), evidence(past, H1, as_of), check_exact=True)
    assert first(evidence(whole, H1, as_of))["n"] == past.filter(pl.col("oscillator") == "rsi").height


def test_evidence_same_seed_same_rows_in_any_order() -> None:
    rng = np.random.default_rng(3)
    whole = pl.concat([outcomes_of("rsi", "regular_bullish", rng.random(900) < 0.6), outcomes_of("control", "low", rng.random(900) < 0.5)])
    as_of = datetime(2030, 1, 1, tzinfo=UTC)
    assert_frame_equal(evidence(whole, H1, as_of), evidence(whole.sample(fraction=1.0, shuffle=True, seed=5), H1, as_of), check_exact=True)


def test_evidence_of_pure_noise_is_rarely_significant() -> None:
    significant = sum(measured(0.5, n=300, seed=seed)["is_significant"].sum() for seed in range(40))
    assert significant <= 5


def test_evidence_empty_and_naive_time() -> None:
    as_of = datetime(2030, 1, 1, tzinfo=UTC)
    assert_frame_equal(evidence(tables.DIVERGENCE_OUTCOMES.empty(), H1, as_of), tables.EVIDENCE.empty())
    assert evidence(_one_week()[0], Timeframe.H4, as_of).is_empty()
    with pytest.raises(InputError, match="as_of"):
        evidence(_one_week()[0], H1, as_of.replace(tzinfo=None))


def test_evidence_on_real_bars_says_not_better(real_data: Path) -> None:
    """Two and a half years, 22 coins: as in the study that chose this measure, no kind beats its control after correction."""
    bars = pl.read_parquet(real_data / "bars" / "binance_perp_1h_2023-01_2025-08.parquet").sort(tables.SERIES_SORT)
    rows = evidence(divergence_outcomes(*inputs(bars), H1), H1, datetime(2026, 1, 1, tzinfo=UTC))
    assert rows["n"].min() > 2000
    assert rows["n_control"].min() > 25_000
    assert rows["verdict"].unique().to_list() == [NOT_BETTER]
    assert rows["base_frac"].is_between(0.45, 0.55).all()
