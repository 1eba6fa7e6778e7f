"""The index series of the sandbox: total market caps and dominances, from the coins' own prices.

What belongs here: TOTAL, TOTAL2, TOTAL3, BTC.D, USDT.D and their minute bars. What does not: who publishes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from altforecast.types import Metric
from altforecast_sandbox.coins import COIN_INDEX, COINS
from altforecast_sandbox.grids import Grid
from altforecast_sandbox.incidents import MINUTES

Floats = NDArray[np.float64]
OTHER_ALTS_USD = 4.2e11
"""Cap of all coins we do not model one by one, when the average alt stands at its anchor."""
OTHER_STABLES_USD = 1.1e11
CAP_DIGITS = 2
DOMINANCE_DIGITS = 6
_SUPPLY = np.array([coin.supply for coin in COINS])
_ANCHOR_LOG = np.log([coin.anchor_usdt for coin in COINS])


@dataclass(frozen=True)
class Caps:
    """Market caps [USD] at the 1,441 minute marks of one day."""

    btc: Floats
    eth: Floats
    usdt: Floats
    total: Floats

    def value(self, metric: Metric) -> Floats:
        """The index series of a metric: USD, or percent points for a dominance."""
        values: Mapping[Metric, Floats] = {
            Metric.TOTAL2: self.total - self.btc,
            Metric.TOTAL3: self.total - self.btc - self.eth,
            Metric.BTC_D: 100.0 * self.btc / self.total,
            Metric.USDT_D: 100.0 * self.usdt / self.total,
        }
        return values[metric]


INDEX_METRICS = (Metric.TOTAL2, Metric.TOTAL3, Metric.BTC_D, Metric.USDT_D)


def index_digits(metric: Metric) -> int:
    """Decimals of an index series."""
    return CAP_DIGITS if metric in (Metric.TOTAL2, Metric.TOTAL3) else DOMINANCE_DIGITS


def usdt_cap_usd(day: int) -> Floats:
    """Cap of USDT at the minute marks of a day (days since 1970): slow issue and redemption, unrelated to prices."""
    at = day + np.arange(MINUTES + 1) / MINUTES
    return np.asarray(1.75e11 * (1.0 + 0.05 * np.sin(2 * np.pi * at / 480.0) + 0.01 * np.sin(2 * np.pi * at / 37.0)), dtype=np.float64)


def caps_of_day(day: int, log_prices: Floats) -> Caps:
    """Caps from the coins' log prices (one row per coin, one column per minute mark)."""
    alts = np.delete(np.arange(len(COINS)), COIN_INDEX["BTC"])
    mean_alt = (log_prices[alts] - _ANCHOR_LOG[alts, None]).mean(axis=0)
    coin_caps = _SUPPLY[:, None] * np.exp(log_prices)
    usdt = usdt_cap_usd(day)
    total = coin_caps.sum(axis=0) + OTHER_ALTS_USD * np.exp(mean_alt) + usdt + OTHER_STABLES_USD
    return Caps(coin_caps[COIN_INDEX["BTC"]], coin_caps[COIN_INDEX["ETH"]], usdt, total)


def index_grid(caps: Caps, metric: Metric) -> Grid:
    """One day of minute bars of an index series; it has no volume and no gaps."""
    marks = np.rint(caps.value(metric) * 10.0 ** index_digits(metric)).astype(np.int64)
    open_, close = marks[:-1], marks[1:]
    none = np.zeros(MINUTES, dtype=np.int64)
    return Grid(open_, np.maximum(open_, close), np.minimum(open_, close), close, none, np.ones(MINUTES, dtype=np.bool_))
