"""Stable names of events: a 64-bit hash of what identifies them, as 16 lower-case hex digits.

What belongs here: the one hash of the house for events made by the million. What does not: what identifies an event (its module
passes the parts), or hashes that must resist an attacker.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b

import numpy as np
import polars as pl
from numpy.typing import NDArray

from altforecast.types import Timeframe

UInts = NDArray[np.uint64]


def event_ids(
    noun: str, names: Sequence[tuple[str, str]], timeframe: Timeframe, series: NDArray[np.int64], *parts: NDArray[np.int64]
) -> UInts:
    """One 64-bit id per event, shape (n,); the same in every process, version and order of events.

    noun: kind of event ("divergence", "pivot"). names: (symbol, exchange) per series. series: number into `names`, shape (n,).
    parts: further int64 numbers that identify the event, each of shape (n,). Empty in, empty out. Method: BLAKE2b (8 bytes) of
    "noun|symbol|exchange|timeframe" starts the state; each part is added and mixed by the SplitMix64 finaliser (Steele et al. 2014),
    a bijection, so two events of one series collide only by chance: about 3e-6 for ten million events.
    """
    heads = [blake2b("|".join((noun, *name, timeframe.value)).encode(), digest_size=8).digest() for name in names]
    state = np.array([int.from_bytes(h, "big") for h in heads], dtype=np.uint64)[series]
    for part in parts:
        state = _mix(state + part.view(np.uint64))
    return state


def _mix(x: UInts) -> UInts:
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def hex_ids(ids: UInts) -> pl.Series:
    """The ids as strings of 16 hex digits, in the same order (text order is number order); column name `id`."""
    digits = _four_digits()
    parts = [digits.gather(((ids >> np.uint64(shift)) & np.uint64(0xFFFF)).astype(np.uint32)) for shift in (48, 32, 16, 0)]
    return pl.DataFrame([part.alias(str(n)) for n, part in enumerate(parts)]).select(pl.concat_str("0", "1", "2", "3").alias("id"))["id"]


@lru_cache(maxsize=1)
def _four_digits() -> pl.Series:
    return pl.Series([f"{n:04x}" for n in range(0x10000)])
