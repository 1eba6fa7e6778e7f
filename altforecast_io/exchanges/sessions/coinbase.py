"""Session of Coinbase Advanced Trade: the `level2` channel with its whole book first, and `heartbeats` against silence.

What belongs here: frames of the public market data socket. What does not: what every session shares (`stream`).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from altforecast.books import Book, Level
from altforecast_io.exchanges.sessions.event_time import milliseconds
from altforecast_io.exchanges.sessions.levels import Price, Size
from altforecast_io.exchanges.sessions.session import NOTHING, FaultReason, Output, Send
from altforecast_io.exchanges.sessions.stream import Line, StreamSession, sounds_limited
from altforecast_io.exchanges.sessions.window import Window

CHANNEL = "l2_data"
DEPTH = 5000
"""Levels kept per side: Coinbase sends all of them, tens of thousands on the largest markets."""
MIN_LEVELS = 50
"""Fewer known levels than these on a side that was cut are a fault."""


class _Change(msgspec.Struct, gc=False):
    side: str
    price_level: Price
    new_quantity: Size


class _Event(msgspec.Struct, gc=False):
    type: str = ""
    product_id: str = ""
    updates: list[_Change] = []


class _Head(msgspec.Struct, gc=False):
    channel: str = ""
    sequence_num: int | None = None
    timestamp: str = ""
    events: msgspec.Raw = msgspec.Raw(b"")
    type: str = ""
    message: str = ""
    reason: str = ""


_decode = msgspec.json.Decoder(_Head, strict=False).decode
_decode_events = msgspec.json.Decoder(list[_Event], strict=False).decode


class CoinbaseLine(Line):
    """A book of Coinbase and the part of it that is kept."""

    __slots__ = ("window",)

    def __init__(self, book: Book, market: str) -> None:
        super().__init__(book, market)
        self.window = Window(DEPTH)


class CoinbaseSession(StreamSession):
    """Rule: `sequence_num` counts every frame of the connection, acknowledgements and heartbeats too; a hole ends all books."""

    venue = "coinbase"
    url = "wss://advanced-trade-ws.coinbase.com"

    def __init__(self, symbols: Sequence[str], base_url: str | None = None) -> None:
        super().__init__(symbols, base_url)
        self._number: int | None = None

    def _market(self, symbol: str) -> str:
        return symbol

    def _line(self, book: Book) -> CoinbaseLine:
        return CoinbaseLine(book, book.symbol)

    def _subscribe(self) -> Sequence[Output]:
        return [Send('{"type":"subscribe","channel":"heartbeats"}'), _level2(list(self._lines))]

    def _read(self, payload: str | bytes, recv_ns: int) -> Sequence[Output]:
        head = _decode(payload)
        if head.type == "error":
            return self._failed(f"{head.message} {head.reason}".strip())
        number = head.sequence_num
        if number is None or not head.channel:
            raise ValueError("a frame without channel or sequence_num")
        if self._number is not None and number != self._number + 1:
            return self._end(FaultReason.GAP, f"{number} after {self._number}")
        self._number = number
        if head.channel != CHANNEL:
            return NOTHING
        ts_event_ms = milliseconds(head.timestamp)
        found: list[Output] = []
        for event in _decode_events(head.events):
            line = self._lines.get(event.product_id)
            if isinstance(line, CoinbaseLine):
                found += self._book(line, event, ts_event_ms, recv_ns)
        return found

    def _failed(self, text: str) -> Sequence[Output]:
        """One unknown market refuses the whole frame: it is dropped, and those without a book are asked for again."""
        market = self._named_in(text)
        found = list(self._objected(text[:200], sounds_limited(text), market))
        waiting = [name for name, line in self._lines.items() if not line.is_complete]
        return [*found, _level2(waiting)] if market is not None and waiting else found

    def _book(self, line: CoinbaseLine, event: _Event, ts_event_ms: int | None, recv_ns: int) -> Sequence[Output]:
        book = line.book
        bids: list[Level] = []
        asks: list[Level] = []
        for change in event.updates:
            (bids if change.side == "bid" else asks).append((change.price_level, change.new_quantity))
        if event.type == "snapshot":
            book.load(bids, asks)
            line.window.start(book, None)
        elif book.sequence is None:
            return self._break(FaultReason.GAP, line, "an update before the snapshot")
        else:
            book.apply(bids, asks)
            line.window.trim(book)
            if line.window.is_below(book, MIN_LEVELS):
                return self._break(FaultReason.DEPTH, line, f"{len(book.bid_keys)} bids and {len(book.ask_keys)} asks are left")
        book.sequence = self._number
        return self._changed(line, recv_ns, ts_event_ms)


def _level2(markets: Sequence[str]) -> Send:
    return Send(msgspec.json.encode({"type": "subscribe", "channel": "level2", "product_ids": markets}).decode())


def open_session(symbols: Sequence[str], base_url: str | None = None) -> CoinbaseSession:
    """A connection of level2 books; base_url: the stand-in, None for the real venue."""
    return CoinbaseSession(symbols, base_url)
