"""Regime: hand-computed scores and states, causality, partitions, missing inputs, flips on real markets."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from altforecast.errors import InputError
from altforecast.params import REGIME, RegimeParams
from altforecast.regime import INPUTS, classify_regime, column_of, explain_regime, input_weights
from altforecast.tables import REGIME as TABLE
from altforecast.tables import TS
from altforecast.types import Metric

HOUR = timedelta(hours=1)
START = datetime(2025, 1, 1, tzinfo=UTC)
EVER = datetime(2000, 1, 1, tzinfo=UTC)


def metric_walks(seed: int, hours: int, metrics: tuple[Metric, ...] = INPUTS, start: datetime = START) -> pl.DataFrame:
    """Hourly closes of independent random walks."""
    rng = np.random.default_rng(seed)
    ts = [start + k * HOUR for k in range(hours)]
    walks = [pl.DataFrame({"ts": ts, "metric": m.value, "close": 50 * np.exp(np.cumsum(rng.normal(0, 0.004, hours)))}) for m in metrics]
    return pl.concat(walks).with_columns(pl.col("ts").cast(TS))


def contributions(row: dict[str, object]) -> list[float]:
    return [float(str(row[f"contribution_{column_of(m)}"])) for m in INPUTS if row[f"contribution_{column_of(m)}"] is not None]


def test_classify_regime_equals_numpy() -> None:
    bars = metric_walks(1, 1200)
    found = classify_regime(bars, EVER)
    assert found.height == 1200
    row, expected = found.row(1000, named=True), 0.0
    for metric, weight in input_weights().items():
        log = np.log(bars.filter(pl.col("metric") == metric.value)["close"].to_numpy())
        changes = log[24:1001] - log[:977]
        z = changes[-1] / changes[-720:].std(ddof=1)
        assert row[f"z_{column_of(metric)}"] == pytest.approx(z, rel=1e-9)
        expected += weight * z
    assert row["score"] == pytest.approx(expected, rel=1e-9)
    assert row["known_at"] - row["ts"] == HOUR


def test_classify_regime_contributions_add_up() -> None:
    bars = metric_walks(2, 1200).filter((pl.col("metric") != "USDT.D") | (pl.col("ts") < START + 900 * HOUR))
    for row in classify_regime(bars, EVER).filter(pl.col("score").is_not_null()).iter_rows(named=True):
        assert sum(contributions(row)) == pytest.approx(row["score"], abs=1e-12)


def test_classify_regime_weights_go_to_the_inputs_at_hand() -> None:
    bars = metric_walks(3, 1000).filter((pl.col("metric") != "BTC.D") | (pl.col("ts") < START + 950 * HOUR))
    row = classify_regime(bars, EVER).row(-1, named=True)
    weights = {m: w for m, w in input_weights().items() if m is not Metric.BTC_D}
    assert row["score"] == pytest.approx(sum(w / 0.8 * row[f"z_{column_of(m)}"] for m, w in weights.items()))
    assert (row["n_inputs"], row["is_degraded"], row["missing"]) == (4, True, "BTC.D")


def test_classify_regime_too_few_inputs_no_score_and_back_to_neutral() -> None:
    params = RegimeParams(enter_score=0.0001, leave_score=-50.0)
    kept = pl.col("metric").is_in(["TOTAL2", "ETHBTC"]) | (pl.col("ts") < START + 900 * HOUR)
    found = classify_regime(metric_walks(4, 1000).filter(kept), EVER, params=params)
    assert found["state"][899] != "neutral"
    assert found["score"][905] is None
    assert found["n_inputs"][905] == 2
    # Hour 900 still bridges the last bars; 901 is the first without a score, the third in a row changes the state.
    assert found["score"][900] is not None
    assert found["state"][902:904].to_list() == [found["state"][899], "neutral"]


def test_classify_regime_one_missing_hour_is_bridged() -> None:
    bars = metric_walks(5, 1000)
    gone = (pl.col("metric") == "TOTAL3") & pl.col("ts").is_in([START + 950 * HOUR, START + 970 * HOUR, START + 971 * HOUR])
    found = classify_regime(bars.filter(~gone), EVER)
    assert not found["is_degraded"][950]
    assert found["missing"][971] == "TOTAL3"
    assert not found["is_degraded"][972]


def test_classify_regime_dead_and_nonsense_input_is_missing() -> None:
    bars = metric_walks(6, 1000)
    flat = bars.with_columns(
        close=pl.when(pl.col("metric") == "TOTAL2").then(7.0).when(pl.col("metric") == "ETHBTC").then(0.0).otherwise("close")
    )
    assert classify_regime(flat, EVER)["missing"][-1] == "TOTAL2,ETHBTC"


def score_path(scores: list[float | None]) -> list[str]:
    """States for a given path of scores, through the public function's own state machine."""
    from altforecast.regime import _standing, _walk

    values = np.array([np.nan if s is None else s for s in scores])
    return [s.state.value for s in _walk(values, _standing(None, START), REGIME)]


@pytest.mark.parametrize(
    ("scores", "states"),
    [
        ([0.8, 0.8, 0.8, 0.3], ["neutral", "neutral", "risk_on", "risk_on"]),
        ([0.8, 0.8, 0.7, 0.8, 0.8, 0.8], ["neutral"] * 5 + ["risk_on"]),
        ([0.75] * 5, ["neutral"] * 5),
        ([-0.8] * 3 + [-0.25] * 3, ["neutral"] * 2 + ["risk_off"] * 4),
        ([0.9] * 3 + [0.25] * 2 + [0.24] * 3, ["neutral"] * 2 + ["risk_on"] * 5 + ["neutral"]),
        ([0.9] * 3 + [-0.9] * 3, ["neutral"] * 2 + ["risk_on"] * 3 + ["risk_off"]),
        ([0.9] * 3 + [-0.9, 0.0, -0.9] + [-0.9] * 3, ["neutral"] * 2 + ["risk_on"] * 3 + ["neutral"] * 3 + ["risk_off"]),
        ([0.8, -0.8, 0.8, -0.8], ["neutral"] * 4),
        ([0.9] * 3 + [None] * 3, ["neutral"] * 2 + ["risk_on"] * 3 + ["neutral"]),
    ],
)
def test_classify_regime_hysteresis_hand_computed(scores: list[float | None], states: list[str]) -> None:
    assert score_path(scores) == states


def test_classify_regime_by_month_equals_all_at_once() -> None:
    bars = metric_walks(7, 3600).filter(~pl.col("ts").is_between(START + 1400 * HOUR, START + 1404 * HOUR))
    whole = classify_regime(bars, EVER)
    edges = [datetime(2025, m, 1, tzinfo=UTC) for m in (1, 2, 3, 4, 5)] + [START + 3600 * HOUR]
    parts: list[pl.DataFrame] = []
    for begin, end in pairwise(edges):
        seen = bars.filter(pl.col("ts").is_between(begin - timedelta(days=REGIME.warmup_days), end, closed="left"))
        parts.append(classify_regime(seen, begin, parts[-1] if parts else None, end=end))
    assert pl.concat(parts).equals(whole)


def test_classify_regime_is_causal() -> None:
    bars, cut = metric_walks(8, 1500), START + 1100 * HOUR
    noise = pl.Series(np.exp(np.random.default_rng(9).normal(0, 0.1, bars.height)))
    bent = bars.with_columns(close=pl.when(pl.col("ts") >= cut).then(pl.col("close") * noise).otherwise("close"))
    before, after = classify_regime(bars, EVER), classify_regime(bent, EVER)
    assert before.filter(pl.col("ts") < cut).equals(after.filter(pl.col("ts") < cut))
    assert not before.equals(after)


def test_classify_regime_row_order_does_not_matter() -> None:
    bars = metric_walks(10, 900)
    assert classify_regime(bars.sample(fraction=1.0, shuffle=True, seed=3), EVER).equals(classify_regime(bars, EVER))


def test_classify_regime_empty_and_wrong_input() -> None:
    bars = metric_walks(11, 30)
    assert classify_regime(bars.clear(), EVER).equals(TABLE.empty())
    with pytest.raises(InputError, match="start"):
        classify_regime(bars, datetime(2025, 1, 1))  # noqa: DTZ001
    with pytest.raises(InputError, match="ts"):
        classify_regime(bars.with_columns(pl.col("ts") + timedelta(minutes=7)), EVER)


def test_explain_regime_words() -> None:
    row = classify_regime(metric_walks(12, 1000).filter((pl.col("metric") != "ETHBTC") | (pl.col("ts") < START + 900 * HOUR)), EVER).row(
        -1, named=True
    )
    said = explain_regime(row)
    assert len(said) == 5
    assert said[-1] == "Missing or stale: ETHBTC; the weight goes to the other inputs."
    biggest = max((m for m in INPUTS if m is not Metric.ETHBTC), key=lambda m: abs(row[f"contribution_{column_of(m)}"]))
    assert said[0].startswith(biggest.value)
    assert f"({row[f'contribution_{column_of(biggest)}']:+.2f})" in said[0]


def proxies(folder: Path) -> pl.DataFrame:
    """Stand-ins for the index metrics from real closes: equal baskets of alts, BTC's share of a basket, the inverse of everything."""
    bars = pl.read_parquet(folder / "bars" / "binance_perp_1h_2023-01_2025-08.parquet", columns=["ts", "symbol", "close"])
    counts = bars.group_by("symbol").len().filter(pl.col("len") > 23_000)["symbol"]
    log = (
        bars.filter(pl.col("symbol").is_in(counts.implode()))
        .with_columns(pl.col("close").log())
        .pivot("symbol", index="ts", values="close")
        .sort("ts")
    )
    log = log.drop_nulls()
    btc, eth = log["BTC-USDT-PERP"], log["ETH-USDT-PERP"]
    alts = log.select(pl.mean_horizontal(pl.exclude("ts", "BTC-USDT-PERP", "ETH-USDT-PERP"))).to_series()
    total2 = 0.5 * alts + 0.5 * eth
    series = {"TOTAL3": alts, "TOTAL2": total2, "BTC.D": 0.5 * (btc - total2), "USDT.D": -0.5 * (btc + total2), "ETHBTC": eth - btc}
    long = [log.select("ts").with_columns(pl.lit(m).alias("metric"), (v - v[0]).exp().alias("close")) for m, v in series.items()]
    return pl.concat(long).with_columns(pl.col("ts").cast(TS))


def test_classify_regime_real_markets_flip_rarely(real_data: Path) -> None:
    found = classify_regime(proxies(real_data), EVER).filter(pl.col("score").is_not_null())
    weeks = found.height / 168
    flips = int((found["state"] != found["state"].shift()).fill_null(False).sum()) / weeks
    shares = dict(found.group_by("state").len().with_columns(pl.col("len") / found.height).iter_rows())
    assert weeks > 100
    assert flips <= 8
    assert min(shares["risk_on"], shares["risk_off"]) > 0.1
