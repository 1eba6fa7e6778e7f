"""Classic indicators at each bar's close, series by series.

What belongs here: EMA, RSI, MACD, ATR, Bollinger, ADX and on-balance volume as the table `indicators`. What does not: reading
bars, choosing windows, or anything that compares indicators with prices (`divergences`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
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
    return _computed(bars, timeframe, params, _VALUE_COLUMNS, carry, threads)


def compute_oscillators(
    bars: pl.DataFrame, timeframe: Timeframe, oscillators: Iterable[Oscillator], params: IndicatorParams = INDICATORS
) -> pl.DataFrame:
    """Only the indicator columns that the given divergence oscillators need, with the key columns and known_at.

    Same numbers, rules and errors as `compute_indicators` on one thread; for scans that need one oscillator of very many bars.
    """
    wanted = {column for oscillator in oscillators for column in OSCILLATOR_COLUMNS[oscillator]}
    return _computed(bars, timeframe, params, tuple(c for c in _VALUE_COLUMNS if c in wanted), None, 1)


def _computed(
    bars: pl.DataFrame,
    timeframe: Timeframe,
    params: IndicatorParams,
    columns: tuple[str, ...],
    carry: pl.DataFrame | None,
    threads: int | None,
) -> pl.DataFrame:
    if bars.is_empty():
        return tables.INDICATORS.empty().select(_order(columns))
    segments = split_segments(bars, timeframe, params.restart_gap_bars)
    out = {name: np.empty(bars.height) for name in columns}
    formulas = [f for f in _formulas(params) if set(f.columns) & set(columns)]
    prices = read_prices(bars, "high", "low", "close")
    workers = threads or (pl.thread_pool_size() if bars.height >= _THREADED_ROWS else 1)
    with ThreadPoolExecutor(workers) as pool:
        spans = zip(segments.starts.tolist(), segments.stops.tolist(), strict=True)
        list(pool.map(lambda span: _fill_segment(out, formulas, prices, *span), spans))
    if "obv" in out:
        _fill_obv(out["obv"], bars, segments, prices[2], carry)
    values = [pl.Series(name, array, nan_to_null=True) for name, array in out.items()]
    known_at = (bars["ts"] + timeframe.duration).alias("known_at")
    timeframes = (
        bars["timeframe"] if "timeframe" in bars.columns else pl.repeat(timeframe.value, bars.height, eager=True).alias("timeframe")
    )
    return pl.DataFrame([bars["ts"], bars["symbol"], bars["exchange"], timeframes, *values, known_at])


def _order(columns: tuple[str, ...]) -> list[str]:
    return [n for n in tables.INDICATORS.schema.names() if n in {*tables.SERIES_KEY, *columns, "known_at"}]


def _formulas(p: IndicatorParams) -> list[_Formula]:
    import talib  # imports pandas where installed (1.6 s): only where indicators are computed

    return [
        _Formula(("ema_20",), True, lambda h, low, c: (talib.EMA(c, p.ema_fast_bars),)),
        _Formula(("ema_50",), True, lambda h, low, c: (talib.EMA(c, p.ema_slow_bars),)),
        _Formula(("rsi_14",), False, lambda h, low, c: (talib.RSI(c, p.rsi_bars),)),
        _Formula(
            ("macd", "macd_signal", "macd_hist"),
            True,
            lambda h, low, c: talib.MACD(c, p.macd_fast_bars, p.macd_slow_bars, p.macd_signal_bars),
        ),
        _Formula(("atr_14",), True, lambda h, low, c: (talib.ATR(h, low, c, p.atr_bars),)),
        _Formula(
            ("bb_upper", "bb_middle", "bb_lower"),
            True,
            lambda h, low, c: talib.BBANDS(c, p.bollinger_bars, p.bollinger_width_sd, p.bollinger_width_sd),
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


def _fill_obv(out: Floats, bars: pl.DataFrame, segments: Segments, close: Floats, carry: pl.DataFrame | None) -> None:
    carried = _carried(carry)
    volume = bars["volume"].cast(pl.Float64)
    for name, (start, stop) in zip(segments.names, segments.series_spans(), strict=True):
        amounts = volume[start:stop].to_numpy()
        ts, closes = segments.ts[start:stop], close[start:stop]
        _check_volume(amounts, volume[start:stop].null_count())
        state = carried.get(name)
        out[start:stop] = on_balance_volume(closes, amounts) if state is None else _continued(ts, closes, amounts, state, name)


def _check_volume(amounts: Floats, n_null: int) -> None:
    if int(np.count_nonzero(~np.isfinite(amounts))) != n_null:
        raise InputError("volume", "NaN or infinity", "volume is a finite number or null")


def _carried(carry: pl.DataFrame | None) -> dict[tuple[str, str], Carry]:
    if carry is None or carry.is_empty():
        return {}
    known = carry.filter(pl.col("obv").is_not_null())
    close = known["close"].cast(pl.Float64).to_list() if "close" in known.columns else [None] * known.height
    ts = known["ts"].dt.epoch("ms").to_list()
    states = [Carry(t, o, np.nan if c is None else c) for t, o, c in zip(ts, known["obv"].to_list(), close, strict=True)]
    return dict(zip(known.select("symbol", "exchange").iter_rows(), states, strict=True))


def _continued(ts: Ints, closes: Floats, amounts: Floats, state: Carry, name: tuple[str, str]) -> Floats:
    """OBV of a series from a carried state on; null up to the carried bar, which keeps its known value."""
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
        raise InputError("carry.close", name, "give the close of the carried bar, or that bar among the bars")
    out[first:] = on_balance_volume(closes[first:], amounts[first:], state.obv, previous)
    return out


def on_balance_volume(close: Floats, volume: Floats, obv: float = np.nan, previous_close: float = np.nan) -> Floats:
    """Running sum of volume, added on a rise of the close and subtracted on a fall; shape (n,) [base units].

    close, volume: shape (n,). NaN volume gives NaN there and is left out of both the sum and the comparison of closes. obv and
    previous_close continue an earlier sum; without them the first bar with volume counts as a rise (as TA-Lib's OBV does).
    Source: Granville 1963; adds in bar order, so a continued sum equals the whole one bit for bit.
    """
    present = ~np.isnan(volume)
    if not present.all():
        out = np.full(len(close), np.nan)
        out[present] = on_balance_volume(close[present], volume[present], obv, previous_close)
        return out
    if not len(close):
        return np.empty(0)
    steps = np.empty(len(close))
    is_new = np.isnan(obv)
    steps[0] = 1.0 if is_new else np.sign(close[0] - previous_close)
    np.sign(np.subtract(close[1:], close[:-1], out=steps[1:]), out=steps[1:])
    steps *= volume
    if not is_new:
        steps[0] += obv
    return np.cumsum(steps, out=steps)
