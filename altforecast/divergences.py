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
from altforecast.indicators import OSCILLATOR_COLUMNS
from altforecast.params import DIVERGENCES, DivergenceParams
from altforecast.segments import Floats, Ints, Segments, aligned_columns, read_only, read_prices, split_segments
from altforecast.signal_scan import scan_divergences, scan_ends, scan_pivots
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


class _Events(NamedTuple):
    """All events of a call, one array entry each; prices in quote units, rows count from the start of the frame."""

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


def find_divergences(
    bars: pl.DataFrame,
    indicators: pl.DataFrame,
    timeframe: Timeframe,
    params: DivergenceParams = DIVERGENCES,
    oscillators: Sequence[Oscillator] = OSCILLATORS,
) -> pl.DataFrame:
    """Table `divergences`: one `active` row per event at the bar that made it known, one more where it ended.

    bars: table `bars` (ts, symbol, exchange, timeframe, high, low, close), many series of one timeframe, sorted. indicators: of the
    same bars, the columns of the wanted oscillators (rsi_14; macd and atr_14; obv). An oscillator that is null at either swing
    point gives no event there. p1_osc and p2_osc are in points (rsi), ATR (macd: the MACD line over ATR(14) of the same bar) or
    base units (volume: on-balance volume). Nothing reaches across a hole of more than params.pivots.restart_gap_bars. Empty in, empty
    out. Raises InputError on null or non-finite prices, unsorted or doubled rows, another timeframe.
    Method, life cycle and precedence: docs/methods/divergences.md.
    """
    segments = split_segments(bars, timeframe, params.pivots.restart_gap_bars)
    if bars.is_empty():
        return tables.DIVERGENCES.empty()
    high, low, close = read_prices(bars, "high", "low", "close")
    scanned = []
    for side, (price, far, sign) in enumerate(((low, high, 1.0), (high, low, -1.0))):
        pivots = scan_pivots(price, sign, segments.starts, segments.stops, params.pivots.left_bars, params.pivots.right_bars)
        for oscillator in oscillators:
            osc = _oscillator(bars, indicators, oscillator)
            scanned.append(_scan(segments, pivots, (price, far, close), osc, (side, sign), oscillator, params))
    events = _Events(*(np.concatenate(parts) for parts in zip(*scanned, strict=True)))
    return _log(bars, segments, events, timeframe, params)


def _oscillator(bars: pl.DataFrame, indicators: pl.DataFrame, oscillator: Oscillator) -> Floats:
    columns = aligned_columns(bars, indicators, *OSCILLATOR_COLUMNS[oscillator])
    if oscillator is not Oscillator.MACD:
        return columns[0]
    macd, atr = columns
    with np.errstate(divide="ignore", invalid="ignore"):
        in_atr: Floats = macd / atr
    in_atr[~np.isfinite(in_atr)] = np.nan
    return read_only(in_atr)


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


def _log(bars: pl.DataFrame, segments: Segments, events: _Events, timeframe: Timeframe, params: DivergenceParams) -> pl.DataFrame:
    """Rows in table order: by series and bar, then by id."""
    t1, t2 = segments.ts[events.p1], segments.ts[events.p2]
    ids = event_ids("divergence", segments.names, timeframe, events.series, events.oscillator * len(_KINDS) + events.kind, t1, t2)
    active_row = events.p2 + params.pivots.right_bars
    ended = np.flatnonzero(events.end_row >= 0)
    event = np.concatenate([np.arange(len(ids)), ended])
    row = np.concatenate([active_row, events.end_row[ended]])
    status = np.concatenate([np.zeros(len(ids), dtype=np.int64), events.status[ended]])
    order = np.lexsort((ids[event], row))
    event, row, status = event[order], row[order], status[order]
    step = timeframe.ms
    return pl.DataFrame(
        [
            _times("ts", segments.ts[row]),
            *_names(bars, segments, events.series[event]),
            pl.repeat(timeframe.value, len(row), eager=True).alias("timeframe"),
            hex_ids(ids).gather(event),
            _OSCILLATOR_NAMES.gather(events.oscillator[event]),
            _KIND_NAMES.gather(events.kind[event]),
            _STATUS_NAMES.gather(status),
            _times("p1_ts", t1[event]),
            _times("p2_ts", t2[event]),
            pl.Series("p1_price", events.p1_price[event]),
            pl.Series("p2_price", events.p2_price[event]),
            pl.Series("p1_osc", events.p1_osc[event]),
            pl.Series("p2_osc", events.p2_osc[event]),
            pl.Series("confirm_price", events.confirm_price[event]),
            pl.Series("invalidate_price", events.p2_price[event]),
            pl.Series("is_line_of_sight", events.is_line_of_sight[event]),
            _times("active_at", segments.ts[active_row[event]] + step),
            _times("known_at", segments.ts[row] + step),
        ]
    )


def _times(name: str, ms: Ints) -> pl.Series:
    return pl.Series(name, ms).cast(tables.TS)


def _names(bars: pl.DataFrame, segments: Segments, series: Ints) -> tuple[pl.Series, pl.Series]:
    symbols, exchanges = zip(*segments.names, strict=True)
    return pl.Series("symbol", symbols, dtype=pl.String).gather(series), pl.Series("exchange", exchanges, dtype=pl.String).gather(series)
