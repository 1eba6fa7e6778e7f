"""What the wires of one venue share: its markets by its own names, and reading and printing of frames.

What belongs here: the venue-neutral half of a wire. What does not: any venue's channels and shapes.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from altforecast_sandbox.coins import Pair
from altforecast_sandbox.resting import RestingBook, Rows
from altforecast_sandbox.streams.wire import Books, Frame, QuietWire

Spell = Callable[[Pair], str]


class Markets(Mapping[Any, str]):
    """Canonical symbols by the venue's name of the market; whatever the venue does not show at the moment is not in it."""

    def __init__(self, books: Books, spell: Spell) -> None:
        self._books = books
        self._symbols = {spell(Pair(symbol, 0, 0)): symbol for symbol in books}

    def __getitem__(self, name: Any) -> str:
        symbol = self._symbols[name] if isinstance(name, str) else None
        if symbol is None or symbol not in self._books:
            raise KeyError(name)
        return symbol

    def __iter__(self) -> Iterator[str]:
        return iter(self._symbols)

    def __len__(self) -> int:
        return len(self._symbols)

    def names(self) -> dict[str, str]:
        """The venue's names by canonical symbol."""
        return {symbol: name for name, symbol in self._symbols.items()}


class VenueWire(QuietWire):
    """One connection of a venue that names markets its own way."""

    def __init__(self, books: Books, spell: Spell) -> None:
        super().__init__(books)
        self.symbols = Markets(books, spell)
        self.names = self.symbols.names()


def request(payload: Frame) -> dict[str, Any]:
    """A client's frame as a JSON object; empty for anything else."""
    try:
        found = json.loads(payload)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def listed(value: Any) -> list[Any]:
    """A field that should be a list; empty for anything else."""
    return value if isinstance(value, list) else []


def compact(message: Any) -> str:
    """JSON without blanks."""
    return json.dumps(message, separators=(",", ":"))


def packed(text: str) -> bytes:
    """A text frame as gzip; equal texts give equal bytes."""
    return gzip.compress(text.encode(), 1, mtime=0)


def texts(book: RestingBook, rows: Rows) -> list[list[str]]:
    """Levels as pairs of price and size with all decimals."""
    return [[book.price(ticks), book.size(lots)] for ticks, lots in rows]


def plain(fixed: str) -> str:
    """A decimal number without trailing zeros, as it stands in JSON: `92000.10` becomes `92000.1`, `7.00` becomes `7`."""
    return fixed.rstrip("0").rstrip(".") if "." in fixed else fixed
