"""Session of Gate spot: the 50 best levels every 20 ms (`spot.obu`), whose first frame is the whole book.

What belongs here: frames of Gate's WebSocket v4. What does not: what every session shares (`stream`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from altforecast_io.exchanges.sessions.levels import Pair
from altforecast_io.exchanges.sessions.session import NOTHING, FaultReason, Output, Send
from altforecast_io.exchanges.sessions.stream import NS_PER_S, Line, StreamSession, sounds_limited

CHANNEL = "spot.obu"
DEPTH = 50
"""Gate serves 50 (20 ms) or 400 (100 ms) levels: the freshest that holds the 50 that are exported."""
_TOO_MANY_CODE = 3


class _Result(msgspec.Struct, gc=False):
    s: str = ""
    t: int | None = None
    full: bool = False
    U: int | None = None
    u: int | None = None
    b: list[Pair] = []
    a: list[Pair] = []
    status: str = ""


class _Error(msgspec.Struct):
    code: int = 0
    message: str = ""


class _Frame(msgspec.Struct, gc=False):
    channel: str = ""
    event: str = ""
    result: _Result | None = None
    error: _Error | None = None
    payload: Any = None


_decode = msgspec.json.Decoder(_Frame, strict=False).decode


class GateSession(StreamSession):
    """Rule: `U` is one more than the `u` of the message before; a frame with `full` replaces the book."""

    venue = "gate"
    url = "wss://api.gateio.ws/ws/v4/"
    ping_every_ns = 15 * NS_PER_S

    def __init__(self, symbols: Sequence[str], base_url: str | None = None) -> None:
        super().__init__(symbols, base_url)
        self._by_topic = {f"ob.{market}.{DEPTH}": market for market in self._lines}

    def _market(self, symbol: str) -> str:
        return symbol.replace("-", "_")

    def _ping(self) -> str:
        return msgspec.json.encode({"time": self._pinged_ns // NS_PER_S, "channel": "spot.ping"}).decode()

    def _subscribe(self) -> Sequence[Output]:
        now_s = self._pinged_ns // NS_PER_S
        asked = [{"time": now_s, "channel": CHANNEL, "event": "subscribe", "payload": [topic]} for topic in self._by_topic]
        return [Send(msgspec.json.encode(each).decode()) for each in asked]

    def _read(self, payload: str | bytes, recv_ns: int) -> Sequence[Output]:
        frame = _decode(payload)
        result = frame.result
        if frame.event == "update" and frame.channel == CHANNEL and result is not None:
            line = self._lines.get(self._by_topic.get(result.s, ""))
            return NOTHING if line is None else self._book(line, result, recv_ns)
        if frame.error is not None:
            return self._failed(frame.error, frame.payload)
        if not frame.channel:
            raise ValueError("a frame without channel")
        return NOTHING

    def _book(self, line: Line, result: _Result, recv_ns: int) -> Sequence[Output]:
        book = line.book
        if result.u is None:
            raise ValueError("a book frame without u")
        if result.full:
            book.load(result.b, result.a)
        elif book.sequence is None or book.sequence + 1 != result.U:
            return self._break(FaultReason.GAP, line, f"{result.U} after {book.sequence}")
        else:
            book.apply(result.b, result.a)
        book.cut(DEPTH)
        book.sequence = result.u
        return self._changed(line, recv_ns, result.t)

    def _failed(self, error: _Error, payload: Any) -> Sequence[Output]:
        topic = payload[0] if isinstance(payload, list) and payload and isinstance(payload[0], str) else ""
        market = self._by_topic.get(topic) or self._named_in(error.message)
        is_limit = error.code == _TOO_MANY_CODE or sounds_limited(error.message)
        return self._objected(f"{error.code} {error.message}"[:200], is_limit, market)


def open_session(symbols: Sequence[str], base_url: str | None = None) -> GateSession:
    """A connection of the spot books; base_url: the stand-in, None for the real venue."""
    return GateSession(symbols, base_url)
