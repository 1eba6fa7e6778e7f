"""Rules that hold for binance, kucoin, mexc, bybit, gate, coinbase and kraken alike, on hand-written frames."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from altforecast.books import Book, BookState
from altforecast.errors import InputError, UnknownNameError
from altforecast_io.exchanges.sessions.registry import NATIVE_VENUES, open_session
from altforecast_io.exchanges.sessions.session import Fault, FaultReason, Fetch, Send
from tests.io.sessions.frames import SECOND, faults, is_changed, is_withheld
from tests.io.sessions.scripts import BIDS, NOW, VENUES, Rows, kucoin_rest, rest_book, script

PRICES = ("99.50", "99.80", "100.00", "100.10")


def bid_of(i: int) -> Rows:
    """A change of a bid that no two neighbouring numbers share."""
    return ((PRICES[i % len(PRICES)], f"{1 + i}.250"),)


@pytest.mark.parametrize("venue", NATIVE_VENUES)
def test_open_session_knows_every_native_venue(venue: str) -> None:
    session = open_session(venue, ["BTC-USDT"], f"http://127.0.0.1:9/{venue}")
    assert session.venue == venue
    assert list(session.books) == ["BTC-USDT"]
    assert all(f"127.0.0.1:9/{venue}" in output.url for output in session.begin())


def test_open_session_refuses_what_it_cannot_open() -> None:
    with pytest.raises(UnknownNameError, match="gemini"):
        open_session("gemini", ["BTC-USD"])
    with pytest.raises(InputError, match="symbols"):
        open_session("binance", [])
    with pytest.raises(InputError, match="symbols"):
        open_session("binance", ["BTC-USDT", "BTC-USDT"])


@pytest.mark.parametrize("venue", VENUES)
def test_received_change_makes_a_live_book(venue: str) -> None:
    made = script(venue)
    outputs = made.session.received(made.change(1, (("100.10", "0"), ("100.05", "7.000")), (("100.20", "9.000"),)), NOW + 5)
    book = made.session.books["BTC-USDT"]
    assert list(outputs) == [book]
    assert (book.bids(2)[0], book.asks(1)) == ((100.05, 7.0), [(100.2, 9.0)])
    assert (book.state, book.ts_event_ms, book.ts_ingest_ns) == (BookState.LIVE, 1_700_000_000_123, NOW + 5)
    assert made.session.books["ETH-USDT"].state is BookState.SYNCING


@pytest.mark.parametrize("venue", VENUES)
@settings(max_examples=25)
@given(before=st.integers(0, 6), lost=st.integers(1, 5))
def test_received_after_a_lost_message_is_a_fault_at_once(venue: str, before: int, lost: int) -> None:
    """Kraken has no numbers; its checksum notices because the lost changes are among the best ten levels."""
    made = script(venue)
    for i in range(1, before + 1):
        assert is_changed(made.session.received(made.change(i, bid_of(i), ()), NOW + i))
    # each lost change alters its own level, so that the book after them differs
    for i in range(before + 1, before + lost + 1):
        made.change(i, ((f"98.{i:02d}", "1.000"),), ())
    last = before + lost + 1
    found = faults(made.session.received(made.change(last, bid_of(last), ()), NOW + last))
    assert [reason for reason, _ in found] == [FaultReason.CHECKSUM if venue == "kraken" else FaultReason.GAP]
    book = made.session.books["BTC-USDT"]
    assert (book.best_bid, book.best_ask, book.state) == (None, None, BookState.SUSPECT)


@pytest.mark.parametrize("venue", VENUES)
def test_received_crossed_for_one_message_is_not_live_and_then_heals(venue: str) -> None:
    made = script(venue)
    assert is_withheld(made.session.received(made.change(1, (("100.30", "1.000"),), ()), NOW))
    assert made.session.books["BTC-USDT"].state is not BookState.LIVE
    assert is_changed(made.session.received(made.change(2, (("100.30", "0"),), ()), NOW))
    assert made.session.books["BTC-USDT"].state is BookState.LIVE


@pytest.mark.parametrize("venue", VENUES)
def test_received_crossed_for_two_messages_is_a_fault(venue: str) -> None:
    made = script(venue)
    assert is_withheld(made.session.received(made.change(1, (("100.30", "1.000"),), ()), NOW))
    found = made.session.received(made.change(2, (("99.50", "9.000"),), ()), NOW)
    assert faults(found) == [(FaultReason.CROSSED, "BTC-USDT")]
    assert made.session.books["BTC-USDT"].best_bid is None


@pytest.mark.parametrize("venue", VENUES)
def test_tick_without_a_book_is_a_fault_in_time(venue: str) -> None:
    made = script(venue)
    found: list[tuple[FaultReason, str | None]] = []
    for second in range(1, 20):
        found += faults(made.session.tick(NOW + second * SECOND))
    assert found == [(FaultReason.SNAPSHOT, "ETH-USDT")]
    assert made.session.books["BTC-USDT"].state is BookState.LIVE


@pytest.mark.parametrize("venue", VENUES)
@pytest.mark.parametrize("frame", ["", "{", "null", "[]", "[1,2]", "1", '"x"', "{}", b"", b"\xff\xfe", b"\xca\x13\xff\xff", "[" * 5000])
def test_received_nonsense_never_raises(venue: str, frame: str | bytes) -> None:
    made = script(venue)
    for reason, _ in faults(made.session.received(frame, NOW)):
        assert reason is FaultReason.BAD_FRAME


@pytest.mark.parametrize("venue", VENUES)
@pytest.mark.parametrize("size", ["-1", "nan", "inf", "1e999", "x"])
def test_received_impossible_size_withdraws_every_book(venue: str, size: str) -> None:
    made = script(venue)
    frame = made.change(1, (("100.00", "5.555"),), ())
    bad = frame.replace("5.555", size) if isinstance(frame, str) else frame.replace(b"\x055.555", bytes([len(size)]) + size.encode())
    found = made.session.received(bad, NOW)
    assert [reason for reason, _ in faults(found)] == [FaultReason.BAD_FRAME]
    assert all(book.best_bid is None and book.state is BookState.SUSPECT for book in made.session.books.values())
    assert not made.session.received(made.change(2, BIDS, ()), NOW)


def mutated(frame: str | bytes, rng: random.Random) -> str | bytes:
    raw = bytearray(frame.encode() if isinstance(frame, str) else frame)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(raw))
        action = rng.randrange(4)
        if action == 0:
            raw[at] = rng.randrange(256)
        elif action == 1:
            del raw[at : at + rng.randint(1, 8)]
        elif action == 2:
            raw[at:at] = raw[at : at + rng.randint(1, 8)]
        else:
            raw[at] = rng.choice(b'0123456789-.eE"{}[],:n')
        if not raw:
            return b""
    return bytes(raw).decode("utf-8", "replace") if isinstance(frame, str) else bytes(raw)


@pytest.mark.parametrize("venue", VENUES)
def test_received_mutated_frame_never_raises(venue: str) -> None:
    rng = random.Random(20261121)
    n_faults = 0
    for i in range(400):
        made = script(venue)
        frame = made.change(1, (("100.10", "2.500"), ("99.50", "0.000")), (("100.25", "1.125"),))
        outputs = made.session.received(mutated(frame, rng), NOW + i)
        assert all(isinstance(output, Book | Fault | Send | Fetch) for output in outputs)
        assert all(book.state is not BookState.LIVE or not book.is_crossed for book in made.session.books.values())
        n_faults += bool(faults(outputs))
    assert n_faults > 100


@pytest.mark.parametrize("venue", ["binance", "kucoin", "mexc"])
def test_answered_nonsense_never_raises(venue: str) -> None:
    rng = random.Random(7)
    for _ in range(100):
        made, session = script(venue), open_session(venue, ["BTC-USDT"])
        session.opened(NOW)
        key = "BTC-USDT" if venue == "kucoin" else "BTCUSDT"
        session.received(made.change(0, (), ()), NOW)
        body = mutated(kucoin_rest() if venue == "kucoin" else rest_book(), rng)
        assert isinstance(body, bytes)
        session.answered(key, rng.choice([0, 200, 500]), body, NOW)
        session.answered("unknown", 200, body, NOW)
