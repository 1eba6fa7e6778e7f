"""Compiled replay of levels over their lives: every touch and whether it bounced, for real and shifted levels alike.

What belongs here: numba kernels on plain arrays. What does not: where the levels come from and what a bounce is worth
(`level_evidence`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit


class TouchParams(NamedTuple):
    """LevelParams as plain numbers; durations in milliseconds."""

    max_hole_ms: int
    min_rest_ms: int
    touch_atr: float
    break_atr: float
    bounce_atr: float
    horizon: int


@njit(cache=True, nogil=True)
def _bounced(high: Any, low: Any, close: Any, row: Any, price: Any, sign: Any, atr: Any, prm: Any) -> Any:
    """Away by bounce_atr (high or low) before a close break_atr through; both in one bar, or neither in time, is no bounce."""
    if sign * (close[row] - price) < -prm.break_atr * atr:
        return False
    for j in range(row + 1, row + prm.horizon + 1):
        if sign * (close[j] - price) < -prm.break_atr * atr:
            return False
        if sign * ((high[j] if sign > 0 else low[j]) - price) >= prm.bounce_atr * atr:
            return True
    return False


@njit(cache=True, nogil=True)
def matured_rows(ts: Any, horizon: Any, max_hole_ms: Any, starts: Any, stops: Any) -> Any:
    """For each row whether `horizon` rows of its series follow without a long hole."""
    found = np.zeros(len(ts), np.bool_)
    for s in range(len(starts)):
        run = 0
        for i in range(stops[s] - 1, starts[s] - 1, -1):
            run = 0 if i == stops[s] - 1 or ts[i + 1] - ts[i] > max_hole_ms else run + 1
            found[i] = run >= horizon
    return found


@njit(cache=True, nogil=True)
def scan_touches(
    ts: Any, high: Any, low: Any, close: Any, atr: Any, is_matured: Any, begins: Any, ends: Any, prices: Any, level: Any, last_ms: Any,
    shift: Any, prm: Any,
) -> Any:  # fmt: skip
    """Touches of levels moved by `shift`, in order of the spans.

    ts [ms], high, low, close [quote], atr [quote, NaN where unknown], is_matured: shape (rows,), all series one after another. Spans, one
    per stretch of constant price: rows begins < i <= ends at prices [quote] belong to level; shape (spans,), those of one level together
    and in order. last_ms: last touch before the level's first span, shape (levels,). shift [quote], shape (levels,).
    Returns level, row, is_support (reached from above), is_hit, each of shape (touches,); a touch that is not matured counts as a
    touch but is not returned.
    """
    bound = 0
    for s in range(len(begins)):
        bound += ends[s] - begins[s]
    bound = min(bound, len(begins) + len(last_ms) + bound)
    levels, rows = np.empty(bound, np.int32), np.empty(bound, np.int32)
    supports, hits = np.empty(bound, np.bool_), np.empty(bound, np.bool_)
    n, current, last = 0, -1, 0
    for s in range(len(begins)):
        if level[s] != current:
            current = level[s]
            last = last_ms[current]
        price = prices[s] + shift[current]
        for i in range(begins[s] + 1, ends[s] + 1):
            band = prm.touch_atr * atr[i]
            if not ((low[i] <= price + band) & (high[i] >= price - band) & (abs(close[i - 1] - price) > band)):
                continue
            if ts[i] - last < prm.min_rest_ms or ts[i] - ts[i - 1] > prm.max_hole_ms or not atr[i] > 0.0:
                continue
            last = ts[i]
            if is_matured[i]:
                sign = 1.0 if close[i - 1] > price else -1.0
                levels[n], rows[n], supports[n] = current, i, sign > 0
                hits[n] = _bounced(high, low, close, i, price, sign, atr[i], prm)
                n += 1
    return levels[:n], rows[:n], supports[:n], hits[:n]
