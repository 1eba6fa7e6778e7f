"""Bitfinex WebSocket v2, `book` P0: one level per message inside the best 1, 25, 100 or 250, with numbers and checksums on demand.

What belongs here: Bitfinex's aggregated book channel. What does not: raw books, other venues and REST (`exchanges.bitfinex`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from zlib import crc32

from altforecast_sandbox.exchanges.bitfinex import spelled
from altforecast_sandbox.resting import Change, RestingBook, Rows
from altforecast_sandbox.streams.sent_window import SentWindow, Sides, top
from altforecast_sandbox.streams.venue_wire import VenueWire, compact, plain, request
from altforecast_sandbox.streams.wire import Books, Frame, StreamService, no_requests

TIMES, NUMBERS, CHECKSUMS = 32_768, 65_536, 131_072
"""Flags of `conf`: the last field is the time, a running number, and `cs` messages are sent."""
LENGTHS = (1, 25, 100, 250)
_CHECKED = 25
_MOST_CHANNELS = 25
_QUIET_MS = 15_000
_FIRST_CHANNEL = 17_000


@dataclass
class _Channel:
    number: int
    name: str
    window: SentWindow
    told_ms: int


class BitfinexWire(VenueWire):
    """A connection of at most 25 channels."""

    def __init__(self, books: Books) -> None:
        super().__init__(books, lambda pair: f"t{spelled(pair)}")
        self._flags = 0
        self._n_sent = 0
        self._n_channels = 0

    def opened(self) -> Sequence[Frame]:
        """The venue's version and that it works."""
        return (compact({"event": "info", "version": 2, "serverId": "sandbox", "platform": {"status": 1}}),)

    def received(self, payload: Frame, now_ms: int) -> Sequence[Frame]:
        """Answer ping, conf, subscribe and unsubscribe."""
        asked = request(payload)
        event = asked.get("event")
        if event == "ping":
            return (compact({"event": "pong", "ts": now_ms, "cid": asked.get("cid")}),)
        if event == "conf":
            return (self._configured(asked),)
        if event == "subscribe":
            return self._subscribed(asked, now_ms)
        if event == "unsubscribe":
            return (self._unsubscribed(asked),)
        return (compact({"event": "error", "msg": "event: invalid", "code": 10000}),)

    def _configured(self, asked: dict[str, Any]) -> str:
        flags = asked.get("flags", 0)
        if not isinstance(flags, int) or flags < 0:
            return compact({"event": "conf", "status": "FAILED", "msg": "flags: invalid"})
        self._flags = flags
        return compact({"event": "conf", "status": "OK", "flags": flags})

    def _subscribed(self, asked: dict[str, Any], now_ms: int) -> Sequence[Frame]:
        name, length = asked.get("symbol", ""), str(asked.get("len", 25))
        name = name if str(name).startswith("t") else f"t{name}"
        symbol = self.symbols.get(name)
        problem = self._problem(asked, symbol, length)
        if problem is not None or symbol is None:
            code, text = problem or (10300, "symbol: invalid")
            told = {"channel": asked.get("channel"), "symbol": asked.get("symbol"), "event": "error", "msg": text, "code": code}
            return (compact(told | {"pair": name[1:]}),)
        self._n_channels += 1
        channel = _Channel(_FIRST_CHANNEL + self._n_channels, name, SentWindow(self.books[symbol], int(length)), now_ms)
        self.following.symbols[symbol] = channel
        ack = {
            "event": "subscribed", "channel": "book", "chanId": channel.number, "symbol": name, "prec": "P0", "freq": "F0",
            "len": length, "pair": name[1:],
        }  # fmt: skip
        levels = _levels(self.books[symbol], channel.window.sent)
        return [compact(ack), self._message(channel, f"[{','.join(levels)}]", now_ms)]

    def _problem(self, asked: dict[str, Any], symbol: str | None, length: str) -> tuple[int, str] | None:
        if asked.get("channel") != "book":
            return 10302, "channel: unknown"
        if symbol is None:
            return 10300, "symbol: invalid"
        if asked.get("prec", "P0") != "P0" or asked.get("freq", "F0") != "F0":
            return 10300, "prec: invalid"
        if not length.isdigit() or int(length) not in LENGTHS:
            return 10300, "len: invalid"
        if symbol in self.following.symbols:
            return 10301, "subscribe: dup"
        if len(self.following.symbols) >= _MOST_CHANNELS:
            return 10305, "Reached limit of open channels"
        return None

    def _unsubscribed(self, asked: dict[str, Any]) -> str:
        number = asked.get("chanId")
        for symbol, channel in self.following.symbols.items():
            if channel.number == number:
                del self.following.symbols[symbol]
                return compact({"event": "unsubscribed", "status": "OK", "chanId": number})
        return compact({"event": "error", "msg": "unsubscribe: invalid", "code": 10400, "chanId": number})

    def changed(self, book: RestingBook, change: Change) -> Sequence[Frame]:
        """A message per level that moved in the window, then the checksum where asked for."""
        channel: _Channel = self.following.symbols[book.symbol]
        frames: list[Frame] = [self._message(channel, level, change.ts_ms) for level in _levels(book, channel.window.moved(book))]
        channel.window.last_id = change.last_id
        if frames and self._flags & CHECKSUMS:
            frames.append(self._message(channel, f'"cs",{checksum(book, channel.window.depth)}', change.ts_ms))
        return frames

    def beat(self, now_ms: int) -> Sequence[Frame]:
        """A heartbeat for every channel that was quiet for 15 s."""
        quiet = [c for c in self.following.symbols.values() if now_ms - c.told_ms >= _QUIET_MS]
        return [self._message(channel, '"hb"', now_ms) for channel in quiet]

    def _message(self, channel: _Channel, body: str, ts_ms: int) -> str:
        channel.told_ms = ts_ms
        self._n_sent += 1
        number = f",{self._n_sent}" if self._flags & NUMBERS else ""
        time = f",{ts_ms}" if self._flags & TIMES else ""
        return f"[{channel.number},{body}{number}{time}]"


def _levels(book: RestingBook, sides: Sides) -> list[str]:
    return [*_side(book, sides[0], ""), *_side(book, sides[1], "-")]


def _side(book: RestingBook, rows: Rows, sign: str) -> list[str]:
    """Price, count and amount; asks have negative amounts, count 0 with amount 1 or -1 removes."""
    return [
        f"[{plain(book.price(ticks))},{1 + lots % 5 if lots else 0},{sign}{plain(book.size(lots)) if lots else 1}]" for ticks, lots in rows
    ]


def checksum(book: RestingBook, depth: int) -> int:
    """Signed crc32 over the best 25 bids and asks in turn as printed (asks negative), joined by colons."""
    bids, asks = top(book, min(depth, _CHECKED))
    parts: list[str] = []
    for i in range(_CHECKED):
        for rows, sign in ((bids, ""), (asks, "-")):
            if i < len(rows):
                parts += [plain(book.price(rows[i][0])), sign + plain(book.size(rows[i][1]))]
    value = crc32(":".join(parts).encode())
    return value - (1 << 32) if value >= 1 << 31 else value


def _spoil(frame: Frame) -> Frame:
    message = json.loads(frame)
    if not isinstance(message, list) or message[1] != "cs":
        return frame
    message[2] ^= 1
    return compact(message)


def _limited(payload: Frame) -> Sequence[Frame]:
    asked = request(payload)
    if asked.get("event") != "subscribe":
        return ()
    named = {"channel": asked.get("channel"), "symbol": asked.get("symbol")}
    return (compact({"event": "error", "msg": "Reached limit of open channels", "code": 10305} | named),)


STREAM = StreamService("bitfinex", lambda books, _path, _now_ms: BitfinexWire(books), no_requests, _spoil, limited=_limited)
