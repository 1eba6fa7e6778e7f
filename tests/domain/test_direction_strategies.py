"""Trading on the direction score: costs, thresholds known at the time, and the verdict on luck."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from altforecast.direction_strategies import CONVICTIONS, strategy_table
from altforecast.errors import InputError
from altforecast.walk_forward import PastForecasts

START = int(datetime(2024, 1, 1, tzinfo=UTC).timestamp() * 1000)
SERIES = tuple((f"{letter}-USDT", "x") for letter in "ABCD")


def past(score: np.ndarray, outcome: np.ndarray, horizon: int = 1) -> PastForecasts:
    ts = START + 3_600_000 * np.arange(len(score), dtype=np.int64)
    return PastForecasts(ts, SERIES, horizon, 24, outcome, {}, {}, np.zeros_like(outcome), score)


def noise(days: int = 200, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(24 * days, 4)), rng.normal(0.0, 0.01, (24 * days, 4))


def test_a_score_without_information_is_no_edge_and_loses_the_costs() -> None:
    score, outcome = noise()
    found = strategy_table(past(score, outcome), 35)
    assert found["n_tries"] == 35 * 2 * len(CONVICTIONS)
    assert not found["is_edge"]
    assert found["deflated_sharpe"] < 0.05
    everything = found["strategies"][0]
    lost = everything["gross_bps_per_day"] - everything["net_bps_per_day"]
    assert lost == pytest.approx(24 * 7.0, rel=0.05), "half of the signs turn each hour, and a turn trades twice the position"


def test_a_real_edge_larger_than_the_costs_is_told() -> None:
    score, outcome = noise()
    found = strategy_table(past(score, outcome + 0.004 * np.sign(score)), 35)
    assert found["is_edge"]
    assert found["deflated_sharpe"] > 0.99
    assert found["pbo"] < 0.2
    weaker = strategy_table(past(score, outcome + 0.0003 * np.sign(score)), 35)
    assert weaker["strategies"][0]["gross_bps_per_day"] > 0 > weaker["strategies"][0]["net_bps_per_day"]
    assert not weaker["is_edge"]


def test_a_position_that_stays_costs_once() -> None:
    _, outcome = noise()
    found = strategy_table(past(np.ones_like(outcome), outcome), 1)
    everything = found["strategies"][0]
    assert everything["gross_bps_per_day"] * 200 - everything["net_bps_per_day"] * 200 == pytest.approx(7.0), "one side, all capital"


def test_thresholds_do_not_see_later_scores() -> None:
    score, outcome = noise(100)
    one = strategy_table(past(score, outcome), 1)
    later = score.copy()
    later[24 * 99 :] *= 1e6
    outcome[24 * 99 :] = 0.0
    held = strategy_table(past(later, outcome), 1), strategy_table(past(score, outcome), 1)
    assert held[0]["strategies"][8]["gross_bps_per_day"] == held[1]["strategies"][8]["gross_bps_per_day"]
    assert one["n_days"] == 100


def test_missing_scores_and_outcomes_hold_nothing_and_longer_horizons_do_not_overlap() -> None:
    score, outcome = noise(120)
    score[:, 0] = np.nan
    outcome[50:80] = np.nan
    found = strategy_table(past(score, outcome, 24), 2)
    assert found["n_days"] == 120
    assert np.isfinite(found["strategies"][0]["net_sharpe_year"])
    flat = strategy_table(past(np.full_like(score, np.nan), outcome, 24), 2)
    assert not flat["is_edge"]
    assert flat["strategies"][0]["net_bps_per_day"] == 0.0


def test_what_cannot_be_judged_is_refused() -> None:
    score, outcome = noise(40)
    with pytest.raises(InputError, match="no direction"):
        strategy_table(replace(past(score, outcome), score=None), 1)
    with pytest.raises(InputError, match="n_tried"):
        strategy_table(past(score, outcome), 0)
    with pytest.raises(InputError, match="periods"):
        strategy_table(past(score[:240], outcome[:240]), 1)
