"""How good forecast distributions and probabilities are: loss, skill, coverage, calibration, rank correlation.

What belongs here: scores of forecasts against what happened, as pure functions of arrays. What does not: whether a
difference is luck (`forecast_tests`) and what trading on it would earn (`sharpe`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from altforecast.errors import InputError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LEVELS: tuple[float, ...] = (0.025, 0.05, 0.10, 0.25, 0.50, 0.75, 0.90, 0.95, 0.975)
"""Quantile levels of every forecast [0-1]; twice the mean pinball loss over them approximates the CRPS."""


def pinball_loss(outcome: Floats, quantiles: Floats, levels: tuple[float, ...] = LEVELS) -> Floats:
    """Mean pinball loss over the levels, one value per forecast, in the unit of the outcome.

    outcome: shape (n,). quantiles: shape (n, k), column j at levels[j]. NaN in a row gives NaN. Raises InputError on other shapes.
    """
    _same_length("quantiles", outcome, quantiles)
    if quantiles.ndim != 2 or quantiles.shape[1] != len(levels):
        raise InputError("quantiles", quantiles.shape, f"must have {len(levels)} columns")
    error = outcome[:, None] - quantiles
    q = np.asarray(levels, dtype=np.float64)
    return np.asarray(np.maximum(q * error, (q - 1.0) * error).mean(axis=1))


def skill(loss: Floats, reference: Floats) -> float:
    """1 - mean(loss) / mean(reference): positive is better than the reference, 0 equal [0-1, no lower bound].

    Pairs with a NaN on either side are left out of both; NaN without pairs or with a reference of 0.
    """
    _same_length("reference", loss, reference)
    both = ~(np.isnan(loss) | np.isnan(reference))
    base = float(reference[both].mean()) if both.any() else np.nan
    return float(1.0 - loss[both].mean() / base) if base > 0 else float("nan")


def coverage(outcome: Floats, low: Floats, high: Floats) -> float:
    """Share of outcomes in [low, high] [0-1]; rows with NaN are left out, NaN without rows."""
    known = ~(np.isnan(outcome) | np.isnan(low) | np.isnan(high))
    return float(((outcome >= low) & (outcome <= high))[known].mean()) if known.any() else float("nan")


def coverage_by(outcome: Floats, low: Floats, high: Floats, group: NDArray[np.generic]) -> dict[object, tuple[float, int]]:
    """Coverage and count within each group, in the order of the groups' values; groups without a known row are absent."""
    _same_length("group", outcome, group)
    known = ~(np.isnan(outcome) | np.isnan(low) | np.isnan(high))
    inside = (outcome >= low) & (outcome <= high)
    found: dict[object, tuple[float, int]] = {}
    for value in np.unique(group[known]):
        rows = known & (group == value)
        found[value.item()] = (float(inside[rows].mean()), int(rows.sum()))
    return found


def brier_score(happened: NDArray[np.bool_], probability: Floats) -> float:
    """Mean squared difference between probability and outcome [0-1]; rows with NaN are left out, NaN without rows."""
    known = ~np.isnan(probability)
    return float(np.mean((probability[known] - happened[known]) ** 2)) if known.any() else float("nan")


def brier_skill(happened: NDArray[np.bool_], probability: Floats, base_rate: float) -> float:
    """1 - Brier / Brier of always saying `base_rate`; NaN where the latter is 0 or nothing is known.

    base_rate: share of events known BEFORE the forecasts [0-1]; taking it from the same rows would flatter the reference.
    """
    known = ~np.isnan(probability)
    reference = float(np.mean((base_rate - happened[known]) ** 2)) if known.any() else np.nan
    return float(1.0 - brier_score(happened, probability) / reference) if reference > 0 else float("nan")


@dataclass(frozen=True)
class ReliabilityBin:
    """One bin of a reliability diagram."""

    n: int
    mean_probability: float
    happened_frac: float


def reliability(happened: NDArray[np.bool_], probability: Floats, n_bins: int = 20) -> list[ReliabilityBin]:
    """Bins of equal mass in order of probability; fewer than `n_bins` where there are fewer rows. Ties may split over bins.

    Raises InputError for n_bins < 1.
    """
    if n_bins < 1:
        raise InputError("n_bins", n_bins, "must be at least 1")
    known = ~np.isnan(probability)
    p, y = probability[known], happened[known]
    order = np.argsort(p, kind="stable")
    parts = [part for part in np.array_split(order, min(n_bins, max(len(p), 1))) if len(part)]
    return [ReliabilityBin(len(part), float(p[part].mean()), float(y[part].mean())) for part in parts]


def expected_calibration_error(happened: NDArray[np.bool_], probability: Floats, n_bins: int = 20) -> float:
    """Mean over equal-mass bins of |mean probability - share that happened| [0-1]; NaN without rows."""
    bins = reliability(happened, probability, n_bins)
    n = sum(b.n for b in bins)
    return sum(b.n * abs(b.mean_probability - b.happened_frac) for b in bins) / n if n else float("nan")


def ranks(values: Floats) -> Floats:
    """Ranks from 1, ties sharing their mean rank; NaN values get NaN. Shape kept (n,)."""
    found = np.full(len(values), np.nan)
    known = ~np.isnan(values)
    _, inverse, counts = np.unique(values[known], return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    found[known] = (last - (counts - 1) / 2.0)[inverse]
    return found


def rank_correlation(x: Floats, y: Floats) -> float:
    """Spearman correlation over rows where both are known; NaN with fewer than 3 such rows or where one side is constant."""
    _same_length("y", x, y)
    both = ~(np.isnan(x) | np.isnan(y))
    if both.sum() < 3:
        return float("nan")
    a, b = ranks(x[both]), ranks(y[both])
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale > 0 else float("nan")


def rank_ic(score: Floats, outcome: Floats, when: Ints, min_members: int = 5) -> tuple[Ints, Floats]:
    """Cross-sectional rank correlation at each moment: (moments ascending, correlations).

    Moments with fewer than `min_members` known pairs or a constant side are left out.
    """
    _same_length("when", score, when)
    order = np.argsort(when, kind="stable")
    moments, first = np.unique(when[order], return_index=True)
    kept, values = [], []
    for moment, rows in zip(moments, np.split(order, first[1:]), strict=True):
        known = ~(np.isnan(score[rows]) | np.isnan(outcome[rows]))
        value = rank_correlation(score[rows], outcome[rows]) if known.sum() >= min_members else float("nan")
        if not np.isnan(value):
            kept.append(int(moment))
            values.append(value)
    return np.asarray(kept, dtype=np.int64), np.asarray(values, dtype=np.float64)


def deciles(values: Floats, n: int = 10) -> Ints:
    """Equal-mass group number of each value, 0 to n-1 by rank; -1 where NaN."""
    found = np.full(len(values), -1, dtype=np.int64)
    known = np.flatnonzero(~np.isnan(values))
    order = known[np.argsort(values[known], kind="stable")]
    for number, part in enumerate(np.array_split(order, n)):
        found[part] = number
    return found


def _same_length(name: str, first: NDArray[np.generic], other: NDArray[np.generic]) -> None:
    if len(first) != len(other):
        raise InputError(name, len(other), f"must have as many rows as the first argument ({len(first)})")
