"""Session of BingX: the 100 best levels of `depth100`, a whole book in every message.

What belongs here: the spot market stream of BingX (compressed frames, pings to answer). What does not: what all sessions
share (`stream`).
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import NAMESPACE_URL, uuid5

import msgspec

from altforecast_io.exchanges.sessions.session import NOTHING, FaultReason, Output, Send
from altforecast_io.exchanges.sessions.stream import Line, Number, StreamSession, inflate, sounds_limited

DEPTH = 100
_LIMIT_CODES = frozenset({429, 80403, 100410})


class _Depth(msgspec.Struct, gc=False):
    bids: list[tuple[Number, Number]]
    asks: list[tuple[Number, Number]]
    lastUpdateId: int | None = None


class _Frame(msgspec.Struct, gc=False):
    ping: str | None = None
    time: str = ""
    code: int = 0
    id: str = ""
    msg: str = ""
    dataType: str = ""
    data: _Depth | None = None
    timestamp: int | None = None
    ts: int | None = None


_decode = msgspec.json.Decoder(_Frame, strict=False).decode


class BingxSession(StreamSession):
    """Rules: `lastUpdateId` and the time never go back. A lost message heals with the next one, which is a whole book."""

    venue = "bingx"
    url = "wss://open-api-ws.bingx.com/market"

    def _market(self, symbol: str) -> str:
        return symbol

    def _subscribe(self) -> Sequence[Output]:
        asked = [{"id": request_id(m), "reqType": "sub", "dataType": f"{m}@depth{DEPTH}"} for m in self._lines]
        return [Send(msgspec.json.encode(request).decode()) for request in asked]

    def _read(self, payload: str | bytes, recv_ns: int) -> Sequence[Output]:
        text = inflate(payload)
        if text in ("Ping", b"Ping"):
            return (Send("Pong"),)
        frame = _decode(text)
        if frame.ping is not None:
            return (Send(msgspec.json.encode({"pong": frame.ping, "time": frame.time}).decode()),)
        if frame.code:
            return self._refused_to(frame)
        if not frame.dataType:
            return NOTHING
        market, _, channel = frame.dataType.partition("@")
        line = self._lines.get(market)
        if line is None or not channel.startswith("depth"):
            return NOTHING
        if frame.data is None:
            raise ValueError("a book frame without data")
        return self._replaced(line, frame, frame.data, recv_ns)

    def _replaced(self, line: Line, frame: _Frame, data: _Depth, recv_ns: int) -> Sequence[Output]:
        book = line.book
        ts = frame.timestamp if frame.timestamp is not None else frame.ts
        if book.sequence is not None and data.lastUpdateId is not None and data.lastUpdateId < book.sequence:
            return self._break(FaultReason.GAP, line, f"lastUpdateId {data.lastUpdateId} after {book.sequence}")
        if book.ts_event_ms is not None and ts is not None and ts < book.ts_event_ms and line.is_complete:
            return self._break(FaultReason.GAP, line, f"time {ts} after {book.ts_event_ms}")
        book.load(data.bids, data.asks)
        book.cut(DEPTH)
        book.sequence = data.lastUpdateId
        return self._changed(line, recv_ns, ts)

    def _refused_to(self, frame: _Frame) -> Sequence[Output]:
        asked = {request_id(m): m for m in self._lines}
        market = asked.get(frame.id) or self._named_in(f"{frame.dataType} {frame.msg}")
        is_limit = frame.code in _LIMIT_CODES or sounds_limited(frame.msg)
        return self._objected(f"{frame.code} {frame.msg}", is_limit, market)


def request_id(market: str) -> str:
    """The id of a market's subscription; the same in every run."""
    return str(uuid5(NAMESPACE_URL, f"{market}@depth{DEPTH}"))


def open_session(symbols: Sequence[str], base_url: str | None = None) -> BingxSession:
    """A session of BingX for canonical symbols.

    base_url: a stand-in's address, None for the venue itself.
    """
    return BingxSession(symbols, base_url)
