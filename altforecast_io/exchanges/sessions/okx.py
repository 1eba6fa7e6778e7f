"""Session of OKX: the 400 best levels of `books`, every message naming the one before it.

What belongs here: OKX's public WebSocket v5 for spot order books. What does not: what all sessions share (`stream`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from altforecast.books import Book
from altforecast_io.exchanges.sessions.channel_arg import NO_DATA, ChannelArg
from altforecast_io.exchanges.sessions.number_text import CheckedLine
from altforecast_io.exchanges.sessions.session import NOTHING, Close, FaultReason, Output, Send
from altforecast_io.exchanges.sessions.stream import NS_PER_S, StreamSession, sounds_limited

DEPTH = 400
CHANNEL = "books"
_INSTRUMENT = re.compile(r"instId:([A-Za-z0-9-]+)")
_LIMIT_CODES = frozenset({"60014", "60023", "60030"})


class _Update(msgspec.Struct, gc=False):
    bids: msgspec.Raw
    asks: msgspec.Raw
    ts: int
    checksum: int | None = None
    seqId: int | None = None
    prevSeqId: int | None = None


class _Frame(msgspec.Struct, gc=False):
    arg: ChannelArg | None = None
    action: str = ""
    data: msgspec.Raw = NO_DATA
    """Read only for books: other channels carry other things."""
    event: str = ""
    code: str = ""
    msg: str = ""


_decode = msgspec.json.Decoder(_Frame, strict=False).decode
_decode_updates = msgspec.json.Decoder(list[_Update], strict=False).decode


class OkxSession(StreamSession):
    """Rules: `prevSeqId` of a message is `seqId` of the one before; the checksum counts where it is not 0.

    OKX sent a crc32 until 2026 and sends 0 since; old recordings in turn have no sequence. A message without either is
    taken as it is.
    """

    venue = "okx"
    url = "wss://ws.okx.com:8443/ws/v5/public"
    ping_every_ns = 15 * NS_PER_S

    def _market(self, symbol: str) -> str:
        return symbol

    def _line(self, book: Book) -> CheckedLine:
        return CheckedLine(book, self._market(book.symbol))

    def _subscribe(self) -> Sequence[Output]:
        args = [{"channel": CHANNEL, "instId": market} for market in self._lines]
        return (Send(msgspec.json.encode({"op": "subscribe", "args": args}).decode()),)

    def _read(self, payload: str | bytes, recv_ns: int) -> Sequence[Output]:
        if payload in ("pong", b"pong"):
            return NOTHING
        frame = _decode(payload)
        if frame.event:
            return self._told(frame)
        if frame.arg is None or frame.data is NO_DATA:
            raise ValueError("a frame without event and data")
        line = self._lines.get(frame.arg.instId)
        if not isinstance(line, CheckedLine) or frame.arg.channel != CHANNEL:
            return NOTHING
        outputs: Sequence[Output] = NOTHING
        for update in _decode_updates(frame.data):
            outputs = self._updated(line, frame.action, update, recv_ns)
            if line.market not in self._lines:
                break
        return outputs

    def _updated(self, line: CheckedLine, action: str, update: _Update, recv_ns: int) -> Sequence[Output]:
        book = line.book
        if action == "snapshot":
            line.load(update.bids, update.asks, DEPTH)
        elif action != "update":
            raise ValueError(f"action {action!r}")
        elif not line.is_complete:
            return self._break(FaultReason.GAP, line, "an update before any snapshot")
        elif update.prevSeqId is not None and book.sequence is not None and update.prevSeqId != book.sequence:
            return self._break(FaultReason.GAP, line, f"prevSeqId {update.prevSeqId} after seqId {book.sequence}")
        else:
            line.apply(update.bids, update.asks, DEPTH)
        book.sequence = update.seqId
        if (wrong := line.check(update.checksum, action == "update")) is not None:
            return self._break(FaultReason.CHECKSUM, line, wrong)
        return self._changed(line, recv_ns, update.ts)

    def _told(self, frame: _Frame) -> Sequence[Output]:
        if frame.event == "notice":
            return (Close(frame.msg),)
        if frame.event != "error" and not frame.event.endswith("-error"):
            return NOTHING
        named = _INSTRUMENT.search(frame.msg)
        market = named[1] if named else (frame.arg.instId if frame.arg else None)
        is_limit = frame.code in _LIMIT_CODES or frame.event != "error" or sounds_limited(frame.msg)
        return self._objected(f"{frame.code} {frame.msg}", is_limit, market)


def open_session(symbols: Sequence[str], base_url: str | None = None) -> OkxSession:
    """A session of OKX for canonical symbols.

    base_url: a stand-in's address, None for the venue itself.
    """
    return OkxSession(symbols, base_url)
