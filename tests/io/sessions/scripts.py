"""Hand-written frames of seven venues: a whole book of BTC-USDT, then one numbered change after another."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from altforecast_io.exchanges.sessions.registry import open_session
from altforecast_io.exchanges.sessions.session import Output, Session
from tests.io.sessions.frames import SECOND, started

NOW = 1_700_000_000 * SECOND
SYMBOLS = ("BTC-USDT", "ETH-USDT")
Rows = Sequence[tuple[str, str]]
"""Price and size as text."""
BIDS: Rows = (("100.10", "2.000"), ("100.00", "1.500"), ("99.50", "4.000"))
ASKS: Rows = (("100.20", "3.000"), ("100.50", "1.000"), ("101.00", "4.000"))
FIRST = 1000
"""The number of the snapshot; change `i` has the number FIRST + i."""


def pairs(rows: Rows) -> list[list[str]]:
    return [list(row) for row in rows]


def binance_delta(i: int, bids: Rows, asks: Rows, symbol: str = "BTCUSDT", width: int = 1) -> str:
    first = FIRST + i
    data = {"e": "depthUpdate", "E": 1_700_000_000_123, "s": symbol, "U": first, "u": first + width - 1, "b": pairs(bids), "a": pairs(asks)}
    return json.dumps({"stream": f"{symbol.lower()}@depth@100ms", "data": data})


def rest_book(last: int = FIRST, bids: Rows = BIDS, asks: Rows = ASKS) -> bytes:
    return json.dumps({"lastUpdateId": last, "bids": pairs(bids), "asks": pairs(asks)}).encode()


def kucoin_delta(i: int, bids: Rows, asks: Rows, symbol: str = "BTC-USDT", width: int = 1) -> str:
    first = FIRST + i
    changes = {side: [[*row, str(first)] for row in rows] for side, rows in (("bids", bids), ("asks", asks))}
    data = {"changes": changes, "sequenceStart": first, "sequenceEnd": first + width - 1, "symbol": symbol, "time": 1_700_000_000_123}
    return json.dumps({"type": "message", "topic": f"/market/level2:{symbol}", "subject": "trade.l2update", "data": data})


def kucoin_rest(last: int = FIRST, bids: Rows = BIDS, asks: Rows = ASKS) -> bytes:
    data = {"time": 1_700_000_000_000, "sequence": str(last), "bids": pairs(bids), "asks": pairs(asks)}
    return json.dumps({"code": "200000", "data": data}).encode()


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def chunk(field: int, data: bytes | str) -> bytes:
    raw = data.encode() if isinstance(data, str) else data
    return varint(field << 3 | 2) + varint(len(raw)) + raw


def mexc_delta(i: int, bids: Rows, asks: Rows, symbol: str = "BTCUSDT", width: int = 1) -> bytes:
    sides = [(1, row) for row in asks] + [(2, row) for row in bids]
    levels = b"".join(chunk(side, chunk(1, price) + chunk(2, size)) for side, (price, size) in sides)
    event = chunk(3, "spot@public.aggre.depth.v3.api.pb@100ms")
    versions = chunk(4, str(FIRST + i)) + chunk(5, str(FIRST + i + width - 1))
    head = chunk(1, f"spot@public.aggre.depth.v3.api.pb@100ms@{symbol}") + chunk(3, symbol)
    return head + varint(6 << 3) + varint(1_700_000_000_123) + chunk(313, levels + event + versions)


def bybit_frame(i: int, bids: Rows, asks: Rows, kind: str = "delta", symbol: str = "BTCUSDT") -> str:
    data = {"s": symbol, "b": pairs(bids), "a": pairs(asks), "u": FIRST + i, "seq": 7}
    return json.dumps({"topic": f"orderbook.50.{symbol}", "type": kind, "ts": 1_700_000_000_123, "data": data})


def gate_frame(i: int, bids: Rows, asks: Rows, full: bool = False, symbol: str = "BTC_USDT", width: int = 1) -> str:
    last = FIRST + i + width - 1
    numbers = {"full": True, "u": last} if full else {"U": FIRST + i, "u": last}
    result = {"t": 1_700_000_000_123, "s": f"ob.{symbol}.50", "b": pairs(bids), "a": pairs(asks), **numbers}
    return json.dumps({"channel": "spot.obu", "event": "update", "time_ms": 1_700_000_000_124, "result": result})


def coinbase_frame(number: int, bids: Rows, asks: Rows, kind: str = "update", symbol: str = "BTC-USDT") -> str:
    rows = [("bid", *row) for row in bids] + [("offer", *row) for row in asks]
    updates = [{"side": s, "event_time": "2023-11-14T22:13:20Z", "price_level": p, "new_quantity": q} for s, p, q in rows]
    events = [{"type": kind, "product_id": symbol, "updates": updates}]
    head = {"channel": "l2_data", "client_id": "", "timestamp": "2023-11-14T22:13:20.123456789Z", "sequence_num": number}
    return json.dumps({**head, "events": events})


class KrakenBook:
    """Kraken's side of a book: it knows the checksum that it must send."""

    def __init__(self) -> None:
        self.bids = dict(BIDS)
        self.asks = dict(ASKS)

    def checksum(self) -> int:
        asks = sorted(self.asks.items(), key=lambda row: float(row[0]))[:10]
        bids = sorted(self.bids.items(), key=lambda row: -float(row[0]))[:10]
        return zlib.crc32("".join(text.replace(".", "").lstrip("0") for row in asks + bids for text in row).encode())

    def change(self, bids: Rows, asks: Rows) -> str:
        for side, rows in ((self.bids, bids), (self.asks, asks)):
            for price, size in rows:
                side[price] = size
                if not float(size):
                    del side[price]
        return self.frame("update", bids, asks)

    def frame(self, kind: str, bids: Rows, asks: Rows, symbol: str = "BTC/USDT") -> str:
        sides = ("[" + ",".join(f'{{"price":{p},"qty":{q}}}' for p, q in rows) + "]" for rows in (bids, asks))
        body = '"bids":{},"asks":{}'.format(*sides)
        stamp = '"timestamp":"2023-11-14T22:13:20.123456Z"'
        data = f'[{{"symbol":"{symbol}",{body},"checksum":{self.checksum()},{stamp}}}]'
        return f'{{"channel":"book","type":"{kind}","data":{data}}}'


@dataclass
class Script:
    """A session with a live book of BTC-USDT, and the frame of its next change."""

    session: Session
    change: Callable[[int, Rows, Rows], str | bytes]
    """The frame of change number `i` (1, 2, ...); for kraken and coinbase, whose state it keeps, each is asked for once, in order."""


def script(venue: str) -> Script:
    """The venue's session after its first whole book; a test fails here if the book is not live."""
    session = started(open_session(venue, SYMBOLS), NOW)
    made = _MAKERS[venue](session)
    assert session.books["BTC-USDT"].best_bid == 100.10
    assert session.books["BTC-USDT"].best_ask == 100.20
    return made


def _joined(session: Session, change: Callable[[int, Rows, Rows], str | bytes], key: str, body: bytes) -> Script:
    outputs: Sequence[Output] = session.received(change(1, (("100.00", "1.600"),), ()), NOW)
    assert [output.key for output in outputs if hasattr(output, "key")] == [key]
    session.answered(key, 200, body, NOW)
    return Script(session, lambda i, bids, asks: change(i + 1, bids, asks))


def _kraken(session: Session) -> Script:
    book = KrakenBook()
    session.received(book.frame("snapshot", BIDS, ASKS), NOW)
    return Script(session, lambda _, bids, asks: book.change(bids, asks))


def _plain(session: Session, first: str, change: Callable[[int, Rows, Rows], str | bytes]) -> Script:
    session.received(first, NOW)
    return Script(session, change)


_MAKERS: dict[str, Callable[[Session], Script]] = {
    "binance": lambda s: _joined(s, binance_delta, "BTCUSDT", rest_book()),
    "kucoin": lambda s: _joined(s, kucoin_delta, "BTC-USDT", kucoin_rest()),
    "mexc": lambda s: _joined(s, mexc_delta, "BTCUSDT", rest_book()),
    "bybit": lambda s: _plain(s, bybit_frame(0, BIDS, ASKS, "snapshot"), bybit_frame),
    "gate": lambda s: _plain(s, gate_frame(0, BIDS, ASKS, full=True), gate_frame),
    "coinbase": lambda s: _plain(s, coinbase_frame(5, BIDS, ASKS, "snapshot"), lambda i, bids, asks: coinbase_frame(5 + i, bids, asks)),
    "kraken": _kraken,
}
VENUES = tuple(_MAKERS)
