"""Straightforward readers of the nine wires: exact numbers, every numbering rule asserted, nothing shared with the wires."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import Any
from zlib import crc32

from altforecast_sandbox.resting import Change, RestingBook

Levels = dict[Decimal, Decimal]
START_MS = 1_780_000_000_000


def deep_book(symbol: str = "BTC-USDT", n: int = 400, mid: int = 9_200_000) -> RestingBook:
    """A book whose sides are deeper than any window."""
    draw = random.Random(symbol)
    book = RestingBook(symbol, 2, 5, last_id=1_000, ts_ms=START_MS)
    bids = tuple((mid - 1 - 3 * i, draw.randint(1, 900_000)) for i in range(n))
    asks = tuple((mid + 1 + 3 * i, draw.randint(1, 900_000)) for i in range(n))
    book.apply(Change(symbol, 1_001, 1_001, START_MS, bids, asks))
    return book


def step(book: RestingBook, draw: random.Random) -> Change:
    """A random change: levels near the top appear and vanish, some lie deep, ids advance by one to three."""
    sides = []
    for sign, best in ((-1, book.top_bids(1)[0][0]), (1, book.top_asks(1)[0][0])):
        resting = book.bids if sign < 0 else book.asks
        rows: dict[int, int] = {}
        for _ in range(draw.randint(0, 5)):
            away = draw.choice((0, 1, 3, 10, 60, 150, 500, 1_100))
            ticks = best + sign * draw.randint(0, away)
            rows[ticks] = 0 if ticks in resting and draw.random() < 0.6 and len(resting) > 260 else draw.randint(1, 900_000)
        if draw.random() < 0.3:
            rows[best] = 0
        elif draw.random() < 0.3:
            rows[best - sign] = draw.randint(1, 900_000)
        sides.append(rows)
    bids = {ticks: lots for ticks, lots in sides[0].items() if ticks < min(book.asks)}
    asks = {ticks: lots for ticks, lots in sides[1].items() if ticks > max([*book.bids, *bids])}
    first = book.last_id + 1
    change = Change(
        book.symbol,
        first,
        first + draw.randint(0, 2),
        book.ts_ms + 100,
        tuple(sorted(bids.items(), reverse=True)),
        tuple(sorted(asks.items())),
    )
    book.apply(change)
    return change


def true_top(book: RestingBook, n: int) -> tuple[list[tuple[Decimal, Decimal]], list[tuple[Decimal, Decimal]]]:
    """What a correct reader must show."""
    return tuple([(Decimal(book.price(t)), Decimal(book.size(lots))) for t, lots in rows] for rows in (book.top_bids(n), book.top_asks(n)))  # type: ignore[return-value]


class Reader:
    """Levels of one market as told; subclasses read one venue's frames."""

    depth = 400
    is_window = False

    def __init__(self) -> None:
        self.bids: Levels = {}
        self.asks: Levels = {}
        self.seq: int | None = None
        self.n_checked = 0

    def subscribe(self, name: str) -> Sequence[Any]:
        raise NotImplementedError

    def read(self, frame: Any) -> None:
        raise NotImplementedError

    def top(self) -> tuple[list[tuple[Decimal, Decimal]], list[tuple[Decimal, Decimal]]]:
        return sorted(self.bids.items(), reverse=True)[: self.depth], sorted(self.asks.items())[: self.depth]

    def _put(self, bids: Iterable[Sequence[Any]], asks: Iterable[Sequence[Any]], is_whole: bool = False) -> None:
        for side, rows in ((self.bids, bids), (self.asks, asks)):
            if is_whole:
                side.clear()
            for price, size in ((Decimal(r[0]), Decimal(r[1])) for r in rows):
                if size:
                    assert side.get(price) != size or is_whole or not self.is_window, "a window tells what moved, nothing else"
                    side[price] = size
                else:
                    assert price in side or not self.is_window, f"{price} leaves a window in which it never was"
                    side.pop(price, None)


class Gate(Reader):
    depth, is_window = 50, True

    def subscribe(self, name: str) -> Sequence[Any]:
        return [{"id": 7, "time": 1, "channel": "spot.obu", "event": "subscribe", "payload": [f"ob.{name}.{self.depth}"]}]

    def read(self, frame: Any) -> None:
        message = json.loads(frame)
        if message["event"] == "subscribe":
            assert message["id"] == 7
            assert message["result"] == {"status": "success"}
            return
        told = message["result"]
        assert told.get("full") or told["U"] == (self.seq or 0) + 1
        self.seq = told["u"]
        self._put(told["b"], told["a"], bool(told.get("full")))


class Joined(Reader):
    """Updates are kept until the REST book comes."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[tuple[int, int, Any, Any]] = []

    def join(self, seq: int, bids: Any, asks: Any) -> None:
        self._put(bids, asks, is_whole=True)
        self.seq = seq
        for update in self.kept:
            if update[1] > seq:
                self._follow(*update)

    def _told(self, first: int, last: int, bids: Any, asks: Any) -> None:
        if self.seq is None:
            self.kept.append((first, last, bids, asks))
        else:
            self._follow(first, last, bids, asks)

    def _follow(self, first: int, last: int, bids: Any, asks: Any) -> None:
        assert first == (self.seq or 0) + 1
        self.seq = last
        self._put(bids, asks)


class Kucoin(Joined):
    def subscribe(self, name: str) -> Sequence[Any]:
        return [{"id": "9", "type": "subscribe", "topic": f"/market/level2:{name}", "response": True}]

    def read(self, frame: Any) -> None:
        message = json.loads(frame)
        if message["type"] != "message":
            assert message == {"id": "9", "type": "ack"}
            return
        assert message["subject"] == "trade.l2update"
        data = message["data"]
        for row in data["changes"]["bids"] + data["changes"]["asks"]:
            assert data["sequenceStart"] <= int(row[2]) <= data["sequenceEnd"]
        self._told(data["sequenceStart"], data["sequenceEnd"], data["changes"]["bids"], data["changes"]["asks"])


class Mexc(Joined):
    def subscribe(self, name: str) -> Sequence[Any]:
        return [{"method": "SUBSCRIPTION", "id": 3, "params": [f"spot@public.aggre.depth.v3.api.pb@100ms@{name}"]}]

    def read(self, frame: Any) -> None:
        if isinstance(frame, str):
            assert json.loads(frame) == {"id": 3, "code": 0, "msg": "spot@public.aggre.depth.v3.api.pb@100ms@BTCUSDT"}
            return
        from ccxt.protobuf.mexc.PushDataV3ApiWrapper_pb2 import PushDataV3ApiWrapper

        wrapper = PushDataV3ApiWrapper.FromString(frame)
        assert (wrapper.symbol, wrapper.channel) == ("BTCUSDT", "spot@public.aggre.depth.v3.api.pb@100ms@BTCUSDT")
        assert wrapper.sendTime > START_MS
        told = wrapper.publicAggreDepths
        bids, asks = ([(level.price, level.quantity) for level in side] for side in (told.bids, told.asks))
        self._told(int(told.fromVersion), int(told.toVersion), bids, asks)


def _signed(value: int) -> int:
    return value - 2**32 if value >= 2**31 else value


class Bitget(Reader):
    def __init__(self) -> None:
        super().__init__()
        self.texts: dict[Decimal, list[str]] = {}

    def subscribe(self, name: str) -> Sequence[Any]:
        return [{"op": "subscribe", "args": [{"instType": "SPOT", "channel": "books", "instId": name}]}]

    def read(self, frame: Any) -> None:
        message = json.loads(frame)
        if "event" in message:
            assert message == {"event": "subscribe", "arg": {"instType": "SPOT", "channel": "books", "instId": "BTCUSDT"}}
            return
        (data,) = message["data"]
        assert data["seq"] > (self.seq or 0)
        self.seq = data["seq"]
        self.texts |= {Decimal(row[0]): row for row in data["bids"] + data["asks"]}
        self._put(data["bids"], data["asks"], message["action"] == "snapshot")
        sides = [[":".join(self.texts[price]) for price, _ in side[:25]] for side in self.top()]
        own = ":".join(text for pair in zip(*sides, strict=True) for text in pair)
        assert _signed(crc32(own.encode())) == data["checksum"]
        self.n_checked += 1


class Htx(Reader):
    depth, is_window = 150, True

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[Any] = []

    def subscribe(self, name: str) -> Sequence[Any]:
        return [{"sub": f"market.{name}.mbp.150", "id": "1"}]

    def ask(self, name: str) -> Any:
        return {"req": f"market.{name}.mbp.150", "id": "2"}

    def read(self, frame: Any) -> None:
        message = json.loads(gzip.decompress(frame), parse_float=Decimal, parse_int=int)
        if "subbed" in message:
            assert message["status"] == "ok"
            assert message["id"] == "1"
        elif "rep" in message:
            data = message["data"]
            self._put(data["bids"], data["asks"], is_whole=True)
            self.seq = data["seqNum"]
            for update in self.kept:
                self._follow(update)
        elif "tick" in message:
            assert message["ch"] == "market.btcusdt.mbp.150"
            if self.seq is None:
                self.kept.append(message["tick"])
            else:
                self._follow(message["tick"])

    def _follow(self, tick: Any) -> None:
        if tick["seqNum"] <= (self.seq or 0):
            return
        assert tick["prevSeqNum"] == self.seq
        self.seq = tick["seqNum"]
        self._put(tick["bids"], tick["asks"])


class Coinbase(Reader):
    def subscribe(self, name: str) -> Sequence[Any]:
        return [{"type": "subscribe", "product_ids": [name], "channel": "level2"}, {"type": "subscribe", "channel": "heartbeats"}]

    def read(self, frame: Any) -> None:
        message = json.loads(frame)
        assert message["sequence_num"] == (-1 if self.seq is None else self.seq) + 1
        self.seq = message["sequence_num"]
        for event in message["events"]:
            if message["channel"] != "l2_data":
                continue
            assert event["product_id"] == "BTC-USDT"
            bids, asks = ([(u["price_level"], u["new_quantity"]) for u in event["updates"] if u["side"] == s] for s in ("bid", "offer"))
            assert len(bids) + len(asks) == len(event["updates"])
            self._put(bids, asks, event["type"] == "snapshot")


class Bitfinex(Reader):
    depth, is_window = 100, True

    def __init__(self) -> None:
        super().__init__()
        self.channel = 0
        self.texts: dict[Decimal, tuple[str, str]] = {}

    def subscribe(self, name: str) -> Sequence[Any]:
        asked = {"event": "subscribe", "channel": "book", "symbol": name, "prec": "P0", "freq": "F0", "len": str(self.depth)}
        return [{"event": "conf", "flags": 65_536 + 131_072}, asked]

    def read(self, frame: Any) -> None:
        message = json.loads(frame, parse_float=str, parse_int=str)
        if isinstance(message, dict):
            if message["event"] == "subscribed":
                self.channel = message["chanId"]
            return
        channel, body = message[:2]
        assert channel == self.channel
        assert int(message[-1]) == (self.seq or 0) + 1
        self.seq = int(message[-1])
        if body == "cs":
            self._check(int(message[2]))
        elif body and isinstance(body[0], list):
            self._rows(body, is_whole=True)
        elif body != "hb":
            self._rows([body], is_whole=False)

    def _rows(self, rows: Any, is_whole: bool) -> None:
        self.texts |= {Decimal(price): (price, amount) for price, _, amount in rows}
        sized = [(price, amount if int(count) else "0", amount) for price, count, amount in rows]
        bids = [row for row in sized if not row[2].startswith("-")]
        asks = [(price, size.lstrip("-")) for price, size, amount in sized if amount.startswith("-")]
        self._put(bids, asks, is_whole)

    def _check(self, told: int) -> None:
        sides = [[":".join(self.texts[price]) for price, _ in side[:25]] for side in self.top()]
        assert _signed(crc32(":".join(text for pair in zip(*sides, strict=True) for text in pair).encode())) == told
        assert len(self.bids) == len(self.asks) == self.depth, "complete whenever a batch of updates ends"
        self.n_checked += 1


class Cryptocom(Reader):
    depth, is_window = 50, True

    def subscribe(self, name: str) -> Sequence[Any]:
        params = {"channels": [f"book.{name}.{self.depth}"], "book_subscription_type": "SNAPSHOT_AND_UPDATE"}
        return [{"id": 1, "method": "subscribe", "params": params}]

    def read(self, frame: Any) -> None:
        message = json.loads(frame)
        if message["method"] == "public/heartbeat" or "result" not in message:
            assert message["code"] == 0
            return
        result = message["result"]
        assert (result["instrument_name"], result["depth"]) == ("BTC_USDT", 50)
        (data,) = result["data"]
        is_whole = result["channel"] == "book"
        assert is_whole or data["pu"] == self.seq
        self.seq = data["u"]
        sides = data if is_whole else data["update"]
        for row in sides["bids"] + sides["asks"]:
            assert (row[2] == "0") == (Decimal(row[1]) == 0)
        self._put(sides["bids"], sides["asks"], is_whole)


class Bingx(Reader):
    depth, is_window = 100, True

    def subscribe(self, name: str) -> Sequence[Any]:
        return [{"id": "u", "reqType": "sub", "dataType": f"{name}@depth100"}]

    def read(self, frame: Any) -> None:
        message = json.loads(gzip.decompress(frame))
        if "dataType" not in message:
            assert (message["code"], message["id"], message["msg"]) == (0, "u", "SUCCESS")
            return
        assert message["dataType"] == "BTC-USDT@depth100"
        assert message["data"]["lastUpdateId"] > (self.seq or 0)
        self.seq = message["data"]["lastUpdateId"]
        self._put(message["data"]["bids"], message["data"]["asks"], is_whole=True)


READERS: dict[str, tuple[Callable[[], Reader], str]] = {
    "gate": (Gate, "BTC_USDT"),
    "kucoin": (Kucoin, "BTC-USDT"),
    "bitget": (Bitget, "BTCUSDT"),
    "mexc": (Mexc, "BTCUSDT"),
    "htx": (Htx, "btcusdt"),
    "coinbase": (Coinbase, "BTC-USDT"),
    "bitfinex": (Bitfinex, "tBTCUST"),
    "cryptocom": (Cryptocom, "BTC_USDT"),
    "bingx": (Bingx, "BTC-USDT"),
}
