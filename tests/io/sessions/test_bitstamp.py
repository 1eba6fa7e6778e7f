"""The session of Bitstamp on hand-written frames: joins, comparisons and every fault."""

from __future__ import annotations

import json

import pytest

from altforecast.books import BookState
from altforecast_io.exchanges.sessions.bitstamp import MAX_KEPT, BitstampSession, open_session
from altforecast_io.exchanges.sessions.session import NOTHING, Close, FaultReason, Fetch, Open, Output, Send
from tests.io.sessions.frames import SECOND, faults, is_changed, started

NOW = 100 * SECOND
T0 = 1_700_000_000_000_000
FETCH = Fetch("book:btcusd", "https://www.bitstamp.net/api/v2/order_book/btcusd/")
Rows = list[list[str]]


def change(at: int, bids: Rows, asks: Rows) -> str:
    data = {"timestamp": "1", "microtimestamp": str(T0 + at), "bids": bids, "asks": asks}
    return json.dumps({"data": data, "channel": "diff_order_book_btcusd", "event": "data"})


def book_at(at: int, bids: Rows | None = None, asks: Rows | None = None) -> bytes:
    sides = {"bids": bids or [["100", "1"], ["99", "2"]], "asks": asks or [["101", "3"]]}
    return json.dumps({"timestamp": "1", "microtimestamp": str(T0 + at), **sides}).encode()


@pytest.fixture
def waiting() -> BitstampSession:
    session = open_session(["BTC-USD"])
    started(session, NOW)
    ack = '{"event":"bts:subscription_succeeded","channel":"diff_order_book_btcusd","data":{}}'
    assert session.received(ack, NOW) == (FETCH,)
    return session


@pytest.fixture
def live(waiting: BitstampSession) -> BitstampSession:
    """Complete at T0 + 20."""
    waiting.received(change(10, [], []), NOW)
    assert is_changed(waiting.answered("book:btcusd", 200, book_at(20), NOW))
    return waiting


def test_opened_subscribes_every_symbol() -> None:
    session = open_session(["BTC-USD", "ETH-USDT"], "http://127.0.0.1:9/bitstamp")
    assert session.begin() == (Open("ws://127.0.0.1:9/bitstamp"),)
    assert session.opened(NOW)[1] == Send('{"event":"bts:subscribe","data":{"channel":"diff_order_book_ethusdt"}}')
    (asked,) = session.received('{"event":"bts:subscription_succeeded","channel":"diff_order_book_ethusdt","data":{}}', NOW)
    assert asked == Fetch("book:ethusdt", "http://127.0.0.1:9/bitstamp/api/v2/order_book/ethusdt/")


def test_answered_joins_the_changes_that_waited(waiting: BitstampSession) -> None:
    for at, bids in ((10, [["100", "9"]]), (30, [["100", "0"]]), (40, [["99.5", "4"]])):
        assert waiting.received(change(at, bids, []), NOW) == NOTHING
    (book,) = waiting.answered("book:btcusd", 200, book_at(20), NOW + 5)
    assert (book.bids(5), book.asks(5)) == ([(99.5, 4.0), (99.0, 2.0)], [(101.0, 3.0)])
    assert (book.sequence, book.ts_event_ms, book.ts_ingest_ns) == (T0 + 40, T0 // 1000, NOW + 5)


def test_answered_book_older_than_the_changes_is_asked_for_again(waiting: BitstampSession) -> None:
    waiting.received(change(50, [], []), NOW)
    assert waiting.answered("book:btcusd", 200, book_at(20), NOW) == NOTHING
    assert waiting.tick(NOW + SECOND) == []
    assert waiting.tick(NOW + 2 * SECOND) == [FETCH]
    assert is_changed(waiting.answered("book:btcusd", 200, book_at(60), NOW + 2 * SECOND))


def test_answered_quiet_market_joins_with_a_book_asked_for_well_after_the_subscription(waiting: BitstampSession) -> None:
    assert waiting.answered("book:btcusd", 200, book_at(20), NOW) == NOTHING
    assert waiting.tick(NOW + 3 * SECOND) == [FETCH]
    assert is_changed(waiting.answered("book:btcusd", 200, book_at(20), NOW + 3 * SECOND))


@pytest.mark.parametrize(("status", "body"), [(0, b""), (500, b"{}"), (200, b"<html>"), (200, b'{"bids":[]}')])
def test_answered_failure_is_asked_for_again_until_the_deadline(waiting: BitstampSession, status: int, body: bytes) -> None:
    for n in range(1, 4):
        assert waiting.answered("book:btcusd", status, body, NOW + (3 * n - 3) * SECOND) == NOTHING
        assert waiting.tick(NOW + 3 * n * SECOND) == [FETCH]
    assert faults(waiting.tick(NOW + 11 * SECOND)) == [(FaultReason.SNAPSHOT, "BTC-USD")]


def test_answered_limit_and_unknown_market(waiting: BitstampSession) -> None:
    assert faults(waiting.answered("book:btcusd", 404, b"", NOW)) == [(FaultReason.REFUSED, "BTC-USD")]
    other = started(open_session(["BTC-USD"]), NOW)
    assert faults(other.answered("book:btcusd", 429, b"", NOW)) == [(FaultReason.LIMITED, None)]


def test_received_change_follows(live: BitstampSession) -> None:
    assert live.received(change(15, [["100", "0"]], []), NOW) == NOTHING
    (book,) = live.received(change(30, [["100", "0"]], [["100.5", "1"]]), NOW + 1)
    assert (book.best_bid, book.best_ask, book.sequence, book.state) == (99.0, 100.5, T0 + 30, BookState.LIVE)
    assert faults(live.received(change(25, [], []), NOW)) == [(FaultReason.GAP, "BTC-USD")]


def test_received_crossed_is_a_fault_at_once(live: BitstampSession) -> None:
    assert faults(live.received(change(30, [["101", "1"]], []), NOW)) == [(FaultReason.CROSSED, "BTC-USD")]


def test_received_changes_of_one_time_all_count(live: BitstampSession) -> None:
    """The REST book may hold the first of them alone, so those of its own time are taken as well."""
    assert is_changed(live.received(change(20, [["99.5", "1"]], []), NOW))
    assert is_changed(live.received(change(30, [["100", "0"]], []), NOW))
    assert is_changed(live.received(change(30, [["99.5", "0"]], []), NOW))
    assert live.books["BTC-USD"].bids(5) == [(99.0, 2.0)]


def test_answered_joins_changes_of_the_rest_books_own_time(waiting: BitstampSession) -> None:
    for at, bids in ((10, []), (20, [["100", "7"]]), (20, [["99", "0"]])):
        waiting.received(change(at, bids, []), NOW)
    (book,) = waiting.answered("book:btcusd", 200, book_at(20, bids=[["100", "7"], ["99", "2"]]), NOW)
    assert book.bids(5) == [(100.0, 7.0)]


def test_received_time_that_goes_back_after_the_join_is_a_fault(waiting: BitstampSession) -> None:
    """Changes that waited were applied, so an older one that comes now was sent too late to be in its place."""
    waiting.received(change(10, [], []), NOW)
    waiting.received(change(40, [], []), NOW)
    assert is_changed(waiting.answered("book:btcusd", 200, book_at(20), NOW))
    assert faults(waiting.received(change(30, [], []), NOW)) == [(FaultReason.GAP, "BTC-USD")]


def test_received_comparison_waits_for_every_change_of_the_rest_books_time(live: BitstampSession) -> None:
    live.tick(NOW + 51 * SECOND)
    live.tick(NOW + 54 * SECOND)
    assert live.answered("book:btcusd", 200, book_at(50, bids=[["98", "1"]]), NOW + 55 * SECOND) == NOTHING
    assert is_changed(live.received(change(50, [["100", "0"], ["98", "1"]], []), NOW + 55 * SECOND))
    assert is_changed(live.received(change(50, [["99", "0"]], []), NOW + 55 * SECOND))
    assert is_changed(live.received(change(60, [], []), NOW + 55 * SECOND))
    assert live._lines["btcusd"].rest is None


def test_received_keeps_a_bounded_number_of_changes(waiting: BitstampSession) -> None:
    for n in range(MAX_KEPT):
        assert waiting.received(change(n, [], []), NOW) == NOTHING
    assert faults(waiting.received(change(MAX_KEPT, [], []), NOW)) == [(FaultReason.SNAPSHOT, "BTC-USD")]


def compared(session: BitstampSession, body: bytes) -> list[Output]:
    """Everything from the start of a comparison to its end."""
    assert [o for o in session.tick(NOW + 51 * SECOND) if not isinstance(o, Send)] == []
    assert FETCH in session.tick(NOW + 54 * SECOND)
    outputs = list(session.answered("book:btcusd", 200, body, NOW + 54 * SECOND))
    return outputs + list(session.tick(NOW + 57 * SECOND))


def test_tick_compares_with_a_rest_book_within_a_minute(live: BitstampSession) -> None:
    assert faults(compared(live, book_at(20))) == []
    assert live.books["BTC-USD"].state is BookState.LIVE


def test_tick_comparison_notices_a_lost_change(live: BitstampSession) -> None:
    """The venue's book lost its bid at 100 and the message about it never arrived."""
    assert faults(compared(live, book_at(30, bids=[["99", "2"]]))) == [(FaultReason.RECONCILE, "BTC-USD")]
    assert live.books["BTC-USD"].best_bid is None


def test_received_comparison_of_a_busy_book_is_made_at_the_same_time(live: BitstampSession) -> None:
    """Changes go on while the REST book is fetched: those after it are brought to it, those before it are waited for."""
    live.tick(NOW + 51 * SECOND)
    live.received(change(30, [["98", "1"]], []), NOW + 52 * SECOND)
    live.tick(NOW + 54 * SECOND)
    body = book_at(50, bids=[["100", "1"], ["99", "2"], ["98", "1"], ["97", "1"]])
    assert live.answered("book:btcusd", 200, body, NOW + 55 * SECOND) == NOTHING
    assert is_changed(live.received(change(45, [["97", "1"]], []), NOW + 55 * SECOND))
    assert is_changed(live.received(change(60, [["100", "5"]], []), NOW + 55 * SECOND))
    assert live._lines["btcusd"].rest is None
    assert live.books["BTC-USD"].bids(1) == [(100.0, 5.0)]


def test_received_comparison_of_a_busy_book_notices_a_lost_change(live: BitstampSession) -> None:
    live.tick(NOW + 51 * SECOND)
    live.received(change(30, [["98", "1"]], []), NOW + 52 * SECOND)
    live.tick(NOW + 54 * SECOND)
    live.answered("book:btcusd", 200, book_at(50, bids=[["100", "1"], ["99", "2"], ["98", "1"], ["97", "1"]]), NOW + 55 * SECOND)
    outputs = live.received(change(60, [["100", "5"]], []), NOW + 55 * SECOND)
    assert (FaultReason.RECONCILE, "BTC-USD") in faults(outputs)


def test_answered_rest_book_from_before_the_comparison_is_asked_for_again(live: BitstampSession) -> None:
    live.received(change(40, [["98", "1"]], []), NOW + SECOND)
    live.tick(NOW + 51 * SECOND)
    live.tick(NOW + 54 * SECOND)
    assert live.answered("book:btcusd", 200, book_at(20), NOW + 54 * SECOND) == NOTHING
    assert FETCH in live.tick(NOW + 56 * SECOND)


def test_tick_book_that_cannot_be_compared_is_withdrawn(live: BitstampSession) -> None:
    for at in range(51, 180, 3):
        assert faults(live.tick(NOW + at * SECOND)) == []
        live.answered("book:btcusd", 503, b"", NOW + at * SECOND)
    assert faults(live.tick(NOW + 181 * SECOND)) == [(FaultReason.RECONCILE, "BTC-USD")]


@pytest.mark.parametrize(
    "text", ["{", "{}", change(30, [["x", "1"]], []), change(30, [["-1", "1"]], []), '{"event":"data","channel":"diff_order_book_btcusd"}']
)
def test_received_bad_frame_withdraws_everything(live: BitstampSession, text: str) -> None:
    assert faults(live.received(text, NOW)) == [(FaultReason.BAD_FRAME, None)]


def test_received_reconnect_refusal_and_limit(live: BitstampSession) -> None:
    assert isinstance(live.received('{"event":"bts:request_reconnect","channel":"","data":""}', NOW)[0], Close)
    assert live.received('{"event":"bts:heartbeat","channel":"","data":{"status":"success"}}', NOW) == NOTHING
    other = started(open_session(["BTC-USD", "FOO-USD"]), NOW)
    refusal = '{"event":"bts:error","channel":"diff_order_book_foousd","data":{"code":null,"message":"Bad subscription string."}}'
    assert faults(other.received(refusal, NOW)) == [(FaultReason.REFUSED, "FOO-USD")]
    limit = '{"event":"bts:error","channel":"","data":{"code":4290,"message":"Too many requests"}}'
    assert faults(live.received(limit, NOW)) == [(FaultReason.LIMITED, None)]


def test_tick_sends_heartbeats(live: BitstampSession) -> None:
    assert Send('{"event":"bts:heartbeat"}') in live.tick(NOW + 26 * SECOND)
