"""The proof that a computation does not see the future: change everything from a moment on, nothing before may move.

What belongs here: the perturbation and the bitwise comparison, for any computation over bars. What does not: the computations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import polars as pl
from numpy.typing import NDArray

from altforecast.errors import InputError

Columns = Mapping[str, NDArray[np.generic]]
_CHANGED = ("open", "high", "low", "close", "volume")


def perturbed(bars: pl.DataFrame, cut: int, rng: np.random.Generator, size: float = 0.1) -> pl.DataFrame:
    """The bars with every price and volume that opens at or after `cut` [ms] multiplied by its own exp(N(0, size))."""
    late = (bars["ts"].dt.epoch("ms") >= cut).to_numpy()
    changed = [pl.Series(c, bars[c].to_numpy() * np.exp(rng.normal(0.0, size, bars.height) * late)) for c in _CHANGED]
    return bars.with_columns(changed)


def changed_columns(compute: Callable[[pl.DataFrame], Columns], bars: pl.DataFrame, cut: int, rng: np.random.Generator) -> dict[str, int]:
    """Columns that differ before `cut` once the future is changed, with how many of their values do; empty is the proof.

    compute: bars -> arrays whose first axis is time, under `ts` the open times [ms], shape (time,). Bitwise: NaN equals NaN only.
    Raises InputError where nothing lies before the cut or nothing after it moved at all (a computation that ignores the bars
    proves nothing).
    """
    plain, other = compute(bars), compute(perturbed(bars, cut, rng))
    early = np.asarray(plain["ts"], dtype=np.int64) < cut
    if not early.any() or early.all():
        raise InputError("cut", cut, "must lie inside the rows")
    names = [name for name in plain if name != "ts"]
    if not any(_differences(plain[name][~early], other[name][~early]) for name in names):
        raise InputError("compute", ", ".join(names)[:80], "no value after the cut depends on the bars")
    found = {name: _differences(plain[name][early], other[name][early]) for name in names}
    return {name: count for name, count in found.items() if count}


def _differences(one: NDArray[np.generic], other: NDArray[np.generic]) -> int:
    if one.shape != other.shape:
        return max(one.size, other.size)
    same = (one == other) | ((one != one) & (other != other))
    return int((~same).sum())
