"""How likely an edge is to be still there after the usual delay, learned from what became of earlier ones.

What belongs here: counts by edge bucket and pair, shrunken chances, their calibration. What does not: how outcomes are
observed (`opportunity_ledger`) and stored.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import NamedTuple

from altforecast.params import ARBITRAGE, ArbitrageParams

BUCKETS_PCT = (0.1, 0.2, 0.3, 0.5, 0.8, 1.2, 2.0, 5.0)
"""Upper ends of the edge buckets [percent]; the last bucket is open."""
BINS = 10


class Bin(NamedTuple):
    """One row of the reliability table."""

    n: int
    mean_chance: float
    rate: float


class Calibration(NamedTuple):
    """How good the given chances were; lower Brier scores are better."""

    n: int
    brier: float
    base_brier: float
    """Brier score of always saying the overall rate."""
    bins: tuple[Bin, ...]


@dataclass(slots=True)
class _Count:
    n: int = 0
    hits: int = 0


class CaptureChance:
    """Counts outcomes as they come; order matters only for which pairs are kept once `chance_max_pairs` is reached.

    When full, a new pair is not counted by itself: its chance is its bucket's rate.
    """

    def __init__(self, params: ArbitrageParams = ARBITRAGE) -> None:
        self._params = params
        self._buckets = [_Count() for _ in range(len(BUCKETS_PCT) + 1)]
        self._pairs: dict[tuple[str, int], _Count] = {}
        self._bins = [[0.0, 0.0, 0.0] for _ in range(BINS)]
        self._squares, self._told = 0.0, _Count()

    def chance(self, pair: str, edge_pct: float) -> float | None:
        """Posterior mean (0-1); None below `chance_min_outcomes` outcomes in the edge's bucket.

        A pair begins at its bucket's rate and moves away as its own outcomes grow: beta prior with the bucket's mean.
        """
        number = bisect_right(BUCKETS_PCT, edge_pct)
        bucket = self._buckets[number]
        if bucket.n < self._params.chance_min_outcomes:
            return None
        pooled = (bucket.hits + 1.0) / (bucket.n + 2.0)
        own = self._pairs.get((pair, number))
        if own is None:
            return pooled
        weight = self._params.chance_prior_outcomes
        return (own.hits + weight * pooled) / (own.n + weight)

    def learn(self, pair: str, edge_pct: float, was_captured: bool, told: float | None = None) -> None:
        """One outcome; `told` is the chance that was given at birth, which is what calibration is measured on."""
        number = bisect_right(BUCKETS_PCT, edge_pct)
        _add(self._buckets[number], was_captured)
        own = self._pairs.get((pair, number))
        if own is None and len(self._pairs) < self._params.chance_max_pairs:
            own = self._pairs[pair, number] = _Count()
        if own is not None:
            _add(own, was_captured)
        if told is not None:
            self._note(told, was_captured)

    def _note(self, told: float, was_captured: bool) -> None:
        self._squares += (told - was_captured) ** 2
        _add(self._told, was_captured)
        row = self._bins[min(int(told * BINS), BINS - 1)]
        row[0], row[1], row[2] = row[0] + 1, row[1] + told, row[2] + was_captured

    def calibration(self) -> Calibration | None:
        """Brier score against the base rate and the reliability table; None before the first told chance came true or not."""
        if not self._told.n:
            return None
        rate = self._told.hits / self._told.n
        bins = tuple(Bin(int(n), total / n, hits / n) for n, total, hits in self._bins if n)
        return Calibration(self._told.n, self._squares / self._told.n, rate * (1.0 - rate), bins)


def _add(count: _Count, hit: bool) -> None:
    count.n += 1
    count.hits += hit
