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
from altforecast.segments import aligned, read_nullable, read_prices, split_segments
from altforecast.tables import LEVELS as LEVELS_TABLE
from altforecast.tables import TS
from altforecast.types import LevelEvent, Timeframe

if TYPE_CHECKING:
    from altforecast.level_scan import Scan, ScanParams

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
    from altforecast.level_scan import Scan, scan_levels

    if bars.is_empty():
        return LEVELS_TABLE.empty()
    arrays = _arrays(bars, indicators)
    prm = _scan_params(timeframe, params, pivots_params)
    states = _states(carry, start)
    found: list[Scan] = []
    wanted: list[tuple[_Part, int]] = []
    for part in _parts(bars, timeframe, start):
        seed = _series_hash(part.symbol, part.exchange, timeframe)
        cut = [a[part.begin : part.end] for a in arrays]
        state = _kernel_state(states.get((part.symbol, part.exchange)), seed, prm)
        given = [*cut, part.first - part.begin, seed, *state, prm]
        found.append(Scan(*scan_levels(*given)))
        wanted.append((part, len(found[-1].ints)))
    return LEVELS_TABLE.conform(_frame(bars, found, wanted, timeframe, params))


def levels_at(levels: pl.DataFrame, as_of: datetime) -> pl.DataFrame:
    """Live levels as known at a moment: one row per level, columns of table `levels`.

    levels: rows of table `levels` that reach back at least to the newest month start of each series. as_of: UTC-aware; only rows with
    known_at <= as_of count. Each row is the level's last one, with n_bars_since_touch and strength aged by the clock to the
    last bar closed at as_of; band and distance_atr stay as of the row. Evicted levels are left out. Empty in, empty out.
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


def _parts(bars: pl.DataFrame, timeframe: Timeframe, start: datetime) -> list[_Part]:
    """Row spans of the series that have a bar at or after start."""
    segments = split_segments(bars, timeframe, PIVOTS.restart_gap_bars)
    start_ms = int(_utc(start, "start").timestamp() * 1000)
    spans = zip(segments.names, segments.series_spans(), strict=True)
    parts = [_Part(*name, b, e, int(b + np.searchsorted(segments.ts[b:e], start_ms))) for name, (b, e) in spans]
    return [p for p in parts if p.first < p.end]


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


def _frame(
    bars: pl.DataFrame, found: list[Scan], wanted: list[tuple[_Part, int]], timeframe: Timeframe, params: LevelParams
) -> pl.DataFrame:
    """Rows of table `levels` from the scans of all series."""
    if not found:
        return LEVELS_TABLE.empty()
    opened = np.cumsum([0] + [len(s.hashes) for s in found[:-1]])
    ints, floats = np.concatenate([s.ints for s in found]), np.concatenate([s.floats for s in found])
    rows = ints[:, 0] + np.repeat([p.begin for p, _ in wanted], [n for _, n in wanted])
    level = ints[:, 1] + np.repeat(opened, [n for _, n in wanted])
    names = hex_ids(np.concatenate([s.hashes for s in found]))
    first_ms = np.concatenate([s.first_ms for s in found])[level]
    at = bars.select("ts", *SERIES, "close")[rows.astype(np.uint32)]
    price, band, last_ms = floats[:, 0], floats[:, 1], floats[:, 2].astype(np.int64)
    age = (at["ts"].to_physical().to_numpy() - last_ms) // timeframe.ms
    sides = pl.Series(["resistance", "support"])
    rows_of_table: pl.DataFrame = at.select(
        "ts", *SERIES,
        pl.lit(timeframe.value).alias("timeframe"),
        names.gather(level).alias("id"),
        pl.Series(EVENTS).gather(ints[:, 2]).alias("event"),
        pl.Series("price", price), pl.Series("band", band),
        sides.gather((ints[:, 3] > 0).astype(np.uint32)).alias("side"),
        *(pl.Series(name, ints[:, k].astype(np.int64)) for name, k in (("n_pivots", 4), ("n_touches", 5), ("n_breaks", 6))),
        pl.Series("strength", level_strength(ints[:, 5].astype(np.float64), age.astype(np.float64), params.half_life_bars)),
        pl.Series("distance_atr", (at["close"].to_numpy() - price) * params.touch_atr / band),
        pl.Series("first_touch_ts", first_ms).cast(TS), pl.Series("last_touch_ts", last_ms).cast(TS),
        pl.Series("n_bars_since_touch", age),
        (pl.col("ts") + pl.duration(milliseconds=timeframe.ms)).cast(TS).alias("known_at"),
    )  # fmt: skip
    return rows_of_table
