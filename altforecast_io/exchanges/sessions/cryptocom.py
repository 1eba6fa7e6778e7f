"""Session of Crypto.com: the 50 best levels of `book.50`, a snapshot and then updates that name the one before.

What belongs here: the market stream of the Crypto.com exchange v1. What does not: what all sessions share (`stream`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from altforecast_io.exchanges.sessions.session import NOTHING, FaultReason, Output, Send
from altforecast_io.exchanges.sessions.stream import Line, Number, StreamSession, sounds_limited

DEPTH = 50
_LIMIT_CODES = frozenset({10006, 40107, 42901})


class _Level(msgspec.Struct, array_like=True, gc=False):
    price: Number
    size: Number
    count: Any = None


class _Sides(msgspec.Struct, gc=False):
    bids: list[_Level]
    asks: list[_Level]


class _Data(msgspec.Struct, gc=False):
    t: int
    bids: list[_Level] | None = None
    asks: list[_Level] | None = None
    update: _Sides | None = None
    u: int | None = None
    pu: int | None = None
    s: int | None = None


class _Result(msgspec.Struct, gc=False):
    instrument_name: str = ""
    channel: str = ""
    data: list[_Data] | None = None


class _Frame(msgspec.Struct, gc=False):
    method: str
    id: int = -1
    code: int = 0
    message: str = ""
    channel: str = ""
    result: _Result | None = None


_decode = msgspec.json.Decoder(_Frame, strict=False).decode


class CryptocomSession(StreamSession):
    """Rules: `pu` of an update is `u` of the message before; quiet books repeat an empty update every 5 s.

    Heartbeats come about every 30 s and must be answered. A `cs` is sent, but how it is made is not published.
    """

    venue = "cryptocom"
    url = "wss://stream.crypto.com/exchange/v1/market"

    def _market(self, symbol: str) -> str:
        return symbol.replace("-", "_")

    def _subscribe(self) -> Sequence[Output]:
        params = {
            "channels": [f"book.{market}.{DEPTH}" for market in self._lines],
            "book_subscription_type": "SNAPSHOT_AND_UPDATE",
            "book_update_frequency": 10,
        }
        request = {"id": 1, "method": "subscribe", "params": params, "nonce": self._pinged_ns // 1_000_000}
        return (Send(msgspec.json.encode(request).decode()),)

    def _read(self, payload: str | bytes, recv_ns: int) -> Sequence[Output]:
        frame = _decode(payload)
        if frame.method == "public/heartbeat":
            return (Send(f'{{"id":{frame.id},"method":"public/respond-heartbeat"}}'),)
        if frame.code:
            return self._objected_to(frame)
        result = frame.result
        if frame.method != "subscribe" or result is None:
            return NOTHING
        line = self._lines.get(result.instrument_name)
        if line is None or not result.channel.startswith("book"):
            return NOTHING
        outputs: Sequence[Output] = NOTHING
        for data in result.data or ():
            outputs = self._updated(line, result.channel, data, recv_ns)
            if line.market not in self._lines:
                break
        return outputs

    def _updated(self, line: Line, channel: str, data: _Data, recv_ns: int) -> Sequence[Output]:
        book = line.book
        if channel == "book" and data.bids is not None and data.asks is not None:
            book.load(_pairs(data.bids), _pairs(data.asks))
        elif channel != "book.update" or data.update is None:
            raise ValueError(f"channel {channel!r} without its levels")
        elif not line.is_complete:
            return self._break(FaultReason.GAP, line, "an update before any snapshot")
        elif data.pu is None or data.pu != book.sequence:
            return self._break(FaultReason.GAP, line, f"pu {data.pu} after u {book.sequence}")
        else:
            book.apply(_pairs(data.update.bids), _pairs(data.update.asks))
        book.cut(DEPTH)
        book.sequence = data.u if data.u is not None else data.s
        return self._changed(line, recv_ns, data.t)

    def _objected_to(self, frame: _Frame) -> Sequence[Output]:
        detail = f"{frame.code} {frame.message} {frame.channel}".strip()
        return self._objected(detail, frame.code in _LIMIT_CODES or sounds_limited(frame.message), self._named_in(detail))


def _pairs(levels: Sequence[_Level]) -> list[tuple[float, float]]:
    return [(level.price, level.size) for level in levels]


def open_session(symbols: Sequence[str], base_url: str | None = None) -> CryptocomSession:
    """A session of Crypto.com for at most 400 canonical symbols (its limit of channels per connection).

    base_url: a stand-in's address, None for the venue itself.
    """
    return CryptocomSession(symbols, base_url)
