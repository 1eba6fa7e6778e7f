"""Classic indicators at each bar's close, series by series.

What belongs here: EMA, RSI, MACD, ATR, Bollinger, ADX and on-balance volume as the table `indicators`. What does not: reading
bars, choosing windows, or anything that compares indicators with prices (`divergences`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import polars as pl

from altforecast import tables
from altforecast.errors import InputError
from altforecast.params import INDICATORS, IndicatorParams
from altforecast.segments import Floats, Ints, Segments, read_prices, split_segments
from altforecast.types import Oscillator, Timeframe

WARMUP_BARS = INDICATORS.warmup_bars
"""Earlier bars to read before a window; on-balance volume needs `carry` instead, because it sums since the first bar."""

OSCILLATOR_COLUMNS: Mapping[Oscillator, tuple[str, ...]] = {
    Oscillator.RSI: ("rsi_14",),
    Oscillator.MACD: ("macd", "atr_14"),
    Oscillator.VOLUME: ("obv",),
}
"""Indicator columns from which each divergence oscillator is made."""

_VALUE_COLUMNS = tuple(name for name, dtype in tables.INDICATORS.schema.items() if dtype == pl.Float64)
_THREADED_ROWS = 1_000_000
_TINY_PRICE = 1.0
_SCALED_EXPONENT = 20


class Carry(NamedTuple):
    """Last known on-balance volume of a series: after bar `ts` [ms] it stood at `obv`; close may be NaN if the bar is given."""

    ts: int
    obv: float
    close: float


@dataclass(frozen=True)
class _Formula:
    columns: tuple[str, ...]
    is_price: bool
    compute: Callable[[Floats, Floats, Floats], tuple[Floats, ...]]


def compute_indicators(
    bars: pl.DataFrame,
    timeframe: Timeframe,
    params: IndicatorParams = INDICATORS,
    carry: pl.DataFrame | None = None,
    threads: int | None = None,
) -> pl.DataFrame:
    """Table `indicators`: one row per bar, in the order of the bars.

    bars: table `bars` (ts, symbol, exchange, timeframe, high, low, close, volume are read), many series of one timeframe, sorted.
    carry: last known (non-null) on-balance volume per series, columns symbol, exchange, ts, obv and, unless the bar at that ts is
    among `bars`, close; rows up to carry.ts then get null obv (the row at carry.ts its known value), later rows continue bit for bit.
    Series without a carry row, or with a null one, start at their first bar. threads: how many threads share the work; None = as
    many as Polars has, and one below a million bars. Output: warm-up is null, never NaN; a hole of more than
    params.restart_gap_bars starts the warm-up anew, except for obv. Bars without volume have null obv and do not move it.
    Column names carry the default lengths whatever `params` says. Empty in, empty out.
    Raises InputError on null, NaN or infinite prices, NaN volume, unsorted or doubled rows, another timeframe.
    Source: TA-Lib 0.6 (C) with Wilder smoothing; flat series give RSI 0 and ADX 0 as TA-Lib does. Method: docs/methods/indicators.md.
    """
    if bars.is_empty():
        return tables.INDICATORS.empty()
    segments = split_segments(bars, timeframe, params.restart_gap_bars)
    arrays = indicator_arrays(bars, segments, params, _VALUE_COLUMNS, carry, threads)
    values = [pl.Series(name, array, nan_to_null=True) for name, array in arrays.items()]
    known_at = (bars["ts"] + timeframe.duration).alias("known_at")
    has_name = "timeframe" in bars.columns
    names = bars["timeframe"] if has_name else pl.repeat(timeframe.value, bars.height, eager=True).alias("timeframe")
    return pl.DataFrame([bars["ts"], bars["symbol"], bars["exchange"], names, *values, known_at])


def indicator_arrays(
    bars: pl.DataFrame,
    segments: Segments,
    params: IndicatorParams,
    columns: Sequence[str],
    carry: pl.DataFrame | None = None,
    threads: int | None = None,
) -> dict[str, Floats]:
    """Only the given columns of `compute_indicators`, as arrays of shape (rows,) with NaN for null; same rules and errors.

    For scans over very many bars that need one oscillator and no frame. segments: from `split_segments` of the same bars.
    """
    out = {name: np.empty(bars.height) for name in columns}
    formulas = [f for f in _formulas(params) if set(f.columns) & set(columns)]
    prices = read_prices(bars, "high", "low", "close")
    volume = bars["volume"].cast(pl.Float64) if "obv" in out else None
    carried = _carried(carry)

    def fill(series: int, span: tuple[int, int]) -> None:
        for segment in range(*np.searchsorted(segments.series, [series, series + 1])):
            _fill_segment(out, formulas, prices, int(segments.starts[segment]), int(segments.stops[segment]))
        if volume is not None:
            rows = slice(*span)
            state = carried.get(segments.names[series])
            out["obv"][rows] = _series_obv(segments.ts[rows], prices[2][rows], volume[rows], state)

    workers = threads or (pl.thread_pool_size() if bars.height >= _THREADED_ROWS else 1)
    work = range(len(segments.names)), segments.series_spans()
    if workers == 1:
        list(map(fill, *work))
        return out
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(fill, *work))
    return out


def _formulas(p: IndicatorParams) -> list[_Formula]:
    import talib  # imports pandas where installed (1.6 s): only where indicators are computed

    return [
        _Formula(("ema_20",), True, lambda _h, _l, c: (talib.EMA(c, p.ema_fast_bars),)),
        _Formula(("ema_50",), True, lambda _h, _l, c: (talib.EMA(c, p.ema_slow_bars),)),
        _Formula(("rsi_14",), False, lambda _h, _l, c: (talib.RSI(c, p.rsi_bars),)),
        _Formula(
            ("macd", "macd_signal", "macd_hist"),
            True,
            lambda _h, _l, c: talib.MACD(c, p.macd_fast_bars, p.macd_slow_bars, p.macd_signal_bars),
        ),
        _Formula(("atr_14",), True, lambda h, low, c: (talib.ATR(h, low, c, p.atr_bars),)),
        _Formula(
            ("bb_upper", "bb_middle", "bb_lower"),
            True,
            lambda _h, _l, c: talib.BBANDS(c, p.bollinger_bars, p.bollinger_width_sd, p.bollinger_width_sd),
        ),
        _Formula(("adx_14",), False, lambda h, low, c: (talib.ADX(h, low, c, p.adx_bars),)),
    ]


def _fill_segment(out: dict[str, Floats], formulas: list[_Formula], prices: tuple[Floats, ...], start: int, stop: int) -> None:
    high, low, close = (price[start:stop] for price in prices)
    scale = _scale(float(close[0]))
    if scale != 1.0:
        high, low, close = high * scale, low * scale, close * scale
    for formula in formulas:
        for name, values in zip(formula.columns, formula.compute(high, low, close), strict=True):
            if name in out:
                np.multiply(values, 1.0 / scale if formula.is_price else 1.0, out=out[name][start:stop])


def _scale(first_close: float) -> float:
    """A power of two, so exact both ways: TA-Lib takes variances below 1e-14 for zero, which flattens the bands of coins at 1e-6."""
    if not 0.0 < first_close < _TINY_PRICE:
        return 1.0
    return float(2.0 ** (_SCALED_EXPONENT - np.frexp(first_close)[1]))


def _carried(carry: pl.DataFrame | None) -> dict[tuple[str, str], Carry]:
    if carry is None or carry.is_empty():
        return {}
    known = carry.filter(pl.col("obv").is_not_null())
    close = known["close"].cast(pl.Float64).to_list() if "close" in known.columns else [None] * known.height
    ts = known["ts"].dt.epoch("ms").to_list()
    states = [Carry(t, o, np.nan if c is None else c) for t, o, c in zip(ts, known["obv"].to_list(), close, strict=True)]
    return dict(zip(known.select("symbol", "exchange").iter_rows(), states, strict=True))


def _series_obv(ts: Ints, closes: Floats, volume: pl.Series, state: Carry | None) -> Floats:
    amounts = volume.to_numpy()
    if not volume.null_count() and not math.isfinite(float(amounts.sum())):
        raise InputError("volume", "NaN or infinity", "volume is a finite number or null")
    return on_balance_volume(closes, amounts) if state is None else _continued(ts, closes, amounts, state)


def _continued(ts: Ints, closes: Floats, amounts: Floats, state: Carry) -> Floats:
    """OBV of a series from a carried state on; NaN up to the carried bar, which keeps its known value."""
    out = np.full(len(closes), np.nan)
    at = int(np.searchsorted(ts, state.ts))
    has_bar = at < len(ts) and int(ts[at]) == state.ts
    if has_bar:
        out[at] = state.obv
    first = at + has_bar
    if first == len(closes):
        return out
    previous = float(closes[at]) if has_bar else state.close
    if np.isnan(previous):
        raise InputError("carry.close", None, "give the close of the carried bar, or that bar among the bars")
    out[first:] = on_balance_volume(closes[first:], amounts[first:], state.obv, previous)
    return out


def on_balance_volume(close: Floats, volume: Floats, obv: float = np.nan, previous_close: float = np.nan) -> Floats:
    """Running sum of volume, added on a rise of the close and subtracted on a fall; shape (n,) [base units].

    close, volume: shape (n,). NaN volume gives NaN there and is left out of both the sum and the comparison of closes. obv and
    previous_close continue an earlier sum; without them the first bar with volume counts as a rise. Empty in, empty out.
    Source: Granville 1963, TA-Lib OBV; adds in bar order, so a continued sum equals the whole one bit for bit.
    """
    import talib

    present = ~np.isnan(volume)
    if not present.all():
        out = np.full(len(close), np.nan)
        out[present] = on_balance_volume(close[present], volume[present], obv, previous_close)
        return out
    if np.isnan(obv) or not len(close):
        return np.asarray(talib.OBV(close, volume), dtype=np.float64)
    with_carry = np.append(previous_close, close), np.append(obv, volume)
    return np.asarray(talib.OBV(*with_carry)[1:], dtype=np.float64)
