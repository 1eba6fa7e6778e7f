"""Session of Bitfinex: the 100 best levels of `book` P0, one level per message, numbered and checked by crc32.

What belongs here: Bitfinex's public WebSocket v2 for spot order books. What does not: what all sessions share (`stream`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from altforecast.books import Book
from altforecast_io.exchanges.sessions.number_text import NumberTexts, TextLevel
from altforecast_io.exchanges.sessions.session import NOTHING, Close, FaultReason, Output, Send
from altforecast_io.exchanges.sessions.stream import NS_PER_S, Line, StreamSession, sounds_limited

DEPTH = 100
CHANNELS_PER_CONNECTION = 25
FLAGS = 32_768 + 65_536 + 131_072
"""Times, sequence numbers and checksums in every message."""
_LEAST_TIME_MS = 10**12
"""Trailing numbers from here on are times [ms], smaller ones sequence numbers (they begin at 1 with the connection)."""
_LIMIT_CODES = frozenset({10305, 11010})
_RESTART, _MAINTENANCE = 20051, 20060
_COINS = {"USDT": "UST", "USDC": "UDC"}


class _Platform(msgspec.Struct, gc=False):
    status: int = 1


class _Told(msgspec.Struct, gc=False):
    event: str
    channel: str = ""
    chanId: int = 0
    symbol: str = ""
    pair: str = ""
    code: int = 0
    msg: str = ""
    status: str = ""
    platform: _Platform | None = None


class _Frame(msgspec.Struct, array_like=True, gc=False):
    channel: int
    body: msgspec.Raw
    first: int | None = None
    second: int | None = None
    third: int | None = None


class _Row(msgspec.Struct, array_like=True, gc=False):
    price: msgspec.Raw
    count: int
    amount: msgspec.Raw


_decode_frame = msgspec.json.Decoder(_Frame).decode
_decode_told = msgspec.json.Decoder(_Told).decode
_decode_row = msgspec.json.Decoder(_Row).decode
_decode_rows = msgspec.json.Decoder(list[_Row]).decode


class BitfinexLine(Line):
    """A book of Bitfinex with the number texts of its levels (amounts of asks keep their sign)."""

    __slots__ = ("texts",)

    def __init__(self, book: Book, market: str) -> None:
        super().__init__(book, market)
        self.texts = NumberTexts(is_ask_negative=True)


class BitfinexSession(StreamSession):
    """Rules: the number of every message of the connection, heartbeats too, is one above the last; `cs` frames must agree.

    The sequence is the connection's, so a hole withdraws all its books.
    """

    venue = "bitfinex"
    url = "wss://api-pub.bitfinex.com/ws/2"
    ping_every_ns = 15 * NS_PER_S
    crossed_messages = 2 * DEPTH
    """One level per message: until all of a change have come the book may be crossed, and is not live; 0.5 s is the limit."""

    def __init__(self, symbols: Sequence[str], base_url: str | None = None) -> None:
        super().__init__(symbols, base_url)
        self._channels: dict[int, BitfinexLine] = {}
        self._last: int | None = None

    def _market(self, symbol: str) -> str:
        base, quote = (_COINS.get(coin, coin) for coin in symbol.split("-"))
        return f"t{base}:{quote}" if len(base) > 3 or len(quote) > 3 else f"t{base}{quote}"

    def _line(self, book: Book) -> BitfinexLine:
        return BitfinexLine(book, self._market(book.symbol))

    def _ping(self) -> str:
        return '{"event":"ping"}'

    def _subscribe(self) -> Sequence[Output]:
        asked: list[dict[str, object]] = [{"event": "conf", "flags": FLAGS}]
        for market in self._lines:
            asked.append({"event": "subscribe", "channel": "book", "symbol": market, "prec": "P0", "freq": "F0", "len": str(DEPTH)})
        return [Send(msgspec.json.encode(request).decode()) for request in asked]

    def _read(self, payload: str | bytes, recv_ns: int) -> Sequence[Output]:
        if payload[:1] in ("{", b"{"):
            return self._heard(_decode_told(payload))
        frame = _decode_frame(payload)
        body = bytes(frame.body)
        is_checksum = body == b'"cs"'
        numbers = (frame.second, frame.third) if is_checksum else (frame.first, frame.second)
        sequence = next((n for n in numbers if n is not None and n < _LEAST_TIME_MS), None)
        if (gap := self._gap(sequence)) is not None:
            return self._end(FaultReason.GAP, gap)
        line = self._channels.get(frame.channel)
        if line is None or line.market not in self._lines or body == b'"hb"':
            return NOTHING
        if is_checksum:
            return self._checked(line, frame.first)
        ts = next((n for n in numbers if n is not None and n >= _LEAST_TIME_MS), None)
        return self._updated(line, body, sequence, recv_ns, ts)

    def _gap(self, sequence: int | None) -> str | None:
        last, self._last = self._last, sequence
        if last is None or sequence == last + 1:
            return None
        return f"sequence {sequence} after {last}"

    def _updated(self, line: BitfinexLine, body: bytes, sequence: int | None, recv_ns: int, ts: int | None) -> Sequence[Output]:
        book = line.book
        if body[:2] in (b"[[", b"[]"):
            line.texts.clear()
            book.load(*line.texts.read(*_sides(_decode_rows(body))))
        elif not line.is_complete:
            return self._break(FaultReason.GAP, line, "an update before any snapshot")
        else:
            book.apply(*line.texts.read(*_sides([_decode_row(body)])))
        line.texts.cut(book, DEPTH)
        book.sequence = sequence
        return self._changed(line, recv_ns, ts)

    def _checked(self, line: BitfinexLine, told: int | None) -> Sequence[Output]:
        if told is None:
            raise ValueError("a checksum frame without checksum")
        if not line.is_complete:
            return self._break(FaultReason.GAP, line, "a checksum before any snapshot")
        own = line.texts.crc32(line.book)
        line.book.checksum_ok = own == told
        return NOTHING if own == told else self._break(FaultReason.CHECKSUM, line, f"crc32 {own}, told {told}")

    def _heard(self, told: _Told) -> Sequence[Output]:
        if told.event == "subscribed" and told.channel == "book":
            line = self._lines.get(told.symbol)
            if isinstance(line, BitfinexLine):
                self._channels[told.chanId] = line
        elif told.event == "info":
            if told.code in (_RESTART, _MAINTENANCE) or (told.platform is not None and told.platform.status == 0):
                return (Close(told.msg or "maintenance"),)
        elif told.event == "conf" and told.status not in ("", "OK"):
            return self._end(FaultReason.REFUSED, f"conf: {told.status} {told.msg}")
        elif told.event == "error":
            is_limit = told.code in _LIMIT_CODES or sounds_limited(told.msg)
            return self._objected(f"{told.code} {told.msg}", is_limit, told.symbol or None)
        return NOTHING


def _sides(rows: Iterable[_Row]) -> tuple[list[TextLevel], list[TextLevel]]:
    """Bids and asks of rows; a positive amount is a bid, count 0 removes the level."""
    bids: list[TextLevel] = []
    asks: list[TextLevel] = []
    for row in rows:
        price, amount = bytes(row.price).decode(), bytes(row.amount).decode()
        if not float(amount):
            raise ValueError(f"amount {amount!r} names no side")
        side = asks if amount.startswith("-") else bids
        side.append(TextLevel(price, amount if row.count else "0"))
    return bids, asks


def open_session(symbols: Sequence[str], base_url: str | None = None) -> BitfinexSession:
    """A session of Bitfinex for at most 25 canonical symbols (its limit of channels per connection).

    base_url: a stand-in's address, None for the venue itself.
    """
    return BitfinexSession(symbols, base_url)
