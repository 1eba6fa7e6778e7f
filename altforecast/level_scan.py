"""Compiled loops of support and resistance levels: one pass over the bars of one series.

What belongs here: numba kernels on plain arrays. What does not: frames, names and meanings (`levels`, `level_evidence`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]

PRICE, BAND, ROLE, LAST, WORTH = range(5)
"""Rows of the float state: price, half width, +1 support or -1 resistance, last touch [ms], rank for eviction."""
PIVOTS, TOUCHES, BREAKS, LEVEL, FLAGS = range(5)
"""Rows of the integer state: counts, number of the level in this scan (in opening order), events of the bar at hand."""
BROKEN, CARRIED, EVICTED, JOINED, OPENED, TOUCHED = range(6)
"""Event codes, in alphabetical order of their names: the order of rows of one level at one bar."""
N_EVENTS = 6
DAY_MS = 86_400_000


class ScanParams(NamedTuple):
    """LevelParams and PivotParams as plain numbers; durations in milliseconds."""

    tf_ms: int
    left: int
    right: int
    max_hole_ms: int
    min_rest_ms: int
    join_atr: float
    touch_atr: float
    break_atr: float
    half_life_ms: float
    max_levels: int


class Scan(NamedTuple):
    """Event rows and opened levels of one series: `floats` price, band, last touch; `ints` row, level, event, role, counts."""

    floats: Floats
    ints: NDArray[np.int32]
    hashes: NDArray[np.uint64]
    first_ms: NDArray[np.int64]


@njit(cache=True, nogil=True)
def _mix(x: Any) -> Any:
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@njit(cache=True, nogil=True)
def level_hash(series_hash: Any, pivot_ms: Any, is_high: Any) -> Any:
    """The number that `event_ids("level", ..., is_high, pivot_ms)` gives; here because rows of one bar are sorted by it."""
    return _mix(_mix(np.uint64(series_hash) + np.uint64(is_high)) + np.uint64(pivot_ms))


@njit(cache=True, nogil=True)
def level_worth(touches: Any, last_ms: Any, half_life_ms: Any) -> Any:
    """Orders levels as their strength does at any moment (log2 of eq. 2 without the part that all share), so it need not be aged."""
    return np.log2(np.float64(touches)) + last_ms / half_life_ms


@njit(cache=True, nogil=True)
def month_of(ms: Any) -> Any:
    """Months since year 0 of a UTC moment (days to civil date, Hinnant's algorithm)."""
    days = ms // DAY_MS + 719_468
    era = days // 146_097
    doe = days - era * 146_097
    yoe = (doe - doe // 1460 + doe // 36_524 - doe // 146_096) // 365
    shifted = (5 * (doe - (365 * yoe + yoe // 4 - yoe // 100)) + 2) // 153
    return (yoe + era * 400) * 12 + shifted + 2


@njit(cache=True, nogil=True)
def _is_low(values: Any, at: Any, left: Any, right: Any) -> Any:
    """Strictly below the left wing, not above the right wing; branch-free, because prices defeat branch prediction."""
    price, found = values[at], True
    for j in range(at - left, at):
        found &= price < values[j]
    for j in range(at + 1, at + right + 1):
        found &= price <= values[j]
    return found


@njit(cache=True, nogil=True)
def _is_high(values: Any, at: Any, left: Any, right: Any) -> Any:
    """Strictly above the left wing, not below the right wing."""
    price, found = values[at], True
    for j in range(at - left, at):
        found &= price > values[j]
    for j in range(at + 1, at + right + 1):
        found &= price >= values[j]
    return found


@njit(cache=True, nogil=True)
def _mark_events(state: Any, n: Any, low: Any, high: Any, close: Any, prev: Any, band: Any, reach: Any, rested: Any, marks: Any) -> Any:
    """Mark the levels that the bar touches (1) or breaks (2), and count them; branch-free, so that it runs several levels at a time."""
    found = 0
    for k in range(n):
        price = state[PRICE, k]
        is_in = (low <= price + band) & (high >= price - band)
        is_touch = is_in & (abs(prev - price) > band) & (state[LAST, k] <= rested)
        is_break = state[ROLE, k] * (close - price) < -reach
        marks[k] = is_touch + 2 * is_break
        found += is_touch | is_break
    return found


@njit(cache=True, nogil=True)
def _flag(counts: Any, k: Any, event: Any, busy: Any, m: Any) -> Any:
    """Note an event of a level; `busy` lists the m levels with an event at this bar."""
    if counts[FLAGS, k] == 0:
        busy[m] = k
        m += 1
    counts[FLAGS, k] |= 1 << event
    return m


@njit(cache=True, nogil=True)
def _apply_marks(state: Any, counts: Any, n: Any, now: Any, marks: Any, busy: Any, m: Any, half_life_ms: Any) -> Any:
    """Touches and breaks of marked levels; a bar may do both to one level."""
    for k in range(n):
        if marks[k] & 1:
            counts[TOUCHES, k] += 1
            state[LAST, k] = now
            state[WORTH, k] = level_worth(counts[TOUCHES, k], state[LAST, k], half_life_ms)
            m = _flag(counts, k, TOUCHED, busy, m)
        if marks[k] & 2:
            counts[BREAKS, k] += 1
            state[ROLE, k] = -state[ROLE, k]
            m = _flag(counts, k, BROKEN, busy, m)
    return m


@njit(cache=True, nogil=True)
def _nearest(state: Any, counts: Any, n: Any, price: Any, reach: Any) -> Any:
    """Slot of the live level nearest to a price and within reach, the oldest of equals; -1 if there is none."""
    near = 0
    for k in range(n):
        near += abs(state[PRICE, k] - price) <= reach
    best, at = np.inf, -1
    for k in range(n if near else 0):
        distance = abs(state[PRICE, k] - price)
        if distance > reach or distance > best or counts[FLAGS, k] & (1 << EVICTED):
            continue
        if distance < best or counts[LEVEL, k] < counts[LEVEL, at]:
            best, at = distance, k
    return at


@njit(cache=True, nogil=True)
def _evict_weakest(state: Any, counts: Any, n: Any, max_levels: Any, busy: Any, m: Any) -> Any:
    """Mark the weakest live level, the oldest of equals, if the pool is full."""
    live, best, at = 0, np.inf, -1
    for k in range(n):
        if counts[FLAGS, k] & (1 << EVICTED):
            continue
        live += 1
        if state[WORTH, k] < best or (state[WORTH, k] == best and counts[LEVEL, k] < counts[LEVEL, at]):
            best, at = state[WORTH, k], k
    return _flag(counts, at, EVICTED, busy, m) if live >= max_levels else m


@njit(cache=True, nogil=True)
def _join(state: Any, counts: Any, at: Any, price: Any) -> None:
    """Merge a pivot into a level: weighted mean by pivots."""
    merged = counts[PIVOTS, at]
    state[PRICE, at] = (state[PRICE, at] * merged + price) / (merged + 1)
    counts[PIVOTS, at] = merged + 1


@njit(cache=True, nogil=True)
def _open(state: Any, counts: Any, names: Any, n: Any, price: Any, pivot_ms: Any, is_high: Any, name: Any, level: Any, prm: Any) -> None:
    """A level with one pivot and one touch, in the slot behind the last."""
    state[PRICE, n] = price
    state[ROLE, n] = -1.0 if is_high else 1.0
    state[LAST, n] = pivot_ms
    state[WORTH, n] = level_worth(1, state[LAST, n], prm.half_life_ms)
    counts[PIVOTS, n] = 1
    counts[TOUCHES, n] = 1
    counts[BREAKS, n] = 0
    counts[LEVEL, n] = level
    counts[FLAGS, n] = 0
    names[n] = name


@njit(cache=True, nogil=True)
def _take_pivots(
    ts: Any, high: Any, low: Any, i: Any, atr: Any, series_hash: Any, state: Any, counts: Any, names: Any, n: Any,
    hashes: Any, first_ms: Any, n_names: Any, busy: Any, m: Any, prm: Any,
) -> Any:  # fmt: skip
    """The low, then the high that row i confirms joins or opens a level; returns live levels, names given so far, busy levels."""
    at = i - prm.right
    for is_high in range(2):
        price = high[at] if is_high else low[at]
        if not (_is_high(high, at, prm.left, prm.right) if is_high else _is_low(low, at, prm.left, prm.right)):
            continue
        near = _nearest(state, counts, n, price, prm.join_atr * atr)
        if near >= 0:
            _join(state, counts, near, price)
            m = _flag(counts, near, JOINED, busy, m)
            continue
        m = _evict_weakest(state, counts, n, prm.max_levels, busy, m)
        name = level_hash(series_hash, ts[at], is_high)
        hashes[n_names], first_ms[n_names] = name, ts[at]
        _open(state, counts, names, n, price, ts[at], is_high, name, n_names, prm)
        m = _flag(counts, n, OPENED, busy, m)
        n += 1
        n_names += 1
    return n, n_names, m


@njit(cache=True, nogil=True)
def _mark_carried(counts: Any, n: Any, busy: Any, m: Any) -> Any:
    """Flag every live level to be repeated at this bar."""
    for k in range(n):
        if not counts[FLAGS, k] & (1 << EVICTED):
            m = _flag(counts, k, CARRIED, busy, m)
    return m


@njit(cache=True, nogil=True)
def _sort_by_name(busy: Any, m: Any, names: Any) -> None:
    """Insertion sort: rows of one bar are ordered by id."""
    for j in range(1, m):
        k = busy[j]
        at = j
        while at > 0 and names[busy[at - 1]] > names[k]:
            busy[at] = busy[at - 1]
            at -= 1
        busy[at] = k


@njit(cache=True, nogil=True)
def _write_rows(state: Any, counts: Any, order: Any, m: Any, row: Any, floats: Any, ints: Any, n_out: Any) -> Any:
    """One row per event, all with the state at the close of the bar."""
    for j in range(m):
        k = order[j]
        for event in range(N_EVENTS):
            if not counts[FLAGS, k] & (1 << event):
                continue
            floats[n_out, 0], floats[n_out, 1], floats[n_out, 2] = state[PRICE, k], state[BAND, k], state[LAST, k]
            ints[n_out, 0], ints[n_out, 1], ints[n_out, 2] = row, counts[LEVEL, k], event
            ints[n_out, 3] = 1 if state[ROLE, k] > 0 else -1
            ints[n_out, 4], ints[n_out, 5], ints[n_out, 6] = counts[PIVOTS, k], counts[TOUCHES, k], counts[BREAKS, k]
            n_out += 1
    return n_out


@njit(cache=True, nogil=True)
def _end_bar(state: Any, counts: Any, names: Any, n: Any, busy: Any, m: Any) -> Any:
    """Clear the flags and move the last level into each evicted slot; slots are in no order, LEVEL numbers are."""
    n_gone = 0
    for j in range(m):
        if counts[FLAGS, busy[j]] & (1 << EVICTED):
            n_gone += 1
        else:
            counts[FLAGS, busy[j]] = 0
    k = n - 1
    while n_gone > 0:
        if counts[FLAGS, k] & (1 << EVICTED):
            n -= 1
            n_gone -= 1
            for j in range(5):
                state[j, k] = state[j, n]
                counts[j, k] = counts[j, n]
            names[k] = names[n]
        k -= 1
    return n


@njit(cache=True, nogil=True)
def scan_levels(
    ts: Any, high: Any, low: Any, close: Any, atr: Any, first: Any, series_hash: Any, last_month: Any,
    state: Any, counts: Any, names: Any, firsts: Any, n: Any, prm: Any,
) -> Any:  # fmt: skip
    """Events of one series from row `first` on.

    ts [ms], high, low, close [quote], atr [quote, NaN where unknown]: shape (rows,). last_month: calendar month in which levels were
    last carried, -1 if unknown. state (5, slots), counts (5, slots), names (slots,), firsts (slots,) [ms]: the n live levels before
    `first` numbered in opening order, slots >= max_levels + 2; changed in place. Returns the fields of `Scan`.
    """
    rows = len(ts)
    slots = names.shape[0]
    floats, ints = np.empty((rows - first + 1024, 3)), np.empty((rows - first + 1024, 7), np.int32)
    # Two pivots of one side are always further apart than the shorter wing, so this many levels can open at most.
    most = slots + 2 * (rows // (min(prm.left, prm.right) + 1) + 1)
    hashes, first_ms = np.empty(most, np.uint64), np.empty(most, np.int64)
    hashes[:n], first_ms[:n] = names[:n], firsts[:n]
    busy, marks = np.empty(slots, np.int64), np.zeros(slots, np.uint8)
    n_out, n_names, hole, last_day = 0, n, 0, -1
    for i in range(rows):
        if i > 0 and ts[i] - ts[i - 1] > prm.max_hole_ms:
            hole = i
        if i < first:
            last_month = month_of(ts[i]) if i == first - 1 else last_month
            continue
        is_known, m = atr[i] > 0.0, 0
        if is_known and n > 0:
            prev = close[i - 1] if i > hole else np.nan
            band, reach, rested = prm.touch_atr * atr[i], prm.break_atr * atr[i], np.float64(ts[i] - prm.min_rest_ms)
            if _mark_events(state, n, low[i], high[i], close[i], prev, band, reach, rested, marks) > 0:
                m = _apply_marks(state, counts, n, ts[i], marks, busy, m, prm.half_life_ms)
        if is_known and i - prm.right - prm.left >= hole:
            n, n_names, m = _take_pivots(
                ts, high, low, i, atr[i], series_hash, state, counts, names, n, hashes, first_ms, n_names, busy, m, prm
            )  # fmt: skip
        if ts[i] // DAY_MS != last_day:
            last_day = ts[i] // DAY_MS
            month = month_of(ts[i])
            if month != last_month:
                m = _mark_carried(counts, n, busy, m)
                last_month = month
        if m > 0:
            _sort_by_name(busy, m, names)
            for j in range(m if is_known else 0):
                state[BAND, busy[j]] = prm.touch_atr * atr[i]
            if n_out + N_EVENTS * slots > len(ints):
                floats, ints = np.concatenate((floats, floats)), np.concatenate((ints, ints))
            n_out = _write_rows(state, counts, busy, m, i, floats, ints, n_out)
            n = _end_bar(state, counts, names, n, busy, m)
    return floats[:n_out], ints[:n_out], hashes[:n_names], first_ms[:n_names]
