"""MEXC's protobuf frame of book changes, read by hand: two messages of a few fields.

What belongs here: bytes to changes. What does not: numbers that must follow, subscriptions (`mexc`).

Wrapper: 3 symbol, 6 send time [ms], 313 changes; changes: 1 asks, 2 bids, 4 from version, 5 to version; level: 1 price, 2 size.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from typing import NamedTuple

from altforecast.books import Level

_SYMBOL, _SEND_TIME, _CHANGES = 3, 6, 313
_ASKS, _BIDS, _FROM, _TO = 1, 2, 4, 5
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_VARINT = 10
_SHORT = 0x80


class DepthFrame(NamedTuple):
    """One frame; `first` to `last` are the versions that it covers."""

    symbol: str
    ts_event_ms: int | None
    first: int
    last: int
    bids: list[Level]
    asks: list[Level]


def read_depth(data: bytes) -> DepthFrame | None:
    """The changes in a frame; None where it carries something else. Raises ValueError for broken bytes."""
    symbol, sent, changes = "", None, None
    for field, value in _fields(data):
        if field == _SYMBOL and isinstance(value, bytes):
            symbol = value.decode()
        elif field == _SEND_TIME and isinstance(value, int):
            sent = value
        elif field == _CHANGES and isinstance(value, bytes):
            changes = value
    if changes is None:
        return None
    return _depth(symbol, sent, changes)


def _depth(symbol: str, sent: int | None, data: bytes) -> DepthFrame:
    bids: list[Level] = []
    asks: list[Level] = []
    first = last = 0
    for field, value in _fields(data):
        if not isinstance(value, bytes):
            continue
        if field == _ASKS:
            asks.append(_level(value))
        elif field == _BIDS:
            bids.append(_level(value))
        elif field == _FROM:
            first = int(value)
        elif field == _TO:
            last = int(value)
    if not 0 < first <= last:
        raise ValueError(f"versions {first} to {last}")
    return DepthFrame(symbol, sent, first, last, bids, asks)


def _level(data: bytes) -> Level:
    """Price and size; the usual bytes (both short, in order) are read without the general reader."""
    size_at = 2 + data[1] if len(data) > 1 else 0
    if data[:1] == b"\x0a" and size_at + 1 < len(data) and data[size_at] == 0x12 and size_at + 2 + data[size_at + 1] == len(data):
        price, size = float(data[2:size_at]), float(data[size_at + 2 :])
    else:
        texts = {field: value for field, value in _fields(data) if isinstance(value, bytes)}
        price, size = float(texts.get(1, b"")), float(texts.get(2, b""))
    if not (0.0 < price < inf and 0.0 <= size < inf):
        raise ValueError(f"level {price} {size} is no price and size")
    return price, size


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Field numbers and values; raises ValueError where the bytes end early."""
    at, end = 0, len(data)
    while at < end:
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == _BYTES:
            length, at = _varint(data, at)
            if at + length > end:
                raise ValueError("a protobuf field is longer than its message")
            yield tag >> 3, data[at : at + length]
            at += length
        elif kind == _VARINT:
            value, at = _varint(data, at)
            yield tag >> 3, value
        elif kind in (_FIXED64, _FIXED32):
            at += 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"a protobuf field of kind {kind}")
    if at != end:
        raise ValueError("a protobuf message ends early")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    if at < len(data) and data[at] < _SHORT:
        return data[at], at + 1
    value = shift = 0
    for i, byte in enumerate(data[at : at + _MAX_VARINT]):
        value |= (byte & 0x7F) << shift
        if byte < _SHORT:
            return value, at + i + 1
        shift += 7
    raise ValueError("a protobuf number has no end")
