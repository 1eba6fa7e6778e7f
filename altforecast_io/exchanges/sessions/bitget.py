"""Session of Bitget: all levels of `books`, checked by crc32 over the text or by the number of the message before.

What belongs here: Bitget's public WebSocket v2 for spot order books (its frames equal those of v1). What does not: what
all sessions share (`stream`).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from altforecast.books import Book
from altforecast_io.exchanges.sessions.channel_arg import NO_DATA, ChannelArg
from altforecast_io.exchanges.sessions.number_text import CheckedLine
from altforecast_io.exchanges.sessions.session import NOTHING, FaultReason, Output, Send
from altforecast_io.exchanges.sessions.stream import NS_PER_S, StreamSession, sounds_limited

CHANNEL = "books"
DEPTH = 5000
"""Levels kept per side; Bitget sends all of them, and what lies deeper is dropped."""
ARGS_PER_FRAME = 50
_LIMIT_CODES = frozenset({30006, 30007})


class _Update(msgspec.Struct, gc=False):
    bids: msgspec.Raw
    asks: msgspec.Raw
    ts: int
    checksum: int | None = None
    seq: int | None = None
    pseq: int | None = None


class _Frame(msgspec.Struct, gc=False):
    arg: ChannelArg | None = None
    action: str = ""
    data: msgspec.Raw = NO_DATA
    """Read only for books: other channels carry other things."""
    event: str = ""
    code: int = 0
    msg: str = ""


_decode = msgspec.json.Decoder(_Frame, strict=False).decode
_decode_updates = msgspec.json.Decoder(list[_Update], strict=False).decode


class BitgetSession(StreamSession):
    """Rules: `pseq` is `seq` of the message before where it is told, otherwise `seq` grows; a checksum counts where it is not 0.

    Bitget sent a crc32 for years and was seen without it, with `pseq` instead, in 2026: both forms are understood.
    """

    venue = "bitget"
    url = "wss://ws.bitget.com/v2/ws/public"
    ping_every_ns = 15 * NS_PER_S

    def _market(self, symbol: str) -> str:
        return symbol.replace("-", "")

    def _line(self, book: Book) -> CheckedLine:
        return CheckedLine(book, self._market(book.symbol))

    def _subscribe(self) -> Sequence[Output]:
        args = [{"instType": "SPOT", "channel": CHANNEL, "instId": market} for market in self._lines]
        parts = [args[i : i + ARGS_PER_FRAME] for i in range(0, len(args), ARGS_PER_FRAME)]
        return [Send(msgspec.json.encode({"op": "subscribe", "args": part}).decode()) for part in parts]

    def _read(self, payload: str | bytes, recv_ns: int) -> Sequence[Output]:
        if payload in ("pong", b"pong"):
            return NOTHING
        frame = _decode(payload)
        if frame.event:
            return self._told(frame)
        if frame.arg is None:
            raise ValueError("a frame without event and arg")
        line = self._lines.get(frame.arg.instId)
        if not isinstance(line, CheckedLine) or frame.arg.channel != CHANNEL:
            return NOTHING
        if frame.data is NO_DATA:
            raise ValueError("a book frame without data")
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
        elif (gap := self._gap(line, update)) is not None:
            return self._break(FaultReason.GAP, line, gap)
        else:
            line.apply(update.bids, update.asks, DEPTH)
        book.sequence = update.seq
        if (wrong := line.check(update.checksum, action == "update")) is not None:
            return self._break(FaultReason.CHECKSUM, line, wrong)
        return self._changed(line, recv_ns, update.ts)

    def _gap(self, line: CheckedLine, update: _Update) -> str | None:
        last = line.book.sequence
        if not line.is_complete:
            return "an update before any snapshot"
        if last is None or update.seq is None:
            return None
        if update.pseq:
            return None if update.pseq == last else f"pseq {update.pseq} after seq {last}"
        return None if update.seq >= last else f"seq {update.seq} after {last}"

    def _told(self, frame: _Frame) -> Sequence[Output]:
        if frame.event != "error":
            return NOTHING
        market = (frame.arg.instId if frame.arg else None) or self._named_in(frame.msg)
        is_limit = frame.code in _LIMIT_CODES or sounds_limited(frame.msg)
        return self._objected(f"{frame.code} {frame.msg}", is_limit, market)


def open_session(symbols: Sequence[str], base_url: str | None = None) -> BitgetSession:
    """A session of Bitget for canonical symbols.

    base_url: a stand-in's address, None for the venue itself.
    """
    return BitgetSession(symbols, base_url)
