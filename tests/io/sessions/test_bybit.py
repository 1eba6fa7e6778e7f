"""The session of Bybit on hand-written frames: numbers, restarts, the window, refusals of whole frames."""

from __future__ import annotations

import json

from altforecast.books import BookState
from altforecast_io.exchanges.sessions.bybit import DEPTH, open_session
from altforecast_io.exchanges.sessions.session import FaultReason, Open, Send
from tests.io.sessions.frames import SECOND, faults, is_changed, started
from tests.io.sessions.scripts import ASKS, NOW, bybit_frame, script


def sent(outputs: object) -> list[dict[str, object]]:
    assert isinstance(outputs, list | tuple)
    return [json.loads(output.payload) for output in outputs if isinstance(output, Send)]


def test_opened_asks_for_ten_topics_a_frame() -> None:
    session = open_session([f"C{i}-USDT" for i in range(23)])
    assert session.begin() == (Open("wss://stream.bybit.com/v5/public/spot"),)
    frames = sent(session.opened(NOW))
    assert [len(frame["args"]) for frame in frames if isinstance(frame["args"], list)] == [10, 10, 3]
    assert frames[0]["args"] == [f"orderbook.50.C{i}USDT" for i in range(10)]


def test_received_restart_replaces_the_book() -> None:
    made = script("bybit")
    assert is_changed(made.session.received(bybit_frame(1 - 1000, (("50.00", "1"),), ASKS), NOW))
    book = made.session.books["BTC-USDT"]
    assert (book.bids(9), book.sequence) == ([(50.0, 1.0)], 1)
    assert is_changed(made.session.received(bybit_frame(2 - 1000, (("51.00", "1"),), ()), NOW))


def test_received_new_snapshot_needs_no_number() -> None:
    made = script("bybit")
    assert is_changed(made.session.received(bybit_frame(500, (("50.00", "1"),), ASKS, "snapshot"), NOW))
    assert made.session.books["BTC-USDT"].bids(9) == [(50.0, 1.0)]


def test_received_change_before_the_snapshot_is_a_gap() -> None:
    session = started(open_session(["BTC-USDT"]), NOW)
    assert faults(session.received(bybit_frame(1, (), ()), NOW)) == [(FaultReason.GAP, "BTC-USDT")]


def test_received_window_is_kept() -> None:
    made = script("bybit")
    rows = [(f"{90 - i / 10:.1f}", "1") for i in range(80)]
    assert is_changed(made.session.received(bybit_frame(1, rows, ()), NOW))
    assert len(made.session.books["BTC-USDT"].bid_keys) == DEPTH


def test_received_refused_frame_is_asked_for_again_without_the_unknown_market() -> None:
    session = open_session(["BTC-USDT", "FOO-USDT", "ETH-USDT"])
    session.opened(NOW)
    text = '{"success":false,"ret_msg":"Invalid symbol :[orderbook.50.FOOUSDT]","conn_id":"c","req_id":"1","op":"subscribe"}'
    outputs = session.received(text, NOW)
    assert faults(outputs) == [(FaultReason.REFUSED, "FOO-USDT")]
    assert sent(outputs) == [{"op": "subscribe", "req_id": "2", "args": ["orderbook.50.BTCUSDT", "orderbook.50.ETHUSDT"]}]


def test_received_answers_pings_and_limits() -> None:
    made = script("bybit")
    assert not made.session.received('{"success":true,"ret_msg":"subscribe","conn_id":"c","req_id":"1","op":"subscribe"}', NOW)
    assert not made.session.received('{"success":true,"ret_msg":"pong","conn_id":"c","req_id":"","op":"ping"}', NOW)
    made.session.tick(NOW + 11 * SECOND)
    assert sent(made.session.tick(NOW + 20 * SECOND)) == [{"op": "ping"}]
    found = made.session.received('{"success":false,"ret_msg":"Too many visits!","req_id":"1","op":"subscribe"}', NOW)
    assert faults(found) == [(FaultReason.LIMITED, None)]
    assert made.session.books["BTC-USDT"].state is BookState.SUSPECT
