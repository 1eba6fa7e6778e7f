"""Subscriptions of several markets in one frame, where one unknown market makes the venue refuse them all.

What belongs here: which markets an answer is about, and asking again for the others. What does not: frames of any venue.
"""

from __future__ import annotations

from collections.abc import Sequence


class Batches:
    """Markets by the number of the frame that asked for them; bounded by the frames sent, and each refusal asks for fewer."""

    def __init__(self, size: int) -> None:
        self.size = size
        """Markets per frame at most [count]."""
        self._sent: dict[str, list[str]] = {}
        self._last = 0

    def split(self, markets: Sequence[str]) -> list[tuple[str, list[str]]]:
        """Numbers and markets of the frames that ask for these markets."""
        return [self._number(list(markets[i : i + self.size])) for i in range(0, len(markets), self.size)]

    def markets(self, number: str) -> list[str]:
        """What a frame asked for; empty for an unknown number."""
        return self._sent.get(number, [])

    def without(self, number: str, market: str) -> list[tuple[str, list[str]]]:
        """Frames that ask again for what stood beside a refused market; none if it was alone."""
        return self.split([other for other in self._sent.pop(number, []) if other != market])

    def halves(self, number: str) -> list[tuple[str, list[str]]]:
        """Two frames that ask again for what stood in a refused one that named no market; none if it asked for one or is unknown."""
        asked = self._sent.get(number, [])
        if len(asked) < 2:
            return []
        del self._sent[number]
        middle = len(asked) // 2
        return [self._number(asked[:middle]), self._number(asked[middle:])]

    def _number(self, markets: list[str]) -> tuple[str, list[str]]:
        self._last += 1
        self._sent[str(self._last)] = markets
        return str(self._last), markets
