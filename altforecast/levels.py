"""Support and resistance levels: event log, state at a moment, strength.

What belongs here: how bars become level events and how the log is read back. What does not: whether levels predict anything
(`level_evidence`) or the compiled loops (`level_scan`).
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from altforecast.errors import InputError
from altforecast.event_ids import hex_ids
from altforecast.params import LEVELS, PIVOTS, LevelParams, PivotParams
from altforecast.segments import Segments, aligned, read_nullable, read_prices, split_segments
from altforecast.tables import LEVELS as LEVELS_TABLE
from altforecast.tables import TS
from altforecast.types import LevelEvent, Timeframe

if TYPE_CHECKING:
    from altforecast.level_scan import Rows, ScanParams

Floats = NDArray[np.float64]
SERIES = ("symbol", "exchange")
EVENTS = sorted(event.value for event in LevelEvent)
CARRY_COLUMNS = (
    *SERIES,
    "ts",
    "id",
    "event",
    "price",
    "band",
    "side",
    "n_pivots",
    "n_touches",
    "n_breaks",
    "first_touch_ts",
    "last_touch_ts",
)


class _Part(NamedTuple):
    """One series inside the input: its rows [begin, end) and the first row whose events are wanted."""

    symbol: str
    exchange: str
    begin: int
    end: int
    first: int


class _Found(NamedTuple):
    """All event rows by column, where each part's rows end (a 0 before the first), hash and opening pivot [ms] of each level."""

    rows: Rows
    stops: NDArray[np.int64]
    hashes: NDArray[np.uint64]
    first_ms: NDArray[np.int64]


def level_warmup_bars(pivots_params: PivotParams = PIVOTS) -> int:
    """Nominal bars to read before a window so that every pivot inside it is seen, whatever holes lie before it."""
    return (pivots_params.left_bars + pivots_params.right_bars + 1) * (pivots_params.restart_gap_bars + 1)


def level_strength(touches: Floats, age_bars: Floats, half_life_bars: float) -> Floats:
    """Strength of price levels, decaying with age.

    touches: confirmed touches, shape (n,) [count].  age_bars: since last touch, shape (n,) [bars].
    half_life_bars: age that halves the strength [bars], > 0.  Returns shape (n,), >= 0 [unitless].
    NaN in either input gives NaN.  Method: docs/methods/levels.md, eq. 2.
    """
    return np.asarray(touches * 0.5 ** (age_bars / half_life_bars), dtype=np.float64)


def find_levels(
    bars: pl.DataFrame,
    indicators: pl.DataFrame,
    timeframe: Timeframe,
    start: datetime,
    carry: pl.DataFrame | None = None,
    params: LevelParams = LEVELS,
    pivots_params: PivotParams = PIVOTS,
) -> pl.DataFrame:
    """Level events of bars with ts >= start; table `levels`.

    bars: columns of table `bars` (symbol, exchange, ts, high, low, close are used), one timeframe, many series, sorted by symbol,
    exchange, ts, beginning at least left + right rows before `start` (read `level_warmup_bars()` to be safe across holes).
    indicators: symbol, exchange, ts, atr_14 [quote] of the same bars; a bar whose ATR is null, NaN or 0 opens, joins, touches and
    breaks nothing. carry: rows of table `levels` before `start` that include the last row of every level still live then (all of
    them or `levels_at`'s answer); None means that no level exists yet.
    Returns one row per event, all rows of one bar with the state at its close; empty bars give an empty table. The result of a run
    over a whole history equals the runs over consecutive windows, each with the carry of those before it, row for row.
    Raises InputError where bars are unsorted. Method: docs/methods/levels.md (online pivot clustering).
    """
    from altforecast.level_scan import Rows, room_for, scan_levels

    if bars.is_empty():
        return LEVELS_TABLE.empty()
    segments = split_segments(bars, timeframe, pivots_params.restart_gap_bars)
    parts = _parts(segments, start)
    if not parts:
        return LEVELS_TABLE.empty()
    arrays = _arrays(bars, indicators)
    prm = _scan_params(timeframe, params, pivots_params)
    states = _states(carry, start)
    swings = _swings(segments, arrays[1], arrays[2], pivots_params)
    rows, stops, hashes, firsts, named = room_for(bars.height), [0], [], [], 0
    for part in parts:
        seed = _series_hash(part.symbol, part.exchange, timeframe)
        cut = [a[part.begin : part.end] for a in arrays]
        turns = [_within(rows_of_side, part) for rows_of_side in swings]
        state = _kernel_state(states.get((part.symbol, part.exchange)), seed, prm)
        given = [*cut, *turns, part.first - part.begin, seed, *state, *rows, stops[-1], named, prm]
        ints, floats, stop, names, first_ms = scan_levels(*given)
        rows, named = Rows(ints, floats), named + len(names)
        stops.append(stop)
        hashes.append(names)
        firsts.append(first_ms)
    found = _Found(
        Rows(rows.ints[:, : stops[-1]], rows.floats[:, : stops[-1]]), np.array(stops), np.concatenate(hashes), np.concatenate(firsts)
    )
    return _table(_frame(found, parts, timeframe, params), found)


def levels_at(levels: pl.DataFrame, as_of: datetime) -> pl.DataFrame:
    """Live levels as known at a moment: one row per level, columns of table `levels`.

    levels: rows of table `levels` that reach back at least to the newest month start of each series. as_of: UTC-aware; only rows with
    known_at <= as_of count. Each row is the level's last one, with n_bars_since_touch and strength aged by the clock to the
    last bar closed at as_of; side, band and distance_atr stay as of the row (`levels_now` moves
    them). Evicted levels are left out. Empty in, empty out.
    """
    known = levels.filter(pl.col("known_at") <= _utc(as_of, "as_of"))
    last = _live_rows(known)
    if last.is_empty():
        return LEVELS_TABLE.empty()
    tf_ms = (pl.col("known_at") - pl.col("ts")).dt.total_milliseconds()
    since_ms = (pl.lit(as_of).cast(TS) - pl.col("last_touch_ts")).dt.total_milliseconds()
    aged = last.with_columns(n_bars_since_touch=since_ms // tf_ms - 1)
    touches, age = (aged[c].cast(pl.Float64).to_numpy() for c in ("n_touches", "n_bars_since_touch"))
    return LEVELS_TABLE.conform(aged.with_columns(strength=pl.Series(level_strength(touches, age, LEVELS.half_life_bars))))


def levels_now(
    state: pl.DataFrame, close: float, atr: float | None, n_bars_since: NDArray[np.int64], params: LevelParams = LEVELS
) -> pl.DataFrame:
    """Levels of one series brought from their last events up to a newer bar; same rows, order and columns.

    state: as `levels_at` gives it, one series. close: of the newest bar [quote], finite. atr: newest ATR [quote]; None, NaN or 0 where
    unknown. n_bars_since: bars by the clock from each level's last row (its ts) to the newest bar, shape (rows,), >= 0 [bars].
    side turns where the newest close breaks the level and the log does not say so yet (`n_breaks` stays what the log says); a row of
    the newest bar itself has its side already. Without ATR, side and band stay and the old band measures the distance.
    ts, event and known_at stay those of the last event. Empty in, empty out. Raises InputError for a close that is no number and for
    n_bars_since of another length or below 0. Method: docs/methods/levels.md.
    """
    _check_now(state, close, n_bars_since)
    is_known = atr is not None and atr > 0.0
    band = np.full(state.height, params.touch_atr * atr) if atr is not None and is_known else state["band"].to_numpy()
    above = close - state["price"].to_numpy()
    is_support = (state["side"] == "support").to_numpy()
    reach = band * (params.break_atr / params.touch_atr)
    is_broken = (np.where(is_support, above, -above) < -reach) & (n_bars_since > 0) & is_known
    ts, touched, known = (state[c].to_physical().to_numpy() for c in ("ts", "last_touch_ts", "known_at"))
    age = (ts - touched) // (known - ts) + n_bars_since
    touches = state["n_touches"].cast(pl.Float64).to_numpy()
    return state.with_columns(
        pl.Series("band", band, pl.Float64),
        pl.Series("side", np.where(is_support ^ is_broken, "support", "resistance").tolist(), pl.String),
        pl.Series("strength", level_strength(touches, age.astype(np.float64), params.half_life_bars), pl.Float64),
        pl.Series("distance_atr", above * params.touch_atr / band, pl.Float64),
        pl.Series("n_bars_since_touch", age, pl.Int64),
    )


def _check_now(state: pl.DataFrame, close: float, n_bars_since: NDArray[np.int64]) -> None:
    if not np.isfinite(close):
        raise InputError("close", close, "must be a finite number")
    if len(n_bars_since) != state.height:
        raise InputError("n_bars_since", len(n_bars_since), f"needs one number per level, {state.height}")
    if state.height and n_bars_since.min() < 0:
        raise InputError("n_bars_since", int(n_bars_since.min()), "the newest bar may not lie before a level's last row")


def _live_rows(levels: pl.DataFrame) -> pl.DataFrame:
    """Last row of every level that was not evicted."""
    dead = levels.filter(pl.col("event") == LevelEvent.EVICTED.value).select("id")
    return levels.join(dead, on="id", how="anti").sort("ts", "event").unique("id", keep="last", maintain_order=True)


def _utc(moment: datetime, name: str) -> datetime:
    if moment.tzinfo is None:
        raise InputError(name, moment, "needs a UTC-aware time")
    return moment


def _arrays(bars: pl.DataFrame, indicators: pl.DataFrame) -> tuple[NDArray[np.int64], Floats, Floats, Floats, Floats]:
    """ts [ms], high, low, close, atr (NaN where unknown) of the bars, in their order."""
    high, low, close = read_prices(bars, "high", "low", "close")
    atr = read_nullable(aligned(bars, indicators, "atr_14"), "atr_14")
    ts = bars["ts"].to_physical().to_numpy().view()
    ts.flags.writeable = False
    return ts, high, low, close, atr


def _parts(segments: Segments, start: datetime) -> list[_Part]:
    """Row spans of the series that have a bar at or after start."""
    start_ms = int(_utc(start, "start").timestamp() * 1000)
    spans = zip(segments.names, segments.series_spans(), strict=True)
    parts = [_Part(*name, b, e, int(b + np.searchsorted(segments.ts[b:e], start_ms))) for name, (b, e) in spans]
    return [p for p in parts if p.first < p.end]


def _swings(segments: Segments, high: Floats, low: Floats, params: PivotParams) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of swing lows and of swing highs in all bars, ascending."""
    from altforecast.signal_scan import scan_pivots

    sides = ((low, 1.0), (high, -1.0))
    lows, highs = (scan_pivots(x, s, segments.starts, segments.stops, params.left_bars, params.right_bars)[0] for x, s in sides)
    return lows, highs


def _within(rows: NDArray[np.int64], part: _Part) -> NDArray[np.int64]:
    """Those of ascending rows that lie in the part, counted from its first bar."""
    begin, end = np.searchsorted(rows, (part.begin, part.end))
    return rows[begin:end] - part.begin


def _scan_params(timeframe: Timeframe, params: LevelParams, pivots: PivotParams) -> ScanParams:
    from altforecast.level_scan import ScanParams

    tf = timeframe.ms
    return ScanParams(
        tf, pivots.left_bars, pivots.right_bars, (pivots.restart_gap_bars + 1) * tf, params.min_bars_between_touches * tf,
        params.join_atr, params.touch_atr, params.break_atr, params.half_life_bars * tf, params.max_levels,
    )  # fmt: skip


def _series_hash(symbol: str, exchange: str, timeframe: Timeframe) -> np.uint64:
    """Where the hash of the series' level ids starts, as in `event_ids("level", ...)`."""
    text = "|".join(("level", symbol, exchange, timeframe.value))
    return np.uint64(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big"))


def _states(carry: pl.DataFrame | None, start: datetime) -> dict[tuple[str, str], pl.DataFrame]:
    """Live levels before start by series, in opening order: by opening pivot, its low before its high."""
    if carry is None or carry.is_empty():
        return {}
    live = _live_rows(carry.select(CARRY_COLUMNS).filter(pl.col("ts") < start))
    flipped = pl.col("n_breaks") % 2 == 1
    ordered = live.with_columns(is_high=(pl.col("side") == "resistance") ^ flipped).sort(*SERIES, "first_touch_ts", "is_high")
    return {(str(k[0]), str(k[1])): f for k, f in ordered.group_by(SERIES, maintain_order=True)}


def _kernel_state(live: pl.DataFrame | None, seed: np.uint64, prm: ScanParams) -> tuple[object, ...]:
    """last_month, state, counts, names, firsts, n of `scan_levels`; two slots more than levels, for those opened before an eviction."""
    from altforecast.level_scan import level_hash, level_worth, month_of

    slots = prm.max_levels + 2
    state, counts = np.zeros((5, slots)), np.zeros((5, slots), np.int64)
    names, firsts = np.zeros(slots, np.uint64), np.zeros(slots, np.int64)
    if live is None or live.is_empty():
        return -1, state, counts, names, firsts, 0
    n = live.height
    if n > prm.max_levels:
        raise InputError("carry", n, f"more live levels than {prm.max_levels} in {live['symbol'][0]}: an evicted row is missing")
    first, last = (live[c].to_physical().to_numpy() for c in ("first_touch_ts", "last_touch_ts"))
    worth = [level_worth(touches, np.float64(ms), prm.half_life_ms) for touches, ms in zip(live["n_touches"], last, strict=True)]
    state[:, :n] = live["price"], live["band"], np.where((live["side"] == "support").to_numpy(), 1.0, -1.0), last, worth
    counts[:4, :n] = live["n_pivots"], live["n_touches"], live["n_breaks"], np.arange(n)
    firsts[:n] = first
    names[:n] = [level_hash(seed, np.int64(ms), int(high)) for ms, high in zip(first, live["is_high"], strict=True)]
    newest_ms = int(live["ts"].to_physical().to_numpy().max())
    return month_of(newest_ms), state, counts, names, firsts, n


def _frame(found: _Found, parts: list[_Part], timeframe: Timeframe, params: LevelParams) -> pl.DataFrame:
    """Rows of table `levels`, in the order of the scan."""
    ts, level, event, role, pivots, touches, breaks, last, age = found.rows.ints
    price, band, distance = found.rows.floats
    series = np.repeat(np.arange(len(parts), dtype=np.uint32), np.diff(found.stops))
    level_of_row = level.astype(np.uint32)
    moments = pl.Series(found.first_ms).cast(TS)
    columns = {
        "ts": pl.Series(ts).cast(TS),
        "symbol": pl.Series([p.symbol for p in parts]).gather(series),
        "exchange": pl.Series([p.exchange for p in parts]).gather(series),
        "timeframe": pl.Series([timeframe.value]).new_from_index(0, len(ts)),
        "id": hex_ids(found.hashes).gather(level_of_row),
        "event": pl.Series(EVENTS).gather(event.astype(np.uint32)),
        "price": price,
        "band": band,
        "side": pl.Series(["resistance", "support"]).gather(role.astype(np.uint32)),
        "n_pivots": pivots,
        "n_touches": touches,
        "n_breaks": breaks,
        "strength": _strengths(touches, age, params.half_life_bars),
        "distance_atr": distance,
        "first_touch_ts": moments.gather(level_of_row),
        "last_touch_ts": pl.Series(last).cast(TS),
        "n_bars_since_touch": age,
        "known_at": pl.Series(ts + timeframe.ms).cast(TS),
    }
    return pl.DataFrame(columns)


def _strengths(touches: NDArray[np.int64], age: NDArray[np.int64], half_life_bars: float) -> Floats:
    """`level_strength` of whole numbers; powers are computed once per age where ages repeat, which spares most of the time."""
    oldest = int(age.max(initial=0))
    if oldest >= len(age) or age.min(initial=0) < 0:
        return level_strength(touches.astype(np.float64), age.astype(np.float64), half_life_bars)
    return touches * level_strength(np.ones(1), np.arange(oldest + 1, dtype=np.float64), half_life_bars)[age]


def _table(frame: pl.DataFrame, found: _Found) -> pl.DataFrame:
    """The frame as `Table.conform` gives it, without sorting and comparing texts where the numbers behind them prove order and values.

    Series are sorted by name, ids order as their hashes and event codes as their names, so rows that rise strictly by these are
    sorted and have no double key.
    """
    from altforecast.level_scan import OUT_EVENT, OUT_LEVEL, OUT_TS, is_ordered

    LEVELS_TABLE.conform(frame.head(1))  # columns and types
    ints = found.rows.ints
    is_proven = is_ordered(ints[OUT_TS], ints[OUT_LEVEL], ints[OUT_EVENT], found.hashes, found.stops[1:])
    is_proven &= bool(np.isfinite(found.rows.floats.sum())) and not any(frame.null_count().row(0))
    return frame if is_proven else LEVELS_TABLE.conform(frame)
