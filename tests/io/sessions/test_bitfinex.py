"""The session of Bitfinex on hand-written frames: every rule and every fault."""

from __future__ import annotations

import json
import zlib

import pytest

from altforecast.books import BookState
from altforecast_io.exchanges.sessions.bitfinex import BitfinexSession, open_session
from altforecast_io.exchanges.sessions.session import Close, FaultReason, Open, Send
from tests.io.sessions.frames import SECOND, faults, is_changed, is_withheld, started

NOW = 100 * SECOND


@pytest.fixture
def live() -> BitfinexSession:
    """Two books; the last number is 2."""
    session = open_session(["BTC-USDT", "DOGE-USD"])
    started(session, NOW)
    for text in (
        '{"event":"info","version":2,"platform":{"status":1}}',
        '{"event":"conf","status":"OK","flags":229376}',
        '{"event":"subscribed","channel":"book","chanId":11,"symbol":"tBTCUST","prec":"P0","freq":"F0","len":"100","pair":"BTCUST"}',
        '{"event":"subscribed","channel":"book","chanId":12,"symbol":"tDOGE:USD","pair":"DOGE:USD"}',
    ):
        assert session.received(text, NOW) == ()
    assert is_changed(session.received("[11,[[100,2,0.5],[99.5,1,1e-7],[101,1,-2]],1,1700000000123]", NOW))
    assert is_changed(session.received("[12,[[0.1,2,5],[0.2,1,-2]],2]", NOW))
    return session


def test_opened_asks_for_sequence_times_and_checksums_first() -> None:
    session = open_session(["BTC-USDT", "DOGE-USD", "USDT-USD", "ETH-USDC"])
    assert session.begin() == (Open("wss://api-pub.bitfinex.com/ws/2"),)
    sent = [json.loads(output.payload) for output in session.opened(NOW) if isinstance(output, Send)]
    assert sent[0] == {"event": "conf", "flags": 32768 + 65536 + 131072}
    assert [request["symbol"] for request in sent[1:]] == ["tBTCUST", "tDOGE:USD", "tUSTUSD", "tETHUDC"]
    assert sent[1]["len"] == "100"


def test_received_levels_are_set_and_removed(live: BitfinexSession) -> None:
    (book,) = live.received("[11,[100.5,1,3],3,1700000000456]", NOW + 1)
    assert book.bids(5) == [(100.5, 3.0), (100.0, 0.5), (99.5, 1e-7)]
    (book,) = live.received("[11,[101,0,-1],4,1700000000789]", NOW + 2)
    assert book.asks(5) == []
    assert (book.sequence, book.ts_event_ms, book.ts_ingest_ns) == (4, 1_700_000_000_789, NOW + 2)


def test_received_hole_in_the_sequence_withdraws_everything(live: BitfinexSession) -> None:
    assert live.received('[12,"hb",3]', NOW) == ()
    assert faults(live.received('[12,"hb",5]', NOW)) == [(FaultReason.GAP, None)]
    assert all(book.best_bid is None and book.state is BookState.SUSPECT for book in live.books.values())


def test_received_checksum_over_the_text_as_sent(live: BitfinexSession) -> None:
    unsigned = zlib.crc32(b"100:0.5:101:-2:99.5:1e-7")
    right = unsigned - (1 << 32) if unsigned >> 31 else unsigned
    assert live.received(f'[11,"cs",{right},3,1700000000456]', NOW) == ()
    assert live.books["BTC-USDT"].checksum_ok is True
    assert faults(live.received(f'[11,"cs",{right + 1},4]', NOW)) == [(FaultReason.CHECKSUM, "BTC-USDT")]
    assert live.books["DOGE-USD"].state is BookState.LIVE


def test_received_without_sequence_the_checksum_is_all_there_is() -> None:
    session = started(open_session(["BTC-USD"]), NOW)
    session.received('{"event":"subscribed","channel":"book","chanId":1,"symbol":"tBTCUSD"}', NOW)
    assert is_changed(session.received("[1,[[100,2,0.5],[101,1,-2]]]", NOW))
    assert is_changed(session.received("[1,[99,1,1]]", NOW))
    assert faults(session.received('[1,"cs",5]', NOW)) == [(FaultReason.CHECKSUM, "BTC-USD")]


def test_received_update_before_snapshot_is_a_gap() -> None:
    session = started(open_session(["BTC-USD"]), NOW)
    session.received('{"event":"subscribed","channel":"book","chanId":1,"symbol":"tBTCUSD"}', NOW)
    assert faults(session.received("[1,[99,1,1],1]", NOW)) == [(FaultReason.GAP, "BTC-USD")]


def test_received_crossed_is_withheld_and_then_a_fault(live: BitfinexSession) -> None:
    assert is_withheld(live.received("[11,[102,1,1],3]", NOW))
    assert live.books["BTC-USDT"].state is BookState.SYNCING
    assert is_withheld(live.received("[11,[101.5,1,1],4]", NOW + SECOND // 4))
    assert faults(live.received("[11,[98,1,1],5]", NOW + SECOND)) == [(FaultReason.CROSSED, "BTC-USDT")]


@pytest.mark.parametrize(
    "text", ["[11", "[11,[100,1,0],3]", '[11,["100",1,1],3]', "[11,[100,1],3]", '[11,"cs",null,3]', "5", "[11,[[1,1,null]],3]"]
)
def test_received_bad_frame_withdraws_everything(live: BitfinexSession, text: str) -> None:
    assert faults(live.received(text, NOW)) == [(FaultReason.BAD_FRAME, None)]


def test_received_refusals_limits_and_maintenance(live: BitfinexSession) -> None:
    refusal = '{"event":"error","channel":"book","symbol":"tDOGE:USD","code":10300,"msg":"symbol: invalid"}'
    assert faults(live.received(refusal, NOW)) == [(FaultReason.REFUSED, "DOGE-USD")]
    assert live.received('{"event":"info","code":20051,"msg":"Stop/Restart Websocket Server"}', NOW) == (
        Close("Stop/Restart Websocket Server"),
    )
    assert isinstance(live.received('{"event":"info","version":2,"platform":{"status":0}}', NOW)[0], Close)
    assert live.received('{"event":"pong","ts":1}', NOW) == ()
    limit = '{"event":"error","symbol":"tBTCUST","code":10305,"msg":"subscribe: limit"}'
    assert faults(live.received(limit, NOW)) == [(FaultReason.LIMITED, None)]


def test_tick_pings_and_misses_snapshots() -> None:
    session = started(open_session(["BTC-USD"]), NOW)
    outputs = session.tick(NOW + 16 * SECOND)
    assert Send('{"event":"ping"}') in outputs
    assert faults(outputs) == [(FaultReason.SNAPSHOT, "BTC-USD")]
