"""Sessions against the stand-in's wires: a moving market gives the true book, level by level, without a fault."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import pytest

from altforecast.books import BookState
from altforecast_io.exchanges.sessions.registry import open_session
from altforecast_io.exchanges.sessions.session import Fault, Fetch, Open, Output, Send
from altforecast_sandbox.resting import Change, RestingBook
from altforecast_sandbox.streams.wire import StreamService, Wire

NS_PER_MS = 1_000_000
START_MS = 1_700_000_000_000
SYMBOLS = ("BTC-USDT", "ETH-USDT")


class Pair:
    """A session and the wire that it talks to, without sockets."""

    def __init__(self, venue: str, books: dict[str, RestingBook]) -> None:
        self.session = open_session(venue, list(books), f"http://127.0.0.1:1/{venue}")
        (asked,) = self.session.begin()
        assert isinstance(asked, Open)
        self.now_ms = START_MS
        stream: StreamService = import_module(f"altforecast_sandbox.streams.{venue}").STREAM
        self.wire: Wire = stream.connect(books, asked.url.split(f"/{venue}", 1)[1], START_MS)
        self.rest = stream.requests(books, lambda: self.now_ms)
        self.faults: list[Fault] = []
        self.hear(self.wire.opened())
        self.act(self.session.opened(self.now_ms * NS_PER_MS))

    def hear(self, frames: Sequence[str | bytes]) -> None:
        for frame in frames:
            self.act(self.session.received(frame, self.now_ms * NS_PER_MS))

    def act(self, outputs: Sequence[Output]) -> None:
        for output in outputs:
            if isinstance(output, Send):
                self.hear(self.wire.received(output.payload, self.now_ms))
            elif isinstance(output, Fetch):
                path, _, pair = output.url.split(f"/{self.session.venue}", 1)[1].rstrip("/").rpartition("/")
                body = json.dumps(self.rest[f"{output.method} {path}/{{pair}}/"]({"pair": pair})).encode()
                self.act(self.session.answered(output.key, 200, body, self.now_ms * NS_PER_MS))
            elif isinstance(output, Fault):
                self.faults.append(output)


def moved(rng: random.Random, book: RestingBook, mid: int, ts_ms: int) -> Change:
    """The next change: what the new middle price crosses goes, what is near it gets new sizes."""
    bids = {ticks: 0 for ticks in book.bids if ticks >= mid} | {mid - n: rng.randint(1, 10**6) for n in range(1, 10) if rng.random() < 0.6}
    asks = {ticks: 0 for ticks in book.asks if ticks <= mid} | {mid + n: rng.randint(1, 10**6) for n in range(1, 10) if rng.random() < 0.6}
    rows = tuple(sorted(bids.items(), reverse=True)), tuple(sorted(asks.items()))
    return Change(book.symbol, book.last_id + 1, book.last_id + rng.randint(1, 3), ts_ms, *rows)


def levels(book: RestingBook, rows: Any) -> list[tuple[float, float]]:
    return [(float(book.price(ticks)), float(book.size(lots))) for ticks, lots in rows]


@pytest.mark.parametrize("venue", ["okx", "bitget", "bitfinex", "htx", "cryptocom", "bingx", "bitstamp"])
def test_sessions_follow_the_stand_in_without_a_wrong_level(venue: str) -> None:
    rng, mids = random.Random(11), dict.fromkeys(SYMBOLS, 200_000)
    books = {}
    for symbol in SYMBOLS:
        sides = [{200_000 + sign * n: rng.randint(1, 10**6) for n in range(1, 500)} for sign in (-1, 1)]
        books[symbol] = RestingBook(symbol, 2, 4, last_id=100, ts_ms=START_MS, bids=sides[0], asks=sides[1])
    pair = Pair(venue, books)
    for step in range(600):
        pair.now_ms += rng.choice((20, 100, 400))
        symbol = rng.choice(SYMBOLS)
        mids[symbol] += rng.choice((0, 0, 1, -1, 3, -3, 15, -15, 40, -40))
        change = moved(rng, books[symbol], mids[symbol], pair.now_ms)
        books[symbol].apply(change)
        pair.hear(pair.wire.changed(books[symbol], change))
        if step % 5 == 0:
            pair.hear(pair.wire.beat(pair.now_ms))
            pair.act(pair.session.tick(pair.now_ms * NS_PER_MS))
    assert pair.faults == []
    for symbol, book in books.items():
        ours = pair.session.books[symbol]
        assert ours.state is BookState.LIVE
        assert (ours.bids(50), ours.asks(50)) == (levels(book, book.top_bids(50)), levels(book, book.top_asks(50)))
