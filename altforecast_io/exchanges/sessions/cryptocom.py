"""Session of Crypto.com: the 50 best levels of `book.50`, a snapshot and then updates that name the one before.

What belongs here: the market stream of the Crypto.com exchange v1. What does not: what all sessions share (`stream`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from altforecast_io.exchanges.sessions.session import NOTHING, FaultReason, Output, Send
from altforecast_io.exchanges.sessions.stream import NS_PER_S, Line, Number, StreamSession, sounds_limited

DEPTH = 50
ASK_AGAIN_NS = 3 * NS_PER_S
"""After a refusal: markets of the same request that have no book by then are asked for once more."""
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

    def __init__(self, symbols: Sequence[str], base_url: str | None = None) -> None:
        super().__init__(symbols, base_url)
        self._ask_again_ns: int | None = None

    def tick(self, now_ns: int) -> Sequence[Output]:
        """Also ask once more for what was refused together with another market."""
        found = list(super().tick(now_ns))
        if self._ask_again_ns is not None and now_ns >= self._ask_again_ns:
            self._ask_again_ns = None
            waiting = [market for market, line in self._lines.items() if not line.is_complete]
            found += [_request(waiting, now_ns)] if waiting else []
        return found

    def _market(self, symbol: str) -> str:
        return symbol.replace("-", "_")

    def _subscribe(self) -> Sequence[Output]:
        return (_request(self._lines, self._pinged_ns),)

    def _read(self, payload: str | bytes, recv_ns: int) -> Sequence[Output]:
        frame = _decode(payload)
        if frame.method == "public/heartbeat":
            return (Send(f'{{"id":{frame.id},"method":"public/respond-heartbeat"}}'),)
        if frame.code:
            return self._objected_to(frame, recv_ns)
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

    def _objected_to(self, frame: _Frame, recv_ns: int) -> Sequence[Output]:
        self._ask_again_ns = recv_ns + ASK_AGAIN_NS
        detail = f"{frame.code} {frame.message} {frame.channel}".strip()
        return self._objected(detail, frame.code in _LIMIT_CODES or sounds_limited(frame.message), self._named_in(detail))


def _request(markets: Iterable[str], now_ns: int) -> Send:
    params = {
        "channels": [f"book.{market}.{DEPTH}" for market in markets],
        "book_subscription_type": "SNAPSHOT_AND_UPDATE",
        "book_update_frequency": 10,
    }
    request = {"id": 1, "method": "subscribe", "params": params, "nonce": now_ns // 1_000_000}
    return Send(msgspec.json.encode(request).decode())


def _pairs(levels: Sequence[_Level]) -> list[tuple[float, float]]:
    return [(level.price, level.size) for level in levels]


def open_session(symbols: Sequence[str], base_url: str | None = None) -> CryptocomSession:
    """A session of Crypto.com for at most 400 canonical symbols (its limit of channels per connection).

    base_url: a stand-in's address, None for the venue itself.
    """
    return CryptocomSession(symbols, base_url)
