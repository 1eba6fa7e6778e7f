"""Compiled loops over bars: swing points, divergences and their ends, first barrier reached.

What belongs here: the hot loops, on plain arrays, without names or frames. What does not: reading or building tables; only
`pivots`, `divergences` and `outcomes` import this, so that processes that never scan never load numba.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bytes = NDArray[np.int8]
Bools = NDArray[np.bool_]

ACTIVE, CONFIRMED, INVALIDATED, EXPIRED, SUPERSEDED = range(5)
REGULAR, HIDDEN = range(2)


class Found(NamedTuple):
    """Divergences of one side and one oscillator in order of p2; one array entry per event."""

    p1: Ints
    p2: Ints
    segment: Ints
    kind: Bytes
    is_line_of_sight: Bools


class Ends(NamedTuple):
    """What became of them: prices that decide, last status and its row (-1 while active)."""

    confirm_price: Floats
    status: Bytes
    end_row: Ints


@njit(cache=True, nogil=True)
def scan_pivots(x: Floats, sign: float, starts: Ints, stops: Ints, left: int, right: int) -> tuple[Ints, Ints]:
    """Rows of swing lows of sign * x and the segment of each, in row order.

    x: shape (rows,), finite. sign: 1 for lows, -1 for highs. starts, stops: segments, shape (segments,). A low at i: lower than all of
    the `left` bars before it, not higher than any of the `right` bars after it, all in one segment. Bars that a comparison already
    ruled out are skipped, so the cost is about two comparisons per bar.
    """
    skip = min(left, right) + 1
    bound = 0
    for s in range(len(starts)):
        bound += (stops[s] - starts[s]) // skip + 1
    rows, segments = np.empty(bound, np.int64), np.empty(bound, np.int64)
    n = 0
    for s in range(len(starts)):
        i = starts[s] + left
        while i < stops[s] - right:
            value = sign * x[i]
            j = 1
            while j <= right and sign * x[i + j] >= value:
                j += 1
            if j <= right:  # lower bar ahead: it also rules out everything up to itself
                i += j
                continue
            j = 1
            while j <= left and sign * x[i - j] > value:
                j += 1
            if j > left:
                rows[n], segments[n] = i, s
                n += 1
            i += skip  # the bars skipped are not lower than this one, which is in their left wing
    return rows[:n], segments[:n]


@njit(cache=True, nogil=True)
def scan_divergences(
    pivots: Ints, segments: Ints, price: Floats, osc: Floats, sign: float, eps: float, min_span: int, max_span: int, only_sighted: bool
) -> Found:
    """Divergences between consecutive pivots of one side.

    pivots, segments: from scan_pivots. price: lows (sign 1) or highs (sign -1). osc: oscillator per bar, NaN where unknown (such a
    pivot takes part in no event). only_sighted: drop events whose line of sight is broken.
    """
    bound = max(len(pivots) - 1, 0)
    p1, p2, segment = np.empty(bound, np.int64), np.empty(bound, np.int64), np.empty(bound, np.int64)
    kind, sighted = np.empty(bound, np.int8), np.empty(bound, np.bool_)
    n = 0
    for k in range(bound):
        a, b = pivots[k], pivots[k + 1]
        if segments[k] != segments[k + 1] or b - a < min_span or b - a > max_span:
            continue
        found = _kind(sign * (price[b] - price[a]), sign * (osc[b] - osc[a]), eps)
        if found < 0:
            continue
        clear = _is_line_of_sight(osc, a, b, sign)
        if clear or not only_sighted:
            p1[n], p2[n], segment[n], kind[n], sighted[n] = a, b, segments[k], found, clear
            n += 1
    return Found(p1[:n], p2[:n], segment[:n], kind[:n], sighted[:n])


@njit(cache=True, nogil=True, inline="always")
def _kind(price_step: float, osc_step: float, eps: float) -> int:
    if price_step < 0.0 and osc_step > eps:
        return REGULAR
    if price_step > 0.0 and osc_step < -eps:
        return HIDDEN
    return -1


@njit(cache=True, nogil=True)
def _is_line_of_sight(osc: Floats, a: int, b: int, sign: float) -> bool:
    slope = (osc[b] - osc[a]) / (b - a)
    for j in range(a + 1, b):
        line = osc[a] + slope * (j - a)
        if not sign * osc[j] >= sign * line:  # NaN on the way: not shown to be clear
            return False
    return True


@njit(cache=True, nogil=True)
def scan_ends(
    found: Found, close: Floats, price: Floats, far: Floats, stops: Ints, continued: Bools, sign: float, right: int, expire: int
) -> Ends:
    """Life of each event from the bar after p2 + right on.

    price: lows (sign 1) or highs (-1), as in the scan. far: the other extreme, whose best since p2 must be beaten. stops, continued:
    end of each segment and whether its series goes on behind a hole. On one bar, what the close says comes first (it cannot both
    confirm and invalidate), then superseded, then expired; a hole ends what is open as expired, at the first bar behind it.
    """
    n = len(found.p1)
    confirm, status, end_row = np.empty(n), np.zeros(n, np.int8), np.full(n, -1, np.int64)
    for e in range(n):
        t = found.p2[e] + right
        goal = _best(far, found.p2[e], t, sign)
        confirm[e] = sign * goal
        fail = sign * price[found.p2[e]]
        stop = stops[found.segment[e]]
        is_followed = e + 1 < n and found.p1[e + 1] == found.p2[e] and found.kind[e + 1] == found.kind[e]
        successor = found.p2[e + 1] + right if is_followed else -1
        for u in range(t + 1, min(t + expire + 1, stop)):
            now = sign * close[u]
            if now > goal:
                status[e] = CONFIRMED
            elif now < fail:
                status[e] = INVALIDATED
            elif u == successor:
                status[e] = SUPERSEDED
            elif u == t + expire:
                status[e] = EXPIRED
            if status[e] != ACTIVE:
                end_row[e] = u
                break
        if status[e] == ACTIVE and continued[found.segment[e]]:
            status[e], end_row[e] = EXPIRED, stop
    return Ends(confirm, status, end_row)


@njit(cache=True, nogil=True, inline="always")
def _best(far: Floats, first: int, last: int, sign: float) -> float:
    best: float = sign * far[first]
    for j in range(first + 1, last + 1):
        best = max(best, sign * far[j])
    return best


@njit(cache=True, nogil=True)
def scan_barriers(
    high: Floats, low: Floats, close: Floats, atr: Floats, rows: Ints, signs: Floats, stops: Ints, barrier: float, horizon: int
) -> tuple[Ints, Bools, Floats]:
    """First barrier reached after each event: row at which it is decided (-1: not yet, or never), hit or not, signed move [ATR].

    rows: bar of each event (-1: unknown). signs: 1 favours a rise, -1 a fall. stops: end of the segment of each event. Barriers are
    barrier * ATR from the event bar's close; both in one bar count as the bad one; none within `horizon` bars: the sign decides.
    """
    n = len(rows)
    end_row, is_hit, move = np.full(n, -1, np.int64), np.zeros(n, np.bool_), np.zeros(n)
    for e in range(n):
        t, sign = rows[e], signs[e]
        if t < 0 or not atr[t] > 0.0:
            continue
        width = barrier * atr[t]
        for u in range(t + 1, min(t + horizon + 1, stops[e])):
            best, worst = (high[u], low[u]) if sign > 0 else (low[u], high[u])
            if sign * (worst - close[t]) <= -width:
                end_row[e], move[e] = u, -barrier
            elif sign * (best - close[t]) >= width:
                end_row[e], is_hit[e], move[e] = u, True, barrier
            elif u == t + horizon:
                end_row[e], move[e] = u, sign * (close[u] - close[t]) / atr[t]
                is_hit[e] = move[e] > 0.0
            if end_row[e] >= 0:
                break
    return end_row, is_hit, move


@njit(cache=True, nogil=True)
def break_ties(order: Ints, row: Ints, ids: NDArray[np.uint64]) -> None:
    """Put entries of `order` with equal row into the order of their ids, in place; `order` already sorts by row."""
    for k in range(1, len(order)):
        j = k
        while j > 0 and row[order[j]] == row[order[j - 1]] and ids[order[j]] < ids[order[j - 1]]:
            order[j], order[j - 1] = order[j - 1], order[j]
            j -= 1
