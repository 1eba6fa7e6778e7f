"""Real recordings of binance, kucoin, kraken, bybit and coinbase through their sessions: oracles inside the data."""

from __future__ import annotations

import gzip
import json
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pytest

from altforecast.books import Book, BookState
from altforecast_io.exchanges.sessions.binance import BinanceSession
from altforecast_io.exchanges.sessions.bybit import BybitSession
from altforecast_io.exchanges.sessions.coinbase import CoinbaseSession
from altforecast_io.exchanges.sessions.joined import JoinedSession
from altforecast_io.exchanges.sessions.kraken import KrakenSession
from altforecast_io.exchanges.sessions.kraken_v1 import KrakenV1Session
from altforecast_io.exchanges.sessions.kucoin import KucoinSession
from altforecast_io.exchanges.sessions.session import FaultReason, Fetch, Output
from tests.io.sessions.frames import faults, recorded

SPOT = ("btcusdt_20240808.gz", "btcusdt_20240809.gz")
Best = tuple[float, float, float, float]
"""Price and size of the best bid, then of the best ask."""


@pytest.fixture
def recordings(real_data: Path) -> Path:
    """Folder of all recordings."""
    return real_data / "recordings"


def stamped(path: Path) -> Iterator[tuple[int, str]]:
    """Receive time [ns] and text of every line of a hftbacktest file."""
    with gzip.open(path, "rt") as lines:
        for line in lines:
            stamp, _, text = line.rstrip("\n").partition(" ")
            yield int(stamp), text


class Reference:
    """All levels ever told, without windows: what a second REST snapshot would have been made from."""

    def __init__(self, body: str) -> None:
        start = json.loads(body)
        self.last = start["lastUpdateId"]
        self.sides = {"b": dict(start["bids"]), "a": dict(start["asks"])}

    def apply(self, text: str) -> None:
        data = json.loads(text)["data"]
        if data["u"] > self.last:
            self.last = data["u"]
            for name, side in self.sides.items():
                side.update(data[name])
                for price, size in data[name]:
                    if float(size) == 0.0:
                        side.pop(price, None)

    def snapshot(self) -> bytes:
        bids = sorted(self.sides["b"].items(), key=lambda row: -float(row[0]))[:1000]
        asks = sorted(self.sides["a"].items(), key=lambda row: float(row[0]))[:1000]
        return json.dumps({"lastUpdateId": self.last, "bids": bids, "asks": asks}).encode()


def best_of(book: Book) -> Best:
    (bid,), (ask,) = book.bids(1), book.asks(1)
    return (*bid, *ask)


def test_binance_best_prices_equal_the_book_ticker(recordings: Path) -> None:
    """650 s of BTCUSDT in two files that follow each other: the ticker with the newest number up to the book's must agree.

    The recording has one snapshot; the later ones that the session asks for come from a reference book.
    """
    session, reference, tickers, books, fetched = BinanceSession(["BTC-USDT"]), None, [], [], 0
    early: list[str] = []
    session.opened(0)
    for name in SPOT:
        for recv_ns, text in stamped(recordings / "hftbacktest" / "spot" / name):
            outputs: Sequence[Output] = ()
            if '"lastUpdateId"' in text[:20]:
                reference = Reference(text)
                for change in early:
                    reference.apply(change)
                outputs = session.answered("BTCUSDT", 200, text.encode(), recv_ns)
            elif "@depth" in text[:40]:
                outputs = session.received(text, recv_ns)
                if reference is None:
                    early.append(text)
                else:
                    reference.apply(text)
            elif "@bookTicker" in text[:40]:
                data = json.loads(text)["data"]
                tickers.append((data["u"], tuple(float(data[key]) for key in "bBaA")))
            assert not faults(outputs)
            books += [(output.sequence or 0, best_of(output)) for output in outputs if isinstance(output, Book)]
            if reference is not None and any(isinstance(output, Fetch) for output in outputs):
                fetched += 1
                assert not faults(session.answered("BTCUSDT", 200, reference.snapshot(), recv_ns))
    assert 1 <= fetched <= 20
    n_compared, n_equal = compared(books, tickers)
    assert n_compared == 6492
    assert n_equal >= n_compared - 2


def compared(books: list[tuple[int, Best]], tickers: list[tuple[int, tuple[float, ...]]]) -> tuple[int, int]:
    """How many books had a ticker before and after them in the recording, and how many of those agree with the one before."""
    at = n_compared = n_equal = 0
    for number, best in books:
        while at + 1 < len(tickers) and tickers[at + 1][0] <= number:
            at += 1
        if tickers[at][0] <= number and at + 1 < len(tickers):
            n_compared += 1
            n_equal += best == tickers[at][1]
    return n_compared, n_equal


def answers(path: Path) -> list[tuple[int, str, bytes]]:
    """Receive time [ns], market and body of every recorded snapshot."""
    found = []
    with path.open() as lines:
        for line in lines:
            if line.startswith("https:") and " -> " in line:
                url, _, rest = line.rstrip("\n").partition(" -> ")
                stamp, _, body = rest.partition(": ")
                found.append((int(float(stamp) * 1e9), url.partition("symbol=")[2].partition("&")[0], body.encode()))
    return found


def play_joined(session: JoinedSession, frames: list[tuple[int, str]], bodies: list[tuple[int, str, bytes]]) -> Counter[str]:
    """Frames and snapshots in the order of their receive times; a fault fails the test."""
    events = sorted(
        [(at, "", text) for at, text in frames] + [(at, market, body) for at, market, body in bodies], key=lambda event: event[0]
    )
    session.opened(events[0][0])
    changed: Counter[str] = Counter()
    for at, market, what in events:
        is_answer = isinstance(what, bytes)
        outputs = session.answered(market, 200, what, at) if is_answer else session.received(what, at)
        assert not faults(outputs)
        changed.update(output.symbol for output in outputs if isinstance(output, Book) and not is_answer)
    return changed


def test_binance_cryptofeed_recording_has_no_gap(recordings: Path) -> None:
    frames = [frame for frame in recorded(recordings / "cryptofeed" / "BINANCE.ws.1.0") if "@depth" in frame[1][:60]]
    assert len(frames) == 177
    session = BinanceSession(["NKN-USDT", "BLZ-ETH", "LRC-BTC", "RUNE-EUR"])
    changed = play_joined(session, frames, answers(recordings / "cryptofeed" / "BINANCE.http.0.0"))
    assert {book.state for book in session.books.values()} == {BookState.LIVE}
    assert changed.total() == 172


def test_kucoin_cryptofeed_recording_has_no_gap(recordings: Path) -> None:
    folder = recordings / "cryptofeed"
    frames = [frame for frame in recorded(folder / "KUCOIN.ws.1.0") if '"topic":"/market/level2:' in frame[1]]
    bodies = answers(folder / "KUCOIN.http.0.0")
    session = KucoinSession(sorted({market for _, market, _ in bodies}))
    session.snapshot_levels = 1_000_000  # the recorded snapshots are whole books: nothing beyond them is unknown
    changed = play_joined(session, frames, bodies)
    assert len(frames) == 3853
    assert {book.state for book in session.books.values()} == {BookState.LIVE}
    assert changed.total() == after_their_snapshots(frames, bodies) > 3784


def after_their_snapshots(frames: list[tuple[int, str]], bodies: list[tuple[int, str, bytes]]) -> int:
    """Messages that came after the snapshot of their market and carry newer numbers."""
    last = {market: (at, int(json.loads(body)["data"]["sequence"])) for at, market, body in bodies}
    data = [(at, json.loads(text)["data"]) for at, text in frames]
    known = [(at, change, *last[change["symbol"]]) for at, change in data if change["symbol"] in last]
    return sum(at > taken and change["sequenceEnd"] > number for at, change, taken, number in known)


def test_kraken_v1_recording_has_every_checksum_right(recordings: Path) -> None:
    names = ["WAVES-EUR", "XMR-USD", "KSM-BTC", "GRT-ETH", "SC-EUR", "ETH-CHF", "OCEAN-BTC", "OMG-USD", "BTC-CHF", "ADA-BTC"]
    session = KrakenV1Session(names, depth=1000)
    session.opened(0)
    checked = changed = 0
    for recv_ns, text in recorded(recordings / "cryptofeed" / "KRAKEN.ws.50.0"):
        if '"book-1000"' in text or text.startswith("{"):
            outputs = session.received(text, recv_ns)
            assert not faults(outputs)
            books = [output for output in outputs if isinstance(output, Book)]
            changed += len(books)
            checked += sum(book.checksum_ok is True and '"c":' in text for book in books)
    assert (checked, changed) == (4269, 4279)


def test_kraken_v1_recording_with_a_lost_message_is_noticed(recordings: Path) -> None:
    """Of the lost messages that touch the best ten levels none goes unnoticed for more than the next message."""
    frames = [frame for frame in recorded(recordings / "cryptofeed" / "KRAKEN.ws.50.0") if '"ADA/XBT"' in frame[1] and frame[1][0] == "["]
    frames = [frame for frame in frames if '"book-1000"' in frame[1]]
    n_noticed = 0
    for lost in range(20, 60):
        session = KrakenV1Session(["ADA-BTC"], depth=1000)
        session.opened(0)
        before: object = None
        for place, (recv_ns, text) in enumerate(frames[: lost + 2]):
            book = session.books["ADA-BTC"]
            if place == lost:
                before = (book.bids(10), book.asks(10))
                session.received(text, recv_ns)
                touched = (book.bids(10), book.asks(10)) != before
            elif place < lost:
                session.received(text, recv_ns)
        session = KrakenV1Session(["ADA-BTC"], depth=1000)
        session.opened(0)
        found = [faults(session.received(text, at)) for place, (at, text) in enumerate(frames[: lost + 2]) if place != lost]
        is_noticed = found[-1] == [(FaultReason.CHECKSUM, "ADA-BTC")]
        n_noticed += is_noticed
        assert is_noticed or not touched or text_restores(frames[lost][1], frames[lost + 1][1])
    assert n_noticed > 0


def text_restores(lost: str, after: str) -> bool:
    """Whether the next message sets every level that the lost one set."""
    parts = [[part for part in json.loads(text)[1:-2] if isinstance(part, dict)] for text in (lost, after)]
    sets = [{(side, row[0]) for part in group for side in ("a", "b") for row in part.get(side, [])} for group in parts]
    return sets[0] <= sets[1]


def test_kraken_v2_single_frames_are_read(recordings: Path) -> None:
    """The checksum in these frames belongs to another market's example, so reading ends in that fault and no other."""
    session = KrakenSession(["BTC-USD"])
    session.opened(0)
    snapshot = (recordings / "nautilus" / "kraken_ws_book_snapshot.json").read_text()
    assert faults(session.received(snapshot, 1)) == [(FaultReason.CHECKSUM, "BTC-USD")]
    session = KrakenSession(["BTC-USD"])
    session.opened(0)
    assert not faults(session.received(snapshot.replace("2439117997", str(checksum_of(snapshot))), 1))
    book = session.books["BTC-USD"]
    assert (book.bids(1), book.asks(3)[-1]) == ([(105944.2, 0.136)], (105955.8, 0.003))


def checksum_of(snapshot: str) -> int:
    """Kraken's checksum computed from the text of the frame, independently of the session."""
    sides = re.split(r'"asks"', snapshot)
    rows = [re.findall(r'"price": ([\d.]+), "qty": ([\d.]+)', side) for side in (sides[1], sides[0])]
    return zlib.crc32("".join(text.replace(".", "").lstrip("0") for side in rows for row in side for text in row).encode())


def test_coinbase_single_frames_are_read(recordings: Path) -> None:
    session = CoinbaseSession(["BTC-USD"])
    session.opened(0)
    folder = recordings / "nautilus"
    for name in ("snapshot", "update"):
        (book,) = session.received((folder / f"coinbase_ws_l2_data_{name}.json").read_text(), 1)
        assert book is session.books["BTC-USD"]
    assert session.books["BTC-USD"].bids(2) == [(68900.0, 2.0), (68899.5, 0.75)]
    assert session.books["BTC-USD"].best_ask != 68901.0
    assert session.books["BTC-USD"].ts_event_ms == 1_775_572_201_456


def test_bybit_single_frames_and_archive_are_read(recordings: Path) -> None:
    session = BybitSession(["BTC-USDT"], depth=1)
    session.opened(0)
    for name in ("snapshot", "delta"):
        assert not faults(session.received((recordings / "nautilus" / f"bybit_ws_orderbook_{name}.json").read_text(), 1))
    assert session.books["BTC-USDT"].bids(5) == [(27450.0, 0.4)]

    with zipfile.ZipFile(recordings / "nautilus" / "bybit_xrpusdt-ob500.data.zip") as archive:
        frames = archive.read(archive.namelist()[0]).splitlines()
    assert Counter(msgspec.json.decode(frame)["type"] for frame in frames) == {"snapshot": 1, "delta": 49}
    deep = BybitSession(["XRP-USDT"], depth=500)
    deep.opened(0)
    outputs = [output for frame in frames for output in deep.received(frame, 1)]
    assert outputs == [deep.books["XRP-USDT"]] * 50
    assert not deep.books["XRP-USDT"].is_crossed
