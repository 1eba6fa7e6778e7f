"""The session of Crypto.com on hand-written frames: every rule and every fault."""

from __future__ import annotations

import json

import pytest

from altforecast.books import BookState
from altforecast_io.exchanges.sessions.cryptocom import CryptocomSession, open_session
from altforecast_io.exchanges.sessions.session import FaultReason, Open, Send
from tests.io.sessions.frames import SECOND, faults, is_changed, is_withheld, started

NOW = 100 * SECOND


def frame(channel: str, data: dict[str, object], instrument: str = "BTC_USDT") -> str:
    result = {"instrument_name": instrument, "subscription": f"book.{instrument}.50", "channel": channel, "depth": 50, "data": [data]}
    return json.dumps({"id": -1, "method": "subscribe", "code": 0, "result": result})


def update(u: int, pu: int, bids: list[list[str]], asks: list[list[str]]) -> str:
    return frame("book.update", {"update": {"bids": bids, "asks": asks}, "t": 1700000000456, "tt": 1, "u": u, "pu": pu, "cs": 5})


SNAPSHOT = {"bids": [["100", "1", "2"]], "asks": [["101", "2", "1"]], "t": 1700000000123, "tt": 1, "u": 50, "cs": 9}


@pytest.fixture
def live() -> CryptocomSession:
    session = open_session(["BTC-USDT", "ETH-USD"])
    started(session, NOW)
    assert session.received('{"id":1,"method":"subscribe","code":0}', NOW) == ()
    assert is_changed(session.received(frame("book", SNAPSHOT), NOW))
    return session


def test_opened_subscribes_every_symbol_at_once() -> None:
    session = open_session(["BTC-USDT", "ETH-USD"])
    assert session.begin() == (Open("wss://stream.crypto.com/exchange/v1/market"),)
    (sent,) = session.opened(NOW)
    assert isinstance(sent, Send)
    asked = json.loads(sent.payload)
    assert asked["params"]["channels"] == ["book.BTC_USDT.50", "book.ETH_USD.50"]
    assert asked["params"]["book_subscription_type"] == "SNAPSHOT_AND_UPDATE"
    assert asked["nonce"] == 100_000


def test_received_heartbeat_is_answered(live: CryptocomSession) -> None:
    (sent,) = live.received('{"id":1587523073344,"method":"public/heartbeat","code":0}', NOW)
    assert isinstance(sent, Send)
    assert json.loads(sent.payload) == {"id": 1587523073344, "method": "public/respond-heartbeat"}


def test_received_update_follows_the_one_before(live: CryptocomSession) -> None:
    (book,) = live.received(update(60, 50, [["100", "0", "0"], ["99.5", "4", "1"]], []), NOW + 3)
    assert (book.bids(3), book.sequence, book.ts_event_ms) == ([(99.5, 4.0)], 60, 1_700_000_000_456)
    assert is_changed(live.received(update(60, 60, [], []), NOW))
    assert faults(live.received(update(70, 65, [], []), NOW)) == [(FaultReason.GAP, "BTC-USDT")]
    assert book.best_ask is None


def test_received_update_before_snapshot_is_a_gap() -> None:
    session = started(open_session(["BTC-USDT"]), NOW)
    assert faults(session.received(update(60, 50, [], []), NOW)) == [(FaultReason.GAP, "BTC-USDT")]


def test_received_crossed_for_two_messages_is_a_fault(live: CryptocomSession) -> None:
    assert is_withheld(live.received(update(60, 50, [["101", "1", "1"]], []), NOW))
    assert faults(live.received(update(61, 60, [], []), NOW)) == [(FaultReason.CROSSED, "BTC-USDT")]


def test_received_keeps_50_levels(live: CryptocomSession) -> None:
    live.received(update(60, 50, [], [[str(200 + n), "1", "1"] for n in range(80)]), NOW)
    assert len(live.books["BTC-USDT"].ask_keys) == 50


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        update(60, 50, [["nan", "1"]], []),
        update(60, 50, [["inf", "1"]], []),
        update(60, 50, [["1", "-1"]], []),
        frame("book", {"t": 1}),
        frame("bookx", {"t": 1}),
    ],
)
def test_received_bad_frame_withdraws_everything(live: CryptocomSession, text: str) -> None:
    assert faults(live.received(text, NOW)) == [(FaultReason.BAD_FRAME, None)]
    assert live.books["BTC-USDT"].state is BookState.SUSPECT


def test_received_refusals_and_limits(live: CryptocomSession) -> None:
    refusal = '{"id":1,"code":40003,"method":"subscribe","message":"Unknown symbol","channel":"book.ETH_USD.50"}'
    assert faults(live.received(refusal, NOW)) == [(FaultReason.REFUSED, "ETH-USD")]
    assert live.books["BTC-USDT"].state is BookState.LIVE
    assert faults(live.received('{"id":1,"code":42901,"method":"subscribe","message":"TOO_MANY_REQUESTS"}', NOW)) == [
        (FaultReason.LIMITED, None)
    ]


def test_tick_misses_snapshots_and_sends_no_ping(live: CryptocomSession) -> None:
    assert faults(live.tick(NOW + 11 * SECOND)) == [(FaultReason.SNAPSHOT, "ETH-USD")]
    assert live.tick(NOW + 60 * SECOND) == []


def test_tick_after_a_refusal_asks_once_more_for_what_has_no_book() -> None:
    """Whether the venue refuses one channel or the whole request, the others get their books."""
    session = started(open_session(["BTC-USDT", "FOO-USD", "ETH-USD"]), NOW)
    session.received(frame("book", SNAPSHOT), NOW)
    session.received('{"id":1,"code":40003,"method":"subscribe","message":"Unknown symbol","channel":"book.FOO_USD.50"}', NOW)
    assert session.tick(NOW + 2 * SECOND) == []
    (sent,) = session.tick(NOW + 3 * SECOND)
    assert isinstance(sent, Send)
    assert json.loads(sent.payload)["params"]["channels"] == ["book.ETH_USD.50"]
    assert session.tick(NOW + 4 * SECOND) == []
