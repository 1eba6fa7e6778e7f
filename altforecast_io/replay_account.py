"""The account of a replay: what its frames held, what can be checked in them, and the digest of everything that came out.

What belongs here: counting, the comparison with best quotes, the digest. What does not: driving sessions (`replay`).

The digest is sha256 over the best 20 levels of every book whenever they change and over every opportunity event. Prices and
sizes enter bit by bit: they come from the text of the recording. Computed figures enter with nine digits.
"""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from dataclasses import dataclass, field
from struct import pack
from typing import Any, NamedTuple

import msgspec

from altforecast.books import Book
from altforecast.errors import InputError
from altforecast.opportunities import OpportunityEvent
from altforecast.symbols import parse_symbol
from altforecast_io.exchanges.sessions.session import Fault, FaultReason
from altforecast_io.recordings import Frame

DEPTH = 20
"""Levels of each side in the digest."""
QUOTES_KEPT = 5_000
"""Best quotes and books per symbol that wait for each other; the oldest are forgotten uncompared."""


class _Best(NamedTuple):
    bid: float
    bid_size: float
    ask: float
    ask_size: float


class _Ticker(msgspec.Struct):
    """Binance bookTicker."""

    u: int
    s: str
    b: str
    B: str
    a: str
    A: str


class _Wrapped(msgspec.Struct):
    data: _Ticker


@dataclass
class BestQuotes:
    """Comparison of books with the venue's own best quotes (Binance `bookTicker`).

    A book at update u must equal the last quote with an id of at most u. It is compared once a quote beyond u is known.
    """

    n_compared: int = 0
    n_equal: int = 0
    _quotes: dict[str, deque[tuple[int, _Best]]] = field(default_factory=dict)
    _books: dict[str, deque[tuple[int, _Best]]] = field(default_factory=dict)
    _symbols: dict[str, str] = field(default_factory=dict)

    def note(self, payload: str | bytes) -> None:
        """One frame that holds a quote; anything else is passed over."""
        try:
            ticker = _WRAPPED.decode(payload).data
        except msgspec.MsgspecError:
            return
        symbol = self._symbols.get(ticker.s)
        if symbol is None:
            try:
                symbol = self._symbols[ticker.s] = parse_symbol(ticker.s)
            except InputError:
                return
        best = _Best(float(ticker.b), float(ticker.B), float(ticker.a), float(ticker.A))
        quotes = self._quotes.setdefault(symbol, deque(maxlen=QUOTES_KEPT))
        quotes.append((ticker.u, best))
        self._compare(symbol, ticker.u)

    def book(self, book: Book) -> None:
        """A book changed."""
        if book.symbol not in self._quotes or book.sequence is None or not book.bid_keys or not book.ask_keys:
            return
        best = _Best(book.bid_keys[-1], book.bid_sizes[-1], -book.ask_keys[-1], book.ask_sizes[-1])
        self._books.setdefault(book.symbol, deque(maxlen=QUOTES_KEPT)).append((book.sequence, best))
        self._compare(book.symbol, self._quotes[book.symbol][-1][0])

    def _compare(self, symbol: str, newest: int) -> None:
        books, quotes = self._books.get(symbol), self._quotes[symbol]
        while books and books[0][0] < newest:
            u, best = books.popleft()
            while len(quotes) > 1 and quotes[1][0] <= u:
                quotes.popleft()
            if quotes[0][0] <= u:
                self.n_compared += 1
                self.n_equal += quotes[0][1] == best


_WRAPPED = msgspec.json.Decoder(_Wrapped)


@dataclass
class ReplayAccount:
    """Counts of one replay; every number is of frames and books, not of time."""

    n_frames: int = 0
    n_unjoined: int = 0
    bytes_unread: int = 0
    """Bytes of our own files behind a broken block: what they hold was not replayed."""
    """Frames of connections whose begin the recording does not hold."""
    first_ns: int | None = None
    last_ns: int = 0
    directions: Counter[str] = field(default_factory=Counter)
    updates: Counter[str] = field(default_factory=Counter)
    """Updates per `venue symbol`."""
    faults: Counter[str] = field(default_factory=Counter)
    fault_texts: list[str] = field(default_factory=list)
    """The first ten faults."""
    n_checksums_right: int = 0
    n_crossed: int = 0
    n_events: Counter[str] = field(default_factory=Counter)
    """Opportunity events of the first scanner, by kind."""
    quotes: BestQuotes = field(default_factory=BestQuotes)
    _digest: Any = field(default_factory=hashlib.sha256)
    _tops: dict[str, bytes] = field(default_factory=dict)

    def frame(self, frame: Frame) -> None:
        """One frame passed."""
        self.n_frames += 1
        self.directions[frame.direction] += 1
        if self.first_ns is None:
            self.first_ns = frame.recv_ns
        self.last_ns = frame.recv_ns

    def is_quote(self, frame: Frame) -> bool:
        """Whether a received frame is a best quote, which is taken for comparison: sessions do not subscribe to them."""
        if frame.venue != "binance" or "@bookTicker" not in str(frame.payload[:60]):
            return False
        self.quotes.note(frame.payload)
        return True

    def book(self, book: Book, now_ns: int) -> None:
        """A book changed."""
        name = f"{book.venue} {book.symbol}"
        self.updates[name] += 1
        self.n_checksums_right += book.checksum_ok is True
        self.n_crossed += book.is_crossed
        if book.venue == "binance":
            self.quotes.book(book)
        self._hash(name, now_ns, top(book))

    def withdrawn(self, book: Book, now_ns: int) -> None:
        """A book may no longer be used."""
        self._hash(f"{book.venue} {book.symbol}", now_ns, b"")

    def fault(self, venue: str, fault: Fault) -> None:
        """A session broke off."""
        self.faults[fault.reason.value] += 1
        if len(self.fault_texts) < 10:
            self.fault_texts.append(f"{venue} {fault.symbol or ''} {fault.reason.value}: {fault.detail}"[:200])

    def event(self, scanner: int, event: OpportunityEvent) -> None:
        """Something became of an opportunity."""
        if scanner == 0:
            self.n_events[event.kind.value] += 1
        self._digest.update(f"{scanner} {event_text(event)}\n".encode())

    @property
    def digest(self) -> str:
        """Hexadecimal sha256 of everything so far."""
        return str(self._digest.hexdigest())

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        seconds = 0.0 if self.first_ns is None else (self.last_ns - self.first_ns) / 1e9
        compared, equal = self.quotes.n_compared, self.quotes.n_equal
        return {
            "frames": self.n_frames,
            "frames_by_direction": dict(sorted(self.directions.items())),
            "frames_unjoined": self.n_unjoined,
            "bytes_unread": self.bytes_unread,
            "seconds_recorded": round(seconds, 3),
            "books": len(self.updates),
            "book_updates": sum(self.updates.values()),
            "updates_by_book": dict(sorted(self.updates.items())),
            "sequence_gaps": self.faults[FaultReason.GAP.value],
            "checksums": {"right": self.n_checksums_right, "wrong": self.faults[FaultReason.CHECKSUM.value]},
            "best_quotes": {"compared": compared, "equal": equal} if compared else None,
            "crossed": self.n_crossed,
            "faults": dict(sorted(self.faults.items())),
            "first_faults": self.fault_texts,
            "opportunity_events": dict(sorted(self.n_events.items())),
            "digest": self.digest,
        }

    def _hash(self, name: str, now_ns: int, levels: bytes) -> None:
        if self._tops.get(name, b"") != levels:
            self._tops[name] = levels
            self._digest.update(f"{now_ns} {name} {len(levels)} ".encode() + levels)


def top(book: Book, depth: int = DEPTH) -> bytes:
    """The best levels of both sides, in bytes that are the same on every machine."""
    cut = -depth - 1
    bids, asks = book.bid_keys[:cut:-1], book.ask_keys[:cut:-1]
    values = (*bids, *book.bid_sizes[:cut:-1], *asks, *book.ask_sizes[:cut:-1])
    return pack(f"<2q{len(values)}d", len(bids), len(asks), *values)


def event_text(event: OpportunityEvent) -> str:
    """An event as one line; computed figures with nine digits, so that the last bit of a machine's arithmetic does not count."""
    one = event.opportunity
    figures = (
        one.buy_vwap, one.sell_vwap, one.gross_edge_pct, one.fees_pct, one.slippage_pct, one.withdraw_pct, one.net_edge_pct,
        one.expected_profit_usdt, one.available_qty, one.optimal_qty, one.optimal_profit_usdt, event.peak_edge_pct,
        *(value for point in one.edge_curve for value in point),
    )  # fmt: skip
    captures = " ".join(f"{c.delay_ms}:{_digits(c.net_edge_pct)}:{_digits(c.profit_usdt)}" for c in event.captures)
    names = f"{event.kind.value} {one.id} {one.type.value} {one.symbol} {one.buy_exchange} {one.sell_exchange} {one.sell_symbol}"
    times = f"{event.ts_ms} {event.opened_ms} {event.peak_ms} {one.ts_detected_ms}"
    return f"{names} {times} {' '.join(map(_digits, figures))} {','.join(one.risk_flags)} {event.reason} {captures}"


def _digits(value: float | None) -> str:
    return "-" if value is None else f"{value:.9g}"
