"""The sandbox's Fear & Greed index, a function of the market itself.

What belongs here: the daily value and its label. What does not: the service that publishes it (`alternative_me`).
"""

from __future__ import annotations

import numpy as np

from altforecast_sandbox.coins import COIN_INDEX
from altforecast_sandbox.skeleton import Skeleton

_LABELS = ((25, "Extreme Fear"), (46, "Fear"), (55, "Neutral"), (76, "Greed"))


def fear_greed_value(skeleton: Skeleton, row: int) -> int:
    """Index at the start of day `row` (0 to 100): month and week return of BTC, less when the market was loud the day before."""
    btc = skeleton.log_close[:, COIN_INDEX["BTC"]]
    month = btc[row] - btc[max(row - 30, 0)]
    week = btc[row] - btc[max(row - 7, 0)]
    loud = skeleton.loudness[max(row - 1, 0)]
    score = 50.0 + 26.0 * np.tanh(month / 0.18) + 16.0 * np.tanh(week / 0.10) - 10.0 * np.tanh(loud)
    return int(np.clip(round(score), 3, 97))


def fear_greed_label(value: int) -> str:
    """Label published with a value."""
    return next((label for below, label in _LABELS if value < below), "Extreme Greed")
