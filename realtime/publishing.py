"""What the bus is told of books and venues: the newest state of what changed, a few times a second.

What belongs here: outside forms of books and venues, and their cadence. What does not: opportunities (`arbitrage`), the
bus itself (`altforecast_io.bus`), keeping books (`board`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

from altforecast.book_health import NS_PER_MS
from altforecast.books import Book, BookState
from altforecast_io.bus import BOOKS, VENUE_STATES, Bus
from realtime.board import Board, PastFault, VenueRecord

TOP = 20
"""Levels per side that are published."""
VENUES_EVERY_S = 1.0


def iso_ms(ms: float) -> str:
    """ISO 8601 with Z and milliseconds of a time [ms since 1970]."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def book_json(book: Book, lag_ms: float | None, levels: int = TOP) -> dict[str, Any]:
    """A book as an OrderBookSnapshot; a withdrawn one has no levels and is not healthy."""
    return {
        "exchange": book.venue,
        "symbol": book.symbol,
        "bids": book.bids(levels),
        "asks": book.asks(levels),
        "ts_event": None if book.ts_event_ms is None else iso_ms(book.ts_event_ms),
        "ts_ingest": iso_ms(book.ts_ingest_ns / NS_PER_MS) if book.ts_ingest_ns else None,
        "is_healthy": book.state is BookState.LIVE and not book.is_crossed,
        "meta": {
            "seq_id": book.sequence,
            "checksum_ok": book.checksum_ok,
            "lag_ms": _rounded(lag_ms),
            "state": book.state.value,
            "n_updates": book.n_updates,
        },
    }


def venue_json(board: Board, record: VenueRecord, taker_fee_bps: float | None) -> dict[str, Any]:
    """A venue for people: state, rates, delays, what went wrong last."""
    live = [link for link in record.links.values() if link.state in (BookState.LIVE, BookState.SYNCING)]
    state = record.state
    return {
        "venue": record.venue,
        "feed": record.feed,
        "state": "off" if record.feed == "off" or state is None else state.value,
        "n_symbols": len(record.symbols),
        "n_live": board.count_live(record.venue),
        "n_connections": len(live),
        "messages_per_s": round(record.messages_per_s, 1),
        "lag_ms": _rounded(record.clock.lag_ms),
        "age_ms": _rounded(board.age_ms(record.venue, board.clock_ns())),
        "reconnects": dict(record.reconnects),
        "gaps": record.gaps,
        "last_fault": _fault_json(record.last_fault),
        "taker_fee_bps": taker_fee_bps,
        "symbols": {symbol: _symbol_state(board, record, symbol) for symbol in record.symbols},
        "note": _note(record),
    }


def _symbol_state(board: Board, record: VenueRecord, symbol: str) -> str:
    if symbol in record.refused:
        return "refused"
    book = board.books.get((record.venue, symbol))
    return (book.state if book else BookState.CONNECTING).value


def _note(record: VenueRecord) -> str:
    refused = "; ".join(f"{symbol} refused: {why}" for symbol, why in sorted(record.refused.items()))
    return "; ".join(part for part in (record.note, refused) if part)


def _fault_json(past: PastFault | None) -> dict[str, Any] | None:
    if past is None:
        return None
    return {
        "reason": past.fault.reason.value,
        "symbol": past.fault.symbol,
        "detail": past.fault.detail,
        "at": iso_ms(past.at_ns / NS_PER_MS),
    }


def _rounded(ms: float | None) -> float | None:
    return None if ms is None else round(ms, 1)


class Publisher:
    """Writes books and venues to the bus: only what changed, never more often than asked."""

    def __init__(
        self,
        board: Board,
        bus: Bus,
        *,
        hz: float,
        fees_bps: Mapping[str, float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._board, self._bus, self._period_s, self._fees, self._sleep = board, bus, 1.0 / hz, fees_bps, sleep
        self._venues: dict[str, bytes] = {}

    async def run(self) -> None:
        """Publish for ever. Raises StorageError where the bus does."""
        since_venues = VENUES_EVERY_S
        while True:
            await self.publish_books()
            if since_venues >= VENUES_EVERY_S:
                await self.publish_venues()
                since_venues = 0.0
            await self._sleep(self._period_s)
            since_venues += self._period_s

    async def publish_books(self) -> int:
        """Write the books that changed since the last call; their number."""
        changed = self._board.take_dirty()
        if changed:
            venues = self._board.venues
            values = {f"{b.venue} {b.symbol}": orjson.dumps(book_json(b, venues[b.venue].clock.lag_ms)) for b in changed}
            await self._bus.put_many(BOOKS, values)
        return len(changed)

    async def publish_venues(self) -> None:
        """Write the venues that look different from the last call."""
        fresh = {v: orjson.dumps(venue_json(self._board, record, self._fees.get(v))) for v, record in self._board.venues.items()}
        changed = {v: text for v, text in fresh.items() if self._venues.get(v) != text}
        self._venues = fresh
        if changed:
            await self._bus.put_many(VENUE_STATES, changed)

    async def clear(self) -> None:
        """Take everything off the bus: after a stop nobody may take old books for living ones."""
        await self._bus.put_many(BOOKS, {f"{venue} {symbol}": b"" for venue, symbol in self._board.books})
        await self._bus.put_many(VENUE_STATES, dict.fromkeys(self._board.venues, b""))
