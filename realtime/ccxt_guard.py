"""What ccxt does not check: sequence numbers and checksums of parsed order book messages, per venue.

What belongs here: pure checks on messages and books as ccxt shows them. What does not: running ccxt (`ccxt_feed`).
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from altforecast_io.exchanges.sessions.session import FaultReason

Levels = Sequence[Sequence[float]]
CRC_LEVELS = 10
_PRICES, _SIZES = re.compile(r'"price":\s*\d+\.(\d+)'), re.compile(r'"qty":\s*\d+\.(\d+)')


class Span(NamedTuple):
    """The updates that one message covers, as its venue numbers them."""

    key: str
    """What is numbered: a symbol in the venue's spelling, or the whole connection."""
    after: int | None
    """Number of the update that must have come before; None for a message that starts anew."""
    last: int


Reader = Callable[[Any], Span | None]


def _binance(message: Any) -> Span | None:
    return Span(message["s"], int(message["U"]) - 1, int(message["u"])) if message.get("e") == "depthUpdate" else None


def _okx(message: Any) -> Span | None:
    data = message["data"][0]
    key = f"{message['arg']['channel']}:{message['arg']['instId']}"
    return Span(key, None if message.get("action") == "snapshot" else int(data["prevSeqId"]), int(data["seqId"]))


def _bybit(message: Any) -> Span | None:
    last = int(message["data"]["u"])
    return Span(message["topic"], None if message["type"] == "snapshot" or last == 1 else last - 1, last)


def _gate(message: Any) -> Span | None:
    result = message["result"]
    return Span(result["s"], None if result.get("full") else int(result["U"]) - 1, int(result["u"]))


def _kucoin(message: Any) -> Span | None:
    data = message["data"]
    return Span(message["topic"], int(data["sequenceStart"]) - 1, int(data["sequenceEnd"])) if "sequenceStart" in data else None


def _mexc(message: Any) -> Span | None:
    data = message["publicAggreDepths"]
    return Span(message["channel"], int(data["fromVersion"]) - 1, int(data["toVersion"]))


def _htx(message: Any) -> Span | None:
    tick = message["tick"]
    return Span(message["ch"], int(tick["prevSeqNum"]), int(tick["seqNum"])) if "prevSeqNum" in tick else None


def _cryptocom(message: Any) -> Span | None:
    data = message["data"][0]
    key = message["instrument_name"]
    return Span(key, int(data["pu"]), int(data["u"])) if "pu" in data else Span(key, None, int(data.get("u", data.get("s", 0))))


def _coinbase(message: Any) -> Span | None:
    number = int(message["sequence_num"])
    return Span("", number - 1 if number else None, number)


BOOK_READERS: Mapping[str, Reader] = {
    "binance": _binance, "okx": _okx, "bybit": _bybit, "gate": _gate, "kucoin": _kucoin, "mexc": _mexc, "htx": _htx,
    "cryptocom": _cryptocom,
}  # fmt: skip
"""Readers of order book messages. bitget and bitfinex: ccxt checks their checksums. bingx and upbit send whole books."""
MESSAGE_READERS: Mapping[str, Reader] = {"coinbase": _coinbase}
"""Readers of every message of a connection."""
UNCHECKED = frozenset({"bitstamp", "gemini"})
"""Venues that number nothing: only REST reconciliation finds a lost message."""


class SequenceGuard:
    """Holes in what one connection received; remembers one number per followed symbol."""

    def __init__(self, readers: Mapping[str, Reader], venue: str) -> None:
        self._reader = readers.get(venue)
        self._last: dict[str, int] = {}

    def hole(self, message: Any) -> str | None:
        """What is missing before this message; None where nothing is, or where the message tells no number."""
        if self._reader is None:
            return None
        try:
            span = self._reader(message)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError):
            return None
        if span is None:
            return None
        last = self._last.get(span.key)
        self._last[span.key] = span.last
        if span.after is None or last is None or span.after <= last:
            return None
        return f"{span.key}: {last} is followed by {span.after + 1}"


def kraken_checksum(bids: Levels, asks: Levels, price_digits: int, size_digits: int) -> int:
    """CRC32 of the ten best levels as Kraken prints them: digits without point and leading zeros, asks first."""
    text = "".join(
        f"{level[0]:.{price_digits}f}".replace(".", "").lstrip("0") + f"{level[1]:.{size_digits}f}".replace(".", "").lstrip("0")
        for side in (asks, bids)
        for level in side[:CRC_LEVELS]
    )
    return zlib.crc32(text.encode())


def decimals_told(text: str | bytes) -> tuple[int, int]:
    """Most decimals of prices and of sizes that a Kraken frame prints; the checksum is made of these texts."""
    told = text if isinstance(text, str) else text.decode("utf-8", "replace")
    return tuple(max((len(found) for found in kind.findall(told)), default=0) for kind in (_PRICES, _SIZES))  # type: ignore[return-value]


def reason_of(error_name: str, venue: str) -> FaultReason:
    """Fault class of a ccxt error by the name of its class; unknown ones are network trouble of some kind."""
    if error_name in ("ChecksumError", "InvalidNonce"):
        return FaultReason.CHECKSUM if venue in ("bitget", "bitfinex", "kraken") else FaultReason.GAP
    if error_name in ("BadSymbol", "BadRequest", "ArgumentsRequired", "NotSupported", "PermissionDenied"):
        return FaultReason.REFUSED
    if error_name in ("RateLimitExceeded", "DDoSProtection"):
        return FaultReason.LIMITED
    if error_name in ("NetworkError", "RequestTimeout", "ExchangeNotAvailable", "ExchangeClosedByUser", "OnMaintenance", "BadResponse"):
        return FaultReason.DISCONNECTED
    return FaultReason.BAD_FRAME


def disagreement(before: Levels, after: Levels, told: Levels, depth: int = 20) -> int:
    """Levels among the best `depth` on which a venue's book and ours differ, whatever changed while we asked [count].

    Counted are levels that the venue tells and we had neither before asking nor after the answer, and levels that we had both
    times within the reach of what it tells, and it does not tell.
    """
    best = [(level[0], level[1]) for level in told[:depth]]
    ours_before, ours_after = ({(level[0], level[1]) for level in ours} for ours in (before, after))
    missing = sum(level not in ours_before and level not in ours_after for level in best)
    if not best:
        return missing
    low, high = sorted((best[0][0], best[-1][0]))
    return missing + sum(low <= price <= high and (price, size) not in best for price, size in ours_before & ours_after)
