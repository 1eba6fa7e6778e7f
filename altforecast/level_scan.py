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
FIRST_EVENT = np.array([0] + [(flags & -flags).bit_length() - 1 for flags in range(1, 1 << N_EVENTS)])
"""Lowest event code in a set of flags."""
OUT_TS, OUT_LEVEL, OUT_EVENT, OUT_ROLE, OUT_PIVOTS, OUT_TOUCHES, OUT_BREAKS, OUT_LAST, OUT_AGE = range(9)
"""Columns of `Rows.ints`; those of `Rows.floats` are price, band, distance [ATR]."""
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


class Rows(NamedTuple):
    """Event rows of all series scanned so far, by column: `ints` (9, room) and `floats` (3, room); both grow when they are full."""

    ints: NDArray[np.int64]
    floats: Floats


def room_for(n_rows: int) -> Rows:
    """Columns with room for so many rows; memory that is never written to costs nothing."""
    return Rows(np.empty((9, n_rows), np.int64), np.empty((3, n_rows)))


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
def _mark_events(
    price: Any, role: Any, last: Any, n: Any, low: Any, high: Any, close: Any, prev: Any, band: Any, reach: Any, rested: Any, marks: Any
) -> Any:
    """Mark the levels that the bar touches (1) or breaks (2), and tell whether there is any.

    Branch-free and 64 bits wide throughout, so that the compiler works on several levels at a time.
    """
    found = 0
    for k in range(n):
        is_in = (low <= price[k] + band) & (high >= price[k] - band)
        is_touch = is_in & (abs(prev - price[k]) > band) & (last[k] <= rested)
        is_break = role[k] * (close - price[k]) < -reach
        marks[k] = np.int64(is_touch) | (np.int64(is_break) << 1)
        found |= marks[k]
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
        if marks[k] == 0:
            continue
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
def _take_pivot(
    price: Any, pivot_ms: Any, is_high: Any, atr: Any, series_hash: Any, state: Any, counts: Any, names: Any, n: Any,
    hashes: Any, first_ms: Any, n_names: Any, busy: Any, m: Any, prm: Any,
) -> Any:  # fmt: skip
    """A confirmed pivot joins or opens a level; returns live levels, names given so far, busy levels."""
    near = _nearest(state, counts, n, price, prm.join_atr * atr)
    if near >= 0:
        _join(state, counts, near, price)
        return n, n_names, _flag(counts, near, JOINED, busy, m)
    m = _evict_weakest(state, counts, n, prm.max_levels, busy, m)
    name = level_hash(series_hash, pivot_ms, is_high)
    hashes[n_names], first_ms[n_names] = name, pivot_ms
    _open(state, counts, names, n, price, pivot_ms, is_high, name, n_names, prm)
    return n + 1, n_names + 1, _flag(counts, n, OPENED, busy, m)


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


@njit(cache=True, nogil=True, error_model="numpy")
def _write_rows(
    state: Any, counts: Any, order: Any, m: Any, ts: Any, close: Any, band: Any, base: Any, ints: Any, floats: Any, at: Any, prm: Any
) -> Any:
    """One row per event, all with the state at the close of the bar; returns the next row and the number of evicted levels.

    band: new half width of the levels written, NaN where ATR is unknown and the old one stays. base: number of the scan's first level.
    Flags are cleared, but for those of evicted levels.
    """
    n_gone = 0
    for j in range(m):
        k = order[j]
        flags = counts[FLAGS, k]
        is_gone = (flags >> EVICTED) & 1
        n_gone += is_gone
        counts[FLAGS, k] = is_gone << EVICTED
        if band == band:
            state[BAND, k] = band
        price, width, last = state[PRICE, k], state[BAND, k], np.int64(state[LAST, k])
        while flags:
            floats[0, at], floats[1, at], floats[2, at] = price, width, (close - price) * prm.touch_atr / width
            ints[OUT_TS, at], ints[OUT_LEVEL, at], ints[OUT_EVENT, at] = ts, base + counts[LEVEL, k], FIRST_EVENT[flags]
            ints[OUT_ROLE, at] = state[ROLE, k] > 0
            ints[OUT_PIVOTS, at], ints[OUT_TOUCHES, at], ints[OUT_BREAKS, at] = counts[PIVOTS, k], counts[TOUCHES, k], counts[BREAKS, k]
            ints[OUT_LAST, at], ints[OUT_AGE, at] = last, (ts - last) // prm.tf_ms
            at += 1
            flags &= flags - 1
    return at, n_gone


@njit(cache=True, nogil=True)
def _drop_evicted(state: Any, counts: Any, names: Any, n: Any, n_gone: Any) -> Any:
    """Move the last level into each evicted slot; slots are in no order, LEVEL numbers are."""
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
    ts: Any, high: Any, low: Any, close: Any, atr: Any, lows: Any, highs: Any, first: Any, series_hash: Any, last_month: Any,
    state: Any, counts: Any, names: Any, firsts: Any, n: Any, ints: Any, floats: Any, n_out: Any, base: Any, prm: Any,
) -> Any:  # fmt: skip
    """Events of one series from row `first` on.

    ts [ms], high, low, close [quote], atr [quote, NaN where unknown]: shape (rows,). lows, highs: rows of the swing points, ascending.
    last_month: calendar month in which levels were last carried, -1 if unknown. state (5, slots), counts (5, slots), names (slots,),
    firsts (slots,) [ms]: the n live levels before `first` numbered in opening order, slots >= max_levels + 2; changed in place.
    ints, floats: fields of `Rows`, filled up to n_out. base: levels named in earlier scans.
    Returns ints, floats, n_out as they are now, and hash and opening pivot [ms] of this scan's levels.
    """
    slots = names.shape[0]
    most = n + len(lows) + len(highs)
    hashes, first_ms = np.empty(most, np.uint64), np.empty(most, np.int64)
    hashes[:n], first_ms[:n] = names[:n], firsts[:n]
    busy, marks = np.empty(slots, np.int64), np.zeros(slots, np.int64)
    price, role, last = state[PRICE], state[ROLE], state[LAST]
    n_names, last_day = n, -1
    last_month = month_of(ts[first - 1]) if first > 0 else last_month
    at_low, at_high = np.searchsorted(lows, first - prm.right), np.searchsorted(highs, first - prm.right)
    next_low = lows[at_low] + prm.right if at_low < len(lows) else -1
    next_high = highs[at_high] + prm.right if at_high < len(highs) else -1
    for i in range(first, len(ts)):
        is_known, m, now = atr[i] > 0.0, 0, ts[i]
        if is_known and n > 0:
            prev = close[i - 1] if i > 0 and now - ts[i - 1] <= prm.max_hole_ms else np.nan
            band, reach, rested = prm.touch_atr * atr[i], prm.break_atr * atr[i], np.float64(now - prm.min_rest_ms)
            if _mark_events(price, role, last, n, low[i], high[i], close[i], prev, band, reach, rested, marks):
                m = _apply_marks(state, counts, n, now, marks, busy, m, prm.half_life_ms)
        if i == next_low:
            if is_known:
                n, n_names, m = _take_pivot(
                    low[i - prm.right], ts[i - prm.right], 0, atr[i], series_hash, state, counts, names, n,
                    hashes, first_ms, n_names, busy, m, prm,
                )  # fmt: skip
            at_low += 1
            next_low = lows[at_low] + prm.right if at_low < len(lows) else -1
        if i == next_high:
            if is_known:
                n, n_names, m = _take_pivot(
                    high[i - prm.right], ts[i - prm.right], 1, atr[i], series_hash, state, counts, names, n,
                    hashes, first_ms, n_names, busy, m, prm,
                )  # fmt: skip
            at_high += 1
            next_high = highs[at_high] + prm.right if at_high < len(highs) else -1
        if now // DAY_MS != last_day:
            last_day = now // DAY_MS
            month = month_of(now)
            if month != last_month:
                m = _mark_carried(counts, n, busy, m)
                last_month = month
        if m > 0:
            _sort_by_name(busy, m, names)
            if n_out + N_EVENTS * slots > ints.shape[1]:
                ints, floats = _grown(ints), _grown(floats)
            band = prm.touch_atr * atr[i] if is_known else np.nan
            n_out, n_gone = _write_rows(state, counts, busy, m, now, close[i], band, base, ints, floats, n_out, prm)
            if n_gone:
                n = _drop_evicted(state, counts, names, n, n_gone)
    return ints, floats, n_out, hashes[:n_names], first_ms[:n_names]


@njit(cache=True, nogil=True)
def _grown(columns: Any) -> Any:
    """The columns with twice the room and some more."""
    bigger = np.empty((columns.shape[0], 2 * columns.shape[1] + 1024), columns.dtype)
    bigger[:, : columns.shape[1]] = columns
    return bigger


@njit(cache=True, nogil=True)
def is_ordered(ts: Any, level: Any, event: Any, hashes: Any, stops: Any) -> Any:
    """Whether rows rise strictly by ts, hash of their level and event within each run; stops: one past the end of each run of rows."""
    begin = 0
    for stop in stops:
        for j in range(begin + 1, stop):
            if ts[j] > ts[j - 1]:
                continue
            mine, before = hashes[level[j]], hashes[level[j - 1]]
            if ts[j] < ts[j - 1] or mine < before or (mine == before and event[j] <= event[j - 1]):
                return False
        begin = stop
    return True
