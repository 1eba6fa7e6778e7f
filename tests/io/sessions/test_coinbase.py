"""The session of Coinbase on hand-written frames: one number for the whole connection, both channels, refusals."""

from __future__ import annotations

import json

from altforecast.books import BookState
from altforecast_io.exchanges.sessions.coinbase import DEPTH, open_session
from altforecast_io.exchanges.sessions.session import FaultReason, Open, Send
from tests.io.sessions.frames import faults, is_changed, started
from tests.io.sessions.scripts import ASKS, BIDS, NOW, coinbase_frame, script


def other(number: int, channel: str = "heartbeats") -> str:
    head = {"channel": channel, "client_id": "", "timestamp": "2023-11-14T22:13:20.5Z", "sequence_num": number}
    return json.dumps({**head, "events": [{"current_time": "x", "heartbeat_counter": 1}]})


def test_opened_asks_for_books_and_heartbeats() -> None:
    session = open_session(["BTC-USD", "ETH-USD"])
    assert session.begin() == (Open("wss://advanced-trade-ws.coinbase.com"),)
    frames = [json.loads(output.payload) for output in session.opened(NOW) if isinstance(output, Send)]
    assert frames == [
        {"type": "subscribe", "channel": "heartbeats"},
        {"type": "subscribe", "channel": "level2", "product_ids": ["BTC-USD", "ETH-USD"]},
    ]


def test_received_heartbeats_and_acknowledgements_count() -> None:
    made = script("coinbase")
    assert not made.session.received(other(6), NOW)
    assert not made.session.received(other(7, "subscriptions"), NOW)
    assert is_changed(made.session.received(coinbase_frame(8, BIDS, ()), NOW))


def test_received_hole_ends_every_book() -> None:
    made = script("coinbase")
    made.session.received(coinbase_frame(6, BIDS, ASKS, "snapshot", "ETH-USDT"), NOW)
    assert faults(made.session.received(other(8), NOW)) == [(FaultReason.GAP, None)]
    assert {book.state for book in made.session.books.values()} == {BookState.SUSPECT}
    assert not made.session.received(coinbase_frame(9, BIDS, ()), NOW)


def test_received_update_before_the_snapshot_is_a_gap() -> None:
    session = started(open_session(["BTC-USDT"]), NOW)
    assert faults(session.received(coinbase_frame(1, BIDS, ()), NOW)) == [(FaultReason.GAP, "BTC-USDT")]


def test_received_deep_book_is_cut_and_a_run_through_it_is_a_fault() -> None:
    session = started(open_session(["BTC-USDT"]), NOW)
    rows = [(f"{100 - i / 100:.2f}", "1") for i in range(DEPTH + 500)]
    assert is_changed(session.received(coinbase_frame(1, rows, ASKS, "snapshot"), NOW))
    book = session.books["BTC-USDT"]
    assert len(book.bid_keys) == DEPTH
    assert is_changed(session.received(coinbase_frame(2, (("10.00", "1"),), ()), NOW))
    assert book.bid_keys[0] > 10.0
    gone = [(price, "0") for price, _ in rows[: DEPTH - 40]]
    assert faults(session.received(coinbase_frame(3, gone, ()), NOW)) == [(FaultReason.DEPTH, "BTC-USDT")]


def test_received_errors() -> None:
    made = script("coinbase")
    refused = '{"type":"error","message":"ETH-USDT is not a valid product"}'
    assert faults(made.session.received(refused, NOW)) == [(FaultReason.REFUSED, "ETH-USDT")]
    assert made.session.books["BTC-USDT"].state is BookState.LIVE
    assert faults(made.session.received('{"type":"error","message":"rate limit exceeded"}', NOW)) == [(FaultReason.LIMITED, None)]


def test_received_time_without_zone_is_a_bad_frame() -> None:
    made = script("coinbase")
    frame = coinbase_frame(6, BIDS, ()).replace("123456789Z", "123456")
    assert faults(made.session.received(frame, NOW)) == [(FaultReason.BAD_FRAME, None)]


def test_received_refused_market_asks_again_for_those_without_a_book() -> None:
    session = open_session(["BTC-USDT", "FOO-USD", "ETH-USDT"])
    session.opened(NOW)
    outputs = session.received('{"type":"error","message":"Failed to subscribe","reason":"FOO-USD is not a valid product"}', NOW)
    assert faults(outputs) == [(FaultReason.REFUSED, "FOO-USD")]
    (again,) = [json.loads(output.payload) for output in outputs if isinstance(output, Send)]
    assert (again["channel"], again["product_ids"]) == ("level2", ["BTC-USDT", "ETH-USDT"])
