"""The point-in-time feature matrix: what could be known at each bar's close, free of price and volume scale.

What belongs here: features as pure functions of a bar grid, each looking back a bounded number of bars; missing stays missing. What
does not: targets (`forecast_targets`) and the proof that no feature sees the future (`look_ahead`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from altforecast.bar_grid import BarGrid, bar_variance, log_returns
from altforecast.feature_table import FEATURES
from altforecast.forecast_params import VARIANCE_FLOOR, FeatureParams, feature_params
from altforecast.rolling import Trailing, newest_rows, rolling_max, rolling_min
from altforecast.signal_features import SignalFrames, signal_columns
from altforecast.table_schema import TS

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Named = Iterator[tuple[str, Floats]]

MIN_MEMBERS = 3
"""Series that must be known at a moment before anything is said about the market."""
_RATIO_FLOOR = 0.01
"""Added to volume ratios before the logarithm: a bar without trades is low, not minus infinity."""
_RSI_BARS = 14


@dataclass(frozen=True)
class FeatureMatrix:
    """One row of features per slot and series."""

    names: tuple[str, ...]
    values: NDArray[np.float32]
    """Shape (time, series, features); NaN where a feature is not known."""
    known_at: Ints
    """First moment at which the row could be known [ms], shape (time,)."""


@dataclass(frozen=True)
class _Base:
    """What several groups of features share."""

    grid: BarGrid
    params: FeatureParams
    rows: int
    """Rows at the end that are asked for; what is not a path has so many."""
    variance: Trailing
    returns: Trailing
    logs: Trailing
    """ln of the close."""
    turnover: Trailing
    """Volume in quote units."""
    bar: Trailing
    """Log variance of single bars, as far back as the week window."""
    log_variance: tuple[Floats, ...]
    """Of each window of the parameters."""
    sd: Floats
    """Standard deviation per bar over the day window."""

    def recent(self, path: Floats) -> Trailing:
        """A path of which no more than the week window is read."""
        return Trailing(newest_rows(path, self.rows + self.params.week), self.rows)


def build_features(grid: BarGrid, last: int | None = None, signals: SignalFrames | None = None) -> FeatureMatrix:
    """All features of a grid, always the columns of `feature_table`; `last` keeps only so many rows at the end (give enough warm-up).

    signals: what `signal_features` reads; without them their columns are missing. Rows beyond `feature_params(...).lookback_bars` from
    the start of the grid equal those of a longer grid to rounding, where the signals reach as far back as `SignalFrames` says.
    """
    keep = slice(0 if last is None else max(len(grid.ts) - last, 0), None)
    shape = (len(grid.ts[keep]), len(grid.series))
    base = _base(grid, feature_params(grid.timeframe), shape[0])
    named = {name: np.broadcast_to(values, shape) for group in _GROUPS for name, values in group(base)}
    found = signal_columns(grid, signals or SignalFrames(), keep)
    named |= {name: np.broadcast_to(values, shape) for name, values in found}
    values = np.empty((*shape, len(named)), dtype=np.float32)
    for column, block in enumerate(named.values()):
        values[:, :, column] = block
    return FeatureMatrix(tuple(named), values, grid.known_at[keep])


def feature_frame(grid: BarGrid, matrix: FeatureMatrix) -> pl.DataFrame:
    """The matrix as rows of table `features`, one per bar that exists; NaN is null."""
    ts = grid.ts[len(grid.ts) - len(matrix.values) :]
    row, column = np.nonzero(~np.isnan(grid.close[len(grid.ts) - len(ts) :]))
    symbols, exchanges = np.array([s for s, _ in grid.series]), np.array([e for _, e in grid.series])
    keys = pl.DataFrame(
        {"ts": ts[row], "symbol": symbols[column], "exchange": exchanges[column], "known_at": matrix.known_at[row]},
    ).with_columns(pl.col("ts", "known_at").cast(TS), pl.lit(grid.timeframe.value).alias("timeframe"))
    values = pl.DataFrame(matrix.values[row, column], schema=list(matrix.names)).fill_nan(None)
    return FEATURES.conform(pl.concat([keys, values], how="horizontal"))


def log_variances(variance: Trailing, params: FeatureParams) -> tuple[Floats, ...]:
    """ln of the mean bar variance over each window, shapes (rows, series); NaN where a window is less than half known."""
    return tuple(np.log(variance.mean(bars, params.fill_frac) + VARIANCE_FLOOR) for bars in params.variance_windows)


def market_mean(values: Floats, min_members: int = MIN_MEMBERS) -> Floats:
    """Mean over the series known at each moment, shape (time, 1); NaN with fewer than min_members."""
    known = ~np.isnan(values)
    counts = known.sum(axis=1, keepdims=True)
    sums = np.where(known, values, 0.0).sum(axis=1, keepdims=True)
    return np.asarray(np.where(counts >= min_members, sums / np.maximum(counts, 1), np.nan))


def _base(grid: BarGrid, params: FeatureParams, rows: int) -> _Base:
    variance = Trailing(bar_variance(grid), rows)
    levels = log_variances(variance, params)
    bar = np.log(Trailing(variance.values, rows + params.week).mean(params.variance_windows[0], params.fill_frac) + VARIANCE_FLOOR)
    returns, logs, turnover, bars = (Trailing(v, rows) for v in (log_returns(grid), np.log(grid.close), grid.volume * grid.close, bar))
    return _Base(grid, params, rows, variance, returns, logs, turnover, bars, levels, np.exp(levels[2] / 2.0))


def _volatility(b: _Base) -> Named:
    names = ("bar", "few", "day", "week", "month")
    levels = dict(zip(names, b.log_variance, strict=True))
    yield from ((f"logvar_{name}", values) for name, values in levels.items())
    yield "logvar_few_day", levels["few"] - levels["day"]
    yield "logvar_bar_day", levels["bar"] - levels["day"]
    yield "logvar_day_week", levels["day"] - levels["week"]
    yield "logvar_week_month", levels["week"] - levels["month"]
    for bars in (2, 8):
        yield f"logvar_{bars}_day", np.log(b.variance.mean(bars) + VARIANCE_FLOOR) - levels["day"]
    yield "logvar_3days_week", np.log(b.variance.mean(3 * b.params.day) + VARIANCE_FLOOR) - levels["week"]
    before = b.variance.mean(b.params.day, b.params.fill_frac, before=b.params.day)
    yield "logvar_day_before", np.log(before + VARIANCE_FLOOR) - levels["week"]


def _volatility_path(b: _Base) -> Named:
    day = b.log_variance[2]
    for name, bars in (("1", 1), ("2", 2), ("3", 3), ("same_time", b.params.day - 1), ("same_week_time", b.params.week - 1)):
        yield f"logvar_lag_{name}", b.bar.at(bars) - day
    same_time = np.stack([b.bar.at(n * b.params.day - 1) for n in range(1, 8)])
    yield "logvar_same_time_week", _mean_of_known(same_time) - b.log_variance[3]
    squared = b.recent(b.bar.values**2)
    for name, bars in (("day", b.params.day), ("week", b.params.week)):
        mean = b.bar.mean(bars)
        yield f"vol_of_vol_{name}", np.sqrt(np.maximum(squared.mean(bars) - mean * mean, 0.0))


def _mean_of_known(stack: Floats) -> Floats:
    known = ~np.isnan(stack)
    counts = known.sum(axis=0)
    return np.asarray(np.where(counts > 0, np.where(known, stack, 0.0).sum(axis=0) / np.maximum(counts, 1), np.nan))


def _returns(b: _Base) -> Named:
    spans = {"1": 1, "2": 2, "4": 4, "8": 8, "day": b.params.day, "3days": 3 * b.params.day, "week": b.params.week, "month": b.params.month}
    for name, bars in spans.items():
        value = _span_return(b, bars)
        yield f"return_{name}", value
        if bars != 2:
            yield f"abs_return_{name}", np.abs(value)
    recent = b.recent(b.returns.values).values
    squared, falls = b.recent(recent**2), b.recent(np.where(recent >= 0, 0.0, recent**2))
    for name, bars, level in (("day", b.params.day, b.log_variance[2]), ("week", b.params.week, b.log_variance[3])):
        close_variance = squared.mean(bars) + VARIANCE_FLOOR
        yield f"downside_{name}", falls.mean(bars) / close_variance
        yield f"close_to_range_{name}", np.log(close_variance) - level


def _span_return(b: _Base, bars: int) -> Floats:
    return np.asarray((b.logs.at() - b.logs.at(bars)) / (b.sd * np.sqrt(bars)))


def _position(b: _Base) -> Named:
    high, low, close = (newest_rows(values, b.rows) for values in (b.grid.high, b.grid.low, b.grid.close))
    width = high - low
    with np.errstate(invalid="ignore", divide="ignore"):
        yield "close_in_bar", np.where(width > 0, (2.0 * close - high - low) / width, np.where(np.isnan(width), np.nan, 0.0))
        for name, bars in (("day", b.params.day), ("week", b.params.week)):
            highs, lows = (newest_rows(values, b.rows + bars) for values in (b.grid.high, b.grid.low))
            top, bottom = newest_rows(rolling_max(highs, bars), b.rows), newest_rows(rolling_min(lows, bars), b.rows)
            yield f"position_{name}", np.where(top > bottom, (close - bottom) / (top - bottom), np.nan)
            yield f"range_{name}", np.log(np.log(top / bottom) + VARIANCE_FLOOR) - b.log_variance[3] / 2.0
    newest = newest_rows(b.returns.values, b.rows + _RSI_BARS)
    up, down = b.recent(np.maximum(newest, 0.0)).mean(_RSI_BARS), b.recent(np.maximum(-newest, 0.0)).mean(_RSI_BARS)
    yield "rsi", up / (up + down + VARIANCE_FLOOR)
    logs = b.recent(b.logs.values)
    yield "trend_12_26", (logs.mean(12) - logs.mean(26)) / b.sd
    yield "trend_week", (logs.at() - logs.mean(b.params.week)) / b.sd


def _volume(b: _Base) -> Named:
    day, week, month = (b.turnover.mean(bars) for bars in (b.params.day, b.params.week, b.params.month))
    few, size = b.turnover.mean(b.params.variance_windows[1]), Trailing(np.abs(b.returns.values), b.rows)
    yield "volume_bar_day", _log_ratio(b.turnover.at(), day)
    yield "volume_few_day", _log_ratio(few, day)
    yield "volume_day_week", _log_ratio(day, week)
    yield "volume_week_month", _log_ratio(week, month)
    yield "volume_same_time", _log_ratio(b.turnover.at(b.params.day - 1), day)
    yield "illiquidity", _log_ratio(size.mean(b.params.day), size.mean(b.params.month)) - _log_ratio(day, month)


def _log_ratio(part: Floats, whole: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(whole > 0, np.log(part / whole + _RATIO_FLOOR), np.nan)


def _market(b: _Base) -> Named:
    bar, few, day = b.log_variance[:3]
    means = [market_mean(level) for level in (bar, few, day)]
    yield from ((f"market_logvar_{name}", mean) for name, mean in zip(("bar", "few", "day"), means, strict=True))
    yield "logvar_bar_to_market", bar - means[0]
    yield "logvar_day_to_market", day - means[2]
    returns = b.returns.at()
    mean = market_mean(returns)
    spread = np.sqrt(np.maximum(market_mean(returns**2) - mean**2, 0.0))
    yield "market_dispersion", np.log(spread + VARIANCE_FLOOR) - means[2] / 2.0
    yield "market_return", mean / np.exp(means[2] / 2.0)
    yield "return_to_market", (returns - mean) / b.sd
    yield "breadth", market_mean(np.where(np.isnan(returns), np.nan, np.where(returns > 0, 1.0, 0.0)))
    window = b.params.variance_windows[1]
    turnover = Trailing(newest_rows(b.turnover.values, b.rows + window + b.params.day), b.rows + window)
    volume = Trailing(_log_ratio(turnover.at(), turnover.mean(b.params.day)), b.rows)
    yield "market_volume_bar", market_mean(volume.at())
    yield "market_volume_few", market_mean(volume.mean(window))


def _leader(b: _Base) -> Named:
    """Of the first BTC series; missing columns where the grid has none."""
    at = b.grid.leader

    def column(values: Floats) -> Floats:
        return np.full((len(values), 1), np.nan) if at is None else values[:, [at]]

    for name, level in zip(("bar", "few", "day", "week", "month"), b.log_variance, strict=True):
        yield f"leader_logvar_{name}", column(level)
    for span, bars in (("1", 1), ("day", b.params.day)):
        yield f"leader_return_{span}", column(_span_return(b, bars))
    returns = b.recent(b.returns.values).values
    both = returns * column(returns)
    x, y = np.where(np.isnan(both), np.nan, returns), np.where(np.isnan(both), np.nan, column(returns))
    mx, my, mxx, myy, mxy = (b.recent(path).mean(b.params.week) for path in (x, y, x * x, y * y, both))
    scale = np.sqrt(np.maximum(mxx - mx * mx, 0.0) * np.maximum(myy - my * my, 0.0))
    yield "leader_correlation", (mxy - mx * my) / (scale + VARIANCE_FLOOR**2)


def _calendar(b: _Base) -> Named:
    minutes = newest_rows(b.grid.ts, b.rows) // 60_000
    weekday = (minutes // 1440 + 3) % 7
    yield "time_of_day", (minutes % 1440 / 60.0)[:, None]
    yield "weekday", weekday[:, None].astype(np.float64)
    yield "time_of_week", (weekday * 24 + minutes % 1440 / 60.0)[:, None]


_GROUPS: tuple[Callable[[_Base], Named], ...] = (
    _volatility, _volatility_path, _returns, _position, _volume, _market, _leader, _calendar,
)  # fmt: skip
