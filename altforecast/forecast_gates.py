"""The goals that forecasts are held against, and whether they are met.

What belongs here: the numbers of the goals F1 to F7 and their judgement. What does not: measuring (`forecast_summary`). Method:
docs/methods/forecasts.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from altforecast.bootstrap import holm

SKILL_GATES: Mapping[str, float] = {"15m": 0.080, "1h": 0.062, "4h": 0.048, "24h": 0.019}
SKILL_AIMS: Mapping[str, float] = {"15m": 0.090, "1h": 0.070, "4h": 0.056, "24h": 0.028}
SKILL_MOONSHOTS: Mapping[str, float] = {"15m": 0.10, "1h": 0.075, "4h": 0.062, "24h": 0.035}
HAR_SKILL_AIM, HAR_SKILL_MOONSHOT = 0.008, 0.012
COVERAGE_GATE, COVERAGE_AIM = 0.010, 0.003
GROUP_GATES: Mapping[str, tuple[float, float]] = {"symbols": (0.02, 0.03), "quarters": (0.04, 0.04), "deciles": (0.03, 0.09)}
"""Furthest that the 80 % coverage of one group may be off: (up to 4 h ahead, 24 h ahead)."""
DIRECTION_HORIZON = "1h"
ECE_GATE = 0.015
SINGLE_FEATURE_GATE = 0.1
"""A feature that alone orders returns better than this sees them."""
_WORDS = {"symbols": "worst symbol", "quarters": "worst quarter", "deciles": "worst volatility decile"}


class Verdict(NamedTuple):
    """One goal at one horizon: what was reached, what the gate asks, whether it is met."""

    goal: str
    horizon: str
    reached: str
    gate: str
    is_met: bool
    aim: str
    """Aim or moonshot and whether it is met, empty where there is none."""


def judge(horizons: Mapping[str, Mapping[str, Any]], look_ahead: Mapping[str, Mapping[str, Any]] | None = None) -> list[Verdict]:
    """Verdicts of all horizons; horizons: name -> table of `forecast_summary.summarise`.

    look_ahead: bar length -> changed columns (`changed`) and the strongest single feature (`strongest`), where the proof was made.
    """
    names = list(horizons)
    p_values = np.array([horizons[n]["forecasters"][horizons[n]["best"]]["dm_p"] for n in names], dtype=np.float64)
    adjusted = dict(zip(names, holm(p_values).tolist(), strict=True))
    found = []
    for name, table in horizons.items():
        mine = table["forecasters"][table["best"]]
        found += [_skill(name, mine), _over_har(name, mine, adjusted[name]), *_coverage(name, table, mine)]
        if name == DIRECTION_HORIZON and "direction" in table:
            found += _direction(name, table["direction"])
    return found + [_unseen(timeframe, proof) for timeframe, proof in (look_ahead or {}).items()]


def _unseen(timeframe: str, proof: Mapping[str, Any]) -> Verdict:
    n_changed, strongest = len(proof["changed"]), proof["strongest"]
    size = abs(strongest[1]) if strongest else 0.0
    text = f"{n_changed} of {proof['columns']} columns; strongest feature: " + (
        f"{strongest[0]} {strongest[1]:+.3f}" if strongest else "none"
    )
    gate = f"0 columns, single RankIC ≤ {SINGLE_FEATURE_GATE}"
    return Verdict("F7 look-ahead", f"{timeframe} bars", text, gate, n_changed == 0 and size <= SINGLE_FEATURE_GATE, "")


def _skill(name: str, mine: Mapping[str, float]) -> Verdict:
    reached, gate = mine["skill_climatology"], SKILL_GATES.get(name, 0.0)
    aims = [word for word, goals in (("aim", SKILL_AIMS), ("moonshot", SKILL_MOONSHOTS)) if name in goals and reached >= goals[name]]
    return Verdict(
        "F1 skill over climatology", name, f"{reached:.2%}", f"≥ {gate:.1%}", reached >= gate, ", ".join(aims) or "aim not reached"
    )


def _over_har(name: str, mine: Mapping[str, float], adjusted_p: float) -> Verdict:
    limit = -2.0 if name == "24h" else -3.0
    reached, t = mine["skill_har"], mine["dm_t"]
    aims = [w for w, goal in (("aim", HAR_SKILL_AIM), ("moonshot", HAR_SKILL_MOONSHOT)) if reached >= goal]
    text = f"{reached:+.2%}, t {t:.1f} (Holm p {adjusted_p:.1e})"
    return Verdict(
        "F2 skill over HAR-S", name, text, f"> 0, t < {limit:.0f}", reached > 0 and t < limit, ", ".join(aims) or "aim not reached"
    )


def _coverage(name: str, table: Mapping[str, Any], mine: Mapping[str, float]) -> list[Verdict]:
    off80, off95 = mine["coverage80"] - 0.80, mine["coverage95"] - 0.95
    worst = max(abs(off80), abs(off95))
    reached = f"{mine['coverage80']:.1%} / {mine['coverage95']:.1%}"
    aim = "aim" if worst <= COVERAGE_AIM else "aim not reached"
    found = [Verdict("F3 coverage 80 / 95 %", name, reached, "within 1.0 pp", worst <= COVERAGE_GATE, aim)]
    for group, gates in GROUP_GATES.items():
        gate = gates[name == "24h"]
        at = max(table[group], key=lambda row: abs(row["coverage80"] - 0.80))
        off = abs(at["coverage80"] - 0.80)
        found.append(
            Verdict(
                f"F4 {_WORDS[group]}", name, f"{100 * off:.1f} pp ({at['group']}, n {at['n']:,})", f"≤ {100 * gate:.0f} pp", off <= gate, ""
            )
        )
    return found


def _direction(name: str, direction: Mapping[str, Any]) -> list[Verdict]:
    low, high = direction["accuracy_interval"]
    text = f"{direction['accuracy']:.1%} [{low:.1%}, {high:.1%}], strongest tenth {direction['top_accuracy']:.1%}"
    gate = f"lower bound > majority {direction['majority']:.1%}"
    brier, ece = direction["brier_skill"], direction["ece"]
    return [
        Verdict("F5 direction", name, text, gate, low > direction["majority"], ""),
        Verdict("F6 calibrated P(up)", name, f"Brier skill {brier:+.2%}, ECE {ece:.1%}", "> 0, ≤ 1.5 %", brier > 0 and ece <= ECE_GATE, ""),
    ]
