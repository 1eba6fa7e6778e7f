"""A token bucket for tasks of one loop: how often something may be begun.

What belongs here: waiting for a turn. What does not: HTTP rate limits of our own API (serving).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


class TokenBucket:
    """At most `burst` turns at once and `rate_per_s` in the long run; callers are served in order, waiting without bound."""

    def __init__(
        self,
        rate_per_s: float,
        burst: int,
        monotonic: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._rate, self._burst, self._monotonic, self._sleep = rate_per_s, float(burst), monotonic, sleep
        self._tokens, self._at = float(burst), monotonic()
        self._turn = asyncio.Lock()

    async def take(self) -> None:
        """Return when it is the caller's turn."""
        async with self._turn:
            self._refill()
            if self._tokens < 1.0:
                await self._sleep((1.0 - self._tokens) / self._rate)
                self._refill()
                # an injected sleep may wake early or not move the clock: a turn that was waited for is given
                self._tokens = max(self._tokens, 1.0)
            self._tokens -= 1.0

    def _refill(self) -> None:
        now = self._monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
