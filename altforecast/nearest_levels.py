"""Compiled loop over a level log: the nearest live level above and below each close.

What belongs here: a numba kernel on plain arrays. What does not: frames and names (`signal_features`) and making the log (`levels`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

ABOVE, BELOW = 0, 1
PRICE, TOUCHES, LAST_TOUCH = 0, 1, 2
"""Last axis of the answer: price [quote], touches [count], slot of the last touch."""


@njit(cache=True, nogil=True)
def nearest_levels(closes: Any, slots: Any, levels: Any, values: Any, is_end: Any, n_levels: Any, first: Any, max_age: Any) -> Any:
    """Nearest live levels of one series, shape (bars - first, 2, 3); NaN where there is none or no close.

    closes: shape (bars,).  slots: bar at whose close each log row was known, ascending, may lie before 0, shape (rows,).  levels:
    number of each row's level, below n_levels.  values: price, touches and slot of the last touch, shape (rows, 3).  is_end: the
    row ends its level for good.  A level counts while its newest row is at most max_age bars old; one at the close is below it.
    """
    out = np.full((len(closes) - first, 2, 3), np.nan)
    newest = np.full(n_levels, -1, np.int64)
    place = np.full(n_levels, -1, np.int64)
    live = np.empty(n_levels, np.int64)
    is_over = np.zeros(n_levels, np.bool_)
    n, row = 0, 0
    for bar in range(len(closes)):
        while row < len(slots) and slots[row] <= bar:
            level = levels[row]
            newest[level] = row
            is_over[level] |= is_end[row]
            if place[level] < 0 and not is_over[level]:
                place[level] = n
                live[n] = level
                n += 1
            row += 1
        if bar < first:  # nothing is asked here; what has ended or grown old by `first` is dropped there
            continue
        kept = 0
        for k in range(n):
            level = live[k]
            if is_over[level] or bar - slots[newest[level]] > max_age:
                place[level] = -1
                continue
            live[kept] = level
            place[level] = kept
            kept += 1
        n = kept
        if np.isnan(closes[bar]):
            continue
        _nearest(closes[bar], live, n, newest, values, out[bar - first])
    return out


@njit(cache=True, nogil=True)
def _nearest(close: Any, live: Any, n: Any, newest: Any, values: Any, out: Any) -> None:
    """Fill one bar's answer."""
    above, below = -1, -1
    for k in range(n):
        row = newest[live[k]]
        price = values[row, PRICE]
        if price > close:
            if above < 0 or price < values[above, PRICE]:
                above = row
        elif below < 0 or price > values[below, PRICE]:
            below = row
    if above >= 0:
        out[ABOVE] = values[above]
    if below >= 0:
        out[BELOW] = values[below]
