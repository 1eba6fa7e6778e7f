"""Session of HTX: the 150 best levels of `mbp.150`, updates joined with a snapshot asked for on the same socket.

What belongs here: the market-by-price feed of HTX (compressed frames, pings to answer). What does not: what all sessions
share (`stream`).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from altforecast.books import Book
from altforecast_io.exchanges.sessions.session import NOTHING, FaultReason, Output, Send
from altforecast_io.exchanges.sessions.stream import NS_PER_S, Line, Number, StreamSession, inflate, sounds_limited

DEPTH = 150
MAX_BUFFERED = 1_000
"""Updates kept per book until its snapshot comes; one more is a fault."""
ASK_AGAIN_NS = NS_PER_S


class _Book(msgspec.Struct, gc=False):
    seqNum: int
    bids: list[tuple[Number, Number]]
    asks: list[tuple[Number, Number]]
    prevSeqNum: int | None = None


class _Frame(msgspec.Struct, gc=False):
    ping: int | None = None
    ch: str = ""
    ts: int | None = None
    tick: _Book | None = None
    rep: str = ""
    data: _Book | None = None
    subbed: str = ""
    status: str = ""
    id: str = ""
    err_code: str = msgspec.field(name="err-code", default="")
    err_msg: str = msgspec.field(name="err-msg", default="")


_decode = msgspec.json.Decoder(_Frame, strict=False).decode


class HtxLine(Line):
    """A book of HTX and the updates that wait for its snapshot."""

    __slots__ = ("ask_at_ns", "is_first", "waiting")

    def __init__(self, book: Book, market: str) -> None:
        super().__init__(book, market)
        self.waiting: list[_Book] = []
        self.ask_at_ns: int | None = None
        """When to ask for the snapshot again [ns]."""
        self.is_first = True
        """Whether no update has followed the snapshot yet: the first one may begin before it."""


class HtxSession(StreamSession):
    """Rules: `prevSeqNum` of an update is `seqNum` of the one before; the first after a snapshot may reach back behind it."""

    venue = "htx"
    url = "wss://api.huobi.pro/feed"

    def _market(self, symbol: str) -> str:
        return symbol.replace("-", "").lower()

    def _line(self, book: Book) -> HtxLine:
        return HtxLine(book, self._market(book.symbol))

    def _subscribe(self) -> Sequence[Output]:
        return [_ask("sub", market) for market in self._lines]

    def tick(self, now_ns: int) -> Sequence[Output]:
        """Also ask again for snapshots that were older than the updates."""
        found = list(super().tick(now_ns))
        for line in self._lines.values():
            if isinstance(line, HtxLine) and line.ask_at_ns is not None and now_ns >= line.ask_at_ns:
                line.ask_at_ns = None
                found.append(_ask("req", line.market))
        return found

    def _read(self, payload: str | bytes, recv_ns: int) -> Sequence[Output]:
        frame = _decode(inflate(payload))
        if frame.tick is not None:
            return self._updated(frame, frame.tick, recv_ns)
        if frame.ping is not None:
            return (Send(f'{{"pong":{frame.ping}}}'),)
        if frame.status == "error":
            market = frame.id.partition(".")[2] or self._named_in(frame.err_msg)
            return self._objected(f"{frame.err_code} {frame.err_msg}", sounds_limited(f"{frame.err_code} {frame.err_msg}"), market)
        if frame.subbed:
            market = _market_of(frame.subbed)
            return (_ask("req", market),) if market in self._lines else NOTHING
        if frame.rep and frame.data is not None:
            return self._joined(frame, frame.data, recv_ns)
        if not frame.status:
            raise ValueError("a frame without any known field")
        return NOTHING

    def _joined(self, frame: _Frame, snapshot: _Book, recv_ns: int) -> Sequence[Output]:
        line = self._lines.get(_market_of(frame.rep))
        if not isinstance(line, HtxLine) or line.is_complete:
            return NOTHING
        later = [update for update in line.waiting if update.seqNum > snapshot.seqNum]
        if later and (later[0].prevSeqNum or 0) > snapshot.seqNum:
            line.ask_at_ns = recv_ns + ASK_AGAIN_NS
            return NOTHING
        line.waiting.clear()
        book = line.book
        book.load(snapshot.bids, snapshot.asks)
        book.sequence = snapshot.seqNum
        for update in later:
            if (gap := self._gap(line, update)) is not None:
                return self._break(FaultReason.GAP, line, gap)
            _apply(line, update)
        return self._changed(line, recv_ns, frame.ts)

    def _updated(self, frame: _Frame, update: _Book, recv_ns: int) -> Sequence[Output]:
        line = self._lines.get(_market_of(frame.ch))
        if not isinstance(line, HtxLine):
            return NOTHING
        if update.prevSeqNum is None:
            raise ValueError("an update without prevSeqNum")
        if not line.is_complete:
            if len(line.waiting) >= MAX_BUFFERED:
                return self._break(FaultReason.SNAPSHOT, line, f"{MAX_BUFFERED} updates without a snapshot")
            line.waiting.append(update)
            return NOTHING
        if line.is_first and update.seqNum <= (line.book.sequence or 0):
            return NOTHING
        if (gap := self._gap(line, update)) is not None:
            return self._break(FaultReason.GAP, line, gap)
        _apply(line, update)
        return self._changed(line, recv_ns, frame.ts)

    def _gap(self, line: HtxLine, update: _Book) -> str | None:
        last, before = line.book.sequence or 0, update.prevSeqNum or 0
        if before == last or (line.is_first and before < last < update.seqNum):
            return None
        return f"prevSeqNum {before} after seqNum {last}"


def _apply(line: HtxLine, update: _Book) -> None:
    line.is_first = False
    line.book.apply(update.bids, update.asks)
    line.book.cut(DEPTH)
    line.book.sequence = update.seqNum


def _ask(verb: str, market: str) -> Send:
    return Send(f'{{"{verb}":"market.{market}.mbp.{DEPTH}","id":"{verb}.{market}"}}')


def _market_of(topic: str) -> str:
    parts = topic.split(".")
    return parts[1] if len(parts) == 4 and parts[2] == "mbp" else ""


def open_session(symbols: Sequence[str], base_url: str | None = None) -> HtxSession:
    """A session of HTX for canonical symbols.

    base_url: a stand-in's address, None for the venue itself.
    """
    return HtxSession(symbols, base_url)
