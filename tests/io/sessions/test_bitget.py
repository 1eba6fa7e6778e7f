"""The session of Bitget on hand-written frames: every rule and every fault."""

from __future__ import annotations

import json
import zlib

import pytest

from altforecast.books import BookState
from altforecast_io.exchanges.sessions.bitget import BitgetSession, open_session
from altforecast_io.exchanges.sessions.session import FaultReason, Open, Send
from tests.io.sessions.frames import SECOND, faults, is_changed, is_withheld, started

NOW = 100 * SECOND


def frame(action: str, bids: list[list[str]], asks: list[list[str]], instrument: str = "BTCUSDT", **more: object) -> str:
    data = {"bids": bids, "asks": asks, "ts": "1700000000123", **more}
    return json.dumps({"action": action, "arg": {"instType": "SPOT", "channel": "books", "instId": instrument}, "data": [data], "ts": 1})


@pytest.fixture
def live() -> BitgetSession:
    session = open_session(["BTC-USDT", "ETH-USDT"])
    started(session, NOW)
    first = frame("snapshot", [["100.10", "2.0"]], [["100.20", "3.0"]], seq="7", pseq=0, checksum=0)
    assert is_changed(session.received(first, NOW))
    return session


def crc(text: str) -> int:
    unsigned = zlib.crc32(text.encode())
    return unsigned - (1 << 32) if unsigned >> 31 else unsigned


def test_opened_subscribes_in_parts() -> None:
    session = open_session([f"C{n}-USDT" for n in range(60)])
    assert session.begin() == (Open("wss://ws.bitget.com/v2/ws/public"),)
    sent = [json.loads(output.payload) for output in session.opened(NOW) if isinstance(output, Send)]
    assert [len(request["args"]) for request in sent] == [50, 10]
    assert sent[0]["args"][0] == {"instType": "SPOT", "channel": "books", "instId": "C0USDT"}


def test_received_update_with_previous_sequence(live: BitgetSession) -> None:
    (book,) = live.received(frame("update", [["100.10", "0"], ["100.00", "1.0"]], [], seq="12", pseq="7"), NOW)
    assert (book.bids(3), book.sequence, book.checksum_ok) == ([(100.0, 1.0)], 12, None)
    assert faults(live.received(frame("update", [], [], seq="20", pseq="13"), NOW)) == [(FaultReason.GAP, "BTC-USDT")]
    assert book.state is BookState.SUSPECT


def test_received_sequence_alone_may_not_go_back(live: BitgetSession) -> None:
    assert is_changed(live.received(frame("update", [], [], seq=30), NOW))
    assert faults(live.received(frame("update", [], [], seq=29), NOW)) == [(FaultReason.GAP, "BTC-USDT")]


def test_received_checksum_over_the_text_as_sent(live: BitgetSession) -> None:
    right = crc("100.10:2.0:100.20:3.0:100.30:1.50")
    assert is_changed(live.received(frame("update", [], [["100.30", "1.50"]], checksum=right), NOW))
    assert live.books["BTC-USDT"].checksum_ok is True
    lost = crc("100.10:2.0:100.20:3.0:100.25:1.00:100.30:1.50")
    assert faults(live.received(frame("update", [], [], checksum=lost), NOW)) == [(FaultReason.CHECKSUM, "BTC-USDT")]


def test_received_update_before_snapshot_is_a_gap(live: BitgetSession) -> None:
    assert faults(live.received(frame("update", [], [], "ETHUSDT", seq=5, pseq=4), NOW)) == [(FaultReason.GAP, "ETH-USDT")]


def test_received_crossed_for_two_messages_is_a_fault(live: BitgetSession) -> None:
    assert is_withheld(live.received(frame("update", [["100.20", "1"]], [], seq=8, pseq=7), NOW))
    assert faults(live.received(frame("update", [], [], seq=9, pseq=8), NOW)) == [(FaultReason.CROSSED, "BTC-USDT")]


@pytest.mark.parametrize("text", ["[]", "{}", frame("update", [["1"]], []), frame("update", [["inf", "1"]], []), frame("x", [], [])])
def test_received_bad_frame_withdraws_everything(live: BitgetSession, text: str) -> None:
    assert faults(live.received(text, NOW)) == [(FaultReason.BAD_FRAME, None)]
    assert live.books["BTC-USDT"].best_ask is None


def test_received_refusals_and_limits(live: BitgetSession) -> None:
    refusal = '{"event":"error","arg":{"instType":"SPOT","channel":"books","instId":"ETHUSDT"},"code":30001,"msg":"doesn\'t exist"}'
    assert faults(live.received(refusal, NOW)) == [(FaultReason.REFUSED, "ETH-USDT")]
    other = '{"event":"error","code":"30001","msg":"instType:SPOT,channel:books,instId:FOOUSDT doesn\'t exist"}'
    limit = '{"event":"error","code":30006,"msg":"request too many"}'
    assert faults(live.received(limit, NOW)) == [(FaultReason.LIMITED, None)]
    assert faults(started(open_session(["FOO-USDT"])).received(other, NOW)) == [(FaultReason.REFUSED, "FOO-USDT")]


def test_tick_pings_and_misses_snapshots(live: BitgetSession) -> None:
    outputs = live.tick(NOW + 16 * SECOND)
    assert Send("ping") in outputs
    assert faults(outputs) == [(FaultReason.SNAPSHOT, "ETH-USDT")]
    assert live.received("pong", NOW + 16 * SECOND) == ()
