"""The session of Upbit on hand-written frames: every rule and every fault."""

from __future__ import annotations

import json

import pytest

from altforecast_io.exchanges.sessions.session import FaultReason, Open, Send
from altforecast_io.exchanges.sessions.upbit import UpbitSession, open_session
from tests.io.sessions.frames import SECOND, faults, is_changed, is_withheld, started

NOW = 100 * SECOND


def frame(ts: int, bid: object, ask: object, code: str = "USDT-BTC") -> bytes:
    units = [{"ask_price": ask, "bid_price": bid, "ask_size": 2, "bid_size": 1.5}]
    return json.dumps({"type": "orderbook", "code": code, "timestamp": ts, "orderbook_units": units, "stream_type": "REALTIME"}).encode()


@pytest.fixture
def live() -> UpbitSession:
    session = open_session(["BTC-USDT", "ETH-BTC"])
    started(session, NOW)
    assert is_changed(session.received(frame(5, 100, 101), NOW))
    return session


def test_opened_asks_for_every_market_at_once() -> None:
    session = open_session(["BTC-USDT", "ETH-BTC"])
    assert session.begin() == (Open("wss://api.upbit.com/websocket/v1"),)
    (sent,) = session.opened(NOW)
    assert isinstance(sent, Send)
    assert json.loads(sent.payload)[1] == {"type": "orderbook", "codes": ["USDT-BTC", "BTC-ETH"]}


def test_received_book_replaces_the_one_before(live: UpbitSession) -> None:
    (book,) = live.received(frame(6, 90, 91), NOW + 1)
    assert (book.bids(3), book.asks(3), book.ts_event_ms, book.sequence) == ([(90.0, 1.5)], [(91.0, 2.0)], 6, None)
    assert faults(live.received(frame(5, 90, 91), NOW)) == [(FaultReason.GAP, "BTC-USDT")]


def test_received_crossed_for_two_messages_is_a_fault(live: UpbitSession) -> None:
    assert is_withheld(live.received(frame(6, 100, 100), NOW))
    assert faults(live.received(frame(7, 100, 99), NOW)) == [(FaultReason.CROSSED, "BTC-USDT")]


@pytest.mark.parametrize("payload", [b"{", b"{}", frame(6, "100", 101), frame(6, -1, 101), b'{"type":"orderbook","code":"USDT-BTC"}'])
def test_received_bad_frame_withdraws_everything(live: UpbitSession, payload: bytes) -> None:
    assert faults(live.received(payload, NOW)) == [(FaultReason.BAD_FRAME, None)]
    assert live.books["BTC-USDT"].best_bid is None


def test_received_errors_and_pong(live: UpbitSession) -> None:
    assert live.received('{"status":"UP"}', NOW) == ()
    refusal = '{"error":{"name":"NO_CODES","message":"BTC-ETH is unknown"}}'
    assert faults(live.received(refusal, NOW)) == [(FaultReason.REFUSED, "ETH-BTC")]
    assert faults(live.received('{"error":{"name":"TOO_MANY_REQUESTS","message":""}}', NOW)) == [(FaultReason.LIMITED, None)]


def test_tick_pings_and_misses_snapshots(live: UpbitSession) -> None:
    outputs = live.tick(NOW + 16 * SECOND)
    assert Send("PING") in outputs
    assert faults(outputs) == [(FaultReason.SNAPSHOT, "ETH-BTC")]
