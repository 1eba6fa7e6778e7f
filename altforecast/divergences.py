"""Divergences between price and oscillators, as a life-cycle log: the table `divergences`.

What belongs here: which pairs of swing points disagree, and what became of each such event. What does not: whether that is worth
anything (`outcomes`), or how it is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from altforecast import tables
from altforecast.event_ids import event_ids, hex_ids
from altforecast.indicators import OSCILLATOR_COLUMNS, indicator_arrays
from altforecast.params import DIVERGENCES, INDICATORS, DivergenceParams
from altforecast.segments import (
    Floats,
    Ints,
    Segments,
    aligned,
    check_order,
    read_nullable,
    read_only,
    read_prices,
    series_batches,
    split_segments,
)
from altforecast.signal_scan import break_ties, scan_divergences, scan_ends, scan_pivots
from altforecast.types import DivergenceKind, DivergenceStatus, Oscillator, Timeframe

WARMUP_BARS = DIVERGENCES.warmup_bars
"""Earlier bars to read before a window; with the same indicator values its rows then equal those of a run over everything."""

OSCILLATORS = (Oscillator.RSI, Oscillator.MACD, Oscillator.VOLUME)
_OSCILLATOR_NAMES = pl.Series("oscillator", [o.value for o in OSCILLATORS])
_KINDS = (
    DivergenceKind.REGULAR_BULLISH,
    DivergenceKind.HIDDEN_BULLISH,
    DivergenceKind.REGULAR_BEARISH,
    DivergenceKind.HIDDEN_BEARISH,
)
_KIND_NAMES = pl.Series("kind", [k.value for k in _KINDS])
_STATUS_NAMES = pl.Series("status", [s.value for s in DivergenceStatus])


_BATCH_ROWS = 100_000


class _Events(NamedTuple):
    """Events of one batch, side and oscillator, one array entry each; rows count from the start of the batch."""

    series: Ints
    oscillator: Ints
    kind: Ints
    p1: Ints
    p2: Ints
    p1_price: Floats
    p2_price: Floats
    p1_osc: Floats
    p2_osc: Floats
    confirm_price: Floats
    is_line_of_sight: NDArray[np.bool_]
    status: Ints
    end_row: Ints


class _Rows(NamedTuple):
    """Log rows of one batch in table order: by series and bar, then by id; times in ms since 1970."""

    ts: Ints
    series: Ints
    id: NDArray[np.uint64]
    oscillator: Ints
    kind: Ints
    status: Ints
    p1_ts: Ints
    p2_ts: Ints
    p1_price: Floats
    p2_price: Floats
    p1_osc: Floats
    p2_osc: Floats
    confirm_price: Floats
    is_line_of_sight: NDArray[np.bool_]
    active_ts: Ints


def find_divergences(
    bars: pl.DataFrame,
    indicators: pl.DataFrame | None,
    timeframe: Timeframe,
    params: DivergenceParams = DIVERGENCES,
    oscillators: Sequence[Oscillator] = OSCILLATORS,
) -> pl.DataFrame:
    """Table `divergences`: one `active` row per event at the bar that made it known, one more where it ended.

    bars: table `bars` (ts, symbol, exchange, timeframe, high, low, close), many series of one timeframe, sorted. indicators: of the
    same bars, the columns of the wanted oscillators (rsi_14; macd and atr_14; obv); None computes just these from `bars`, which must
    then reach back to each series' first bar and, for volume, hold volume. An oscillator that is null at either swing
    point gives no event there. p1_osc and p2_osc are in points (rsi), ATR (macd: the MACD line over ATR(14) of the same bar) or
    base units (volume: on-balance volume). Nothing reaches across a hole of more than params.pivots.restart_gap_bars. Empty in, empty
    out. Raises InputError on null or non-finite prices, unsorted or doubled rows, another timeframe.
    Method, life cycle and precedence: docs/methods/divergences.md.
    """
    if bars.is_empty():
        return tables.DIVERGENCES.empty()
    columns = list(dict.fromkeys(column for oscillator in oscillators for column in OSCILLATOR_COLUMNS[oscillator]))
    values = None if indicators is None else aligned(bars, indicators, *columns)
    names: list[tuple[str, str]] = []
    batches = []
    for rows in series_batches(bars, _BATCH_ROWS):
        part = bars[rows]
        segments = split_segments(part, timeframe, params.pivots.restart_gap_bars)
        arrays = _arrays(part, segments, columns) if values is None else {c: read_nullable(values[rows], c) for c in columns}
        oscs = {oscillator: _oscillator(oscillator, arrays) for oscillator in oscillators}
        events = _scan_batch(part, segments, oscs, params)
        batches.append(_log_rows(segments, events, timeframe, params.pivots.right_bars, len(names)))
        names.extend(segments.names)
    check_order(names)
    return _frame(_Rows(*(np.concatenate(parts) for parts in zip(*batches, strict=True))), names, timeframe)


def _arrays(bars: pl.DataFrame, segments: Segments, columns: Sequence[str]) -> dict[str, Floats]:
    return indicator_arrays(bars, segments, INDICATORS, columns, threads=1)


def _oscillator(oscillator: Oscillator, arrays: dict[str, Floats]) -> Floats:
    if oscillator is not Oscillator.MACD:
        return read_only(arrays[OSCILLATOR_COLUMNS[oscillator][0]])
    with np.errstate(divide="ignore", invalid="ignore"):
        in_atr: Floats = arrays["macd"] / arrays["atr_14"]
    in_atr[~np.isfinite(in_atr)] = np.nan
    return read_only(in_atr)


def _scan_batch(bars: pl.DataFrame, segments: Segments, oscs: dict[Oscillator, Floats], params: DivergenceParams) -> _Events:
    high, low, close = read_prices(bars, "high", "low", "close")
    wings = params.pivots.left_bars, params.pivots.right_bars
    scanned = []
    for side, (price, far, sign) in enumerate(((low, high, 1.0), (high, low, -1.0))):
        pivots = scan_pivots(price, sign, segments.starts, segments.stops, *wings)
        scanned += [_scan(segments, pivots, (price, far, close), osc, (side, sign), name, params) for name, osc in oscs.items()]
    return _Events(*(np.concatenate(parts) for parts in zip(*scanned, strict=True)))


def _eps(oscillator: Oscillator, params: DivergenceParams) -> float:
    return {Oscillator.RSI: params.eps_rsi_points, Oscillator.MACD: params.eps_macd_atr, Oscillator.VOLUME: params.eps_volume}[oscillator]


def _scan(
    segments: Segments,
    pivots: tuple[Ints, Ints],
    prices: tuple[Floats, Floats, Floats],
    osc: Floats,
    side_sign: tuple[int, float],
    oscillator: Oscillator,
    params: DivergenceParams,
) -> _Events:
    price, far, close = prices
    side, sign = side_sign
    eps, right = _eps(oscillator, params), params.pivots.right_bars
    found = scan_divergences(*pivots, price, osc, sign, eps, params.min_span_bars, params.max_span_bars, params.require_line_of_sight)
    ends = scan_ends(found, close, price, far, segments.stops, segments.is_continued, sign, right, params.expire_bars)
    p1, p2 = found.p1, found.p2
    return _Events(
        series=segments.series[found.segment],
        oscillator=np.full(len(p1), OSCILLATORS.index(oscillator)),
        kind=found.kind + np.int64(2 * side),
        p1=p1,
        p2=p2,
        p1_price=price[p1],
        p2_price=price[p2],
        p1_osc=osc[p1],
        p2_osc=osc[p2],
        confirm_price=ends.confirm_price,
        is_line_of_sight=found.is_line_of_sight,
        status=ends.status.astype(np.int64),
        end_row=ends.end_row,
    )


def _log_rows(segments: Segments, events: _Events, timeframe: Timeframe, right: int, n_series_before: int) -> _Rows:
    t1, t2 = segments.ts[events.p1], segments.ts[events.p2]
    ids = event_ids("divergence", segments.names, timeframe, events.series, events.oscillator * len(_KINDS) + events.kind, t1, t2)
    active_row = events.p2 + right
    ended = np.flatnonzero(events.end_row >= 0)
    event = np.concatenate([np.arange(len(ids)), ended])
    row = np.concatenate([active_row, events.end_row[ended]])
    status = np.concatenate([np.zeros(len(ids), dtype=np.int64), events.status[ended]])
    order = np.argsort(row)
    break_ties(order, row, ids[event])
    e = event[order]
    same = {name: getattr(events, name)[e] for name in _Rows._fields if name in _Events._fields and name not in {"series", "status"}}
    return _Rows(
        ts=segments.ts[row[order]],
        series=events.series[e] + n_series_before,
        id=ids[e],
        status=status[order],
        p1_ts=t1[e],
        p2_ts=t2[e],
        active_ts=segments.ts[active_row[e]],
        **same,
    )


def _frame(rows: _Rows, names: Sequence[tuple[str, str]], timeframe: Timeframe) -> pl.DataFrame:
    symbols, exchanges = zip(*names, strict=True)
    looked_up = [
        pl.Series("symbol", symbols, dtype=pl.String).gather(rows.series),
        pl.Series("exchange", exchanges, dtype=pl.String).gather(rows.series),
        pl.repeat(timeframe.value, len(rows.ts), eager=True).alias("timeframe"),
        hex_ids(rows.id),
        _OSCILLATOR_NAMES.gather(rows.oscillator),
        _KIND_NAMES.gather(rows.kind),
        _STATUS_NAMES.gather(rows.status),
    ]
    same = ("p1_price", "p2_price", "p1_osc", "p2_osc", "confirm_price", "is_line_of_sight")
    times = {"ts": rows.ts, "p1_ts": rows.p1_ts, "p2_ts": rows.p2_ts}
    times |= {"active_at": rows.active_ts + timeframe.ms, "known_at": rows.ts + timeframe.ms}
    columns = [
        *looked_up,
        *(pl.Series(name, ms).cast(tables.TS) for name, ms in times.items()),
        *(pl.Series(name, getattr(rows, name)) for name in same),
        pl.Series("invalidate_price", rows.p2_price),
    ]
    return pl.DataFrame(columns).select(tables.DIVERGENCES.schema.names())
