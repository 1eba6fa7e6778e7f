"""The session of OKX on hand-written frames: every rule and every fault."""

from __future__ import annotations

import json
import zlib

import pytest

from altforecast.books import BookState
from altforecast_io.exchanges.sessions.okx import OkxSession, open_session
from altforecast_io.exchanges.sessions.session import Close, FaultReason, Open, Send
from tests.io.sessions.frames import SECOND, faults, is_changed, is_withheld, started

NOW = 100 * SECOND


def frame(action: str, bids: list[list[str]], asks: list[list[str]], instrument: str = "BTC-USDT", **more: object) -> str:
    data = {"bids": [[*row, "0", "1"] for row in bids], "asks": [[*row, "0", "1"] for row in asks], "ts": "1700000000123", **more}
    return json.dumps({"arg": {"channel": "books", "instId": instrument}, "action": action, "data": [data]})


def snapshot(**more: object) -> str:
    return frame("snapshot", [["100.10", "2"], ["100", "1.50"]], [["100.2", "3"], ["101", "4"]], **{"seqId": 10, "prevSeqId": -1, **more})


@pytest.fixture
def live() -> OkxSession:
    session = open_session(["BTC-USDT", "ETH-USDT"])
    started(session, NOW)
    assert is_changed(session.received(snapshot(), NOW))
    return session


def test_begin_opens_the_relocated_address() -> None:
    assert open_session(["BTC-USDT"]).begin() == (Open("wss://ws.okx.com:8443/ws/v5/public"),)
    assert open_session(["BTC-USDT"], "http://127.0.0.1:9/okx").begin() == (Open("ws://127.0.0.1:9/okx/ws/v5/public"),)


def test_opened_subscribes_every_symbol() -> None:
    (sent,) = open_session(["BTC-USDT", "ETH-USDT"]).opened(NOW)
    assert isinstance(sent, Send)
    assert [arg["instId"] for arg in json.loads(sent.payload)["args"]] == ["BTC-USDT", "ETH-USDT"]


def test_received_snapshot_and_update_make_a_book(live: OkxSession) -> None:
    update = frame("update", [["100.10", "0"]], [["100.15", "7"]], seqId=15, prevSeqId=10)
    (book,) = live.received(update, NOW + 5)
    assert book is live.books["BTC-USDT"]
    assert (book.bids(5), book.asks(5)) == ([(100.0, 1.5)], [(100.15, 7.0), (100.2, 3.0), (101.0, 4.0)])
    assert (book.sequence, book.ts_event_ms, book.ts_ingest_ns, book.n_updates) == (15, 1_700_000_000_123, NOW + 5, 2)
    assert (book.state, book.checksum_ok) == (BookState.LIVE, None)


def test_received_gap_withdraws_the_book_alone(live: OkxSession) -> None:
    live.received(snapshot().replace("BTC-USDT", "ETH-USDT"), NOW)
    outputs = live.received(frame("update", [], [], seqId=17, prevSeqId=12), NOW)
    assert faults(outputs) == [(FaultReason.GAP, "BTC-USDT")]
    assert live.books["BTC-USDT"].best_bid is None
    assert live.books["BTC-USDT"].state is BookState.SUSPECT
    assert live.books["ETH-USDT"].state is BookState.LIVE
    assert live.received(frame("update", [], [], seqId=18, prevSeqId=17), NOW) == ()


def test_received_unchanged_sequence_is_a_heartbeat(live: OkxSession) -> None:
    assert is_changed(live.received(frame("update", [], [], seqId=10, prevSeqId=10), NOW))
    assert is_changed(live.received(frame("update", [], [], seqId=3, prevSeqId=10), NOW))
    assert is_changed(live.received(frame("update", [], [], seqId=5, prevSeqId=3), NOW))


def test_received_update_before_snapshot_is_a_gap(live: OkxSession) -> None:
    update = frame("update", [["1", "1"]], [], "ETH-USDT", seqId=5, prevSeqId=4)
    assert faults(live.received(update, NOW)) == [(FaultReason.GAP, "ETH-USDT")]


def test_received_checksum_over_the_text_as_sent(live: OkxSession) -> None:
    text = "100.10:2:100.2:3:100:1.50:101:4"
    unsigned = zlib.crc32(text.encode())
    assert live._lines["BTC-USDT"].texts is not None
    right = unsigned - (1 << 32) if unsigned >> 31 else unsigned
    update = frame("update", [], [], seqId=11, prevSeqId=10, checksum=right)
    assert is_changed(live.received(update, NOW))
    assert live.books["BTC-USDT"].checksum_ok is True
    wrong = frame("update", [], [], seqId=12, prevSeqId=11, checksum=right + 1)
    assert faults(live.received(wrong, NOW)) == [(FaultReason.CHECKSUM, "BTC-USDT")]


def test_received_checksum_zero_is_not_checked(live: OkxSession) -> None:
    assert is_changed(live.received(frame("update", [], [], seqId=12, prevSeqId=10, checksum=0), NOW))
    assert live.books["BTC-USDT"].checksum_ok is None


def test_received_crossed_for_one_message_is_withheld(live: OkxSession) -> None:
    book = live.books["BTC-USDT"]
    assert is_withheld(live.received(frame("update", [["100.3", "1"]], [], seqId=11, prevSeqId=10), NOW))
    assert book.state is BookState.SYNCING
    assert is_changed(live.received(frame("update", [], [["100.2", "0"]], seqId=12, prevSeqId=11), NOW))
    assert book.state is BookState.LIVE


def test_received_crossed_for_two_messages_is_a_fault(live: OkxSession) -> None:
    live.received(frame("update", [["100.3", "1"]], [], seqId=11, prevSeqId=10), NOW)
    outputs = live.received(frame("update", [["100.4", "1"]], [], seqId=12, prevSeqId=11), NOW)
    assert faults(outputs) == [(FaultReason.CROSSED, "BTC-USDT")]


def test_tick_crossed_for_half_a_second_is_a_fault(live: OkxSession) -> None:
    live.received(snapshot().replace("BTC-USDT", "ETH-USDT"), NOW)
    live.received(frame("update", [["100.3", "1"]], [], seqId=11, prevSeqId=10), NOW)
    assert faults(live.tick(NOW + SECOND // 4)) == []
    assert faults(live.tick(NOW + SECOND)) == [(FaultReason.CROSSED, "BTC-USDT")]


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "null",
        "{}",
        '{"arg":{"channel":"books","instId":"BTC-USDT"},"action":"partial","data":[{"bids":[],"asks":[],"ts":"1"}]}',
        frame("update", [["nan", "1"]], [], seqId=11, prevSeqId=10),
        frame("update", [["-5", "1"]], [], seqId=11, prevSeqId=10),
        frame("update", [["5", "-1"]], [], seqId=11, prevSeqId=10),
        frame("update", [["five", "1"]], [], seqId=11, prevSeqId=10),
        b"\xff\xfe",
    ],
)
def test_received_bad_frame_withdraws_everything(live: OkxSession, text: str | bytes) -> None:
    assert faults(live.received(text, NOW)) == [(FaultReason.BAD_FRAME, None)]
    assert all(book.state is BookState.SUSPECT and book.best_bid is None for book in live.books.values())
    assert live.received(snapshot(), NOW) == ()
    assert live.tick(NOW + 99 * SECOND) == ()


def test_received_other_channels_and_acknowledgements_are_ignored(live: OkxSession) -> None:
    for text in ("pong", '{"event":"subscribe","arg":{"channel":"books","instId":"BTC-USDT"}}',
                 '{"arg":{"channel":"tickers","instId":"BTC-USDT"},"data":[{"last":"1"}]}'):  # fmt: skip
        assert live.received(text, NOW) == ()


def test_received_refusal_concerns_its_symbol_alone(live: OkxSession) -> None:
    text = '{"event":"error","code":"60018","msg":"Wrong URL or channel:books,instId:ETH-USDT doesn\'t exist."}'
    assert faults(live.received(text, NOW)) == [(FaultReason.REFUSED, "ETH-USDT")]
    assert live.books["BTC-USDT"].state is BookState.LIVE
    assert faults(live.tick(NOW + 20 * SECOND)) == []


def test_received_rate_limit_and_notice(live: OkxSession) -> None:
    notice = '{"event":"notice","code":"64008","msg":"The connection will soon be closed for a service upgrade. Please reconnect."}'
    assert isinstance(live.received(notice, NOW)[0], Close)
    assert faults(live.received('{"event":"error","code":"60014","msg":"Requests too frequent"}', NOW)) == [(FaultReason.LIMITED, None)]


def test_tick_asks_for_a_pong_and_misses_snapshots(live: OkxSession) -> None:
    assert live.tick(NOW + 9 * SECOND) == []
    outputs = live.tick(NOW + 16 * SECOND)
    assert faults(outputs) == [(FaultReason.SNAPSHOT, "ETH-USDT")]
    assert Send("ping") in outputs


def test_received_keeps_at_most_400_levels(live: OkxSession) -> None:
    asks = [[str(200 + n), "1"] for n in range(600)]
    live.received(snapshot().replace('["101", "4"', ", ".join(json.dumps(row)[:-1] + ', "0", "1"]' for row in asks) + ', ["999", "4"'), NOW)
    line, book = live._lines["BTC-USDT"], live.books["BTC-USDT"]
    assert len(book.ask_keys) == 400
    assert set(line.texts.asks) == set(book.ask_keys)
    live.received(frame("update", [], [["150", "1"], ["151", "1"]], seqId=11, prevSeqId=10), NOW)
    assert len(book.ask_keys) == 400


@pytest.mark.parametrize("level", [["inf", "1"], ["1", "inf"], ["nan", "1"], ["-1", "1"], ["1", "-1"], ["x", "1"], ["1"]])
def test_received_bad_level_after_texts_are_given_up_is_a_bad_frame(live: OkxSession, level: list[str]) -> None:
    assert is_changed(live.received(frame("update", [["99", "1"]], [], seqId=11, prevSeqId=10), NOW))
    assert live._lines["BTC-USDT"].texts is None
    data = {"bids": [level], "asks": [], "ts": "1", "seqId": 12, "prevSeqId": 11}
    text = json.dumps({"arg": {"channel": "books", "instId": "BTC-USDT"}, "action": "update", "data": [data]})
    assert faults(live.received(text, NOW)) == [(FaultReason.BAD_FRAME, None)]
