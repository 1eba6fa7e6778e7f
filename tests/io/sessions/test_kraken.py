"""The sessions of Kraken on hand-written frames: the checksum over number texts, the window, refusals."""

from __future__ import annotations

import json
import zlib

import pytest

from altforecast.books import BookState
from altforecast_io.exchanges.sessions.kraken import DEPTH, open_session
from altforecast_io.exchanges.sessions.kraken_v1 import open_session as open_v1
from altforecast_io.exchanges.sessions.session import FaultReason, Open, Send
from tests.io.sessions.frames import SECOND, faults, is_changed, started
from tests.io.sessions.scripts import ASKS, BIDS, NOW, KrakenBook, script


def test_begin_and_opened_ask_for_the_window() -> None:
    session = open_session(["BTC-USD", "ETH-USD"])
    assert session.begin() == (Open("wss://ws.kraken.com/v2"),)
    (sent,) = session.opened(NOW)
    assert isinstance(sent, Send)
    params = json.loads(sent.payload)["params"]
    assert params == {"channel": "book", "symbol": ["BTC/USD", "ETH/USD"], "depth": DEPTH, "snapshot": True}


def test_received_snapshot_of_the_checksum_guide_agrees() -> None:
    """Ten levels of a documented layout: digits without point and leading zeros, asks first."""
    book = KrakenBook()
    book.bids = {f"{45283.5 - i / 10:.1f}": "0.10000000" for i in range(10)}
    book.asks = {f"{45285.2 + i / 10:.1f}": "0.00100000" for i in range(10)}
    text = "".join(f"{452852 + i}100000" for i in range(10)) + "".join(f"{452835 - i}10000000" for i in range(10))
    assert book.checksum() == zlib.crc32(text.encode())
    session = started(open_session(["BTC-USDT"]), NOW)
    frame = book.frame("snapshot", list(book.bids.items()), list(book.asks.items()))
    assert is_changed(session.received(frame, NOW))
    assert session.books["BTC-USDT"].checksum_ok is True


def test_received_wrong_checksum_withdraws_the_book() -> None:
    made = script("kraken")
    frame = made.change(1, (("100.10", "7.000"),), ())
    assert isinstance(frame, str)
    wrong = frame.replace('"qty":7.000', '"qty":7.001')
    assert faults(made.session.received(wrong, NOW)) == [(FaultReason.CHECKSUM, "BTC-USDT")]
    assert made.session.books["BTC-USDT"].state is BookState.SUSPECT


def test_received_trailing_zeros_belong_to_the_checksum() -> None:
    made = script("kraken")
    frame = made.change(1, (("100.10", "7.000"),), ())
    assert isinstance(frame, str)
    shorter = frame.replace('"qty":7.000', '"qty":7.0')
    assert faults(made.session.received(shorter, NOW)) == [(FaultReason.CHECKSUM, "BTC-USDT")]


def test_received_levels_that_leave_the_window_are_dropped() -> None:
    session = started(open_session(["BTC-USDT"]), NOW)
    book = KrakenBook()
    book.bids = {f"{90 - i / 100:.2f}": "1.0" for i in range(DEPTH)}
    session.received(book.frame("snapshot", list(book.bids.items()), list(book.asks.items())), NOW)
    for i in range(5):
        assert is_changed(session.received(book.change(((f"9{i}.50", "1.0"),), ()), NOW))
    ours = session.books["BTC-USDT"]
    assert (len(ours.bid_keys), ours.best_bid) == (DEPTH, 94.5)


def test_received_update_before_the_snapshot_is_a_gap() -> None:
    session = started(open_session(["BTC-USDT"]), NOW)
    assert faults(session.received(KrakenBook().frame("update", BIDS, ()), NOW)) == [(FaultReason.GAP, "BTC-USDT")]


def test_received_new_snapshot_replaces_the_book() -> None:
    made = script("kraken")
    book = KrakenBook()
    book.bids = {"50.00": "1.0"}
    assert is_changed(made.session.received(book.frame("snapshot", list(book.bids.items()), ASKS), NOW))
    assert made.session.books["BTC-USDT"].bids(5) == [(50.0, 1.0)]


@pytest.mark.parametrize(
    "frame",
    [
        '{"channel":"heartbeat"}',
        '{"channel":"status","type":"update","data":[{"system":"online","version":"2.0.0"}]}',
        '{"method":"pong","req_id":1}',
        '{"method":"subscribe","result":{"channel":"book","depth":100,"symbol":"BTC/USDT"},"success":true}',
    ],
)
def test_received_other_frames_change_nothing(frame: str) -> None:
    made = script("kraken")
    assert not made.session.received(frame, NOW)
    assert made.session.books["BTC-USDT"].state is BookState.LIVE


def test_received_refusals_and_limits() -> None:
    made = script("kraken")
    refused = '{"error":"Currency pair not supported ETH/USDT","method":"subscribe","success":false,"symbol":"ETH/USDT"}'
    assert faults(made.session.received(refused, NOW)) == [(FaultReason.REFUSED, "ETH-USDT")]
    assert made.session.books["BTC-USDT"].state is BookState.LIVE
    limited = '{"error":"Rate limit exceeded","method":"subscribe","success":false}'
    assert faults(made.session.received(limited, NOW)) == [(FaultReason.LIMITED, None)]


def test_tick_pings() -> None:
    made = script("kraken")
    made.session.tick(NOW + 11 * SECOND)
    sent = [output.payload for output in made.session.tick(NOW + 31 * SECOND) if isinstance(output, Send)]
    assert sent == ['{"method":"ping"}']


def test_v1_reads_its_frames_and_names() -> None:
    session = started(open_v1(["BTC-USD"], depth=10), NOW)
    first = '[336,{"as":[["100.20000","3.00000000","1.5"]],"bs":[["100.10000","2.00000000","1.5"]]},"book-10","XBT/USD"]'
    assert is_changed(session.received(first, NOW))
    digits = b"10020000300000000" + b"10010000500000000"
    checksum = zlib.crc32(digits)
    update = f'[336,{{"b":[["100.10000","5.00000000","1700000000.25"]],"c":"{checksum}"}},"book-10","XBT/USD"]'
    (book,) = session.received(update, NOW)
    assert book is session.books["BTC-USD"]
    assert (session.books["BTC-USD"].bids(1), session.books["BTC-USD"].ts_event_ms) == ([(100.1, 5.0)], 1_700_000_000_250)
    assert faults(session.received(update.replace("5.0", "6.0"), NOW)) == [(FaultReason.CHECKSUM, "BTC-USD")]


def test_v1_refusal_names_the_pair() -> None:
    session = started(open_v1(["BTC-USD", "DOGE-USD"]), NOW)
    text = '{"errorMessage":"Currency pair not supported XDG/USD","event":"subscriptionStatus","pair":"XDG/USD","status":"error"}'
    assert faults(session.received(text, NOW)) == [(FaultReason.REFUSED, "DOGE-USD")]
