"""What a Sharpe ratio is worth after many tries: probabilistic and deflated Sharpe, probability of backtest overfitting.

What belongs here: claims about strategies. What does not: forecasts (`forecast_scores`) and making returns (backtests).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from math import comb, e, sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from altforecast.errors import InputError

Floats = NDArray[np.float64]
EULER_GAMMA = 0.5772156649015329
_NORMAL = NormalDist()
MAX_BLOCKS = 20
"""More would mean over 184,756 splits."""


def sharpe_ratio(returns: Floats) -> float:
    """Mean over standard deviation (ddof 1) per period; NaN for a constant series or fewer than 2 returns."""
    spread = float(returns.std(ddof=1)) if len(returns) > 1 else 0.0
    return float(returns.mean()) / spread if spread > 0 else float("nan")


def expected_best_sharpe(spread: float, n_tried: int) -> float:
    """Sharpe ratio per period that the best of `n_tried` worthless strategies shows on average.

    spread: standard deviation of the Sharpe ratios of all strategies tried (Bailey and Lopez de Prado 2014). 0 for one try.
    """
    if n_tried < 1:
        raise InputError("n_tried", n_tried, "must be at least 1")
    if n_tried == 1:
        return 0.0
    high, higher = _NORMAL.inv_cdf(1.0 - 1.0 / n_tried), _NORMAL.inv_cdf(1.0 - 1.0 / (n_tried * e))
    return spread * ((1.0 - EULER_GAMMA) * high + EULER_GAMMA * higher)


def probabilistic_sharpe(sharpe: float, benchmark: float, n: int, skew: float, kurtosis: float) -> float:
    """Probability that the true Sharpe ratio per period exceeds `benchmark` [0-1]; kurtosis is 3 for a normal series.

    NaN where the variance of the estimate would not be positive. Raises InputError for fewer than 2 periods.
    """
    if n < 2:
        raise InputError("n", n, "at least two periods are needed")
    variance = 1.0 - skew * sharpe + (kurtosis - 1.0) / 4.0 * sharpe * sharpe
    return _NORMAL.cdf((sharpe - benchmark) * sqrt(n - 1.0) / sqrt(variance)) if variance > 0 else float("nan")


def deflated_sharpe(returns: Floats, sharpes_tried: Floats, n_tried: int | None = None) -> float:
    """Probability that a strategy is better than the best of that many worthless ones [0-1]; a claim needs > 0.95.

    returns: of the chosen strategy per period. sharpes_tried: Sharpe ratios per period of ALL configurations tried, the chosen
    one among them. n_tried: how many were tried where more than those are behind the choice; at least as many. Raises InputError for
    fewer.
    """
    n_tried = len(sharpes_tried) if n_tried is None else n_tried
    if n_tried < len(sharpes_tried):
        raise InputError("n_tried", n_tried, f"at least the {len(sharpes_tried)} whose Sharpe ratios are given")
    spread = float(sharpes_tried.std(ddof=1)) if len(sharpes_tried) > 1 else 0.0
    skew, kurtosis = _moments(returns)
    return probabilistic_sharpe(sharpe_ratio(returns), expected_best_sharpe(spread, n_tried), len(returns), skew, kurtosis)


def _moments(returns: Floats) -> tuple[float, float]:
    centred = returns - returns.mean()
    spread = float(np.sqrt(np.mean(centred**2)))
    if spread == 0:
        return 0.0, 3.0
    return float(np.mean(centred**3)) / spread**3, float(np.mean(centred**4)) / spread**4


@dataclass(frozen=True)
class Overfitting:
    """Result of combinatorially symmetric cross-validation."""

    pbo: float
    """Share of splits in which the best strategy in sample is below the median out of sample [0-1]; a claim needs < 0.2."""
    n_splits: int
    logits: Floats
    """Logit of the out-of-sample rank of each split's winner."""


def backtest_overfitting(returns: Floats, n_blocks: int = 16) -> Overfitting:
    """Probability of backtest overfitting by CSCV (Bailey, Borwein, Lopez de Prado, Zhu 2015), by Sharpe ratio.

    returns: shape (periods, strategies); periods are cut to a multiple of `n_blocks` at the end. Raises InputError for an odd or
    too large number of blocks, fewer than 2 strategies or fewer than 2 periods per block.
    """
    if n_blocks % 2 or not 2 <= n_blocks <= MAX_BLOCKS:
        raise InputError("n_blocks", n_blocks, f"must be even and between 2 and {MAX_BLOCKS}")
    n = len(returns) // n_blocks * n_blocks
    if returns.ndim != 2 or returns.shape[1] < 2 or n < 2 * n_blocks:
        raise InputError("returns", returns.shape, f"needs at least {2 * n_blocks} periods of 2 strategies")
    blocks = returns[:n].reshape(n_blocks, -1, returns.shape[1])
    sums, squares, size = blocks.sum(axis=1), (blocks**2).sum(axis=1), n // 2
    chosen = np.zeros((comb(n_blocks, n_blocks // 2), n_blocks))
    for row, picks in enumerate(combinations(range(n_blocks), n_blocks // 2)):
        chosen[row, list(picks)] = 1.0
    inside = _sharpes(chosen @ sums, chosen @ squares, size)
    outside = _sharpes((1.0 - chosen) @ sums, (1.0 - chosen) @ squares, size)
    best = np.argmax(inside, axis=1)
    theirs = outside[np.arange(len(best)), best][:, None]
    # Mid-ranks, so that equal strategies are in the middle and not above each other.
    rank = ((outside < theirs).sum(axis=1) + 0.5 * ((outside == theirs).sum(axis=1) + 1.0)) / (returns.shape[1] + 1.0)
    logits = np.log(rank / (1.0 - rank))
    return Overfitting(float(np.mean(logits <= 0)), len(best), logits)


def _sharpes(sums: Floats, squares: Floats, n: int) -> Floats:
    mean = sums / n
    spread = np.sqrt(np.maximum(squares / n - mean * mean, 0.0))
    return np.asarray(np.divide(mean, spread, out=np.zeros_like(mean), where=spread > 0))
