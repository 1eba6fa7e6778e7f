"""Kraken's checksum: levels with the number text that it sent, and the crc32 over the best ten.

What belongs here: the digits beside the levels of one book. What does not: frames (`kraken`, `kraken_v1`).
"""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from zlib import crc32

import msgspec

from altforecast.books import Book, Level

CHECKED_LEVELS = 10
Texts = Iterable[tuple[bytes, bytes]]
"""Price and size as sent."""


class KrakenTexts:
    """Digits of price and size by the key of the level in its book; holds what the book holds, so it is bounded with it."""

    __slots__ = ("asks", "bids")

    def __init__(self) -> None:
        self.bids: dict[float, bytes] = {}
        self.asks: dict[float, bytes] = {}
        """By negated price, as in the book."""

    def clear(self) -> None:
        """Forget everything."""
        self.bids.clear()
        self.asks.clear()

    def read(self, bids: Texts, asks: Texts) -> tuple[list[Level], list[Level]]:
        """Remember the digits and give the numbers for `Book.load` or `Book.apply`.

        Raises ValueError for a price or size that is no finite number, a price not above 0 and a size below 0.
        """
        return _read(self.bids, bids, 1.0), _read(self.asks, asks, -1.0)

    def cut(self, book: Book, depth: int) -> None:
        """Keep the best `depth` levels of each side of the book and their digits."""
        for digits, keys in ((self.bids, book.bid_keys), (self.asks, book.ask_keys)):
            if len(keys) > depth:
                for key in keys[:-depth]:
                    digits.pop(key, None)
        book.cut(depth)

    def crc32(self, book: Book) -> int:
        """The checksum of the best ten asks, lowest first, then the best ten bids, highest first."""
        asks, bids = self.asks, self.bids
        parts = [asks.get(key, b"") for key in book.ask_keys[: -CHECKED_LEVELS - 1 : -1]]
        parts += [bids.get(key, b"") for key in book.bid_keys[: -CHECKED_LEVELS - 1 : -1]]
        return crc32(b"".join(parts))


def raw_text(value: msgspec.Raw) -> bytes:
    """The text of a JSON number, or of a string with a number in it."""
    return bytes(value).strip(b'"')


def _read(digits: dict[float, bytes], levels: Texts, sign: float) -> list[Level]:
    numbers = []
    for price_text, size_text in levels:
        price, size = float(price_text), float(size_text)
        if not (0.0 < price < inf and 0.0 <= size < inf):
            raise ValueError(f"level {price_text!r} {size_text!r} is no price and size")
        if size > 0.0:
            digits[sign * price] = _digits(price_text) + _digits(size_text)
        else:
            digits.pop(sign * price, None)
        numbers.append((price, size))
    return numbers


def _digits(text: bytes) -> bytes:
    return text.replace(b".", b"", 1).lstrip(b"0")
