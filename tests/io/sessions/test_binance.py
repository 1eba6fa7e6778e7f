"""The session of Binance on hand-written frames: joining, refreshing, refusals; the same for every venue that joins."""

from __future__ import annotations

import json

import pytest

from altforecast.books import BookState
from altforecast_io.exchanges.sessions.binance import BinanceSession, open_session
from altforecast_io.exchanges.sessions.joined import MAX_FETCHES, MAX_KEPT
from altforecast_io.exchanges.sessions.session import Close, FaultReason, Fetch, Open, Send
from tests.io.sessions.frames import SECOND, faults, is_changed
from tests.io.sessions.scripts import ASKS, BIDS, NOW, Rows, binance_delta, rest_book, script

KEY = "BTCUSDT"
QUIET: Rows = (("99.50", "4.100"),)


@pytest.fixture
def session() -> BinanceSession:
    made = open_session(["BTC-USDT"])
    made.opened(NOW)
    return made


def deep(levels: int, last: int = 1000) -> bytes:
    """A snapshot that is cut at `levels` levels per side."""
    bids = [(f"{100 - i / 100:.2f}", "1") for i in range(levels)]
    asks = [(f"{100.01 + i / 100:.2f}", "1") for i in range(levels)]
    return rest_book(last, bids, asks)


def test_begin_and_opened_speak_to_the_combined_stream() -> None:
    assert open_session(["BTC-USDT"]).begin() == (Open("wss://stream.binance.com:9443/stream"),)
    assert open_session(["BTC-USDT"], "http://127.0.0.1:9/binance").begin() == (Open("ws://127.0.0.1:9/binance/stream"),)
    frames = open_session([f"C{i}-USDT" for i in range(200)]).opened(NOW)
    asked = [json.loads(frame.payload) for frame in frames if isinstance(frame, Send)]
    assert [len(frame["params"]) for frame in asked] == [100, 100]
    assert asked[0]["params"][0] == "c0usdt@depth@100ms"


def test_received_first_change_asks_for_the_snapshot_once(session: BinanceSession) -> None:
    url = "https://api.binance.com/api/v3/depth?symbol=BTCUSDT&limit=1000"
    assert session.received(binance_delta(1, QUIET, ()), NOW) == [Fetch(KEY, url)]
    assert not session.received(binance_delta(2, QUIET, ()), NOW)
    assert session.books["BTC-USDT"].state is BookState.SYNCING


@pytest.mark.parametrize(("first", "width"), [(-3, 10), (0, 1), (1, 1), (-1, 2)])
def test_answered_joins_changes_that_overlap_the_snapshot(session: BinanceSession, first: int, width: int) -> None:
    session.received(binance_delta(first, (("100.15", "5"),), (), width=width), NOW)
    outputs = session.answered(KEY, 200, rest_book(), NOW + 7)
    book = session.books["BTC-USDT"]
    assert list(outputs) == [book]
    newest = 1000 + first + width - 1
    assert book.sequence == max(1000, newest)
    assert book.best_bid == (100.15 if newest > 1000 else 100.10)
    assert is_changed(session.received(binance_delta(book.sequence - 999, QUIET, ()), NOW))


def test_answered_snapshot_older_than_the_changes_is_asked_for_again(session: BinanceSession) -> None:
    session.received(binance_delta(5, QUIET, ()), NOW)
    assert not session.answered(KEY, 200, rest_book(1000), NOW)
    (again,) = session.tick(NOW + SECOND)
    assert isinstance(again, Fetch)
    assert is_changed(session.answered(KEY, 200, rest_book(1004), NOW + SECOND))


def test_answered_three_bad_snapshots_are_a_fault(session: BinanceSession) -> None:
    session.received(binance_delta(5, QUIET, ()), NOW)
    assert not session.answered(KEY, 0, b"", NOW)
    assert len(session.tick(NOW + SECOND)) == 1
    assert not session.answered(KEY, 200, b"<html>", NOW)
    assert len(session.tick(NOW + 2 * SECOND)) == 1
    assert faults(session.answered(KEY, 500, b"", NOW)) == [(FaultReason.SNAPSHOT, "BTC-USDT")]


def test_answered_hole_among_kept_changes_is_a_gap(session: BinanceSession) -> None:
    session.received(binance_delta(1, QUIET, ()), NOW)
    session.received(binance_delta(3, QUIET, ()), NOW)
    assert faults(session.answered(KEY, 200, rest_book(), NOW)) == [(FaultReason.GAP, "BTC-USDT")]
    assert session.books["BTC-USDT"].best_bid is None


def test_received_more_than_is_kept_without_a_snapshot_is_a_fault(session: BinanceSession) -> None:
    for i in range(1, MAX_KEPT + 1):
        assert not faults(session.received(binance_delta(i, QUIET, ()), NOW))
    found = faults(session.received(binance_delta(MAX_KEPT + 1, QUIET, ()), NOW))
    assert found == [(FaultReason.SNAPSHOT, "BTC-USDT")]
    assert not session.answered(KEY, 200, rest_book(), NOW)


def test_tick_snapshot_that_never_comes_is_a_fault(session: BinanceSession) -> None:
    session.received(binance_delta(1, QUIET, ()), NOW)
    assert not session.tick(NOW + 9 * SECOND)
    assert faults(session.tick(NOW + 11 * SECOND)) == [(FaultReason.SNAPSHOT, "BTC-USDT")]


def test_tick_quiet_market_gets_its_snapshot_anyway(session: BinanceSession) -> None:
    assert not session.tick(NOW + SECOND)
    assert [type(output) for output in session.tick(NOW + 3 * SECOND)] == [Fetch]
    assert is_changed(session.answered(KEY, 200, rest_book(), NOW + 3 * SECOND))
    assert faults(session.received(binance_delta(2, QUIET, ()), NOW)) == [(FaultReason.GAP, "BTC-USDT")]


def test_opened_many_symbols_fetch_a_few_at_a_time() -> None:
    symbols = [f"C{i}-USDT" for i in range(MAX_FETCHES + 3)]
    session = open_session(symbols)
    session.opened(NOW)
    first = session.tick(NOW + 3 * SECOND)
    assert len(first) == MAX_FETCHES
    next_one = session.answered("C0USDT", 200, rest_book(), NOW + 4 * SECOND)
    assert [output.key for output in next_one if isinstance(output, Fetch)] == [f"C{MAX_FETCHES}USDT"]
    assert not faults(session.tick(NOW + 12 * SECOND))  # whoever waits has not been asked for and is not late
    assert len(faults(session.tick(NOW + 13 * SECOND + 1))) == MAX_FETCHES - 1


def test_answered_status_tells_limits_and_refusals(session: BinanceSession) -> None:
    session.received(binance_delta(1, QUIET, ()), NOW)
    refused = session.answered(KEY, 400, b'{"code":-1121,"msg":"Invalid symbol."}', NOW)
    assert faults(refused) == [(FaultReason.REFUSED, "BTC-USDT")]
    other = open_session(["BTC-USDT"])
    other.opened(NOW)
    other.received(binance_delta(1, QUIET, ()), NOW)
    assert faults(other.answered(KEY, 429, b"", NOW)) == [(FaultReason.LIMITED, None)]


def test_received_price_that_runs_off_a_cut_book_takes_a_new_snapshot_then_fails(session: BinanceSession) -> None:
    session.received(binance_delta(1, (), ()), NOW)
    assert is_changed(session.answered(KEY, 200, deep(1000), NOW))
    book = session.books["BTC-USDT"]
    gone = [(f"{100 - i / 100:.2f}", "0") for i in range(600)]
    outputs = session.received(binance_delta(2, gone, ()), NOW + 60 * SECOND)
    assert [type(output) for output in outputs if output is not book] == [Fetch]
    assert len(book.bid_keys) == 400
    session.received(binance_delta(3, (("50.00", "1"), ("94.00", "8")), ()), NOW + 60 * SECOND)
    assert (book.bids(1), book.bid_keys[0]) == ([(94.0, 8.0)], 90.01)  # 50.00 lies below what is known
    assert is_changed(session.answered(KEY, 200, deep(1000, 1002), NOW + 61 * SECOND))
    assert (book.best_bid, book.sequence, len(book.bid_keys)) == (100.0, 1003, 1000)
    gone = [(f"{100 - i / 100:.2f}", "0") for i in range(995)]
    assert faults(session.received(binance_delta(4, gone, ()), NOW + 62 * SECOND)) == [(FaultReason.DEPTH, "BTC-USDT")]


def test_received_book_of_all_levels_may_be_thin() -> None:
    made = script("binance")
    gone = [(price, "0") for price, _ in BIDS]
    assert is_changed(made.session.received(made.change(1, gone, ()), NOW))
    assert made.session.books["BTC-USDT"].best_bid is None


def test_received_growing_book_stays_bounded(session: BinanceSession) -> None:
    session.received(binance_delta(1, (), ()), NOW)
    session.answered(KEY, 200, deep(1000), NOW)
    for i in range(2, 600):
        assert is_changed(session.received(binance_delta(i, (), [(f"{100.5 + (5 * i + k) / 10_000:.4f}", "1") for k in range(5)]), NOW))
    assert len(session.books["BTC-USDT"].ask_keys) == 2000


def test_received_answers_and_errors(session: BinanceSession) -> None:
    assert not session.received('{"result":null,"id":1}', NOW)
    assert session.received('{"event":{"e":"serverShutdown","E":1}}', NOW) == (Close("the server will shut down"),)
    found = session.received('{"error":{"code":-1003,"msg":"Too many requests"},"id":1}', NOW)
    assert faults(found) == [(FaultReason.LIMITED, None)]
    other = open_session(["BTC-USDT"])
    other.opened(NOW)
    found = other.received('{"code":2,"msg":"Invalid request: unknown stream btcusdt@depth@100ms"}', NOW)
    assert faults(found) == [(FaultReason.REFUSED, "BTC-USDT")]


def test_received_repeated_number_after_the_join_is_a_gap() -> None:
    made = script("binance")
    frame = made.change(1, QUIET, ())
    assert is_changed(made.session.received(frame, NOW))
    assert faults(made.session.received(frame, NOW)) == [(FaultReason.GAP, "BTC-USDT")]


def test_received_market_that_was_not_asked_for_is_ignored() -> None:
    made = script("binance")
    assert not made.session.received(binance_delta(9, BIDS, ASKS, symbol="DOGEUSDT"), NOW)
    assert made.session.books["BTC-USDT"].state is BookState.LIVE
