"""The session of WhiteBIT on hand-written frames: every rule and every fault."""

from __future__ import annotations

import json

import pytest

from altforecast_io.exchanges.sessions.session import FaultReason, Open, Send
from altforecast_io.exchanges.sessions.whitebit import WhitebitSession, open_session
from tests.io.sessions.frames import SECOND, faults, is_changed, is_withheld, started

NOW = 100 * SECOND


def frame(is_whole: bool, depth: dict[str, object], market: str = "BTC_USDT") -> str:
    return json.dumps({"method": "depth_update", "params": [is_whole, {"timestamp": 1708679568.5, **depth}, market], "id": None})


def update(number: int, before: int, **sides: object) -> str:
    return frame(False, {"update_id": number, "past_update_id": before, **sides})


@pytest.fixture
def live() -> WhitebitSession:
    session = open_session(["BTC-USDT", "ETH-USDT"])
    started(session, NOW)
    assert session.received('{"id":1,"result":{"status":"success"},"error":null}', NOW) == ()
    assert is_changed(session.received(frame(True, {"update_id": 7, "bids": [["100", "1"]], "asks": [["101", "2"]]}), NOW))
    return session


def test_opened_subscribes_market_by_market() -> None:
    session = open_session(["BTC-USDT", "ETH-USDT"])
    assert session.begin() == (Open("wss://wss.whitebit.com/ws"),)
    sent = [json.loads(output.payload) for output in session.opened(NOW) if isinstance(output, Send)]
    assert sent[1] == {"id": 2, "method": "depth_subscribe", "params": ["ETH_USDT", 100, "0", True]}


def test_received_update_follows_the_one_before(live: WhitebitSession) -> None:
    (book,) = live.received(update(12, 7, bids=[["100", "0"], ["99", "3"]]), NOW + 1)
    assert (book.bids(3), book.asks(3), book.sequence, book.ts_event_ms) == ([(99.0, 3.0)], [(101.0, 2.0)], 12, 1_708_679_568_500)
    assert is_changed(live.received(frame(True, {"update_id": 20, "bids": [["98", "1"]], "asks": [["102", "2"]]}), NOW))
    assert faults(live.received(update(30, 21), NOW)) == [(FaultReason.GAP, "BTC-USDT")]


def test_received_update_before_snapshot_and_crossed_book(live: WhitebitSession) -> None:
    early = frame(False, {"update_id": 2, "past_update_id": 1}, "ETH_USDT")
    assert faults(live.received(early, NOW)) == [(FaultReason.GAP, "ETH-USDT")]
    assert is_withheld(live.received(update(8, 7, bids=[["101", "1"]]), NOW))
    assert faults(live.received(update(9, 8), NOW)) == [(FaultReason.CROSSED, "BTC-USDT")]


@pytest.mark.parametrize(
    "text", ["{", "{}", '{"method":"depth_update","params":[]}', update(8, 7, bids=[["nan", "1"]]), update(8, 7, asks=[["1"]])]
)
def test_received_bad_frame_withdraws_everything(live: WhitebitSession, text: str) -> None:
    assert faults(live.received(text, NOW)) == [(FaultReason.BAD_FRAME, None)]
    assert live.books["BTC-USDT"].best_bid is None


def test_received_refusals_limits_and_pong(live: WhitebitSession) -> None:
    assert live.received('{"error":null,"result":"pong","id":0}', NOW) == ()
    refusal = '{"id":2,"result":null,"error":{"code":1,"message":"invalid argument"}}'
    assert faults(live.received(refusal, NOW)) == [(FaultReason.REFUSED, "ETH-USDT")]
    limit = '{"id":1,"result":null,"error":{"code":6,"message":"too many requests"}}'
    assert faults(live.received(limit, NOW)) == [(FaultReason.LIMITED, None)]


def test_tick_pings_and_misses_snapshots(live: WhitebitSession) -> None:
    outputs = live.tick(NOW + 16 * SECOND)
    assert Send('{"id":0,"method":"ping","params":[]}') in outputs
    assert faults(outputs) == [(FaultReason.SNAPSHOT, "ETH-USDT")]
