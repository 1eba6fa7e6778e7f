"""Whether one forecast is better than another, or calibrated, beyond luck.

What belongs here: tests of differences and of independence. What does not: the scores they compare (`forecast_scores`)
and corrections over several tests (`bootstrap.holm`).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import erfc, log, sqrt

import numpy as np
from numpy.typing import NDArray

from altforecast.errors import InputError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class MeanTest:
    """Mean of a dependent series against 0."""

    n: int
    mean: float
    standard_error: float
    t: float
    p_value: float
    """Two-sided, normal."""


def newey_west_variance(series: Floats, lag: int) -> float:
    """Long-run variance of a series with Bartlett weights (Newey and West 1987); never below 0.

    lag: highest autocovariance used [observations], cut to n - 1. Raises InputError for an empty or NaN series or lag < 0.
    """
    if lag < 0:
        raise InputError("lag", lag, "must not be negative")
    if len(series) == 0 or np.isnan(series).any():
        raise InputError("series", len(series), "must have values and no NaN")
    centred = series - series.mean()
    n = len(centred)
    total = float(centred @ centred) / n
    for k in range(1, min(lag, n - 1) + 1):
        total += 2.0 * (1.0 - k / (lag + 1.0)) * float(centred[k:] @ centred[:-k]) / n
    return max(total, 0.0)


def mean_test(series: Floats, lag: int) -> MeanTest:
    """Whether the mean of an autocorrelated series differs from 0 (HAC standard error); t is NaN for a constant series."""
    error = sqrt(newey_west_variance(series, lag) / len(series))
    mean = float(series.mean())
    t = mean / error if error > 0 else float("nan")
    return MeanTest(len(series), mean, error, t, erfc(abs(t) / sqrt(2.0)) if error > 0 else float("nan"))


def diebold_mariano(loss: Floats, reference: Floats, when: NDArray[np.int64], lag: int) -> MeanTest:
    """Diebold-Mariano test of mean(loss - reference): negative t says that `loss` is better.

    Losses of several symbols at one moment are averaged first, because they move together; moments ascend. Rows where a
    loss is NaN are left out. Raises InputError when nothing is left.
    """
    if not len(loss) == len(reference) == len(when):
        raise InputError("loss", (len(loss), len(reference), len(when)), "all arguments need the same length")
    difference = loss - reference
    known = ~np.isnan(difference)
    _, group = np.unique(when[known], return_inverse=True)
    sums = np.bincount(group, weights=difference[known])
    return mean_test(sums / np.bincount(group), lag)


def dm_lag(horizon_bars: int, bars_per_day: float) -> int:
    """Autocovariances that a test of overlapping forecasts needs: a day or two horizons, whichever is longer [bars]."""
    return max(round(bars_per_day), 2 * horizon_bars)


def independence_of_breaches(breach: NDArray[np.bool_]) -> tuple[float, float]:
    """Christoffersen (1998) likelihood ratio of first-order independence and its p-value (chi-square, 1 degree of freedom).

    breach: whether the outcome left the interval, in order of time, for non-overlapping forecasts. (0, 1) where one of the
    states never occurs.
    """
    before, after = breach[:-1].astype(bool), breach[1:].astype(bool)
    n00, n01 = int((~before & ~after).sum()), int((~before & after).sum())
    n10, n11 = int((before & ~after).sum()), int((before & after).sum())
    if n00 + n01 == 0 or n10 + n11 == 0 or n01 + n11 == 0:
        return 0.0, 1.0
    pooled = (n01 + n11) / (n00 + n01 + n10 + n11)
    free = _likelihood(n01, n00, n01 / (n00 + n01)) + _likelihood(n11, n10, n11 / (n10 + n11))
    bound = _likelihood(n01 + n11, n00 + n10, pooled)
    ratio = max(2.0 * (free - bound), 0.0)
    return ratio, erfc(sqrt(ratio / 2.0))


def _likelihood(n_hits: int, n_misses: int, share: float) -> float:
    """Log likelihood of a Bernoulli sample; 0 log 0 is 0."""
    hits = n_hits * log(share) if n_hits else 0.0
    return hits + (n_misses * log(1.0 - share) if n_misses else 0.0)


def block_bootstrap_interval(
    values: Floats, block: NDArray[np.int64], rng: np.random.Generator, draws: int = 500, confidence: float = 0.95
) -> tuple[float, float]:
    """Percentile interval of the mean of `values`, whole blocks (days, weeks) drawn with replacement.

    block: block number of each value, shape (n,). NaN values are left out. Raises InputError with fewer than 2 blocks.
    """
    known = ~np.isnan(values)
    _, group = np.unique(block[known], return_inverse=True)
    n_blocks = int(group.max()) + 1 if len(group) else 0
    if n_blocks < 2:
        raise InputError("block", n_blocks, "at least two blocks are needed")
    sums, counts = np.bincount(group, weights=values[known]), np.bincount(group)
    picks = rng.integers(0, n_blocks, (draws, n_blocks))
    means = sums[picks].sum(axis=1) / counts[picks].sum(axis=1)
    low, high = np.quantile(means, [(1.0 - confidence) / 2.0, (1.0 + confidence) / 2.0])
    return float(low), float(high)


def bootstrap_skill_interval(
    loss: Floats, reference: Floats, block: NDArray[np.int64], rng: np.random.Generator, draws: int = 500, confidence: float = 0.95
) -> tuple[float, float]:
    """Percentile interval of 1 - sum(loss) / sum(reference), whole blocks (weeks) drawn with replacement.

    All shapes (n,); rows where either loss is NaN are left out. (NaN, NaN) with fewer than 2 blocks, or where the reference
    loses nothing in a draw. Raises InputError for unequal lengths.
    """
    if not len(loss) == len(reference) == len(block):
        raise InputError("loss", (len(loss), len(reference), len(block)), "all arguments need the same length")
    known = ~np.isnan(loss + reference)
    _, group = np.unique(block[known], return_inverse=True)
    mine, theirs = np.bincount(group, weights=loss[known]), np.bincount(group, weights=reference[known])
    if len(mine) < 2:
        return float("nan"), float("nan")
    picks = rng.integers(0, len(mine), (draws, len(mine)))
    with np.errstate(invalid="ignore", divide="ignore"):
        skills = 1.0 - mine[picks].sum(axis=1) / theirs[picks].sum(axis=1)
    low, high = np.quantile(skills, [(1.0 - confidence) / 2.0, (1.0 + confidence) / 2.0])
    return float(low), float(high)
