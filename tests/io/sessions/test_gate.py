"""The session of Gate on hand-written frames: whole frames, numbers, pings, refusals."""

from __future__ import annotations

import json

from altforecast.books import BookState
from altforecast_io.exchanges.sessions.gate import DEPTH, open_session
from altforecast_io.exchanges.sessions.session import FaultReason, Open, Send
from tests.io.sessions.frames import SECOND, faults, is_changed, started
from tests.io.sessions.scripts import ASKS, NOW, gate_frame, script


def test_opened_asks_for_one_book_a_frame() -> None:
    session = open_session(["BTC-USDT", "ETH-USDT"])
    assert session.begin() == (Open("wss://api.gateio.ws/ws/v4/"),)
    frames = [json.loads(output.payload) for output in session.opened(NOW) if isinstance(output, Send)]
    assert [frame["payload"] for frame in frames] == [["ob.BTC_USDT.50"], ["ob.ETH_USDT.50"]]
    assert {(frame["time"], frame["channel"], frame["event"]) for frame in frames} == {(1_700_000_000, "spot.obu", "subscribe")}


def test_received_change_may_cover_several_numbers() -> None:
    made = script("gate")
    assert is_changed(made.session.received(gate_frame(1, (("99.80", "1"),), (), width=7), NOW))
    assert made.session.books["BTC-USDT"].sequence == 1007
    assert is_changed(made.session.received(gate_frame(8, (), ()), NOW))


def test_received_whole_frame_replaces_the_book_at_any_number() -> None:
    made = script("gate")
    assert is_changed(made.session.received(gate_frame(90, (("50.00", "1"),), ASKS, full=True), NOW))
    assert made.session.books["BTC-USDT"].bids(9) == [(50.0, 1.0)]
    assert is_changed(made.session.received(gate_frame(91, (), ()), NOW))


def test_received_change_before_the_whole_frame_is_a_gap() -> None:
    session = started(open_session(["BTC-USDT"]), NOW)
    assert faults(session.received(gate_frame(1, (), ()), NOW)) == [(FaultReason.GAP, "BTC-USDT")]


def test_received_window_is_kept() -> None:
    made = script("gate")
    rows = [(f"{90 - i / 10:.1f}", "1") for i in range(80)]
    assert is_changed(made.session.received(gate_frame(1, rows, ()), NOW))
    assert len(made.session.books["BTC-USDT"].bid_keys) == DEPTH


def test_received_refusal_names_its_market_by_payload_or_text() -> None:
    made = script("gate")
    head = '"time":1,"channel":"spot.obu","event":"subscribe","result":{"status":"fail"}'
    found = made.session.received(f'{{{head},"payload":["ob.ETH_USDT.50"],"error":{{"code":2,"message":"unknown currency pair"}}}}', NOW)
    assert faults(found) == [(FaultReason.REFUSED, "ETH-USDT")]
    assert made.session.books["BTC-USDT"].state is BookState.LIVE
    found = made.session.received(f'{{{head},"error":{{"code":2,"message":"unknown currency pair: BTC_USDT"}}}}', NOW)
    assert faults(found) == [(FaultReason.REFUSED, "BTC-USDT")]


def test_received_answers_pings_and_limits() -> None:
    made = script("gate")
    assert not made.session.received('{"time":1,"channel":"spot.obu","event":"subscribe","error":null,"result":{"status":"success"}}', NOW)
    assert not made.session.received('{"time":1,"channel":"spot.pong","event":"","error":null,"result":null}', NOW)
    (ping,) = [output for output in made.session.tick(NOW + 15 * SECOND) if isinstance(output, Send)]
    assert json.loads(ping.payload)["channel"] == "spot.ping"
    found = made.session.received('{"time":1,"channel":"spot.obu","error":{"code":3,"message":"too many requests"}}', NOW)
    assert faults(found) == [(FaultReason.LIMITED, None)]
