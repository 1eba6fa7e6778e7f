"""Scores that decisions are made from, each in [-1, 1].

What belongs here: turning forecasts and signals into scores. What does not: weighing and acting on them, which comes with decisions.
Method: docs/methods/forecasts.md, Score of the model.
"""

from __future__ import annotations

FULL_SCORE_TILT = 0.05
"""Distance of P(up) from its base rate that counts as certainty [0-1]: about the largest that calibrated forecasts reach."""


def score_ai(p_up: float | None, p_base: float | None) -> float | None:
    """clip((p_up - p_base) / FULL_SCORE_TILT, -1, 1); None where either is not known.

    A score is no proof: whether it deserves any weight is what the tests of direction say.
    """
    if p_up is None or p_base is None:
        return None
    return max(-1.0, min(1.0, (p_up - p_base) / FULL_SCORE_TILT))
