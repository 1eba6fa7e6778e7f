"""What happens within one day of the sandbox market: minute-by-minute log prices that meet the daily closes exactly.

What belongs here: continuous paths and trading activity per coin. What does not: venues, ticks and bars (`bars`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from altforecast_sandbox.coins import COINS
from altforecast_sandbox.incidents import FLASH_MINUTES, MINUTES, Incident
from altforecast_sandbox.skeleton import FIRST_DAY, Skeleton

Floats = NDArray[np.float64]
_NODE_MINUTES = 10
_NODES = MINUTES // _NODE_MINUTES + 1
_MOOD_KEEP = np.exp(-_NODE_MINUTES / 130.0)
_MOOD_SD = 0.40
_TAIL_DF = 5
_MINUTE = np.arange(MINUTES)


@dataclass(frozen=True)
class FactorDay:
    """The common part of one day: minute returns, share of the day's variance per minute, and how busy each minute is."""

    returns: Floats
    variance_share: Floats
    busy: Floats


@dataclass(frozen=True)
class CoinDay:
    """One coin's day: `log_price[0]` at midnight, `log_price[m + 1]` at the end of minute m; wicks and activity per minute."""

    log_price: Floats
    wick_up: Floats
    wick_down: Floats
    """How far the minute went beyond its open and close [log]."""
    turnover_usdt: Floats


def _time_of_day() -> Floats:
    hour = _MINUTE / 60.0
    return np.asarray(1.0 + 0.30 * np.cos(2 * np.pi * (hour - 14.5) / 24) + 0.45 * np.exp(-(((hour - 14.3) / 1.2) ** 2)), dtype=np.float64)


TIME_OF_DAY = _time_of_day()
"""Typical volatility by minute of the UTC day; loudest when European and American hours overlap."""


def factor_day(seed: int, day: int, skeleton: Skeleton, incidents: tuple[Incident, ...]) -> FactorDay:
    """The common factor of one day (days since 1970)."""
    rng = _rng(seed, day, 3)
    row = day - FIRST_DAY
    share = _variance_share(rng, skeleton.loudness, row)
    returns = _bridge(rng, share, float(skeleton.factor_sd[row]), float(skeleton.factor_return[row]))
    busy = np.sqrt(share * MINUTES) * np.exp(0.6 * skeleton.loudness[row])
    for crash in (i for i in incidents if i.kind == "flash_crash"):
        dip = _dip(crash)
        returns = returns + np.diff(dip, prepend=0.0)
        busy = busy * (1.0 + 60.0 * np.abs(dip))
    return FactorDay(returns, share, busy)


def coin_day(seed: int, day: int, coin: int, skeleton: Skeleton, factor: FactorDay) -> CoinDay:
    """The path of coin number `coin` on one day; starts and ends exactly on the skeleton's closes."""
    rng = _rng(seed, day, 16 + coin)
    row = day - FIRST_DAY
    about = COINS[coin]
    sd = float(skeleton.own_sd[row, coin])
    own = _bridge(rng, factor.variance_share, sd, float(skeleton.own_return[row, coin]))
    log_price = np.empty(MINUTES + 1)
    log_price[0] = skeleton.log_close[row, coin]
    log_price[1:] = log_price[0] + np.cumsum(about.beta * factor.returns + own)
    log_price[-1] = skeleton.log_close[row + 1, coin]
    minute_sd = np.hypot(about.beta * skeleton.factor_sd[row], sd) * np.sqrt(factor.variance_share)
    wick_up, wick_down = rng.standard_exponential((2, MINUTES)) * minute_sd * 0.45
    surprise = np.abs(np.diff(log_price)) / minute_sd
    noise = np.exp(0.45 * rng.standard_normal(MINUTES))
    turnover = about.turnover_usdt / MINUTES * factor.busy * (0.55 + 0.45 * np.minimum(surprise, 8.0)) * noise
    return CoinDay(log_price, wick_up, wick_down, turnover)


def _rng(seed: int, day: int, stream: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, day, stream])))


def _variance_share(rng: np.random.Generator, loudness: Floats, row: int) -> Floats:
    """Each minute's share of the day's variance: time of day, neighbouring days' loudness, and a mood that lasts about two hours."""
    steps = rng.standard_normal(_NODES) * _MOOD_SD * np.sqrt(1 - _MOOD_KEEP**2)
    steps[0] = rng.standard_normal() * _MOOD_SD
    fade = _MOOD_KEEP ** np.arange(_NODES)
    mood = np.interp(_MINUTE, np.arange(_NODES) * _NODE_MINUTES, fade * np.cumsum(steps / fade))
    before, now, after = (loudness[min(max(r, 0), len(loudness) - 1)] for r in (row - 1, row, row + 1))
    slope = np.interp(_MINUTE, [0, MINUTES // 2, MINUTES], [(before + now) / 2, now, (now + after) / 2])
    raw = (TIME_OF_DAY * np.exp(mood + slope)) ** 2
    return np.asarray(raw / raw.sum(), dtype=np.float64)


def _bridge(rng: np.random.Generator, share: Floats, sd: float, total: float) -> Floats:
    """Fat-tailed minute returns of daily deviation `sd` that sum to `total` (a Brownian bridge in volatility time)."""
    raw = rng.standard_t(_TAIL_DF, MINUTES) * np.sqrt((_TAIL_DF - 2) / _TAIL_DF) * sd * np.sqrt(share)
    return np.asarray(raw + (total - raw.sum()) * share, dtype=np.float64)


def _dip(crash: Incident) -> Floats:
    """Log price mark of a flash crash: down within five minutes, half back in ten, gone at its end."""
    since = _MINUTE - crash.first_minute
    fall = np.clip((since + 1) / 5.0, 0.0, 1.0)
    back = np.exp(-np.maximum(since - 5, 0) / 15.0) * np.clip(1 - since / FLASH_MINUTES, 0.0, 1.0)
    inside = (since >= 0) & (since < FLASH_MINUTES)
    return np.asarray(np.where(inside, np.log1p(-crash.depth_frac) * fall * back, 0.0), dtype=np.float64)
