"""Session of Binance spot: changes every 100 ms (`depth@100ms`) on a REST snapshot of 1,000 levels.

What belongs here: Binance's combined streams and its REST depth. What does not: joining both (`joined`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from altforecast_io.exchanges.sessions.joined import Delta, JoinedSession, Snapshot
from altforecast_io.exchanges.sessions.levels import Pair
from altforecast_io.exchanges.sessions.rest_depth import read_snapshot
from altforecast_io.exchanges.sessions.session import NOTHING, Close, Output, Send
from altforecast_io.exchanges.sessions.stream import sounds_limited

REST = "https://api.binance.com/api/v3/depth"
STREAMS_PER_FRAME = 100
_TOO_MANY_CODES = (-1003, -1015, -1034)


class _Depth(msgspec.Struct, gc=False):
    e: str = ""
    E: int = 0
    s: str = ""
    U: int = 0
    u: int = 0
    b: list[Pair] = []
    a: list[Pair] = []


class _Error(msgspec.Struct):
    code: int = 0
    msg: str = ""


class _Frame(msgspec.Struct, gc=False):
    stream: str = ""
    data: _Depth | None = None
    id: Any = None
    error: _Error | None = None
    code: int = 0
    msg: str = ""
    event: _Depth | None = None


_decode = msgspec.json.Decoder(_Frame, strict=False).decode


class BinanceSession(JoinedSession):
    """Rule: `U` is one more than the `u` of the message before. Pings of the server are answered by the socket itself."""

    venue = "binance"
    url = "wss://stream.binance.com:9443/stream"
    snapshot_levels = 1000

    def _market(self, symbol: str) -> str:
        return symbol.replace("-", "")

    def _subscribe(self) -> Sequence[Output]:
        streams = [f"{market.lower()}@depth@100ms" for market in self._lines]
        parts = [streams[i : i + STREAMS_PER_FRAME] for i in range(0, len(streams), STREAMS_PER_FRAME)]
        asked = [{"method": "SUBSCRIBE", "params": part, "id": i + 1} for i, part in enumerate(parts)]
        return [Send(msgspec.json.encode(each).decode()) for each in asked]

    def _read(self, payload: str | bytes, recv_ns: int) -> Sequence[Output]:
        frame = _decode(payload)
        depth = frame.data
        if depth is not None and depth.e == "depthUpdate":
            line = self._lines.get(depth.s)
            if line is None:
                return NOTHING
            if depth.u < depth.U or depth.U <= 0:
                raise ValueError(f"numbers {depth.U} to {depth.u}")
            return self._delta(line, Delta(depth.U, depth.u, depth.b, depth.a, depth.E), recv_ns)
        return self._told(frame)

    def _told(self, frame: _Frame) -> Sequence[Output]:
        if "serverShutdown" in (frame.data.e if frame.data else "", frame.event.e if frame.event else ""):
            return (Close("the server will shut down"),)
        error = frame.error or (_Error(frame.code, frame.msg) if frame.code else None)
        if error is not None:
            is_limit = error.code in _TOO_MANY_CODES or sounds_limited(error.msg)
            return self._objected(f"{error.code} {error.msg}"[:200], is_limit, self._named_in(error.msg))
        if frame.id is None:
            raise ValueError("a frame without data, id and error")
        return NOTHING

    def _snapshot_url(self, market: str) -> str:
        return f"{REST}?symbol={market}&limit={self.snapshot_levels}"

    def _snapshot(self, body: bytes) -> Snapshot:
        return read_snapshot(body)


def open_session(symbols: Sequence[str], base_url: str | None = None) -> BinanceSession:
    """A connection for at most 200 symbols; base_url: the stand-in, None for the real venue."""
    return BinanceSession(symbols, base_url)
