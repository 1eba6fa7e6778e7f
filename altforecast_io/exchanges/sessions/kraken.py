"""Session of Kraken: the 100 best levels of WebSocket v2, checked by crc32 after every message.

What belongs here: frames of v2. What does not: the checksum (`kraken_texts`), frames of v1 (`kraken_v1`), and what every
session shares (`stream`).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from altforecast.books import Book
from altforecast_io.exchanges.sessions.event_time import milliseconds
from altforecast_io.exchanges.sessions.kraken_texts import KrakenTexts, raw_text
from altforecast_io.exchanges.sessions.session import NOTHING, FaultReason, Output, Send
from altforecast_io.exchanges.sessions.stream import NS_PER_S, Line, StreamSession, sounds_limited

DEPTH = 100
"""Kraken serves 10, 25, 100, 500 or 1,000 levels: the smallest that holds the 50 that are exported, so the fewest messages."""
SYMBOLS_PER_FRAME = 100


class _Level(msgspec.Struct, gc=False):
    price: msgspec.Raw
    qty: msgspec.Raw


class _Data(msgspec.Struct, gc=False):
    symbol: str
    checksum: int
    bids: list[_Level] = []
    asks: list[_Level] = []
    timestamp: str = ""


class _Head(msgspec.Struct, gc=False):
    channel: str = ""
    type: str = ""
    data: msgspec.Raw = msgspec.Raw(b"")
    method: str = ""
    success: bool | None = None
    error: str = ""
    symbol: str = ""


_decode = msgspec.json.Decoder(_Head).decode
_decode_data = msgspec.json.Decoder(list[_Data]).decode


class KrakenLine(Line):
    """A book of Kraken with the digits of its levels."""

    __slots__ = ("texts",)

    def __init__(self, book: Book, market: str) -> None:
        super().__init__(book, market)
        self.texts = KrakenTexts()


class KrakenSession(StreamSession):
    """Rule: the crc32 of the best ten levels is the one sent; Kraken has no numbers, so a lost change deeper than that
    is noticed when it comes up.
    """

    venue = "kraken"
    url = "wss://ws.kraken.com/v2"
    ping_every_ns = 30 * NS_PER_S

    def __init__(self, symbols: Sequence[str], base_url: str | None = None, depth: int = DEPTH) -> None:
        super().__init__(symbols, base_url)
        self._depth = depth

    def _market(self, symbol: str) -> str:
        return symbol.replace("-", "/")

    def _line(self, book: Book) -> KrakenLine:
        return KrakenLine(book, self._market(book.symbol))

    def _ping(self) -> str:
        return '{"method":"ping"}'

    def _subscribe(self) -> Sequence[Output]:
        names = list(self._lines)
        parts = [names[i : i + SYMBOLS_PER_FRAME] for i in range(0, len(names), SYMBOLS_PER_FRAME)]
        asked = [{"channel": "book", "symbol": part, "depth": self._depth, "snapshot": True} for part in parts]
        return [Send(msgspec.json.encode({"method": "subscribe", "params": each}).decode()) for each in asked]

    def _read(self, payload: str | bytes, recv_ns: int) -> Sequence[Output]:
        head = _decode(payload)
        if head.channel == "book":
            found: list[Output] = []
            for data in _decode_data(head.data):
                found += self._book(head.type == "snapshot", data, recv_ns)
            return found
        if head.success is False or head.error:
            return self._objected(f"{head.error} {head.symbol}"[:200], sounds_limited(head.error), self._named(head))
        if not (head.channel or head.method):
            raise ValueError("a frame without channel and method")
        return NOTHING

    def _named(self, head: _Head) -> str | None:
        return head.symbol or self._named_in(head.error)

    def _book(self, is_snapshot: bool, data: _Data, recv_ns: int) -> Sequence[Output]:
        line = self._lines.get(data.symbol)
        if not isinstance(line, KrakenLine):
            return NOTHING
        book, texts = line.book, line.texts
        if is_snapshot:
            texts.clear()
        elif not line.is_complete:
            return self._break(FaultReason.GAP, line, "an update before the snapshot")
        bids = [(raw_text(level.price), raw_text(level.qty)) for level in data.bids]
        asks = [(raw_text(level.price), raw_text(level.qty)) for level in data.asks]
        (book.load if is_snapshot else book.apply)(*texts.read(bids, asks))
        texts.cut(book, self._depth)
        return self._checked(line, data.checksum, recv_ns, milliseconds(data.timestamp))

    def _checked(self, line: KrakenLine, told: int, recv_ns: int, ts_event_ms: int | None) -> Sequence[Output]:
        ours = line.texts.crc32(line.book)
        if ours != told:
            return self._break(FaultReason.CHECKSUM, line, f"ours {ours}, told {told}")
        line.book.checksum_ok = True
        return self._changed(line, recv_ns, ts_event_ms)


def open_session(symbols: Sequence[str], base_url: str | None = None) -> KrakenSession:
    """A connection over v2; base_url: the stand-in, None for the real venue."""
    return KrakenSession(symbols, base_url)
