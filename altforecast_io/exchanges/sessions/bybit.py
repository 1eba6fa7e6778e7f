"""Session of Bybit v5 spot: the 50 best levels every 20 ms, with the snapshot on the same socket.

What belongs here: frames of Bybit's `orderbook` topic. What does not: what every session shares (`stream`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from altforecast_io.exchanges.sessions.batches import Batches
from altforecast_io.exchanges.sessions.levels import Pair
from altforecast_io.exchanges.sessions.session import NOTHING, FaultReason, Output, Send
from altforecast_io.exchanges.sessions.stream import NS_PER_S, Line, StreamSession, sounds_limited

DEPTH = 50
"""Bybit serves 1, 50 (20 ms), 200 (200 ms) or 1,000 levels: the freshest that holds the 50 that are exported."""
TOPICS_PER_FRAME = 10
RESTARTED = 1
"""An update number that means: the service was restarted, this is the whole book."""


class _Data(msgspec.Struct, gc=False):
    s: str
    u: int
    b: list[Pair] = []
    a: list[Pair] = []


class _Frame(msgspec.Struct, gc=False):
    topic: str = ""
    type: str = ""
    ts: int | None = None
    data: _Data | None = None
    success: bool | None = None
    ret_msg: str = ""
    op: str = ""
    req_id: str = ""
    args: Any = None


_decode = msgspec.json.Decoder(_Frame, strict=False).decode


class BybitSession(StreamSession):
    """Rule: `u` is one more than in the message before; a snapshot, or `u` = 1, replaces the book."""

    venue = "bybit"
    url = "wss://stream.bybit.com/v5/public/spot"
    ping_every_ns = 20 * NS_PER_S

    def __init__(self, symbols: Sequence[str], base_url: str | None = None, depth: int = DEPTH) -> None:
        super().__init__(symbols, base_url)
        self._depth, self._batches = depth, Batches(TOPICS_PER_FRAME)

    def _market(self, symbol: str) -> str:
        return symbol.replace("-", "")

    def _ping(self) -> str:
        return '{"op":"ping"}'

    def _subscribe(self) -> Sequence[Output]:
        return self._frames(self._batches.split(list(self._lines)))

    def _frames(self, parts: Sequence[tuple[str, list[str]]]) -> list[Output]:
        asked = [{"op": "subscribe", "req_id": n, "args": [f"orderbook.{self._depth}.{m}" for m in part]} for n, part in parts]
        return [Send(msgspec.json.encode(each).decode()) for each in asked]

    def _read(self, payload: str | bytes, recv_ns: int) -> Sequence[Output]:
        frame = _decode(payload)
        data = frame.data
        if data is not None and frame.topic.startswith("orderbook."):
            line = self._lines.get(data.s)
            return NOTHING if line is None else self._book(line, frame.type, data, frame.ts, recv_ns)
        if frame.success is False:
            return self._failed(frame)
        if not (frame.op or frame.success):
            raise ValueError("a frame without topic, op and success")
        return NOTHING

    def _book(self, line: Line, kind: str, data: _Data, ts_event_ms: int | None, recv_ns: int) -> Sequence[Output]:
        book = line.book
        if kind == "snapshot" or data.u == RESTARTED:
            book.load(data.b, data.a)
        elif book.sequence is None or data.u != book.sequence + 1:
            return self._break(FaultReason.GAP, line, f"{data.u} after {book.sequence}")
        else:
            book.apply(data.b, data.a)
        book.cut(self._depth)
        book.sequence = data.u
        return self._changed(line, recv_ns, ts_event_ms)

    def _failed(self, frame: _Frame) -> Sequence[Output]:
        """One unknown market refuses the whole frame: it is dropped, and the others are asked for again."""
        text = frame.ret_msg
        asked = self._batches.markets(frame.req_id)
        market = asked[0] if len(asked) == 1 else self._named_in(text)
        found = list(self._objected(text[:200], sounds_limited(text), market))
        if market is not None and not self._is_over:
            found += self._frames(self._batches.without(frame.req_id, market))
        return found


def open_session(symbols: Sequence[str], base_url: str | None = None) -> BybitSession:
    """A connection of the spot books; base_url: the stand-in, None for the real venue."""
    return BybitSession(symbols, base_url)
