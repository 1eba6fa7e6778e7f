"""The sandbox market: bars of every symbol, venue and index at any time, the same for the same seed.

What belongs here: the one entry to the market's history and present. What does not: wire forms and servers.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from altforecast.errors import InputError, UnknownNameError
from altforecast.types import Metric, Timeframe
from altforecast_sandbox.caps import INDEX_METRICS, Caps, caps_of_day, index_digits, index_grid
from altforecast_sandbox.coins import COIN_INDEX, COINS, PAIRS, Pair
from altforecast_sandbox.grids import Grid, aggregate, cut_minute
from altforecast_sandbox.incidents import Incident, incidents_of_day
from altforecast_sandbox.memory import Memory
from altforecast_sandbox.paths import CoinDay, FactorDay, coin_day, factor_day
from altforecast_sandbox.quotes import HABITS, REFERENCE_VENUE, cross_grid, dollar_log, is_cross, minute_grid
from altforecast_sandbox.sentiment import fear_greed_value
from altforecast_sandbox.skeleton import FIRST_DAY, LAST_DAY, REGIMES, build_skeleton

_DAY_MS, _MINUTE_MS = 86_400_000, 60_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_QUARTER = 15
_FACTORS_KEPT, _COINS_KEPT, _MINUTES_KEPT, _QUARTERS_KEPT = 512, 96, 96, 24_000
"""Bounds of the caches: about 18, 4, 6 and 110 MB when full."""


@dataclass(frozen=True)
class Candles:
    """Bars as arrays, ascending: opens [ms since 1970], prices [quote], volume [base], and decimals for printing."""

    ts_ms: NDArray[np.int64]
    open: NDArray[np.float64]
    high: NDArray[np.float64]
    low: NDArray[np.float64]
    close: NDArray[np.float64]
    volume: NDArray[np.float64]
    price_digits: int
    amount_digits: int

    def __len__(self) -> int:
        return len(self.ts_ms)


class Market:
    """The market of one seed; every answer depends on seed and arguments alone, whatever was asked before."""

    def __init__(self, seed: int = 7) -> None:
        self.seed = seed
        self._skeleton = build_skeleton(seed)
        self._factors: Memory[int, FactorDay] = Memory(_FACTORS_KEPT)
        self._days: Memory[int, tuple[Incident, ...]] = Memory(_FACTORS_KEPT)
        self._coins: Memory[tuple[int, int], CoinDay] = Memory(_COINS_KEPT)
        self._dollars: Memory[int, NDArray[np.float64]] = Memory(2)
        self._minutes: Memory[tuple[str, str, int], Grid] = Memory(_MINUTES_KEPT)
        self._quarters: Memory[tuple[str, str, int], Grid] = Memory(_QUARTERS_KEPT)

    @property
    def symbols(self) -> tuple[str, ...]:
        """Canonical names of every tradable pair."""
        return tuple(PAIRS)

    def bars(self, symbol: str, timeframe: Timeframe | str, start: datetime, end: datetime, venue: str = REFERENCE_VENUE) -> pl.DataFrame:
        """Final bars with open time in [start, end): `ts, open, high, low, close, volume`, ascending.

        Minutes without a bar (outages; quiet minutes on some venues) are absent. Raises UnknownNameError or InputError.
        """
        return _frame(self.candles(symbol, timeframe, start, end, venue))

    def index_bars(self, metric: Metric | str, timeframe: Timeframe | str, start: datetime, end: datetime) -> pl.DataFrame:
        """Bars of TOTAL2, TOTAL3 [USD], BTC.D or USDT.D [percent] in [start, end); volume is null."""
        frame = _frame(self.index_candles(metric, timeframe, start, end))
        return frame.with_columns(pl.lit(None, dtype=pl.Float64).alias("volume"))

    def incidents(self, start: datetime, end: datetime) -> list[Incident]:
        """Flash crashes, halts and outages that touch [start, end), by start."""
        days = range(_day(start), _day(end - timedelta(microseconds=1)) + 1)
        return [i for day in days for i in self._incidents(day) if i.end > start and i.start < end]

    def regime(self, at: datetime) -> str:
        """Name of the regime on a day: calm, trend_up, trend_down or panic."""
        return REGIMES[int(self._skeleton.regime[self._row(_day(at))])]

    def fear_greed(self, day: date) -> int:
        """Fear & Greed index published at 00:00 UTC of a day (0 to 100), from the days before it."""
        return fear_greed_value(self._skeleton, self._row((day - _EPOCH.date()).days))

    def caps(self, at: datetime) -> dict[str, float]:
        """Market caps in USD at a moment (last full minute): `btc`, `eth`, `usdt`, `total` and each coin's code in lower case."""
        day, minute = _day(at), at.hour * 60 + at.minute
        caps = self._caps(day)
        coins = {c.code.lower(): c.supply * float(np.exp(self._coin(day, i).log_price[minute])) for i, c in enumerate(COINS)}
        return coins | {"usdt": float(caps.usdt[minute]), "total": float(caps.total[minute])}

    def candles(
        self,
        symbol: str,
        timeframe: Timeframe | str,
        start: datetime,
        end: datetime,
        venue: str = REFERENCE_VENUE,
        now: datetime | None = None,
    ) -> Candles:
        """Like `bars`, as arrays; with `now`, as a venue shows them at that moment: nothing later, the forming bar last."""
        pair = _pair(symbol)
        if venue not in HABITS:
            raise UnknownNameError("venue", venue, "unknown venue", HABITS)
        return self._collect((venue, pair.symbol), timeframe, start, end, now, pair.price_digits, pair.amount_digits)

    def index_candles(
        self, metric: Metric | str, timeframe: Timeframe | str, start: datetime, end: datetime, now: datetime | None = None
    ) -> Candles:
        """Like `index_bars`, as arrays (volume 0); `now` as in `candles`."""
        known = Metric(metric)
        if known not in INDEX_METRICS:
            raise UnknownNameError("metric", metric, "not an index series", INDEX_METRICS)
        return self._collect(("index", known.value), timeframe, start, end, now, index_digits(known), 0)

    def coin_mark(self, code: str, day: int, minute: int) -> float:
        """Log price of a coin in USDT at a full minute (days since 1970, minute 0 to 1440)."""
        self._row(day)
        return float(self._coin(day, COIN_INDEX[code]).log_price[minute])

    def dollar_mark(self, day: int, minute: int) -> float:
        """Log price of one USDT in US dollars at a full minute."""
        return float(self._dollars.get(day, lambda: dollar_log(day))[minute])

    def _collect(
        self,
        series: tuple[str, str],
        timeframe: Timeframe | str,
        start: datetime,
        end: datetime,
        now: datetime | None,
        price_digits: int,
        amount_digits: int,
    ) -> Candles:
        step = Timeframe(timeframe).ms
        begin_ms, end_ms = _ms(start), _ms(end) if now is None else min(_ms(end), _ms(now) + 1)
        days = range(begin_ms // _DAY_MS, -(-end_ms // _DAY_MS)) if end_ms > begin_ms else range(0)
        grids = [self._day_grid(series, day, step // _MINUTE_MS, now) for day in days]
        if not grids:
            return _candles([], np.empty(0, dtype=np.int64), price_digits, amount_digits)
        opens = np.arange(days[0] * _DAY_MS, (days[-1] + 1) * _DAY_MS, step, dtype=np.int64)
        kept = np.concatenate([g.exists for g in grids]) & (opens >= begin_ms) & (opens < end_ms)
        columns = [np.concatenate([getattr(g, name) for g in grids])[kept] for name in ("open", "high", "low", "close", "volume")]
        return _candles(columns, opens[kept], price_digits, amount_digits)

    def _day_grid(self, series: tuple[str, str], day: int, minutes: int, now: datetime | None) -> Grid:
        if now is not None and _day(now) == day:
            done = (_ms(now) % _MINUTE_MS) / _MINUTE_MS
            return aggregate(cut_minute(self._minute_grid(series, day), now.hour * 60 + now.minute, done), minutes)
        if minutes % _QUARTER:
            return aggregate(self._minute_grid(series, day), minutes)
        return aggregate(self._quarters.get((*series, day), lambda: self._build_quarters(*series, day)), minutes // _QUARTER)

    def _build_quarters(self, venue: str, name: str, day: int) -> Grid:
        if venue != "index":
            return aggregate(self._minute_grid((venue, name), day), _QUARTER)
        # The caps of a day need every coin's path: all four series are built from them at once.
        caps = self._caps(day)
        grids = {metric.value: aggregate(index_grid(caps, metric), _QUARTER) for metric in INDEX_METRICS}
        for other, grid in grids.items():
            self._quarters.put((venue, other, day), grid)
        return grids[name]

    def _minute_grid(self, series: tuple[str, str], day: int) -> Grid:
        return self._minutes.get((*series, day), lambda: self._build_minutes(*series, day))

    def _build_minutes(self, venue: str, name: str, day: int) -> Grid:
        self._row(day)
        if venue == "index":
            return index_grid(self._caps(day), Metric(name))
        if is_cross(name):
            eth, btc = PAIRS["ETH-USDT"], PAIRS["BTC-USDT"]
            grids = (self._minute_grid((venue, eth.symbol), day), self._minute_grid((venue, btc.symbol), day))
            return cross_grid(*grids, eth.price_digits, btc.price_digits, eth.amount_digits)
        path = self._coin(day, COIN_INDEX[PAIRS[name].base])
        return minute_grid(self.seed, day, PAIRS[name], venue, path, self._incidents(day))

    def _coin(self, day: int, coin: int) -> CoinDay:
        factor = self._factors.get(day, lambda: factor_day(self.seed, day, self._skeleton, self._incidents(day)))
        return self._coins.get((day, coin), lambda: coin_day(self.seed, day, coin, self._skeleton, factor))

    def _caps(self, day: int) -> Caps:
        return caps_of_day(day, np.stack([self._coin(day, i).log_price for i in range(len(COINS))]))

    def _incidents(self, day: int) -> tuple[Incident, ...]:
        return self._days.get(day, lambda: incidents_of_day(self.seed, day, REGIMES[int(self._skeleton.regime[self._row(day)])]))

    def _row(self, day: int) -> int:
        if not FIRST_DAY <= day < LAST_DAY:
            first, last = (date.fromordinal(d + _EPOCH.toordinal()) for d in (FIRST_DAY, LAST_DAY - 1))
            raise InputError(
                "time", date.fromordinal(day + _EPOCH.toordinal()).isoformat(), f"the sandbox market runs from {first} to {last}"
            )
        return day - FIRST_DAY


def _pair(symbol: str) -> Pair:
    if symbol not in PAIRS:
        raise UnknownNameError("symbol", symbol, "not traded in the sandbox", PAIRS)
    return PAIRS[symbol]


def _day(at: datetime) -> int:
    return _ms(at) // _DAY_MS


def _ms(at: datetime) -> int:
    if at.tzinfo is None:
        raise InputError("time", at, "must be UTC-aware")
    return (at - _EPOCH) // timedelta(milliseconds=1)


def _candles(columns: list[NDArray[np.int64]], ts_ms: NDArray[np.int64], price_digits: int, amount_digits: int) -> Candles:
    columns = columns or [ts_ms] * 5
    open_, high, low, close = (c / 10.0**price_digits for c in columns[:4])
    return Candles(ts_ms, open_, high, low, close, columns[4] / 10.0**amount_digits, price_digits, amount_digits)


def _frame(candles: Candles) -> pl.DataFrame:
    frame = pl.DataFrame({name: getattr(candles, name) for name in ("ts_ms", "open", "high", "low", "close", "volume")})
    ts = pl.from_epoch(pl.col("ts_ms"), time_unit="ms").cast(pl.Datetime("ms")).dt.replace_time_zone("UTC").alias("ts")
    return frame.with_columns(ts).select("ts", "open", "high", "low", "close", "volume")
