"""Which model may answer: the gate that a candidate must pass and the rule that takes a champion away.

What belongs here: the rules and their judgement in words. What does not: measuring (`forecast_summary`, `model_health`), the goals of
the published evaluation (`forecast_gates`) and the log of decisions (`altforecast_io.store.models`). Method: docs/methods/forecasts.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, sqrt
from statistics import NormalDist
from typing import Any, Literal, NamedTuple

import numpy as np

from altforecast.errors import UnknownNameError
from altforecast.forecast_gates import COVERAGE_GATE, GROUP_GATES, Verdict
from altforecast.forecast_params import HORIZONS
from altforecast.forecast_tests import mean_test

Table = Mapping[str, Any]
Outcome = Literal["promoted", "challenger", "rejected"]
HealthVerdict = Literal["ok", "roll_back", "too_few"]

DM_GATES: Mapping[str, float] = {"15m": -3.0, "1h": -3.0, "4h": -3.0, "24h": -2.0}
"""Diebold-Mariano t against HAR-S that a candidate must stay below."""
SIGNIFICANCE = 0.05
"""Chance, over all groups of one rule, that a calibrated candidate misses it by luck alone."""
ENOUGH_ROWS = 5_000
"""Forecasts from which a group, and ten times as many from which the whole, is held against the published gate itself."""
MIN_COMMON_DAYS = 30
"""Days that two models must both have forecast before one is called better [days]."""
EQUAL_SKILL = 0.0002
"""Models whose losses differ by less than this share of climatology's are the same recipe; then the newer data win."""
BAND_80 = (0.75, 0.85)
"""Coverage of the 80 % interval outside which a champion is taken away and a candidate is not even a challenger."""
MIN_SKILL_HAR = -0.005
"""Skill over HAR-S below which a champion is taken away."""
MIN_INDEPENDENT, MIN_DAYS = 100, 7
"""Non-overlapping outcomes, and UTC days that have any, before health is judged at all."""
_FAMILIES = {"symbols": "worst symbol", "quarters": "worst quarter", "deciles": "worst volatility decile"}


class Comparison(NamedTuple):
    """Loss of one model minus that of another, per day in units of climatology's loss of that day."""

    n_days: int
    difference: float
    """Mean; below 0 the first is better. NaN without common days."""
    t: float
    """Newey-West; NaN where all days differ alike or by nothing."""


@dataclass(frozen=True)
class Decision:
    """What becomes of a candidate."""

    outcome: Outcome
    verdicts: tuple[Verdict, ...]
    """Every rule with what was reached; all met: promoted."""
    reason: str
    """The decision in words."""


class Health(NamedTuple):
    """Whether a forecaster may go on answering."""

    verdict: HealthVerdict
    reason: str


def judge_candidate(horizon: str, table: Table, live: Table | None = None, is_same_recipe: bool = True) -> Decision:
    """Hold a candidate's walk forward against the rules of promotion.

    table, live: tables of `forecast_summary.summarise` of the candidate and of the champion (None: the baseline answers); null counts
    as NaN and misses its rule. is_same_recipe: whether both are of one family, so that equal losses mean a refit on newer data; a
    champion of another family must be beaten. An empty table (no fold) is rejected. Promoted: every rule is met. Challenger: better
    than HAR-S and climatology in the mean, coverage within BAND_80, but a rule is missed. Raises UnknownNameError for an unknown
    horizon.
    """
    if horizon not in HORIZONS:
        raise UnknownNameError("horizon", horizon, "no such horizon", HORIZONS)
    if not table.get("forecasters"):
        why = table.get("skipped") or "the history left no fold to test it on"
        return Decision("rejected", (), f"rejected: nothing shows what the candidate is worth ({why})")
    mine = table["forecasters"][table["best"]]
    verdicts = (
        _over_climatology(horizon, mine), _over_har(horizon, mine), *_coverage(horizon, table, mine), *_groups(horizon, table),
        *(() if live is None else (_over_live(horizon, table, live, is_same_recipe),)),
    )  # fmt: skip
    missed = [v for v in verdicts if not v.is_met]
    if not missed:
        against = "no champion yet" if live is None else "not worse than the champion"
        return Decision("promoted", verdicts, f"promoted: all {len(verdicts)} rules are met; {against}")
    outcome: Outcome = "challenger" if _is_worth_a_shadow(mine) else "rejected"
    words = "; ".join(f"{v.goal}: {v.reached}, asked {v.gate}" for v in missed)
    return Decision(outcome, verdicts, f"{outcome}: {len(missed)} of {len(verdicts)} rules are missed ({words})")


def _is_worth_a_shadow(mine: Table) -> bool:
    is_better = _number(mine, "skill_climatology") > 0 and _number(mine, "skill_har") > 0
    return is_better and BAND_80[0] <= _number(mine, "coverage80") <= BAND_80[1]


def _over_climatology(horizon: str, mine: Table) -> Verdict:
    reached = _number(mine, "skill_climatology")
    return Verdict("F1 skill over climatology", horizon, f"{reached:.2%}", "> 0", reached > 0, "")


def _over_har(horizon: str, mine: Table) -> Verdict:
    reached, t, limit = _number(mine, "skill_har"), _number(mine, "dm_t"), DM_GATES[horizon]
    words = f"{reached:+.2%}, t {t:.1f}"
    return Verdict("F2 skill over HAR-S", horizon, words, f"> 0, t < {limit:.0f}", reached > 0 and t < limit, "")


def _coverage(horizon: str, table: Table, mine: Table) -> list[Verdict]:
    """Both intervals; on a small panel the gate is widened to what luck does to so few weeks."""
    scale = sqrt(_inflation(table) / table["n"]) if table["n"] < 10 * ENOUGH_ROWS else 0.0
    return [_covered(horizon, level, _number(mine, f"coverage{level}"), scale) for level in (80, 95)]


def _covered(horizon: str, level: int, reached: float, scale: float) -> Verdict:
    goal = level / 100
    allowed = _allowed(COVERAGE_GATE, sqrt(goal * (1 - goal)) * scale, 2)
    text = f"{reached:.1%}"
    return Verdict(f"F3 coverage {level} %", horizon, text, f"within {100 * allowed:.1f} pp", abs(reached - goal) <= allowed, "")


def _groups(horizon: str, table: Table) -> list[Verdict]:
    bars, inflation, found = HORIZONS[horizon][1], _inflation(table), []
    for family, words in _FAMILIES.items():
        rows = [row for row in table.get(family, ()) if row["n"] > 0]
        gate = GROUP_GATES[family][horizon == "24h"]
        # A quarter holds all series, which move together; a series or a decile is spread over all weeks.
        per_row = max(inflation, float(bars)) if family == "quarters" else float(bars)
        found += [_worst(f"F4 {words}", horizon, rows, gate, per_row)] if rows else []
    return found


def _worst(goal: str, horizon: str, rows: Sequence[Table], gate: float, per_row: float) -> Verdict:
    """The group that is furthest beyond what it is allowed."""
    errors = [0.4 * sqrt(per_row / row["n"]) if row["n"] < ENOUGH_ROWS else 0.0 for row in rows]
    allowed = [_allowed(gate, error, len(rows)) for error in errors]
    off = [abs(_number(row, "coverage80") - 0.80) for row in rows]
    at = int(np.argmax([o - a if isfinite(o) else np.inf for o, a in zip(off, allowed, strict=True)]))
    text = f"{100 * off[at]:.1f} pp ({rows[at]['group']}, n {rows[at]['n']:,})"
    return Verdict(goal, horizon, text, f"≤ {100 * allowed[at]:.1f} pp", off[at] <= allowed[at], "")


def _allowed(gate: float, standard_error: float, n_groups: int) -> float:
    """The gate, or what a calibrated forecast may miss by luck where that is more; never beyond the band of roll-back for that."""
    z = NormalDist().inv_cdf(1.0 - SIGNIFICANCE / (2.0 * n_groups))
    return max(gate, min(z * standard_error, BAND_80[1] - 0.80))


def _inflation(table: Table) -> float:
    """How many forecasts count as one: variance of the weekly coverage over that of independent forecasts; at least 1, and 1 where
    fewer than two weeks leave nothing to estimate it from."""
    weeks = [(covered, n) for _, covered, n in table.get("coverage_days", ()) if n and covered is not None]
    if len(weeks) < 2:
        return 1.0
    covered, n = np.array([w[0] for w in weeks]), np.array([w[1] for w in weeks], dtype=np.float64)
    off = n * (covered - float((covered * n).sum() / n.sum()))
    variance = float((off**2).sum()) / float(n.sum()) ** 2 * len(weeks) / (len(weeks) - 1)
    return max(variance * float(n.sum()) / 0.16, 1.0)


def _over_live(horizon: str, table: Table, live: Table, is_same_recipe: bool) -> Verdict:
    goal, gate = "better than the champion", f"t < 0, or equal within {EQUAL_SKILL:.2%}" if is_same_recipe else "t < 0"
    found = compare_losses(table, live)
    if found.n_days == 0 and _days(table) and _days(live) and max(_days(live)) < min(_days(table)):
        return Verdict(goal, horizon, "the champion is older than all folds", "no common day", True, "")
    if found.n_days < MIN_COMMON_DAYS:
        return Verdict(goal, horizon, f"{found.n_days} common days", f"≥ {MIN_COMMON_DAYS} common days", False, "")
    is_equal = is_same_recipe and abs(found.difference) <= EQUAL_SKILL
    words = "equal" if is_equal else f"{-found.difference:+.3%}, t {found.t:.1f}"
    return Verdict(goal, horizon, f"{words} over {found.n_days} days", gate, is_equal or found.t < 0, "")


def compare_losses(mine: Table, other: Table) -> Comparison:
    """Diebold-Mariano test of two models on the days that both forecast, each with its `best` forecaster.

    mine, other: tables of `forecast_summary.summarise` with `losses`. A day's loss is taken in units of climatology's loss on the same
    rows, so that models tested on different symbols can be compared. Days that either lacks are left out.
    """
    first, second = _days(mine), _days(other)
    common = sorted(set(first) & set(second))
    if not common:
        return Comparison(0, float("nan"), float("nan"))
    difference = np.array([first[day] - second[day] for day in common])
    if len(common) < 2:
        return Comparison(1, float(difference[0]), float("nan"))
    test = mean_test(difference, min(2, len(common) - 1))
    return Comparison(test.n, test.mean, test.t)


def _days(table: Table) -> dict[int, float]:
    """Day -> loss of the best forecaster over that of climatology."""
    losses = table.get("losses") or {}
    rows = zip(losses.get("day", ()), losses.get(table.get("best"), ()), losses.get("climatology", ()), strict=False)
    return {int(day): mine / reference for day, mine, reference in rows if mine is not None and reference}


def judge_health(horizon: str, n: int, n_days: int, skill_har: float | None, coverage_80: float | None) -> Health:
    """Whether a forecaster may go on answering, by its live forecasts of the last 30 days.

    n: outcomes; n_days: UTC days that have any; skill_har: 1 - loss / loss of HAR-S on the same rows; coverage_80: share inside the 80 %
    interval. Fewer than 100 non-overlapping outcomes or 7 days, or an unknown figure, is too_few. Whose verdict leads to a roll-back is
    the caller's business: only a champion can be taken away. Raises UnknownNameError for an unknown horizon.
    """
    if horizon not in HORIZONS:
        raise UnknownNameError("horizon", horizon, "no such horizon", HORIZONS)
    independent = n // HORIZONS[horizon][1]
    if independent < MIN_INDEPENDENT or n_days < MIN_DAYS:
        words = f"{independent} non-overlapping outcomes on {n_days} days; {MIN_INDEPENDENT} on {MIN_DAYS} are needed"
        return Health("too_few", words)
    if skill_har is None or coverage_80 is None or not (isfinite(skill_har) and isfinite(coverage_80)):
        return Health("too_few", "skill or coverage is unknown")
    faults = []
    if skill_har < MIN_SKILL_HAR:
        faults.append(f"skill over HAR-S {skill_har:+.2%} is below {MIN_SKILL_HAR:.1%}")
    if not BAND_80[0] <= coverage_80 <= BAND_80[1]:
        faults.append(f"coverage of the 80 % interval {coverage_80:.1%} is outside {BAND_80[0]:.0%} to {BAND_80[1]:.0%}")
    if faults:
        return Health("roll_back", " and ".join(faults) + f" ({n:,} outcomes)")
    return Health("ok", f"skill over HAR-S {skill_har:+.2%}, coverage of the 80 % interval {coverage_80:.1%} ({n:,} outcomes)")


def _number(row: Table, key: str) -> float:
    value = row.get(key)
    return float("nan") if value is None else float(value)
