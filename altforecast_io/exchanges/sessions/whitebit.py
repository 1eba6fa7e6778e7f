"""Session of WhiteBIT: the 100 best levels of `depth`, a snapshot and then updates that name the one before.

What belongs here: WhiteBIT's public JSON-RPC socket. What does not: what all sessions share (`stream`).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from altforecast_io.exchanges.sessions.session import NOTHING, FaultReason, Output, Send
from altforecast_io.exchanges.sessions.stream import NS_PER_S, Line, Number, StreamSession, sounds_limited

DEPTH = 100
_PING_ID = 0


class _Depth(msgspec.Struct, gc=False):
    bids: list[tuple[Number, Number]] = []
    """Left out where nothing changed."""
    asks: list[tuple[Number, Number]] = []
    timestamp: float | None = None
    update_id: int | None = None
    past_update_id: int | None = None


class _Problem(msgspec.Struct, gc=False):
    code: int = 0
    message: str = ""


NO_PARAMS = msgspec.Raw(b"")


class _Frame(msgspec.Struct, gc=False):
    id: int | None = None
    method: str = ""
    params: msgspec.Raw = NO_PARAMS
    error: _Problem | None = None


_decode = msgspec.json.Decoder(_Frame).decode
_decode_params = msgspec.json.Decoder(tuple[bool, _Depth, str], strict=False).decode


class WhitebitSession(StreamSession):
    """Rules: `past_update_id` of an update is `update_id` of the one before; quiet books are repeated whole every 10 s."""

    venue = "whitebit"
    url = "wss://wss.whitebit.com/ws"
    ping_every_ns = 15 * NS_PER_S

    def _market(self, symbol: str) -> str:
        return symbol.replace("-", "_")

    def _ping(self) -> str:
        return f'{{"id":{_PING_ID},"method":"ping","params":[]}}'

    def _subscribe(self) -> Sequence[Output]:
        asked = [{"id": n, "method": "depth_subscribe", "params": [m, DEPTH, "0", True]} for n, m in enumerate(self._numbered(), 1)]
        return [Send(msgspec.json.encode(request).decode()) for request in asked]

    def _numbered(self) -> list[str]:
        """Markets in the order of their requests, which are numbered from 1."""
        return [self._market(symbol) for symbol in self.books]

    def _read(self, payload: str | bytes, recv_ns: int) -> Sequence[Output]:
        frame = _decode(payload)
        if frame.error is not None:
            return self._objected_to(frame, frame.error)
        if frame.method != "depth_update":
            if frame.id is None:
                raise ValueError(f"a frame of method {frame.method!r} without id")
            return NOTHING
        is_whole, depth, market = _decode_params(frame.params)
        line = self._lines.get(market)
        return NOTHING if line is None else self._updated(line, is_whole, depth, recv_ns)

    def _updated(self, line: Line, is_whole: bool, depth: _Depth, recv_ns: int) -> Sequence[Output]:
        book = line.book
        if is_whole:
            book.load(depth.bids, depth.asks)
        elif not line.is_complete:
            return self._break(FaultReason.GAP, line, "an update before any snapshot")
        elif depth.past_update_id != book.sequence:
            return self._break(FaultReason.GAP, line, f"past_update_id {depth.past_update_id} after update_id {book.sequence}")
        else:
            book.apply(depth.bids, depth.asks)
        book.cut(DEPTH)
        book.sequence = depth.update_id
        return self._changed(line, recv_ns, None if depth.timestamp is None else int(depth.timestamp * 1000))

    def _objected_to(self, frame: _Frame, problem: _Problem) -> Sequence[Output]:
        markets = self._numbered()
        number = frame.id or 0
        market = markets[number - 1] if 0 < number <= len(markets) else None
        return self._objected(f"{problem.code} {problem.message}", sounds_limited(problem.message), market)


def open_session(symbols: Sequence[str], base_url: str | None = None) -> WhitebitSession:
    """A session of WhiteBIT for canonical symbols.

    base_url: a stand-in's address, None for the venue itself.
    """
    return WhitebitSession(symbols, base_url)
