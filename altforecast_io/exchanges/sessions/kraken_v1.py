"""Session of Kraken's WebSocket v1 book: recordings made before v2, and the checksum that both share.

What belongs here: frames of v1. What does not: today's protocol (`kraken`), the checksum (`kraken_texts`).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from altforecast_io.exchanges.sessions.kraken import KrakenLine, KrakenSession
from altforecast_io.exchanges.sessions.kraken_texts import Texts
from altforecast_io.exchanges.sessions.session import NOTHING, FaultReason, Output, Send
from altforecast_io.exchanges.sessions.stream import sounds_limited

_NAMES = {"BTC": "XBT", "DOGE": "XDG"}
_Rows = list[list[str]]


class _Part(msgspec.Struct, gc=False):
    asks: _Rows | None = msgspec.field(default=None, name="as")
    bids: _Rows | None = msgspec.field(default=None, name="bs")
    a: _Rows = []
    b: _Rows = []
    c: str = ""


class _Event(msgspec.Struct, gc=False):
    event: str
    status: str = ""
    pair: str = ""
    errorMessage: str = ""


_decode_event = msgspec.json.Decoder(_Event).decode
_decode_frame = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_part = msgspec.json.Decoder(_Part).decode
_decode_text = msgspec.json.Decoder(str).decode


class KrakenV1Session(KrakenSession):
    """Rule: as in v2; snapshots carry no checksum here, and the last part of an update carries one."""

    url = "wss://ws.kraken.com"

    def _market(self, symbol: str) -> str:
        return "/".join(_NAMES.get(part, part) for part in symbol.split("-"))

    def _ping(self) -> str:
        return '{"event":"ping"}'

    def _subscribe(self) -> Sequence[Output]:
        asked = {"event": "subscribe", "pair": list(self._lines), "subscription": {"name": "book", "depth": self._depth}}
        return [Send(msgspec.json.encode(asked).decode())]

    def _read(self, payload: str | bytes, recv_ns: int) -> Sequence[Output]:
        if payload[:1] in ("{", b"{"):
            return self._told(_decode_event(payload))
        frame = _decode_frame(payload)
        if len(frame) < 4:
            raise ValueError(f"a frame of {len(frame)} parts")
        line = self._lines.get(_decode_text(frame[-1]))
        if not isinstance(line, KrakenLine):
            return NOTHING
        return self._parts(line, [_decode_part(part) for part in frame[1:-2]], recv_ns)

    def _told(self, event: _Event) -> Sequence[Output]:
        if event.status == "error":
            detail = f"{event.errorMessage} {event.pair}"
            return self._objected(detail[:200], sounds_limited(detail), event.pair or None)
        return NOTHING

    def _parts(self, line: KrakenLine, parts: Sequence[_Part], recv_ns: int) -> Sequence[Output]:
        book, texts = line.book, line.texts
        first = parts[0]
        if first.asks is not None and first.bids is not None:
            texts.clear()
            book.load(*texts.read(_texts(first.bids), _texts(first.asks)))
            return self._changed(line, recv_ns, None)
        if not line.is_complete:
            return self._break(FaultReason.GAP, line, "an update before the snapshot")
        bids = [row for part in parts for row in part.b]
        asks = [row for part in parts for row in part.a]
        book.apply(*texts.read(_texts(bids), _texts(asks)))
        texts.cut(book, self._depth)
        newest = max((float(row[2]) for row in bids + asks if len(row) > 2), default=None)
        event_ms = None if newest is None else int(newest * 1000)
        return self._checked(line, int(parts[-1].c), recv_ns, event_ms)


def _texts(rows: _Rows) -> Texts:
    return [(row[0].encode(), row[1].encode()) for row in rows if len(row) > 1]


def open_session(symbols: Sequence[str], base_url: str | None = None, depth: int = 1000) -> KrakenV1Session:
    """A connection over v1 for the given depth (10, 25, 100, 500, 1000)."""
    return KrakenV1Session(symbols, base_url, depth)
