"""How many requests one key or address may make.

What belongs here: token buckets, the address of a caller and whether it lies in a network. What does not: who the caller is (`auth`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

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


def caller_address(peer: str, forwarded_for: str, trusted: tuple[str, ...]) -> str:
    """Address of the caller: the peer, or, when the peer is one of our proxies, the last hop that is not one of ours.

    trusted: addresses and networks of our proxies.
    """
    if not forwarded_for or not is_inside(peer, trusted):
        return peer
    hops = [hop.strip() for hop in forwarded_for.split(",") if hop.strip()]
    return next((hop for hop in reversed(hops) if not is_inside(hop, trusted)), peer)


def is_inside(address: str, networks: tuple[str, ...]) -> bool:
    """Whether an address is one of these addresses or lies in one of these networks; False for what is no address."""
    try:
        found = ip_address(address.removeprefix("::ffff:"))
    except ValueError:
        return False
    return any(found in network for network in _parsed(networks))


@lru_cache(maxsize=8)
def _parsed(networks: tuple[str, ...]) -> tuple[IPv4Network | IPv6Network, ...]:
    return tuple(ip_network(text, strict=False) for text in networks)
