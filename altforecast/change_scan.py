"""Compiled loop for trailing standard deviations.

What belongs here: the hot loop of `changes`, on plain arrays; imported where it is called, so that processes that only read tables
never load numba. What does not: what is a change or when it is fresh (`changes`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def scan_sd(values: Any, at: Any, window: Any, min_count: Any) -> Any:
    """Sample standard deviation of the present values among the `window` up to and including each index; shape (len(at),)."""
    found = np.full(len(at), np.nan)
    for k in range(len(at)):
        begin, end = max(0, at[k] - window + 1), min(len(values), at[k] + 1)
        count, total, squares = 0, 0.0, 0.0
        for j in range(begin, end):
            if not np.isnan(values[j]):
                count += 1
                total += values[j]
        if count < min_count:
            continue
        mean = total / count
        for j in range(begin, end):
            if not np.isnan(values[j]):
                squares += (values[j] - mean) ** 2
        sd = np.sqrt(squares / (count - 1))
        if sd > 1e-12:
            found[k] = sd
    return found
