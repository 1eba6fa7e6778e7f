"""Scores that decisions are made from."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from altforecast.decision_scores import score_ai

SHARES = st.floats(0.0, 1.0)


@pytest.mark.parametrize(
    ("p_up", "p_base", "score"), [(0.55, 0.5, 1.0), (0.525, 0.5, 0.5), (0.5, 0.51, -0.2), (0.9, 0.5, 1.0), (0.1, 0.5, -1.0)]
)
def test_score_ai_is_the_clipped_tilt(p_up: float, p_base: float, score: float) -> None:
    assert score_ai(p_up, p_base) == pytest.approx(score)


@pytest.mark.parametrize(("p_up", "p_base"), [(None, 0.5), (0.5, None), (None, None)])
def test_score_ai_unknown_stays_unknown(p_up: float | None, p_base: float | None) -> None:
    assert score_ai(p_up, p_base) is None


@given(SHARES, SHARES, SHARES)
def test_score_ai_rises_with_p_up_within_bounds(one: float, other: float, base: float) -> None:
    low, high = (score_ai(p, base) for p in sorted((one, other)))
    assert low is not None
    assert high is not None
    assert -1.0 <= low <= high <= 1.0
