"""The gate of promotion and the rule of roll-back.

What belongs here: `altforecast.promotion`. What does not: measuring and logging.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from altforecast.errors import UnknownNameError
from altforecast.promotion import MIN_COMMON_DAYS, Decision, compare_losses, judge_candidate, judge_health

DAY = 86_400_000
DAYS = 365


def group(name: str, n: int, coverage80: float = 0.8) -> dict[str, Any]:
    return {"group": name, "n": n, "coverage80": coverage80, "coverage95": 0.95, "skill_climatology": 0.06, "skill_har": 0.007}


def table(seed: int = 1, level: float = 0.93, days: int = DAYS, first: int = 20_000, **changes: float) -> dict[str, Any]:
    """A year of 30 series as `summarise` gives it; level: the model's loss over that of climatology."""
    rng = np.random.default_rng(seed)
    climatology = np.random.default_rng(0).lognormal(0, 0.4, DAYS)[:days]
    mine = {
        "loss": 0.93, "skill_climatology": 0.065, "skill_har": 0.007, "dm_t": -8.5, "dm_p": 1e-15, "coverage80": 0.80, "coverage95": 0.95,
    }  # fmt: skip
    weeks = np.clip(rng.normal(0.8, 0.01, 52), 0, 1)
    return {
        "n": 252_000, "best": "mix", "forecasters": {"mix": mine | changes},
        "symbols": [group(f"S{i}", 8_400) for i in range(30)], "quarters": [group(f"2024Q{i}", 63_000) for i in range(1, 5)],
        "deciles": [group(str(i), 25_200) for i in range(10)],
        "coverage_days": [[7.0 * DAY * i, float(c), 4_846] for i, c in enumerate(weeks)],
        "losses": {
            "day": [(first + i) * DAY for i in range(days)], "n": [720] * days, "climatology": climatology.tolist(),
            "mix": (climatology * (level + rng.normal(0, 0.01, days))).tolist(),
        },
    }  # fmt: skip


def missed(decision: Decision) -> list[str]:
    return [v.goal for v in decision.verdicts if not v.is_met]


@pytest.mark.parametrize("horizon", ["15m", "1h", "4h", "24h"])
def test_judge_candidate_good_first_model_is_promoted(horizon: str) -> None:
    decision = judge_candidate(horizon, table())
    assert decision.outcome == "promoted"
    assert decision.reason == "promoted: all 7 rules are met; no champion yet"
    assert [v.goal for v in decision.verdicts] == [
        "F1 skill over climatology", "F2 skill over HAR-S", "F3 coverage 80 %", "F3 coverage 95 %",
        "F4 worst symbol", "F4 worst quarter", "F4 worst volatility decile",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "goal", "outcome"),
    [
        ({"skill_climatology": 0.0}, "F1 skill over climatology", "rejected"),
        ({"skill_har": 0.0}, "F2 skill over HAR-S", "rejected"),
        ({"skill_har": -0.001, "dm_t": 0.5}, "F2 skill over HAR-S", "rejected"),
        ({"dm_t": -3.0}, "F2 skill over HAR-S", "challenger"),
        ({"dm_t": float("nan")}, "F2 skill over HAR-S", "challenger"),
        ({"coverage80": 0.785}, "F3 coverage 80 %", "challenger"),
        ({"coverage80": 0.7499}, "F3 coverage 80 %", "rejected"),
        ({"coverage80": 0.86}, "F3 coverage 80 %", "rejected"),
        ({"coverage95": 0.938}, "F3 coverage 95 %", "challenger"),
    ],
)
def test_judge_candidate_one_rule_missed(changes: dict[str, float], goal: str, outcome: str) -> None:
    decision = judge_candidate("1h", table(**changes))
    assert missed(decision) == [goal]
    assert decision.outcome == outcome
    assert decision.reason.startswith(f"{outcome}: 1 of 7 rules are missed ({goal}: ")


def test_judge_candidate_t_gate_of_24h_is_2() -> None:
    assert judge_candidate("24h", table(dm_t=-2.1)).outcome == "promoted"
    assert judge_candidate("4h", table(dm_t=-2.1)).outcome == "challenger"


@pytest.mark.parametrize(
    ("family", "off", "horizon", "is_met"),
    [
        ("symbols", 0.019, "1h", True), ("symbols", 0.021, "1h", False), ("symbols", 0.029, "24h", True),
        ("quarters", 0.041, "1h", False), ("deciles", 0.031, "1h", False),
        ("deciles", 0.089, "24h", True), ("deciles", 0.091, "24h", False),
    ],
)  # fmt: skip
def test_judge_candidate_one_group_off(family: str, off: float, horizon: str, is_met: bool) -> None:
    found = table()
    found[family][1]["coverage80"] = 0.8 - off
    assert (judge_candidate(horizon, found).outcome == "promoted") is is_met


def test_judge_candidate_names_the_worst_group() -> None:
    found = table()
    found["symbols"][3] |= {"coverage80": 0.77, "n": 6_537, "group": "WIF-USDT binance"}
    decision = judge_candidate("15m", found)
    verdict = next(v for v in decision.verdicts if v.goal == "F4 worst symbol")
    assert (verdict.reached, verdict.gate, verdict.is_met) == ("3.0 pp (WIF-USDT binance, n 6,537)", "≤ 2.0 pp", False)


def test_judge_candidate_group_of_5000_forecasts_gets_no_allowance_for_luck() -> None:
    found = table()
    found["symbols"][3] |= {"coverage80": 0.765, "n": 5_000}
    assert missed(judge_candidate("24h", found)) == ["F4 worst symbol"]
    found["symbols"][3]["n"] = 4_999
    assert judge_candidate("24h", found).outcome == "promoted"


def test_judge_candidate_small_panel_is_not_refused_for_luck() -> None:
    """Four series over 30 days: deciles of 288 forecasts are off by several points by luck alone."""
    found = table()
    found |= {
        "n": 2_880, "symbols": [group(f"S{i}", 720, c) for i, c in enumerate((0.775, 0.81, 0.80, 0.815))],
        "quarters": [group("2026Q4", 2_880)], "deciles": [group(str(i), 288, 0.8 + 0.005 * i) for i in range(10)],
        "coverage_days": [[i * 7.0 * DAY, c, 720] for i, c in enumerate((0.78, 0.81, 0.82, 0.79))],
    }  # fmt: skip
    assert judge_candidate("1h", found).outcome == "promoted"
    found["deciles"][9]["coverage80"] = 0.87
    assert missed(judge_candidate("1h", found)) == ["F4 worst volatility decile"]


def test_judge_candidate_luck_never_widens_beyond_the_band() -> None:
    found = table(coverage80=0.745)
    found |= {"n": 40, "coverage_days": [[0.0, 0.5, 20], [7.0 * DAY, 1.0, 20]]}
    assert "F3 coverage 80 %" in missed(judge_candidate("1h", found))


@pytest.mark.parametrize("empty", [{}, {"forecasters": {}}])
def test_judge_candidate_without_folds_is_rejected(empty: dict[str, Any]) -> None:
    decision = judge_candidate("1h", empty)
    assert (decision.outcome, decision.verdicts) == ("rejected", ())
    assert "no fold" in decision.reason
    assert "(past: nothing)" in judge_candidate("1h", {**empty, "skipped": "past: nothing"}).reason


def test_judge_candidate_reads_what_json_gives_back() -> None:
    found = orjson.loads(orjson.dumps(table(dm_t=float("nan"))))
    assert found["forecasters"]["mix"]["dm_t"] is None
    assert missed(judge_candidate("1h", found, orjson.loads(orjson.dumps(table())))) == ["F2 skill over HAR-S"]


def test_judge_candidate_unknown_horizon() -> None:
    with pytest.raises(UnknownNameError, match=r"horizon: no such horizon, got '2h'; allowed: 15m, 1h, 4h, 24h"):
        judge_candidate("2h", table())


def test_judge_candidate_against_the_champion() -> None:
    live = table(seed=1)
    better, worse = table(seed=2, level=0.92), table(seed=2, level=0.94)
    assert judge_candidate("1h", better, live).outcome == "promoted"
    decision = judge_candidate("1h", worse, live)
    assert (decision.outcome, missed(decision)) == ("challenger", ["better than the champion"])


def test_judge_candidate_refit_of_the_same_recipe_is_promoted() -> None:
    """Its folds are those of the champion: nothing to choose, so the newer data win."""
    assert judge_candidate("1h", table(), table()).outcome == "promoted"


def test_judge_candidate_too_few_common_days() -> None:
    live = table(first=20_000 - DAYS + MIN_COMMON_DAYS - 1)
    decision = judge_candidate("1h", table(level=0.5), live)
    assert missed(decision) == ["better than the champion"]
    assert "29 common days" in decision.reason


def test_judge_candidate_equal_losses_renew_only_the_same_recipe() -> None:
    live = table()
    twin = copy.deepcopy(live)
    twin["losses"]["mix"] = [loss * (1 + 1e-5) for loss in live["losses"]["mix"]]
    assert judge_candidate("1h", twin, live).outcome == "promoted"
    other = judge_candidate("1h", twin, live, is_same_recipe=False)
    assert (missed(other), other.outcome) == (["better than the champion"], "challenger")
    assert judge_candidate("1h", table(level=0.92), live, is_same_recipe=False).outcome == "promoted"


def test_judge_candidate_champion_older_than_all_folds() -> None:
    assert judge_candidate("1h", table(), table(level=0.5, first=10_000)).outcome == "promoted"


def test_judge_candidate_champion_without_losses_cannot_be_beaten_unseen() -> None:
    live = table()
    del live["losses"]
    assert missed(judge_candidate("1h", table(), live)) == ["better than the champion"]


def test_compare_losses_is_a_mean_of_daily_ratios() -> None:
    mine, other = table(days=40), table(days=40)
    mine["losses"]["mix"] = [0.90 * c for c in mine["losses"]["climatology"]]
    other["losses"]["mix"] = [0.92 * c for c in other["losses"]["climatology"]]
    other["losses"]["day"] = [day + 10 * DAY for day in other["losses"]["day"]]
    found = compare_losses(mine, other)
    assert found.n_days == 30
    assert found.difference == pytest.approx(-0.02)


def test_compare_losses_other_symbols_do_not_matter() -> None:
    """Half of the rows, all losses halved: the same model."""
    half = copy.deepcopy(table())
    for name in ("climatology", "mix"):
        half["losses"][name] = [value / 2 for value in half["losses"][name]]
    assert compare_losses(table(), half).difference == pytest.approx(0, abs=1e-15)


@pytest.mark.parametrize("n_days", [0, 1])
def test_compare_losses_nothing_or_one_day_in_common(n_days: int) -> None:
    found = compare_losses(table(), table(first=20_000 + DAYS - n_days))
    assert found.n_days == n_days
    assert np.isnan(found.t)


def test_compare_losses_t_against_plain_formula() -> None:
    """Independent check: Bartlett weights 2/3 and 1/3 on the first two autocovariances."""
    mine, other = table(seed=5), table(seed=6)
    d = np.array([a / c - b / c for a, b, c in zip(mine["losses"]["mix"], other["losses"]["mix"], mine["losses"]["climatology"],
                                                   strict=True)])  # fmt: skip
    e = d - d.mean()
    variance = (e @ e + 2 * (2 / 3 * e[1:] @ e[:-1] + 1 / 3 * e[2:] @ e[:-2])) / len(d)
    assert compare_losses(mine, other).t == pytest.approx(d.mean() / np.sqrt(variance / len(d)))


@given(st.integers(0, 50), st.integers(51, 100))
def test_compare_losses_swapped_changes_the_sign(first: int, second: int) -> None:
    a, b = table(seed=first, days=60), table(seed=second, days=60)
    forth, back = compare_losses(a, b), compare_losses(b, a)
    assert forth.difference == pytest.approx(-back.difference)
    assert forth.t == pytest.approx(-back.t)


@pytest.mark.parametrize(
    ("skill_har", "coverage_80", "verdict"),
    [
        (0.007, 0.80, "ok"), (-0.005, 0.80, "ok"), (-0.0051, 0.80, "roll_back"), (0.007, 0.75, "ok"), (0.007, 0.85, "ok"),
        (0.007, 0.7499, "roll_back"), (0.007, 0.8501, "roll_back"), (None, 0.80, "too_few"), (0.007, None, "too_few"),
        (float("nan"), 0.80, "too_few"), (0.007, float("inf"), "too_few"),
    ],
)  # fmt: skip
def test_judge_health(skill_har: float | None, coverage_80: float | None, verdict: str) -> None:
    assert judge_health("1h", 3000, 30, skill_har, coverage_80).verdict == verdict


@pytest.mark.parametrize(
    ("horizon", "n", "n_days", "is_enough"),
    [("1h", 100, 7, True), ("1h", 99, 7, False), ("1h", 5000, 6, False), ("24h", 2399, 30, False), ("24h", 2400, 30, True),
     ("15m", 0, 0, False)],
)  # fmt: skip
def test_judge_health_needs_independent_outcomes_and_days(horizon: str, n: int, n_days: int, is_enough: bool) -> None:
    found = judge_health(horizon, n, n_days, -1.0, 0.5)
    assert found.verdict == ("roll_back" if is_enough else "too_few")


def test_judge_health_says_why() -> None:
    reason = judge_health("1h", 3000, 30, -0.012, 0.72).reason
    assert "skill over HAR-S -1.20% is below -0.5%" in reason
    assert "coverage of the 80 % interval 72.0% is outside 75% to 85%" in reason


def test_judge_health_unknown_horizon() -> None:
    with pytest.raises(UnknownNameError, match="2h"):
        judge_health("2h", 3000, 30, 0.0, 0.8)
