"""Properties of nine sessions: a lost message shows at the next one, spoilt bytes never raise."""

from __future__ import annotations

import gzip
import json
import random
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from altforecast.books import Book, BookState
from altforecast_io.exchanges.sessions.session import Fault, FaultReason, Fetch, Session
from tests.io.sessions.frames import SECOND, faults, started

NOW = 1_700_000_000 * SECOND
SYMBOL = "BTC-USDT"
Frame = str | bytes
Rows = list[tuple[str, str]]


@dataclass
class Truth:
    """A market of 60 levels a side that changes at random and is never crossed."""

    rng: random.Random

    def __post_init__(self) -> None:
        self.bids = {100.0 - n / 10: f"{self.rng.uniform(1, 9):.4f}" for n in range(60)}
        self.asks = {100.1 + n / 10: f"{self.rng.uniform(1, 9):.4f}" for n in range(60)}

    def changed(self) -> tuple[Rows, Rows]:
        """Some changed levels near the top of each side, as prices and sizes in text; the best level always changes."""
        out = []
        for side, best in ((self.bids, max(self.bids)), (self.asks, min(self.asks))):
            prices = {best, *self.rng.sample(sorted(side, key=lambda price: abs(price - best))[:15], 3)}
            for price in prices:
                side[price] = f"{self.rng.uniform(1, 9):.4f}"
            out.append([(f"{price:.1f}", side[price]) for price in sorted(prices)])
        return out[0], out[1]

    def changed_once(self) -> tuple[str, str]:
        """The best bid, changed."""
        best = max(self.bids)
        self.bids[best] = f"{self.rng.uniform(1, 9):.4f}"
        return f"{best:.1f}", self.bids[best]

    def rows(self) -> tuple[Rows, Rows]:
        """All levels, the best first."""
        bids = [(f"{price:.1f}", size) for price, size in sorted(self.bids.items(), reverse=True)]
        return bids, [(f"{price:.1f}", size) for price, size in sorted(self.asks.items())]

    def crc32(self, ask_sign: str = "") -> int:
        bids, asks = self.rows()
        parts = [text for b, a in zip(bids[:25], asks[:25], strict=True) for text in (*b, a[0], ask_sign + a[1])]
        unsigned = zlib.crc32(":".join(parts).encode())
        return unsigned - (1 << 32) if unsigned >> 31 else unsigned


def okx(truth: Truth, n: int) -> Iterator[Frame]:
    for place in range(n):
        bids, asks = truth.changed() if place else truth.rows()
        data = {"bids": [[*r, "0", "1"] for r in bids], "asks": [[*r, "0", "1"] for r in asks], "ts": str(place)}
        action = "update" if place else "snapshot"
        sequence = {"seqId": 10 + 3 * place, "prevSeqId": 7 + 3 * place if place else -1, "checksum": 0}
        yield json.dumps({"arg": {"channel": "books", "instId": SYMBOL}, "action": action, "data": [data | sequence]})


def okx_checksum(truth: Truth, n: int) -> Iterator[Frame]:
    for frame in okx(truth, n):
        message = json.loads(frame)
        data = message["data"][0]
        del data["seqId"], data["prevSeqId"]
        data["checksum"] = truth.crc32()
        yield json.dumps(message)


def bitget(truth: Truth, n: int) -> Iterator[Frame]:
    for place in range(n):
        bids, asks = truth.changed() if place else truth.rows()
        data = {"bids": bids, "asks": asks, "ts": "5", "seq": str(10 + 3 * place), "pseq": str(7 + 3 * place) if place else 0}
        action = "update" if place else "snapshot"
        yield json.dumps({"arg": {"instType": "SPOT", "channel": "books", "instId": "BTCUSDT"}, "action": action, "data": [data]})


def bitget_checksum(truth: Truth, n: int) -> Iterator[Frame]:
    for frame in bitget(truth, n):
        message = json.loads(frame)
        data = message["data"][0]
        del data["seq"], data["pseq"]
        data["checksum"] = truth.crc32()
        yield json.dumps(message)


def bitfinex(truth: Truth, n: int) -> Iterator[Frame]:
    bids, asks = truth.rows()
    rows = [[float(p), 1, float(s)] for p, s in bids] + [[float(p), 1, -float(s)] for p, s in asks]
    yield json.dumps([11, rows, 1, 1_700_000_000_000])
    for place in range(1, n):
        price, size = truth.changed_once()
        yield json.dumps([11, [float(price), 1, float(size)], place + 1, 1_700_000_000_000 + place])


def cryptocom(truth: Truth, n: int) -> Iterator[Frame]:
    for place in range(n):
        bids, asks = truth.changed() if place else truth.rows()
        sides = {"bids": [[*r, "1"] for r in bids[:50]], "asks": [[*r, "1"] for r in asks[:50]]}
        data: dict[str, Any] = {"t": 5, "u": 10 + 3 * place} | ({"update": sides, "pu": 7 + 3 * place} if place else sides)
        result = {"instrument_name": "BTC_USDT", "channel": "book.update" if place else "book", "data": [data]}
        yield json.dumps({"id": -1, "method": "subscribe", "code": 0, "result": result})


def htx(truth: Truth, n: int) -> Iterator[Frame]:
    for place in range(n):
        bids, asks = truth.changed() if place else truth.rows()
        book = {"seqNum": 10 + 3 * place, "bids": [[*map(float, r)] for r in bids], "asks": [[*map(float, r)] for r in asks]}
        topic = "market.btcusdt.mbp.150"
        message = {"ch": topic, "tick": book | {"prevSeqNum": 7 + 3 * place}} if place else {"rep": topic, "status": "ok", "data": book}
        yield gzip.compress(json.dumps(message | {"ts": 5}).encode(), 1, mtime=0)


def bingx(truth: Truth, n: int) -> Iterator[Frame]:
    for place in range(n):
        truth.changed()
        bids, asks = truth.rows()
        data = {"bids": bids, "asks": asks[::-1], "lastUpdateId": place}
        yield gzip.compress(json.dumps({"code": 0, "dataType": f"{SYMBOL}@depth100", "data": data, "timestamp": 5}).encode(), 1, mtime=0)


def bitstamp(truth: Truth, n: int) -> Iterator[Frame]:
    yield '{"event":"bts:subscription_succeeded","channel":"diff_order_book_btcusdt","data":{}}'
    for place in range(1, n):
        bids, asks = truth.changed()
        data = {"microtimestamp": str(1000 + place), "bids": bids, "asks": asks}
        yield json.dumps({"event": "data", "channel": "diff_order_book_btcusdt", "data": data})


def whitebit(truth: Truth, n: int) -> Iterator[Frame]:
    for place in range(n):
        bids, asks = truth.changed() if place else truth.rows()
        depth = {"bids": bids, "asks": asks, "timestamp": 5.5, "update_id": 10 + 3 * place, "past_update_id": 7 + 3 * place}
        yield json.dumps({"method": "depth_update", "params": [place == 0, depth, "BTC_USDT"], "id": None})


def upbit(truth: Truth, n: int) -> Iterator[Frame]:
    for _ in range(n):
        truth.changed()
        units = [
            {"bid_price": float(b[0]), "bid_size": float(b[1]), "ask_price": float(a[0]), "ask_size": float(a[1])}
            for b, a in zip(*truth.rows(), strict=True)
        ]
        yield json.dumps({"type": "orderbook", "code": "USDT-BTC", "timestamp": 5, "orderbook_units": units}).encode()


MAKERS: dict[str, Callable[[Truth, int], Iterator[Frame]]] = {
    "okx": okx,
    "okx_checksum": okx_checksum,
    "bitget": bitget,
    "bitget_checksum": bitget_checksum,
    "bitfinex": bitfinex,
    "cryptocom": cryptocom,
    "htx": htx,
    "bingx": bingx,
    "bitstamp": bitstamp,
    "whitebit": whitebit,
    "upbit": upbit,
}
NOTICING = tuple(name for name in MAKERS if name not in ("bingx", "bitstamp", "upbit"))


def session_of(name: str) -> Session:
    """A session of the venue with an open socket."""
    session: Session = import_module(f"altforecast_io.exchanges.sessions.{name.partition('_')[0]}").open_session([SYMBOL])
    started(session, NOW)
    if session.venue == "bitfinex":
        session.received('{"event":"subscribed","channel":"book","chanId":11,"symbol":"tBTCUST"}', NOW)
    return session


def feed(session: Session, frame: Frame, truth_at_join: bytes = b"") -> list[Any]:
    """Outputs of one frame; a Fetch is answered at once."""
    outputs = list(session.received(frame, NOW))
    for output in list(outputs):
        if isinstance(output, Fetch):
            outputs += session.answered(output.key, 200, truth_at_join, NOW)
    return outputs


def rest_book(truth: Truth, at: int) -> bytes:
    bids, asks = truth.rows()
    return json.dumps({"microtimestamp": str(at), "bids": bids, "asks": asks}).encode()


def is_equal(book: Book, truth: Truth) -> bool:
    bids, asks = truth.rows()
    return (book.bids(50), book.asks(50)) == ([(float(p), float(s)) for p, s in bids[:50]], [(float(p), float(s)) for p, s in asks[:50]])


@pytest.mark.parametrize("name", [name for name in MAKERS if name != "bitstamp"])
def test_received_all_messages_give_the_true_book(name: str) -> None:
    truth, session = Truth(random.Random(3)), session_of(name)
    for frame in MAKERS[name](truth, 12):
        assert faults(feed(session, frame)) == []
        assert session.books[SYMBOL].state is BookState.LIVE
        assert is_equal(session.books[SYMBOL], truth)


@pytest.mark.parametrize("name", NOTICING)
@settings(max_examples=12)
@given(seed=st.integers(0, 10**6), lost=st.integers(0, 8))
def test_received_lost_message_is_noticed_at_the_next(name: str, seed: int, lost: int) -> None:
    session = session_of(name)
    for place, frame in enumerate(MAKERS[name](Truth(random.Random(seed)), 10)):
        if place == lost:
            continue
        outputs = feed(session, frame)
        if name == "bitfinex" and lost == 0:
            # Without the snapshot the first update of the book itself is the fault.
            assert [reason for reason, _ in faults(outputs)] == [FaultReason.GAP]
            return
        if name == "htx" and lost == 0:
            # Without the snapshot nothing is complete until the deadline.
            assert outputs == []
            continue
        if place == lost + 1:
            assert len(faults(outputs)) == 1
            assert session.books[SYMBOL].best_bid is None
            return
        assert faults(outputs) == []
    assert faults(session.tick(NOW + 11 * SECOND)) == [(FaultReason.SNAPSHOT, SYMBOL)]


@pytest.mark.parametrize("name", ["bingx", "upbit"])
@settings(max_examples=12)
@given(seed=st.integers(0, 10**6), lost=st.integers(1, 8))
def test_received_lost_whole_book_heals_with_the_next(name: str, seed: int, lost: int) -> None:
    truth, session = Truth(random.Random(seed)), session_of(name)
    for place, frame in enumerate(MAKERS[name](truth, 10)):
        if place != lost:
            assert faults(feed(session, frame)) == []
            assert is_equal(session.books[SYMBOL], truth)


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), lost=st.integers(2, 8))
def test_tick_lost_change_of_bitstamp_is_noticed_within_a_minute(seed: int, lost: int) -> None:
    truth, session = Truth(random.Random(seed)), session_of("bitstamp")
    begin = NOW
    for place, frame in enumerate(bitstamp(truth, 10)):
        if place == 1:
            feed(session, frame)
            session.tick(begin + 3 * SECOND)
            assert isinstance(session.answered("book:btcusdt", 200, rest_book(truth, 1001), begin)[0], Book)
        elif place != lost:
            feed(session, frame)
    book, found, waits = session.books[SYMBOL], [], None
    is_wrong = (book.bids(20), book.asks(20)) != tuple([(float(p), float(s)) for p, s in side[:20]] for side in truth.rows())
    for second in range(60):
        for output in session.tick(begin + second * SECOND):
            waits = second + 1 if isinstance(output, Fetch) else waits
            found += [output.reason] if isinstance(output, Fault) else []
        if waits == second:
            for output in session.answered("book:btcusdt", 200, rest_book(truth, 1009), begin + second * SECOND):
                found += [output.reason] if isinstance(output, Fault) else []
    assert found == ([FaultReason.RECONCILE] if is_wrong else [])


@pytest.mark.parametrize("name", list(MAKERS))
@settings(max_examples=40)
@given(data=st.data())
def test_received_spoilt_bytes_never_raise(name: str, data: st.DataObject) -> None:
    truth, session = Truth(random.Random(data.draw(st.integers(0, 99)))), session_of(name)
    spoilt = data.draw(st.integers(0, 4))
    for place, frame in enumerate(MAKERS[name](truth, 6)):
        if place == spoilt:
            raw = bytearray(frame if isinstance(frame, bytes) else frame.encode())
            if data.draw(st.booleans()) and raw[:2] == b"\x1f\x8b":
                raw = bytearray(gzip.decompress(raw))
            for _ in range(data.draw(st.integers(1, 3))):
                at = data.draw(st.integers(0, len(raw) - 1))
                raw[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
            frame = bytes(raw) if data.draw(st.booleans()) else raw.decode(errors="surrogateescape")
        outputs = feed(session, frame, rest_book(truth, 1001))
        for symbol in (symbol for _, symbol in faults(outputs)):
            assert all(b.best_bid is None for s, b in session.books.items() if symbol in (None, s))


@pytest.mark.parametrize("name", list(MAKERS))
@given(
    payload=st.one_of(st.binary(max_size=60), st.text(max_size=60), st.binary(max_size=30).map(gzip.compress)),
    status=st.sampled_from([0, 200, 404, 500]),
)
@settings(max_examples=30)
def test_received_any_bytes_never_raise_and_never_make_a_book_live(name: str, payload: Frame, status: int) -> None:
    session = session_of(name)
    body = payload if isinstance(payload, bytes) else payload.encode(errors="surrogatepass")
    outputs = [*session.received(payload, NOW), *session.answered("book:btcusdt", status, body, NOW), *session.tick(NOW + SECOND)]
    assert not [output for output in outputs if isinstance(output, Book)], "no book is told to have changed"
    for book in session.books.values():
        assert book.state is not BookState.LIVE
        assert book.best_bid is book.best_ask is None
