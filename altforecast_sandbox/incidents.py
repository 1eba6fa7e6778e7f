"""What goes wrong in the sandbox market: flash crashes, trading halts and venue outages.

What belongs here: when and where an incident happens. What does not: faults of the servers themselves (`faults`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from altforecast.symbols import VENUES
from altforecast_sandbox.coins import COINS

MINUTES = 1440
FLASH_MINUTES = 180
"""A flash crash is over, and its price mark gone, after this many minutes."""
_FLASH_PER_DAY = {"panic": 0.25}
_FLASH_PER_DAY_ELSE = 1 / 60
_HALT_PER_DAY = 1 / 15
_OUTAGE_PER_DAY = 1 / 45


@dataclass(frozen=True)
class Incident:
    """One incident in [start, end); `scope` is `market`, a canonical symbol or a venue; `depth_frac` is 0 unless prices fall."""

    kind: str
    scope: str
    start: datetime
    end: datetime
    depth_frac: float = 0.0

    @property
    def first_minute(self) -> int:
        """Minute of the day at which it starts."""
        return self.start.hour * 60 + self.start.minute

    @property
    def n_minutes(self) -> int:
        """How long it lasts [minutes]; never past midnight."""
        return int((self.end - self.start) / timedelta(minutes=1))


def incidents_of_day(seed: int, day: int, regime: str) -> tuple[Incident, ...]:
    """Incidents of one day (days since 1970), by time; the same for the same arguments.

    `flash_crash`: every price falls and comes back. `halt`: one symbol does not trade anywhere (flat, volume 0).
    `outage`: a venue has no bars at all for a while.
    """
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, day, 2])))
    midnight = datetime.fromtimestamp(day * 86_400, tz=UTC)
    found = []
    if rng.random() < _FLASH_PER_DAY.get(regime, _FLASH_PER_DAY_ELSE):
        start = int(rng.integers(30, MINUTES - FLASH_MINUTES - 30))
        found.append(_incident("flash_crash", "market", midnight, start, FLASH_MINUTES, float(rng.uniform(0.03, 0.10))))
    if rng.random() < _HALT_PER_DAY:
        coin = COINS[int(rng.integers(2, len(COINS)))]
        found.append(_incident("halt", f"{coin.code}-USDT", midnight, int(rng.integers(30, 1300)), int(rng.integers(5, 60))))
    for venue, draw in zip(VENUES, rng.random(len(VENUES)), strict=True):
        start, length = int(rng.integers(30, 1300)), int(rng.integers(8, 100))
        if draw < _OUTAGE_PER_DAY:
            found.append(_incident("outage", venue, midnight, start, length))
    return tuple(sorted(found, key=lambda i: (i.start, i.kind, i.scope)))


def _incident(kind: str, scope: str, midnight: datetime, start: int, length: int, depth: float = 0.0) -> Incident:
    begin = midnight + timedelta(minutes=start)
    return Incident(kind, scope, begin, begin + timedelta(minutes=length), depth)
