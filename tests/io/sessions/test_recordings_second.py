"""Real recordings of okx, bitget, bitfinex and bitstamp through their sessions: what the venues themselves say is right."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from altforecast.books import Book, BookState
from altforecast_io.exchanges.sessions.bitfinex import BitfinexSession
from altforecast_io.exchanges.sessions.bitget import BitgetSession
from altforecast_io.exchanges.sessions.bitstamp import BitstampSession
from altforecast_io.exchanges.sessions.okx import OkxSession
from altforecast_io.exchanges.sessions.session import FaultReason, Fetch, Output, Session
from tests.io.sessions.frames import SECOND, faults, recorded, recorded_answers


@pytest.fixture
def folder(real_data: Path) -> Path:
    """Folder of the recordings of cryptofeed."""
    return real_data / "recordings" / "cryptofeed"


class Tally:
    """What came out of a session: updates, right checksums, faults."""

    def __init__(self) -> None:
        self.books: Counter[str] = Counter()
        self.checksums = 0
        self.faults: list[object] = []

    def note(self, outputs: list[Output] | tuple[Output, ...]) -> None:
        for output in outputs:
            if isinstance(output, Book):
                assert not output.is_crossed
                assert output.state is BookState.LIVE
                self.books[output.symbol] += 1
                self.checksums += output.checksum_ok is True
        self.faults += faults(outputs)


def play(session: Session, path: Path) -> Tally:
    """Feed every recorded frame."""
    tally, is_open = Tally(), False
    session.begin()
    for recv_ns, text in recorded(path):
        if not is_open:
            session.opened(recv_ns)
            is_open = True
        tally.note(list(session.received(text, recv_ns)))
    return tally


def test_okx_recording_has_every_checksum_right(folder: Path) -> None:
    tally = play(OkxSession(["BTC-USD-220527", "UNI-USD-SWAP", "BTC-USDT"]), folder / "OKX.ws.1.0")
    assert (tally.checksums, tally.faults) == (290, [])
    assert sum(tally.books.values()) == 290


def test_bitget_recording_has_every_checksum_right(folder: Path) -> None:
    coins = ("EOS", "GOG", "VVS", "AVAX", "CULT", "HOT", "SUN", "STG")
    tally = play(BitgetSession([f"{coin}-USDT" for coin in coins]), folder / "BITGET.ws.1.0")
    assert (tally.checksums, tally.faults) == (443, [])
    assert sum(tally.books.values()) == 443


def test_bitfinex_recording_is_contiguous_and_never_crossed(folder: Path) -> None:
    """The recording has sequence numbers and no checksums."""
    symbols = ["BFT-USD", "IOT-ETH", "DOG-USD", "MNA-BTC", "ODE-USD", "TESTBTC-TESTUSD", "SNG-USD"]
    session = BitfinexSession(symbols)
    tally = play(session, folder / "BITFINEX.ws.11.0")
    assert tally.faults == []
    assert sum(tally.books.values()) == 1600
    assert {book.sequence for book in session.books.values()} != {None}
    assert all(50 < len(book.bid_keys) <= 100 for book in session.books.values())


def test_bitstamp_recording_joins_its_rest_books(folder: Path) -> None:
    bodies = recorded_answers(folder / "BITSTAMP.http.0.0")
    pairs = ("eth-usd", "xrp-eur", "bat-eur", "usdt-eur", "usdt-usd", "xlm-gbp", "ada-eur", "bat-btc", "gala-eur")
    session = BitstampSession([pair.upper() for pair in pairs])
    tally, asked, is_open = Tally(), [], False
    for recv_ns, text in recorded(folder / "BITSTAMP.ws.1.0"):
        if not is_open:
            session.opened(recv_ns)
            is_open = True
        outputs = list(session.received(text, recv_ns))
        tally.note(outputs)
        asked += [(output.key, output.url.rstrip("/").rsplit("/", 1)[-1]) for output in outputs if isinstance(output, Fetch)]
        for key, market in list(asked):
            line = session._lines[market]
            if line.kept:
                asked.remove((key, market))
                tally.note(list(session.answered(key, 200, bodies[market], recv_ns)))
    assert tally.faults == []
    assert asked == []
    assert all(book.state is BookState.LIVE for book in session.books.values())
    assert sum(tally.books.values()) > 500


def test_bitstamp_recording_with_a_lost_change_is_noticed_by_comparison(folder: Path) -> None:
    """A later REST book is made from the whole recording; whoever missed a change of its best 20 levels must not agree."""
    frames = [frame for frame in recorded(folder / "BITSTAMP.ws.1.0") if "diff_order_book_ethusd" in frame[1]]
    start = recorded_answers(folder / "BITSTAMP.http.0.0")["ethusd"]
    truth = replay_ethusd(frames, start)
    best = top(truth)
    assert compare_with(replay_ethusd(frames, start), truth) == []
    n_wrong = 0
    for place in range(len(frames) - 12, len(frames) - 1):
        session = replay_ethusd(frames[:place] + frames[place + 1 :], start)
        expected = [] if top(session) == best else [(FaultReason.RECONCILE, "ETH-USD")]
        assert compare_with(session, truth) == expected
        n_wrong += len(expected)
    assert n_wrong >= 3


def replay_ethusd(frames: list[tuple[int, str]], start: bytes) -> BitstampSession:
    """A session after these frames, joined with the recorded REST book as soon as it covers them."""
    session = BitstampSession(["ETH-USD"])
    session.opened(frames[0][0])
    for recv_ns, text in frames:
        session.received(text, recv_ns)
        if session.books["ETH-USD"].state is not BookState.LIVE:
            session.answered("book:ethusd", 200, start, recv_ns)
    return session


def top(session: BitstampSession) -> object:
    """The levels that are compared."""
    book = session.books["ETH-USD"]
    return book.bids(20), book.asks(20)


def compare_with(session: BitstampSession, truth: BitstampSession) -> list[object]:
    """Faults of a comparison with a REST book that holds the truth."""
    book, now_ns = truth.books["ETH-USD"], session.books["ETH-USD"].ts_ingest_ns + 51 * SECOND
    sides = [[[repr(price), repr(size)] for price, size in side] for side in (book.bids(10_000), book.asks(10_000))]
    body = f'{{"microtimestamp":"{book.sequence}","bids":{sides[0]},"asks":{sides[1]}}}'.replace("'", '"')
    session.tick(now_ns)
    assert any(isinstance(output, Fetch) for output in session.tick(now_ns + 4 * SECOND))
    found = list(session.answered("book:ethusd", 200, body.encode(), now_ns + 4 * SECOND))
    return faults(found + list(session.tick(now_ns + 7 * SECOND)))
