"""Features from readings that come at their own times: regime, sentiment, market caps and funding.

What belongs here: the newest reading known at each bar's close, its change and its mean, as columns on a bar grid. What does not:
event logs of single series (`signal_features`) and fetching readings.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from altforecast.bar_grid import BarGrid
from altforecast.forecast_params import feature_params

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
REGIME_MAX_AGE_MS = 3 * HOUR_MS
"""An hourly state older than this is not known any more."""
CONTEXT_MAX_AGE_MS = 2 * DAY_MS
"""A reading of sentiment or market cap older than this is not known any more."""
FUNDING_MAX_AGE_MS = DAY_MS
"""A settlement older than this is not known any more."""
FUNDING_SPAN_DAYS = 30
MIN_SETTLEMENTS = 20
"""Settlements that funding_z needs."""
MIN_FUNDING_SD_BPS = 0.1
"""Funding that hardly moves is not divided by less."""
MIN_MEMBERS = 3
"""Series with funding that market_funding needs."""
STANDARD_INTERVAL_H = 8.0
"""Funding is given for this span; also taken where the interval of a settlement is not known."""
_STATES = {"risk_off": -1.0, "neutral": 0.0, "risk_on": 1.0}
_Z_COLUMNS = ("z_total3", "z_total2", "z_btc_d", "z_usdt_d", "z_ethbtc")
_MANY = re.compile(r"^10{3,}(?=[A-Z])")


class _Readings(NamedTuple):
    """One series of readings in the order in which they became known."""

    known_at: Ints
    values: Floats

    def at(self, moments: Ints, max_age_ms: int) -> Floats:
        """Newest value known at each moment, shape (moments,); NaN before the first and where it is older than max_age_ms."""
        return self.picked(moments, max_age_ms, self.values)

    def picked(self, moments: Ints, max_age_ms: int, values: Floats) -> Floats:
        """The same of other values of the same readings."""
        if not len(self.known_at):
            return np.full(len(moments), np.nan)
        row = np.searchsorted(self.known_at, moments, side="right") - 1
        is_fresh = (row >= 0) & (moments - self.known_at[np.maximum(row, 0)] <= max_age_ms)
        return np.where(is_fresh, values[np.maximum(row, 0)], np.nan)

    def window(self, moments: Ints, span_ms: int) -> tuple[Floats, Floats, Floats]:
        """Number, mean and standard deviation of the values that became known in the span up to each moment; NaN without any."""
        sums = np.concatenate([[0.0], np.cumsum(self.values)])
        squares = np.concatenate([[0.0], np.cumsum(self.values**2)])
        end = np.searchsorted(self.known_at, moments, side="right")
        begin = np.searchsorted(self.known_at, moments - span_ms, side="right")
        n = np.where(end > begin, end - begin, np.nan).astype(np.float64)
        mean = (sums[end] - sums[begin]) / n
        return n, mean, np.sqrt(np.maximum((squares[end] - squares[begin]) / n - mean**2, 0.0))


def _ordered(frame: pl.DataFrame, *series: str) -> pl.DataFrame:
    """Rows in the order in which they became known, of each series, without those that came after a row of a later ts."""
    rows, newest = frame.sort(*series, "known_at", "ts"), pl.col("ts").cum_max()
    return rows.filter(pl.col("ts") >= (newest.over(series) if series else newest))


def _ms(moments: pl.Series) -> Ints:
    return moments.dt.epoch("ms").to_numpy()


def _closes(grid: BarGrid, rows: slice) -> Ints:
    return np.asarray(grid.ts[rows] + grid.timeframe.ms)


def _column(values: Floats) -> Floats:
    return values[:, None]


# ---- regime


def regime_columns(grid: BarGrid, frame: pl.DataFrame | None, rows: slice) -> dict[str, Floats]:
    """regime_* columns of shape (rows, 1) from table `regime`; none without rows."""
    if frame is None or frame.is_empty():
        return {}
    known, closes = _ordered(frame), _closes(grid, rows)
    readings = _Readings(_ms(known["known_at"]), np.empty(0))
    values = {"regime_score": known["score"], "regime_state": known["state"].replace_strict(_STATES, return_dtype=pl.Float64)}
    values |= {f"regime_{name}": known[name] for name in _Z_COLUMNS}
    found = {name: readings.picked(closes, REGIME_MAX_AGE_MS, _floats(series)) for name, series in values.items()}
    is_known = ~np.isnan(found["regime_state"])
    found["regime_bars"] = np.where(is_known, _bars_since_change(grid, known, closes), np.nan)
    return {name: _column(column) for name, column in found.items()}


def _bars_since_change(grid: BarGrid, known: pl.DataFrame, closes: Ints) -> Floats:
    """Bars since the state in force began, at most a month; NaN where it began before the rows do and they reach less far back."""
    month = feature_params(grid.timeframe).month
    is_new = (known["state"] != known["state"].shift(1)).fill_null(True).to_numpy()
    began = _ms(known["known_at"])[is_new]
    run = np.maximum(np.searchsorted(began, closes, side="right") - 1, 0)
    age = (closes - began[run]) // grid.timeframe.ms
    return np.where((run > 0) | (age >= month), np.minimum(age, month), np.nan)


def _floats(series: pl.Series) -> Floats:
    return series.cast(pl.Float64).fill_null(float("nan")).to_numpy()


# ---- market context


def context_columns(grid: BarGrid, frame: pl.DataFrame | None, rows: slice) -> dict[str, Floats]:
    """Sentiment, dominance and market-cap columns of shape (rows, 1) from table `market_context`; none without rows."""
    if frame is None or frame.is_empty():
        return {}
    closes = _closes(grid, rows)

    def readings(name: str) -> _Readings:
        known = _ordered(frame.filter(pl.col("name") == name))
        return _Readings(_ms(known["known_at"]), _floats(known["value"]))

    def change(of: _Readings, days: int) -> Floats:
        return of.at(closes, CONTEXT_MAX_AGE_MS) - of.at(closes - days * DAY_MS, CONTEXT_MAX_AGE_MS)

    mood, dominance, cap = (readings(name) for name in ("fear_greed", "btc_dominance_pct", "total_market_cap_usd"))
    logs = _Readings(cap.known_at, np.log(np.where(cap.values > 0, cap.values, np.nan)))
    found = {"fear_greed": mood.at(closes, CONTEXT_MAX_AGE_MS), "fear_greed_change_week": change(mood, 7)}
    for name, days in (("day", 1), ("week", 7)):
        found[f"btc_dominance_change_{name}"] = change(dominance, days)
        found[f"total_market_cap_change_{name}"] = change(logs, days)
    return {name: _column(column) for name, column in found.items()}


# ---- funding


def funding_columns(grid: BarGrid, frame: pl.DataFrame | None, rows: slice) -> dict[str, Floats]:
    """funding columns of shape (rows, series) from table `funding_rates`; none without rows.

    A series takes the funding of itself, else of its base's perpetual at its venue, else at another one (same quote first, then by
    name), whichever is fresh at that moment. Contracts of 1000 coins count as those of one.
    """
    if frame is None or frame.is_empty():
        return {}
    closes = _closes(grid, rows)
    columns = {name: _funding(readings, closes) for name, readings in _perpetuals(frame).items()}
    names = ("funding_rate", "funding_mean_day", "funding_mean_week", "funding_z")
    found = {name: np.full((len(closes), len(grid.series)), np.nan) for name in names}
    for at, series in enumerate(grid.series):
        for perpetual in _ranked(series, list(columns)):
            is_open = np.isnan(found["funding_rate"][:, at])
            for name, values in zip(names, columns[perpetual], strict=True):
                found[name][:, at] = np.where(is_open, values, found[name][:, at])
    return found | {"market_funding": _mean_of_series(found["funding_rate"])}


def _perpetuals(frame: pl.DataFrame) -> dict[tuple[str, str], _Readings]:
    """Funding per 8 h [bps] of each (symbol, exchange)."""
    rows = _ordered(frame, "symbol", "exchange")
    hours = pl.col("interval_h").cast(pl.Float64).fill_null(STANDARD_INTERVAL_H)
    bps = rows.select(pl.col("funding_rate") * (10_000.0 * STANDARD_INTERVAL_H) / hours).to_series().to_numpy()
    known, names = _ms(rows["known_at"]), rows.select("symbol", "exchange")
    sizes = names.group_by("symbol", "exchange", maintain_order=True).len()
    stops = np.cumsum(sizes["len"].to_numpy())
    return {
        (symbol, exchange): _Readings(known[stop - n : stop], bps[stop - n : stop])
        for (symbol, exchange, n), stop in zip(sizes.iter_rows(), stops, strict=True)
    }


def _funding(readings: _Readings, closes: Ints) -> tuple[Floats, ...]:
    """rate, mean of a day, mean of a week, z; all NaN where the newest settlement is too old."""
    rate = readings.at(closes, FUNDING_MAX_AGE_MS)
    means = [np.where(np.isnan(rate), np.nan, readings.window(closes, days * DAY_MS)[1]) for days in (1, 7)]
    n, mean, sd = readings.window(closes, FUNDING_SPAN_DAYS * DAY_MS)
    z = np.where(n >= MIN_SETTLEMENTS, (rate - mean) / np.maximum(sd, MIN_FUNDING_SD_BPS), np.nan)
    return rate, *means, z


def _ranked(series: tuple[str, str], perpetuals: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    symbol, exchange = series
    base, quote = _base(symbol), symbol.split("-")[1] if "-" in symbol else ""
    mine = [name for name in perpetuals if _base(name[0]) == base]
    return sorted(mine, key=lambda p: (p != series, p[1] != exchange, p[0].split("-")[1] != quote, p[1], p[0]))


def _base(symbol: str) -> str:
    return _MANY.sub("", symbol.split("-")[0])


def _mean_of_series(values: Floats) -> Floats:
    known = ~np.isnan(values)
    n = known.sum(axis=1, keepdims=True)
    return np.asarray(np.where(n >= MIN_MEMBERS, np.where(known, values, 0.0).sum(axis=1, keepdims=True) / np.maximum(n, 1), np.nan))
