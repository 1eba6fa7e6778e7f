"""Bounces against hand-made paths and the level log; evidence against known truth."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from altforecast.errors import InputError
from altforecast.level_evidence import BOUNCES, level_bounces, level_evidence
from altforecast.levels import find_levels
from altforecast.params import LEVELS
from altforecast.tables import EVIDENCE, TS
from altforecast.tables import LEVELS as LEVELS_TABLE
from altforecast.types import Timeframe
from tests.domain.test_levels import EVER, HOUR, START, hand, market, mean_range

AS_OF = datetime(2030, 1, 1, tzinfo=UTC)


def flat(rows: int, price: float = 110.0) -> list[tuple[float, float, float]]:
    return [(price + 0.1, price - 0.1, price)] * rows


def one_level(price: float, rows: int) -> pl.DataFrame:
    """A support opened at row 0 and never evicted."""
    row = {
        "ts": START, "symbol": "AAA-USDT", "exchange": "x", "timeframe": "1h", "id": "00000000000000aa", "event": "opened", "price": price,
        "band": 1.0, "side": "support", "n_pivots": 1, "n_touches": 1, "n_breaks": 0, "strength": 1.0, "distance_atr": 0.0,
        "first_touch_ts": START - 100 * HOUR, "last_touch_ts": START - 100 * HOUR, "n_bars_since_touch": 100, "known_at": START + HOUR,
    }  # fmt: skip
    return pl.DataFrame([row], schema=LEVELS_TABLE.schema)


@pytest.mark.parametrize(
    ("after", "is_hit"),
    [
        ([(106.0, 101.0, 105.0)], True),  # high 6 = 1.5 ATR above the level
        ([(105.9, 101.0, 105.0)], False),  # not quite, then nothing for the rest of the horizon
        ([(101.0, 96.0, 96.9), (107.0, 96.0, 106.0)], False),  # closed 0.75 ATR through first
        ([(107.0, 96.0, 96.9)], False),  # both in one bar
        ([(101.0, 90.0, 97.0), (107.0, 97.0, 106.0)], True),  # a wick through does not count
    ],
)
def test_level_bounces_hand_computed(after: list[tuple[float, float, float]], is_hit: bool) -> None:
    path = [*flat(5), (110.0, 100.5, 101.0), *after, *flat(60, 103.0)]
    bars, ind = hand(path)
    real = level_bounces(one_level(100.0, len(path)), bars, ind, Timeframe.H1).filter(~pl.col("is_placebo"))
    first = real.row(0, named=True)
    assert (first["ts"], first["side"], first["is_hit"]) == (START + 5 * HOUR, "support", is_hit)
    assert first["known_at"] == START + (5 + LEVELS.bounce_horizon_bars + 1) * HOUR


def test_level_bounces_unmatured_touch_is_left_out() -> None:
    bars, ind = hand([*flat(5), (110.0, 100.5, 101.0), *flat(47)])
    assert level_bounces(one_level(100.0, 53), bars, ind, Timeframe.H1).filter(~pl.col("is_placebo")).is_empty()
    bars, ind = hand([*flat(5), (110.0, 100.5, 101.0), *flat(48)])
    assert level_bounces(one_level(100.0, 54), bars, ind, Timeframe.H1).filter(~pl.col("is_placebo")).height == 1


def test_level_bounces_real_touches_are_those_of_the_log() -> None:
    bars = pl.concat([market(21, 1500, "AAA-USDT", (700, 300)), market(22, 1400, "BBB-USDT")])
    ind = mean_range(bars)
    levels = find_levels(bars, ind, Timeframe.H1, EVER)
    keys = ["symbol", "ts", "id"]
    found = level_bounces(levels, bars, ind, Timeframe.H1).filter(~pl.col("is_placebo")).select(keys)
    logged = levels.filter(pl.col("event") == "touched").select(keys)
    assert found.join(logged, on=keys, how="anti").is_empty()
    assert found.height > 0.9 * logged.height


def test_level_bounces_ignore_what_comes_later() -> None:
    bars = market(23, 1500)
    ind = mean_range(bars)
    cut = START + 1000 * HOUR
    early = bars.filter(pl.col("ts") < cut)
    whole = level_bounces(find_levels(bars, ind, Timeframe.H1, EVER), bars, ind, Timeframe.H1)
    before = level_bounces(find_levels(early, ind, Timeframe.H1, EVER), early, mean_range(early), Timeframe.H1)
    assert before.equals(whole.filter(pl.col("known_at") <= cut))


def test_level_bounces_placebos_lie_within_the_range_and_follow_the_seed() -> None:
    bars = market(24, 1500)
    ind = mean_range(bars)
    levels = find_levels(bars, ind, Timeframe.H1, EVER)
    one, again, other = (level_bounces(levels, bars, ind, Timeframe.H1, seed) for seed in (1, 1, 2))
    assert one.equals(again)
    assert not one.equals(other)
    real = (~pl.col("is_placebo"),)
    assert one.filter(*real).equals(other.filter(*real))


def test_level_bounces_empty() -> None:
    bars, ind = hand(flat(10))
    assert level_bounces(LEVELS_TABLE.empty(), bars, ind, Timeframe.H1).schema == BOUNCES
    assert level_evidence(pl.DataFrame(schema=BOUNCES), Timeframe.H1, AS_OF).equals(EVIDENCE.empty())


def drawn(share: float, base: float, n: int, seed: int) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    is_placebo = np.arange(n) % 3 > 0
    ts = [START + timedelta(hours=int(h)) for h in rng.integers(0, 24 * 365, n)]
    frame = pl.DataFrame({"ts": ts, "is_placebo": is_placebo, "is_hit": rng.random(n) < np.where(is_placebo, base, share)})
    names = {"symbol": "AAA-USDT", "exchange": "x", "timeframe": "1h", "id": "0" * 16, "side": "support"}
    return frame.with_columns(pl.col("ts").cast(TS), *(pl.lit(v).alias(k) for k, v in names.items())).with_columns(
        known_at=pl.col("ts") + 49 * HOUR
    ).select(BOUNCES.names())  # fmt: skip


def test_level_evidence_finds_a_real_lift_and_no_false_one() -> None:
    good = level_evidence(drawn(0.60, 0.50, 9000, 1), Timeframe.H1, AS_OF).row(0, named=True)
    assert good["is_significant"]
    assert good["verdict"] == "better than base rate"
    assert good["ci_low_pp"] < 10 < good["ci_high_pp"]
    none = level_evidence(drawn(0.50, 0.50, 9000, 2), Timeframe.H1, AS_OF).row(0, named=True)
    assert none["verdict"] == "not better than base rate"
    assert (good["n"], good["n_control"]) == (3000, 6000)


def test_level_evidence_few_events_and_future_ones() -> None:
    bounces = drawn(0.6, 0.5, 60, 3)
    row = level_evidence(bounces, Timeframe.H1, AS_OF).row(0, named=True)
    assert (row["verdict"], row["p_value"], row["is_significant"]) == ("too few events", None, False)
    assert level_evidence(bounces, Timeframe.H1, START).is_empty()
    assert level_evidence(bounces, Timeframe.H4, AS_OF).is_empty()
    with pytest.raises(InputError, match="as_of"):
        level_evidence(bounces, Timeframe.H1, datetime(2030, 1, 1))  # noqa: DTZ001


def test_level_evidence_real_bars(real_data: Path) -> None:
    """Touches of real levels bounce about as often as those of placebos: levels are orientation, not prediction."""
    bars = pl.read_parquet(real_data / "bars" / "binance_spot_1h_2024.parquet").filter(
        pl.col("symbol").is_in(["BTC-USDT", "ETH-USDT", "SOL-USDT"])
    )
    bars = bars.sort("symbol", "ts").with_columns(pl.col("ts").cast(TS))
    ind = mean_range(bars)
    row = level_evidence(level_bounces(find_levels(bars, ind, Timeframe.H1, EVER), bars, ind, Timeframe.H1), Timeframe.H1, AS_OF).row(
        0, named=True
    )
    assert row["n"] > 2000
    assert 0.45 < row["hit_frac"] < 0.65
    assert abs(row["lift_pp"]) < 5
