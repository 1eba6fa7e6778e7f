"""Session of Upbit: the 30 best levels of `orderbook`, a whole book in every message.

What belongs here: Upbit's public WebSocket v1. What does not: what all sessions share (`stream`).
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import NAMESPACE_URL, uuid5

import msgspec

from altforecast_io.exchanges.sessions.session import NOTHING, FaultReason, Output, Send
from altforecast_io.exchanges.sessions.stream import NS_PER_S, Number, StreamSession, sounds_limited


class _Unit(msgspec.Struct, gc=False):
    bid_price: Number
    bid_size: Number
    ask_price: Number
    ask_size: Number


class _Problem(msgspec.Struct, gc=False):
    name: str = ""
    message: str = ""


class _Frame(msgspec.Struct, gc=False):
    type: str = ""
    code: str = ""
    timestamp: int | None = None
    orderbook_units: list[_Unit] | None = None
    status: str = ""
    error: _Problem | None = None


_decode = msgspec.json.Decoder(_Frame).decode


class UpbitSession(StreamSession):
    """Rules: the time never goes back. A lost message heals with the next one, which is a whole book."""

    venue = "upbit"
    url = "wss://api.upbit.com/websocket/v1"
    ping_every_ns = 15 * NS_PER_S

    def _market(self, symbol: str) -> str:
        base, quote = symbol.split("-")
        return f"{quote}-{base}"

    def _ping(self) -> str:
        return "PING"

    def _subscribe(self) -> Sequence[Output]:
        markets = list(self._lines)
        ticket = str(uuid5(NAMESPACE_URL, ",".join(markets)))
        return (Send(msgspec.json.encode([{"ticket": ticket}, {"type": "orderbook", "codes": markets}]).decode()),)

    def _read(self, payload: str | bytes, recv_ns: int) -> Sequence[Output]:
        frame = _decode(payload)
        if frame.error is not None:
            detail = f"{frame.error.name} {frame.error.message}"
            return self._objected(detail, sounds_limited(detail), self._named_in(detail))
        if frame.type != "orderbook":
            if not (frame.type or frame.status):
                raise ValueError("a frame without any known field")
            return NOTHING
        line = self._lines.get(frame.code)
        if line is None:
            return NOTHING
        if frame.orderbook_units is None or frame.timestamp is None:
            raise ValueError("a book frame without levels or time")
        book, units = line.book, frame.orderbook_units
        if line.is_complete and frame.timestamp < (book.ts_event_ms or 0):
            return self._break(FaultReason.GAP, line, f"time {frame.timestamp} after {book.ts_event_ms}")
        book.load([(u.bid_price, u.bid_size) for u in units], [(u.ask_price, u.ask_size) for u in units])
        return self._changed(line, recv_ns, frame.timestamp)


def open_session(symbols: Sequence[str], base_url: str | None = None) -> UpbitSession:
    """A session of Upbit for canonical symbols.

    base_url: a stand-in's address, None for the venue itself.
    """
    return UpbitSession(symbols, base_url)
