"""How many requests one key or address may make.

What belongs here: token buckets and the address of a caller. What does not: who the caller is (`auth`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection

MAX_CALLERS = 10_000
"""Buckets kept; beyond it the caller seen longest ago is forgotten and starts again with a full bucket."""


class TokenBuckets:
    """One bucket per caller: `per_minute` tokens at most, refilled evenly over a minute."""

    def __init__(self, per_minute: int, clock: Callable[[], float], max_callers: int = MAX_CALLERS) -> None:
        """clock: seconds that never run backwards."""
        self._capacity = float(per_minute)
        self._per_second = per_minute / 60.0
        self._clock = clock
        self._max_callers = max_callers
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, caller: str) -> float:
        """Take one token: 0.0 when there was one, otherwise the seconds until there will be."""
        now = self._clock()
        tokens, since = self._buckets.pop(caller, (self._capacity, now))
        tokens = min(self._capacity, tokens + (now - since) * self._per_second)
        is_admitted = tokens >= 1.0
        self._buckets[caller] = (tokens - 1.0 if is_admitted else tokens, now)
        if len(self._buckets) > self._max_callers:
            self._buckets.popitem(last=False)
        return 0.0 if is_admitted else (1.0 - tokens) / self._per_second

    def __len__(self) -> int:
        """Callers remembered."""
        return len(self._buckets)


def caller_address(peer: str, forwarded_for: str, trusted: Collection[str]) -> str:
    """Address of the caller: the peer, or, when the peer is one of our proxies, the last hop that is not one of ours."""
    if peer not in trusted or not forwarded_for:
        return peer
    hops = [hop.strip() for hop in forwarded_for.split(",") if hop.strip()]
    return next((hop for hop in reversed(hops) if hop not in trusted), peer)
