"""Session of KuCoin spot: changes of `/market/level2` on a public REST snapshot of 100 levels.

What belongs here: the token that opens the socket, frames and pings of KuCoin. What does not: joining both (`joined`).
"""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Annotated
from urllib.parse import quote, urlsplit

import msgspec

from altforecast.books import Level
from altforecast_io.exchanges.sessions.batches import Batches
from altforecast_io.exchanges.sessions.joined import Delta, JoinedSession, Refusal, Snapshot
from altforecast_io.exchanges.sessions.levels import Pair, Size
from altforecast_io.exchanges.sessions.session import NOTHING, FaultReason, Fetch, Open, Output, Send, relocate
from altforecast_io.exchanges.sessions.stream import UNREADABLE, sounds_limited

TOPIC = "/market/level2:"
TOPICS_PER_FRAME = 100
BULLET = "bullet"
_BULLET_URL = "https://api.kucoin.com/api/v1/bullet-public"
_REST = "https://api.kucoin.com/api/v1/market/orderbook/level2_100"
_OK, _TOO_MANY = "200000", "429000"
_NS_PER_MS = 1_000_000
_NOT_FOUND, _TOO_MANY_TOPICS = "404", "509"

_AnyPrice = Annotated[float, msgspec.Meta(ge=0, lt=1e18)]
_Change = tuple[_AnyPrice, Size, int]
"""Price, size, number; price 0 changes nothing but the number."""


class _Changes(msgspec.Struct, gc=False):
    asks: list[_Change] = []
    bids: list[_Change] = []


class _Data(msgspec.Struct, gc=False):
    symbol: str = ""
    sequenceStart: int = 0
    sequenceEnd: int = 0
    changes: _Changes = msgspec.field(default_factory=_Changes)
    time: int | None = None


class _Head(msgspec.Struct, gc=False):
    type: str
    topic: str = ""
    data: msgspec.Raw = msgspec.Raw(b"")
    id: str = ""
    code: int = 0


class _Rest(msgspec.Struct):
    sequence: int
    bids: list[Pair]
    asks: list[Pair]


class _RestFrame(msgspec.Struct):
    code: str
    data: _Rest | None = None
    msg: str = ""


class _Server(msgspec.Struct):
    endpoint: str
    pingInterval: int


class _Bullet(msgspec.Struct):
    token: str
    instanceServers: list[_Server]


class _BulletFrame(msgspec.Struct):
    code: str
    data: _Bullet | None = None
    msg: str = ""


_decode = msgspec.json.Decoder(_Head, strict=False).decode
_decode_data = msgspec.json.Decoder(_Data, strict=False).decode
_decode_rest = msgspec.json.Decoder(_RestFrame, strict=False).decode
_decode_bullet = msgspec.json.Decoder(_BulletFrame, strict=False).decode


class KucoinSession(JoinedSession):
    """Rule: `sequenceStart` is one more than the `sequenceEnd` of the message before."""

    venue = "kucoin"
    snapshot_levels = 100

    def __init__(self, symbols: Sequence[str], base_url: str | None = None) -> None:
        super().__init__(symbols, base_url)
        self._batches = Batches(TOPICS_PER_FRAME)
        self._ping_every_ns = 0

    def begin(self) -> Sequence[Output]:
        """A token first: its answer tells the socket's address."""
        return (Fetch(BULLET, relocate(_BULLET_URL, self.base_url), "POST"),)

    def answered(self, key: str, status: int, body: bytes, recv_ns: int) -> Sequence[Output]:
        """The token, or a snapshot."""
        return self._bullet(status, body) if key == BULLET else super().answered(key, status, body, recv_ns)

    def tick(self, now_ns: int) -> Sequence[Output]:
        """As every session, with pings as often as the token asked for."""
        found = list(super().tick(now_ns))
        if not self._is_over and self._ping_every_ns and now_ns - self._pinged_ns >= self._ping_every_ns:
            self._pinged_ns = now_ns
            found.append(Send(msgspec.json.encode({"id": str(now_ns // _NS_PER_MS), "type": "ping"}).decode()))
        return found

    def _market(self, symbol: str) -> str:
        return symbol

    def _bullet(self, status: int, body: bytes) -> Sequence[Output]:
        try:
            answer = _decode_bullet(body) if status == HTTPStatus.OK else _BulletFrame(str(status))
            if answer.code == _TOO_MANY or status == HTTPStatus.TOO_MANY_REQUESTS:
                return self._end(FaultReason.LIMITED, f"{answer.code} {answer.msg} for the token"[:200])
            if answer.data is None or not answer.data.instanceServers:
                return self._end(FaultReason.DISCONNECTED, f"{answer.code} {answer.msg} for the token"[:200])
            return self._open(answer.data.token, answer.data.instanceServers[0])
        except UNREADABLE as why:
            return self._end(FaultReason.BAD_FRAME, f"token: {type(why).__name__}: {why}"[:200])

    def _open(self, token: str, server: _Server) -> Sequence[Output]:
        there = urlsplit(server.endpoint)
        if there.scheme not in ("ws", "wss") or not there.netloc:
            raise ValueError(f"the endpoint {server.endpoint!r} is no WebSocket")
        # half the time that the venue allows: the session is asked about once a second and frames wait their turn
        self._ping_every_ns = max(1000, server.pingInterval // 2) * _NS_PER_MS
        is_there = self.base_url is not None and there.netloc == urlsplit(self.base_url).netloc
        address = server.endpoint if is_there else relocate(server.endpoint, self.base_url)
        return (Open(f"{address}?token={quote(token, safe='')}&connectId=books"),)

    def _subscribe(self) -> Sequence[Output]:
        return self._frames(self._batches.split(list(self._lines)))

    def _frames(self, parts: Sequence[tuple[str, list[str]]]) -> list[Output]:
        asked = [{"id": n, "type": "subscribe", "topic": TOPIC + ",".join(part), "response": True} for n, part in parts]
        return [Send(msgspec.json.encode(each).decode()) for each in asked]

    def _read(self, payload: str | bytes, recv_ns: int) -> Sequence[Output]:
        head = _decode(payload)
        if head.type == "message" and head.topic.startswith(TOPIC):
            return self._book(_decode_data(head.data), recv_ns)
        if head.type == "error":
            return self._failed(head)
        return NOTHING

    def _book(self, data: _Data, recv_ns: int) -> Sequence[Output]:
        line = self._lines.get(data.symbol)
        if line is None:
            return NOTHING
        first, last = data.sequenceStart, data.sequenceEnd
        if not 0 < first <= last:
            raise ValueError(f"numbers {first} to {last}")
        changes = data.changes
        return self._delta(line, Delta(first, last, _levels(changes.bids), _levels(changes.asks), data.time), recv_ns)

    def _failed(self, head: _Head) -> Sequence[Output]:
        """One unknown market refuses the whole frame: it is dropped, and the others are asked for again.

        The answer repeats the frame's topic; where that names several markets, each half is asked for by itself.
        """
        text = bytes(head.data).decode("utf-8", "replace")
        asked = self._batches.markets(head.id)
        market = asked[0] if len(asked) == 1 else self._named_alone(text, asked)
        is_limit = str(head.code) in (_TOO_MANY[:3], _TOO_MANY_TOPICS) or sounds_limited(text)
        if market is None and str(head.code) == _NOT_FOUND and not is_limit and (halves := self._batches.halves(head.id)):
            return self._frames(halves)
        found = list(self._objected(f"{head.code} {text}"[:200], is_limit, market))
        if market is not None and not self._is_over:
            found += self._frames(self._batches.without(head.id, market))
        return found

    def _named_alone(self, text: str, asked: Sequence[str]) -> str | None:
        named = [market for market in asked if market in text.replace('"', "").replace(",", " ").replace(":", " ").split()]
        return named[0] if len(named) == 1 else None

    def _snapshot_url(self, market: str) -> str:
        return f"{_REST}?symbol={market}"

    def _snapshot(self, body: bytes) -> Snapshot:
        answer = _decode_rest(body)
        if answer.code == _TOO_MANY:
            raise ValueError(f"{answer.code} {answer.msg}")
        if answer.code != _OK or answer.data is None:
            raise Refusal(f"{answer.code} {answer.msg}")
        return Snapshot(answer.data.sequence, answer.data.bids, answer.data.asks)


def _levels(changes: Sequence[tuple[float, float, int]]) -> list[Level]:
    return [(price, size) for price, size, _ in changes if price > 0.0]


def open_session(symbols: Sequence[str], base_url: str | None = None) -> KucoinSession:
    """A connection of at most 400 markets; base_url: the stand-in, None for the real venue."""
    return KucoinSession(symbols, base_url)
