"""The slow part of the sandbox market: one step per day from a fixed first day, so that any day can be reached at once.

What belongs here: regimes, daily volatility and daily closes. What does not: what happens within a day (`paths`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

from altforecast_sandbox.coins import COINS

Floats = NDArray[np.float64]
FIRST_DAY = (date(2018, 1, 1) - date(1970, 1, 1)).days
LAST_DAY = (date(2036, 1, 1) - date(1970, 1, 1)).days
"""Days since 1970 between which the market exists: [FIRST_DAY, LAST_DAY)."""

REGIMES = ("calm", "trend_up", "trend_down", "panic")
_STAY = np.array(
    [
        [0.930, 0.035, 0.025, 0.010],
        [0.080, 0.890, 0.015, 0.015],
        [0.080, 0.015, 0.875, 0.030],
        [0.250, 0.100, 0.150, 0.500],
    ]
)
"""Probability of tomorrow's regime (column) given today's (row)."""
_DRIFT = np.array([0.0, 0.006, -0.006, -0.022])
_LOUDNESS = np.array([-0.30, 0.0, 0.05, 0.85])
_FACTOR_SD = 0.019
_FACTOR_PULL = 1.0 / 150.0
_OWN_PULL = 1.0 / 120.0
_VOL_KEEP, _VOL_NOISE, _DAY_NOISE = 0.90, 0.13, 0.17
_OWN_VOL_KEEP, _OWN_VOL_NOISE = 0.85, 0.20
_WEEKEND = -0.45
"""Log volatility of Saturdays and Sundays; half of it for a coin's own part."""


@dataclass(frozen=True)
class Skeleton:
    """Daily values; row `d` belongs to day FIRST_DAY + d, `log_close[d]` is the log price at its START (d + 1: at its end)."""

    regime: NDArray[np.int8]
    loudness: Floats
    """Log volatility of the common factor, relative to its calm level."""
    factor_sd: Floats
    factor_return: Floats
    own_sd: Floats
    own_return: Floats
    log_close: Floats


def build_skeleton(seed: int) -> Skeleton:
    """All days of the market of a seed.

    A Markov chain of regimes sets drift and loudness; log volatility is an AR(1) (stochastic volatility, Taylor 1986) with a part
    that no day before tells of, and weekends are quieter;
    the common factor and each coin's own part are pulled back to their anchors, so prices stay plausible for ever.
    """
    days, n = LAST_DAY - FIRST_DAY, len(COINS)
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, 1])))
    uniform = rng.random(days)
    shock, vol_shock = rng.standard_normal(days), rng.standard_normal(days)
    own_shock, own_vol_shock = rng.standard_normal((days, n)), rng.standard_normal((days, n))
    day_shock = rng.standard_normal(days)
    regime = _regimes(uniform)
    loud = _decaying_sum(vol_shock[:, None] * _VOL_NOISE, _VOL_KEEP)[:, 0] + _DAY_NOISE * day_shock
    loud += _LOUDNESS[regime] + _WEEKEND * _is_weekend()
    factor_sd = _FACTOR_SD * np.exp(loud)
    factor_level = _decaying_sum((_DRIFT[regime] + factor_sd * shock)[:, None], 1.0 - _FACTOR_PULL)
    own_loud = _decaying_sum(own_vol_shock * _OWN_VOL_NOISE, _OWN_VOL_KEEP) + 0.5 * loud[:, None]
    own_sd = np.array([c.idio_sd for c in COINS]) * np.exp(own_loud)
    own_level = _decaying_sum(own_sd * own_shock, 1.0 - _OWN_PULL)
    anchor = np.log([c.anchor_usdt for c in COINS])
    beta = np.array([c.beta for c in COINS])
    log_close = np.vstack([anchor, anchor + beta * factor_level + own_level])
    factor_return = np.diff(factor_level[:, 0], prepend=0.0)
    own_return = np.diff(own_level, axis=0, prepend=0.0)
    return Skeleton(regime, loud, factor_sd, factor_return, own_sd, own_return, log_close)


def _is_weekend() -> NDArray[np.bool_]:
    # 1970-01-01 was a Thursday: days 2 and 3 after it are the first weekend
    return np.isin(np.arange(FIRST_DAY, LAST_DAY) % 7, (2, 3))


def _regimes(uniform: Floats) -> NDArray[np.int8]:
    edges = np.cumsum(_STAY, axis=1)
    states = np.zeros(len(uniform), dtype=np.int8)
    state = 0
    for day, draw in enumerate(uniform):
        state = min(int(np.searchsorted(edges[state], draw, side="right")), len(REGIMES) - 1)
        states[day] = state
    return states


def _decaying_sum(steps: Floats, keep: float) -> Floats:
    """x[t] = keep * x[t - 1] + steps[t] along the first axis, from x = 0."""
    out = np.empty_like(steps)
    level = np.zeros(steps.shape[1])
    for row, step in enumerate(steps):
        level = keep * level + step
        out[row] = level
    return out
