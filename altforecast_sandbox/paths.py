"""What happens within one day of the sandbox market: minute-by-minute log prices that meet the daily closes exactly.

What belongs here: continuous paths and trading activity per coin. What does not: venues, ticks and bars (`bars`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from altforecast_sandbox.coins import COIN_INDEX, COINS
from altforecast_sandbox.incidents import FLASH_MINUTES, MINUTES, Incident
from altforecast_sandbox.skeleton import FIRST_DAY, Skeleton

Floats = NDArray[np.float64]
_NODE_MINUTES = 10
_NODES = MINUTES // _NODE_MINUTES
_NODE_MINUTE = np.arange(_NODES + 1) * _NODE_MINUTES
_MOOD_FADE = 0.65
_MOOD_SD, _OWN_MOOD_SD = 0.40, 0.25
"""Deviation of the log volatility within a day: of the market, and of a coin's own part on top of it."""
_REVERSAL = 0.20
_REVERSAL_KEEP = np.exp(-1 / 60.0)
"""Share of a coin's own moves that is taken back, over about an hour."""
_LAGGED = 0.10
"""Share of a minute of the common factor that reaches the other coins one minute after Bitcoin."""
_TAIL_DF = 5
_MOODS, _OWN_PATHS, _OWN_MOODS = 4, 16, 64
"""Numbers of the random streams of a day (3: the factor's path)."""
_MINUTE = np.arange(MINUTES)
_LEADER = COIN_INDEX["BTC"]


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
    return np.asarray(1.0 + 0.20 * np.cos(2 * np.pi * (hour - 14.5) / 24) + 0.30 * np.exp(-(((hour - 14.3) / 1.4) ** 2)), dtype=np.float64)


def _fade() -> Floats:
    weight = np.arange(1.0, _NODES + 1) ** -_MOOD_FADE
    return np.asarray(weight / np.sqrt((weight**2).sum()), dtype=np.float64)


_FADE = _fade()
TIME_OF_DAY = _time_of_day()
"""Typical volatility by minute of the UTC day; loudest when European and American hours overlap."""


def factor_day(seed: int, day: int, skeleton: Skeleton, incidents: tuple[Incident, ...]) -> FactorDay:
    """The common factor of one day (days since 1970)."""
    rng = _rng(seed, day, 3)
    row = day - FIRST_DAY
    share = _variance_share(_mood(seed, day, _MOODS) * _MOOD_SD, _slope(skeleton.loudness, row))
    returns = _bridge(rng, share, float(skeleton.factor_sd[row]), float(skeleton.factor_return[row]))
    busy = np.sqrt(share * MINUTES) * np.exp(0.6 * skeleton.loudness[row])
    for crash in (i for i in incidents if i.kind == "flash_crash"):
        dip = _dip(crash)
        returns = returns + np.diff(dip, prepend=0.0)
        busy = busy * (1.0 + 60.0 * np.abs(dip))
    return FactorDay(returns, share, busy)


def coin_day(seed: int, day: int, coin: int, skeleton: Skeleton, factor: FactorDay) -> CoinDay:
    """The path of coin number `coin` on one day; starts and ends exactly on the skeleton's closes."""
    rng = _rng(seed, day, _OWN_PATHS + coin)
    row = day - FIRST_DAY
    about = COINS[coin]
    sd = float(skeleton.own_sd[row, coin])
    loudness = (
        _slope(np.log(skeleton.own_sd[:, coin]), row) - _slope(skeleton.loudness, row) + _OWN_MOOD_SD * _mood(seed, day, _OWN_MOODS + coin)
    )
    own_share = factor.variance_share * np.exp(2 * (loudness - _OWN_MOOD_SD**2))
    own = _reverting(_bridge(rng, own_share, sd, float(skeleton.own_return[row, coin])))
    start, end = skeleton.log_close[row, coin], skeleton.log_close[row + 1, coin]
    returns = about.beta * (factor.returns if coin == _LEADER else _lagging(factor.returns)) + own
    log_price = np.empty(MINUTES + 1)
    log_price[0] = start
    log_price[1:] = start + np.cumsum(returns + (end - start - returns.sum()) * own_share / own_share.sum())
    log_price[-1] = end
    minute_sd = np.hypot(about.beta * skeleton.factor_sd[row] * np.sqrt(factor.variance_share), sd * np.sqrt(own_share))
    wick_up, wick_down = rng.standard_exponential((2, MINUTES)) * minute_sd * 0.45
    surprise = np.abs(np.diff(log_price)) / minute_sd
    noise = np.exp(0.45 * rng.standard_normal(MINUTES))
    turnover = about.turnover_usdt / MINUTES * factor.busy * (0.55 + 0.45 * np.minimum(surprise, 8.0)) * noise
    return CoinDay(log_price, wick_up, wick_down, turnover)


def _rng(seed: int, day: int, stream: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, day, stream])))


def _mood(seed: int, day: int, stream: int) -> Floats:
    """Fractional noise of deviation 1 per minute: every shock fades as a power of its age over one day, so it clusters at every speed.

    It looks back into the day before and joins at midnight.
    """
    shocks = np.concatenate([_rng(seed, d, stream).standard_normal(_NODES) for d in (day - 1, day)])
    return np.asarray(np.interp(_MINUTE, _NODE_MINUTE, np.convolve(shocks, _FADE, "valid")), dtype=np.float64)


def _variance_share(mood: Floats, slope: Floats) -> Floats:
    """Each minute's part of the day's variance: time of day, neighbouring days' loudness and the day's mood [log volatility].

    The parts sum to 1 on average, not every day: a sum of exactly 1 would make volatility jump at midnight.
    """
    usual = float((TIME_OF_DAY**2).sum() * np.exp(2 * _MOOD_SD**2))
    return np.asarray((TIME_OF_DAY * np.exp(mood + slope)) ** 2 / usual, dtype=np.float64)


def _slope(log_sd: Floats, row: int) -> Floats:
    """Log volatility of a day by minute against its own level: half-way to the neighbouring days at midnight."""
    before, now, after = (log_sd[min(max(r, 0), len(log_sd) - 1)] for r in (row - 1, row, row + 1))
    return np.asarray(np.interp(_MINUTE, [0, MINUTES // 2, MINUTES], [(before - now) / 2, 0.0, (after - now) / 2]), dtype=np.float64)


def _reverting(returns: Floats) -> Floats:
    """The same moves, each partly taken back afterwards."""
    fade = _REVERSAL_KEEP ** np.arange(MINUTES)
    recent = fade * np.cumsum(returns / fade) * (1 - _REVERSAL_KEEP)
    return np.asarray(returns - _REVERSAL * np.concatenate([[0.0], recent[:-1]]), dtype=np.float64)


def _lagging(returns: Floats) -> Floats:
    return np.asarray(returns * (1 - _LAGGED) + _LAGGED * np.concatenate([[0.0], returns[:-1]]), dtype=np.float64)


def _bridge(rng: np.random.Generator, share: Floats, sd: float, total: float) -> Floats:
    """Fat-tailed minute returns of daily deviation `sd` that sum to `total` (a Brownian bridge in volatility time)."""
    raw = rng.standard_t(_TAIL_DF, MINUTES) * np.sqrt((_TAIL_DF - 2) / _TAIL_DF) * sd * np.sqrt(share)
    return np.asarray(raw + (total - raw.sum()) * share / share.sum(), dtype=np.float64)


def _dip(crash: Incident) -> Floats:
    """Log price mark of a flash crash: down within five minutes, half back in ten, gone at its end."""
    since = _MINUTE - crash.first_minute
    fall = np.clip((since + 1) / 5.0, 0.0, 1.0)
    back = np.exp(-np.maximum(since - 5, 0) / 15.0) * np.clip(1 - since / FLASH_MINUTES, 0.0, 1.0)
    inside = (since >= 0) & (since < FLASH_MINUTES)
    return np.asarray(np.where(inside, np.log1p(-crash.depth_frac) * fall * back, 0.0), dtype=np.float64)
