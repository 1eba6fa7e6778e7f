"""The session of BingX on hand-written frames: every rule and every fault."""

from __future__ import annotations

import gzip
import json

import pytest

from altforecast.books import BookState
from altforecast_io.exchanges.sessions.bingx import BingxSession, open_session, request_id
from altforecast_io.exchanges.sessions.session import FaultReason, Open, Send
from tests.io.sessions.frames import SECOND, faults, is_changed, is_withheld, started

NOW = 100 * SECOND


def packed(message: dict[str, object]) -> bytes:
    return gzip.compress(json.dumps(message).encode())


def depth(update_id: int, bid: str, ask: str, ts: int = 1700000000123, market: str = "BTC-USDT") -> bytes:
    data = {"asks": [["200", "5"], [ask, "1"]], "bids": [[bid, "2"], ["50", "3"]], "lastUpdateId": update_id}
    return packed({"code": 0, "data": data, "dataType": f"{market}@depth100", "success": True, "timestamp": ts})


@pytest.fixture
def live() -> BingxSession:
    session = open_session(["BTC-USDT", "ETH-USDT"])
    started(session, NOW)
    assert session.received(packed({"code": 0, "id": request_id("BTC-USDT"), "msg": "SUCCESS", "timestamp": 1}), NOW) == ()
    assert is_changed(session.received(depth(10, "100", "101"), NOW))
    return session


def test_opened_subscribes_every_symbol_under_the_same_ids() -> None:
    session = open_session(["BTC-USDT", "ETH-USDT"])
    assert session.begin() == (Open("wss://open-api-ws.bingx.com/market"),)
    sent = [json.loads(output.payload) for output in session.opened(NOW) if isinstance(output, Send)]
    assert sent[1] == {"id": request_id("ETH-USDT"), "reqType": "sub", "dataType": "ETH-USDT@depth100"}
    assert len({request["id"] for request in sent}) == 2


def test_received_pings_are_answered_in_both_forms(live: BingxSession) -> None:
    (sent,) = live.received(packed({"ping": "abc", "time": "2023-10-02T18:51:55.089+0800"}), NOW)
    assert isinstance(sent, Send)
    assert json.loads(sent.payload) == {"pong": "abc", "time": "2023-10-02T18:51:55.089+0800"}
    assert live.received(gzip.compress(b"Ping"), NOW) == (Send("Pong"),)
    assert live.received("Ping", NOW) == (Send("Pong"),)


def test_received_book_replaces_the_one_before(live: BingxSession) -> None:
    (book,) = live.received(depth(17, "90", "91", 1700000000456), NOW + 1)
    assert (book.bids(5), book.asks(5)) == ([(90.0, 2.0), (50.0, 3.0)], [(91.0, 1.0), (200.0, 5.0)])
    assert (book.sequence, book.ts_event_ms, book.ts_ingest_ns, book.n_updates) == (17, 1_700_000_000_456, NOW + 1, 2)


def test_received_older_book_is_a_gap(live: BingxSession) -> None:
    assert is_changed(live.received(depth(10, "100", "101"), NOW))
    assert faults(live.received(depth(9, "100", "101"), NOW)) == [(FaultReason.GAP, "BTC-USDT")]
    assert live.books["BTC-USDT"].state is BookState.SUSPECT


def test_received_earlier_time_is_a_gap(live: BingxSession) -> None:
    assert faults(live.received(depth(11, "100", "101", 1700000000122), NOW)) == [(FaultReason.GAP, "BTC-USDT")]


def test_received_crossed_for_two_messages_is_a_fault(live: BingxSession) -> None:
    assert is_withheld(live.received(depth(11, "100", "100"), NOW))
    assert faults(live.received(depth(12, "100", "99"), NOW)) == [(FaultReason.CROSSED, "BTC-USDT")]


@pytest.mark.parametrize(
    "payload",
    [
        b"\x1f\x8b\x08\x00",
        depth(11, "100", "101")[:-4],
        depth(11, "nan", "101"),
        depth(11, "-1", "101"),
        packed({"code": 0, "dataType": "BTC-USDT@depth100"}),
        "Pling",
    ],
)
def test_received_bad_frame_withdraws_everything(live: BingxSession, payload: str | bytes) -> None:
    assert faults(live.received(payload, NOW)) == [(FaultReason.BAD_FRAME, None)]
    assert live.books["BTC-USDT"].best_bid is None


def test_received_refusals_and_limits(live: BingxSession) -> None:
    refusal = {"code": 100400, "id": request_id("ETH-USDT"), "msg": "dataType not supported", "timestamp": 1}
    assert faults(live.received(packed(refusal), NOW)) == [(FaultReason.REFUSED, "ETH-USDT")]
    assert live.books["BTC-USDT"].state is BookState.LIVE
    assert faults(live.received(packed({"code": 80403, "msg": "topic limit"}), NOW)) == [(FaultReason.LIMITED, None)]


def test_tick_misses_snapshots(live: BingxSession) -> None:
    assert faults(live.tick(NOW + 11 * SECOND)) == [(FaultReason.SNAPSHOT, "ETH-USDT")]
