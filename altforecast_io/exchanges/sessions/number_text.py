"""Levels with the number text that the venue sent: what a checksum over text is made from.

What belongs here: text beside the levels of one book, the crc32 over the best 25, and doing without where none is sent.
What does not: books (`books`), and what to do about a wrong checksum.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from math import inf

import msgspec

from altforecast.books import Book, Level
from altforecast_io.exchanges.sessions.stream import Line, Number

CHECKED_LEVELS = 25
"""Levels per side under the checksum of okx, bitget and bitfinex."""


class TextLevel(msgspec.Struct, array_like=True, gc=False):
    """Price and size as sent; further elements (counts, liquidated orders) are ignored."""

    price: str
    size: str


class NumberLevel(msgspec.Struct, array_like=True, gc=False):
    """Price and size as numbers; further elements are ignored."""

    price: Number
    size: Number


_decode_texts = msgspec.json.Decoder(list[TextLevel]).decode
_decode_numbers = msgspec.json.Decoder(list[NumberLevel], strict=False).decode


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


class CheckedLine(Line):
    """A book whose venue may send a crc32; once an update comes without one, texts are no longer kept (half the cost)."""

    __slots__ = ("texts",)

    def __init__(self, book: Book, market: str) -> None:
        super().__init__(book, market)
        self.texts: NumberTexts | None = NumberTexts()

    def load(self, bids: msgspec.Raw, asks: msgspec.Raw, depth: int) -> None:
        """A whole book; raises what a decoder raises, or ValueError."""
        if self.texts is not None:
            self.texts.clear()
        self.book.load(*self._levels(bids, asks))
        self._cut(depth)

    def apply(self, bids: msgspec.Raw, asks: msgspec.Raw, depth: int) -> None:
        """Changes; raises what a decoder raises, or ValueError."""
        self.book.apply(*self._levels(bids, asks))
        self._cut(depth)

    def check(self, told: int | None, is_update: bool) -> str | None:
        """Compare with the checksum of a message (None or 0: there is none) and say what is wrong; sets `checksum_ok`.

        is_update: snapshots may lack a checksum that updates have, so only an update without one ends the checks.
        """
        self.book.checksum_ok = None
        if not told:
            if is_update:
                self.texts = None
            return None
        if self.texts is None:
            return None
        own = self.texts.crc32(self.book)
        self.book.checksum_ok = own == told
        return None if own == told else f"crc32 {own}, told {told}"

    def _levels(self, bids: msgspec.Raw, asks: msgspec.Raw) -> tuple[list[Level], list[Level]]:
        if self.texts is not None:
            return self.texts.read(_decode_texts(bids), _decode_texts(asks))
        return [(x.price, x.size) for x in _decode_numbers(bids)], [(x.price, x.size) for x in _decode_numbers(asks)]

    def _cut(self, depth: int) -> None:
        if self.texts is None:
            self.book.cut(depth)
        else:
            self.texts.cut(self.book, depth)


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
