"""The word about where the price is likelier to go, and the figures that decide it.

What belongs here: the rule of that word. What does not: measuring whether direction can be forecast (`altforecast.forecast_summary`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NO_EDGE, UP, DOWN = "no directional edge", "up", "down"
MIN_TILT = 0.01
"""Distance of P(up) from the usual share of rises below which nothing is said [0-1]; calibrated ones stay within about 0.05."""


def direction(p_up: float | None, p_base: float | None, test: Mapping[str, Any]) -> dict[str, str]:
    """`word` (no directional edge | up | down) and `why`.

    test: direction table of the model's walk-forward report, empty where there is none. A side is named only where the test proved
    that the model tells sides (lower bound of its accuracy above that of always saying the commoner side, Brier skill of P(up) above 0)
    and P(up) is at least MIN_TILT away from the usual share of rises.
    """
    if p_up is None or p_base is None:
        return {"word": NO_EDGE, "why": "this forecaster says no P(up)"}
    proof = _proof(test)
    if proof is None:
        return {"word": NO_EDGE, "why": "no walk-forward test of direction is on record for this model"}
    is_proven, figures = proof
    if not is_proven:
        return {"word": NO_EDGE, "why": f"not proven at this horizon: {figures}"}
    said = f"P(up) {p_up:.1%} against the usual {p_base:.1%}"
    if round(abs(p_up - p_base), 6) < MIN_TILT:  # what was stored in 32 bits must not decide
        return {"word": NO_EDGE, "why": f"{said}: less than {100 * MIN_TILT:.0f} point apart; {figures}"}
    return {"word": UP if p_up > p_base else DOWN, "why": f"{said}; {figures}"}


def _proof(test: Mapping[str, Any]) -> tuple[bool, str] | None:
    """Whether the test proves it, and its figures in words; None where a figure is missing."""
    try:
        low, high = (float(bound) for bound in test["accuracy_interval"])
        right, majority, brier = (float(test[name]) for name in ("accuracy", "majority", "brier_skill"))
    except (KeyError, TypeError, ValueError):
        return None
    figures = (
        f"in the walk-forward test {right:.1%} of signs were right [{low:.1%}, {high:.1%}], always saying the commoner one would give "
        f"{majority:.1%}, Brier skill {brier:+.2%}"
    )
    return low > majority and brier > 0, figures
