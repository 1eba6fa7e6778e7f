"""Uncertainty of differences between shares when events come in clusters, and correction for many tests.

What belongs here: the one week-cluster bootstrap and the one Holm correction that every evidence row uses. What does not:
what counts as a hit (`outcomes`, `level_evidence`) or how evidence is worded.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from altforecast.errors import InputError

Floats = NDArray[np.float64]


class Lift(NamedTuple):
    """Difference of two hit shares with its cluster-bootstrap interval; all in fractions (0.01 = 1 percentage point)."""

    lift: float
    low: float
    high: float
    p_value: float


def cluster_lift(
    hits: NDArray[np.bool_],
    base_hits: NDArray[np.bool_],
    clusters: NDArray[np.int64],
    base_clusters: NDArray[np.int64],
    draws: int,
    seed: int,
    confidence_frac: float = 0.95,
) -> Lift:
    """Share of hits minus share of base hits, with a percentile interval from resampling whole clusters.

    hits, base_hits: outcome of each event, shapes (n,), (m,). clusters, base_clusters: cluster label of each event (for us the
    number of its week), same shapes; a cluster drawn k times counts k times on both sides, so what moves both cancels.
    draws: bootstrap draws, > 0. seed: fixes the draws; the same input gives the same output bit for bit, in any event order.
    Returns fractions; p_value is two-sided for lift = 0, (1 + count) / (1 + draws), at most 1. With no events on a side all four
    are NaN; with a single cluster the lift is given and the rest is NaN, because one cluster says nothing of its own spread.
    Source: cluster (block) bootstrap, Cameron, Gelbach & Miller 2008, pairs form. Raises InputError on unequal lengths or draws < 1.
    """
    _check(hits, clusters, base_hits, base_clusters, draws)
    if not len(hits) or not len(base_hits):
        return Lift(np.nan, np.nan, np.nan, np.nan)
    labels = np.unique(np.concatenate([clusters, base_clusters]))
    sums = _per_cluster(labels, clusters, hits), _per_cluster(labels, base_clusters, base_hits)
    lift = float(np.mean(hits, dtype=np.float64) - np.mean(base_hits, dtype=np.float64))
    if len(labels) < 2:
        return Lift(lift, np.nan, np.nan, np.nan)
    drawn = _drawn_lifts(*sums, draws=draws, seed=seed)
    if not len(drawn):
        return Lift(lift, np.nan, np.nan, np.nan)
    tail = (1.0 - confidence_frac) / 2.0
    low, high = np.quantile(drawn, [tail, 1.0 - tail])
    beyond = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
    return Lift(lift, float(low), float(high), min(1.0, 2.0 * (1 + beyond) / (1 + len(drawn))))


def holm(p_values: Floats) -> Floats:
    """Holm's step-down adjusted p-values, shape (n,), each >= its input and <= 1; reject where adjusted <= alpha.

    NaN inputs are tests that were not made: they stay NaN and do not count. Empty in, empty out. Source: Holm 1979.
    """
    p = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full(p.shape, np.nan)
    made = np.flatnonzero(~np.isnan(p))
    order = made[np.argsort(p[made], kind="stable")]
    steps = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def _check(
    hits: NDArray[np.bool_], clusters: NDArray[np.int64], base_hits: NDArray[np.bool_], base_clusters: NDArray[np.int64], draws: int
) -> None:
    if len(hits) != len(clusters):
        raise InputError("clusters", len(clusters), f"one label per event needed, {len(hits)} events")
    if len(base_hits) != len(base_clusters):
        raise InputError("base_clusters", len(base_clusters), f"one label per event needed, {len(base_hits)} events")
    if draws < 1:
        raise InputError("draws", draws, "at least one draw needed")


def _per_cluster(labels: NDArray[np.int64], clusters: NDArray[np.int64], hits: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Hits and events of each label, shapes (k,)."""
    at = np.searchsorted(labels, clusters)
    found, events = np.zeros(len(labels)), np.zeros(len(labels))
    np.add.at(found, at, np.asarray(hits, dtype=np.float64))
    np.add.at(events, at, 1.0)
    return found, events


def _drawn_lifts(events: tuple[Floats, Floats], base: tuple[Floats, Floats], draws: int, seed: int) -> Floats:
    """Lift of each draw; draws that left a side without events are dropped."""
    k = len(events[0])
    times = _drawn_times(k, draws, seed)
    # One product for all four sums: the draws are read once, and whole numbers add up exactly in any order.
    hits, n, base_hits, m = (times @ np.column_stack([*events, *base])).T
    full = (n > 0) & (m > 0)
    return np.asarray(hits[full] / n[full] - base_hits[full] / m[full], dtype=np.float64)


@lru_cache(maxsize=4)
def _drawn_times(k: int, draws: int, seed: int) -> Floats:
    """How often each of k clusters is in each draw, shape (draws, k); the same for every kind of signal over the same weeks."""
    times = np.random.default_rng(seed).multinomial(k, np.full(k, 1.0 / k), size=draws).astype(np.float64)
    times.flags.writeable = False
    return times
