"""Levels with the number text that the venue sent: what a checksum over text is made from.

What belongs here: text beside the levels of one book, and the crc32 over the best 25. What does not: books (`books`),
and what to do about a wrong checksum.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from math import inf

import msgspec

from altforecast.books import Book, Level

CHECKED_LEVELS = 25
"""Levels per side under the checksum of okx, bitget and bitfinex."""


class TextLevel(msgspec.Struct, array_like=True, gc=False):
    """Price and size as sent; further elements (counts, liquidated orders) are ignored."""

    price: str
    size: str


class NumberTexts:
    """`price:size` as sent, by the key of the level in its book; holds what the book holds, so it is bounded with it."""

    __slots__ = ("_ask_sign", "asks", "bids")

    def __init__(self, is_ask_negative: bool = False) -> None:
        """is_ask_negative: whether the venue sends sizes of asks with a minus sign, which is part of their text."""
        self._ask_sign = -1.0 if is_ask_negative else 1.0
        self.bids: dict[float, str] = {}
        self.asks: dict[float, str] = {}
        """By negated price, as in the book."""

    def clear(self) -> None:
        """Forget everything."""
        self.bids.clear()
        self.asks.clear()

    def read(self, bids: Iterable[TextLevel], asks: Iterable[TextLevel]) -> tuple[list[Level], list[Level]]:
        """Remember the texts and give the numbers for `Book.load` or `Book.apply`.

        Raises ValueError for a price or size that is no finite number, a price not above 0 and a size below 0.
        """
        return _read(self.bids, bids, 1.0, 1.0), _read(self.asks, asks, -1.0, self._ask_sign)

    def cut(self, book: Book, depth: int) -> None:
        """Keep the best `depth` levels of each side of the book and their texts."""
        for texts, keys in ((self.bids, book.bid_keys), (self.asks, book.ask_keys)):
            for key in keys[:-depth]:
                texts.pop(key, None)
        book.cut(depth)

    def crc32(self, book: Book) -> int:
        """The signed crc32 over `bid:size:ask:size:...` of the best 25 levels, where a side ends earlier over the rest."""
        bids = [self.bids[key] for key in book.bid_keys[: -CHECKED_LEVELS - 1 : -1]]
        asks = [self.asks[key] for key in book.ask_keys[: -CHECKED_LEVELS - 1 : -1]]
        both = min(len(bids), len(asks))
        mixed = [""] * (2 * both)
        mixed[::2], mixed[1::2] = bids[:both], asks[:both]
        unsigned = zlib.crc32(":".join(mixed + bids[both:] + asks[both:]).encode())
        return unsigned - (1 << 32) if unsigned >> 31 else unsigned


def _read(texts: dict[float, str], levels: Iterable[TextLevel], key_sign: float, size_sign: float) -> list[Level]:
    numbers = []
    for level in levels:
        price, size = float(level.price), size_sign * float(level.size)
        if not (0.0 < price < inf and 0.0 <= size < inf):
            raise ValueError(f"level {level.price!r} {level.size!r} is no price and size")
        if size > 0.0:
            texts[key_sign * price] = f"{level.price}:{level.size}"
        else:
            texts.pop(key_sign * price, None)
        numbers.append((price, size))
    return numbers
