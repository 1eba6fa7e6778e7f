"""A cache that forgets what was not used for longest when it is full.

What belongs here: the cache. What does not: what is kept in it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Memory(Generic[K, V]):
    """At most `size` values by key; a full memory drops the one used longest ago."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._kept: OrderedDict[K, V] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: K, build: Callable[[], V]) -> V:
        """The value of a key, built now if it is not remembered."""
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        value = build()
        self.put(key, value)
        return value

    def put(self, key: K, value: V) -> None:
        """Remembers a value."""
        self._kept[key] = value
        while len(self._kept) > self._size:
            self._kept.popitem(last=False)
