"""What the realtime process says right now: open opportunities, books, spreads and venues, from the bus.

What belongs here: reading, filtering and shaping bus state. What does not: history (`queries.opportunities`) and pushing
changes to clients (`fanout`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from altforecast.symbols import RESERVE_VENUES, VENUES
from altforecast_io.bus import BOOKS, OPPORTUNITIES, SPREADS, VENUE_STATES, Bus
from altforecast_serving.lineage import Answer, newest_known

NOT_FED = (
    "no realtime process feeds this API: start it with `altforecast up`, or set REDIS_URL here and there to the same Redis; "
    "what is live is not known"
)
SILENT = "no realtime process writes to the bus now: what is live is not known"
TOO_THIN_PCT = -100.0
"""Net edge of a size that the books do not hold."""
_RANK = {venue: rank for rank, venue in enumerate((*VENUES, *RESERVE_VENUES))}


@dataclass(frozen=True)
class OpportunityFilter:
    """Which opportunities: hashable. Bounds are inclusive; since and until bound the opening (live) or the close (closed)."""

    symbol: str | None = None
    venue: str | None = None
    type: str | None = None
    min_edge: float | None = None
    min_profit: float | None = None
    flags: tuple[str, ...] = ()
    """Only those with each of these risk flags."""
    without_flags: tuple[str, ...] = ()
    since: datetime | None = None
    until: datetime | None = None

    def allows(self, row: dict[str, Any]) -> bool:
        """Whether a live row passes."""
        flags = set(row["risk_flags"])
        opened = moment_of(row.get("opened_at"))
        return (
            (self.symbol is None or self.symbol in (row["symbol"], row.get("sell_symbol")))
            and (self.venue is None or self.venue in (row["buy_exchange"], row["sell_exchange"]))
            and (self.type is None or row["type"] == self.type)
            and (self.min_edge is None or row["net_edge_pct"] >= self.min_edge)
            and (self.min_profit is None or best_profit(row) >= self.min_profit)
            and flags.issuperset(self.flags)
            and flags.isdisjoint(self.without_flags)
            and (self.since is None or (opened is not None and opened >= self.since))
            and (self.until is None or (opened is not None and opened < self.until))
        )


async def is_silent(bus: Bus | None) -> list[str]:
    """Why nothing live can be told, as warnings; empty while a realtime process writes. Raises StorageError where Redis is down."""
    if bus is None:
        return [NOT_FED]
    return [] if await bus.is_fed() else [SILENT]


async def live_opportunities(bus: Bus | None, wanted: OpportunityFilter, now: datetime) -> tuple[list[dict[str, Any]], list[str]]:
    """Open opportunities, best net edge first, and warnings."""
    warnings = await is_silent(bus)
    if bus is None or warnings:
        # What an ended process left behind is not live.
        return [], warnings
    rows = [live_row(orjson.loads(text), now) for text in (await bus.state(OPPORTUNITIES)).values()]
    return sorted(filter(wanted.allows, rows), key=lambda r: (-r["net_edge_pct"], r["id"])), warnings


def live_row(row: dict[str, Any], now: datetime) -> dict[str, Any]:
    """A feed row as the API shows it: lists instead of texts, its state and age."""
    shown = shaped(row)
    if shown["net_edge_pct"] is None:
        shown["net_edge_pct"] = TOO_THIN_PCT
    opened = moment_of(shown.get("opened_at"))
    shown["status"] = "live"
    shown["lifetime_ms"] = None if opened is None else max(0, round((now - opened).total_seconds() * 1000))
    return shown


def shaped(row: dict[str, Any]) -> dict[str, Any]:
    """Texts that stand for lists become lists: risk flags and the edge-versus-size curve."""
    flags, curve = row.get("risk_flags"), row.get("edge_curve")
    return row | {
        "risk_flags": [f for f in flags.split(",") if f] if isinstance(flags, str) else list(flags or ()),
        "edge_curve": orjson.loads(curve or "[]") if isinstance(curve, str | None) else curve,
    }


def best_profit(row: dict[str, Any]) -> float:
    """Profit at the better of the fixed and the optimal size [USDT]; unknown counts as none."""
    return max(row.get("expected_profit_usdt") or 0.0, row.get("optimal_profit_usdt") or 0.0)


def moment_of(value: Any) -> datetime | None:
    """A time of a JSON row; None where it is not known."""
    if isinstance(value, datetime) or value is None:
        return value
    return datetime.fromisoformat(value)


def live_answer(rows: list[dict[str, Any]], warnings: list[str], limit: int) -> Answer:
    """The first `limit` live rows; says how many more there are."""
    more = [f"{len(rows) - limit} more are open: raise limit or filter"] if len(rows) > limit else []
    page = rows[:limit]
    return Answer(page, known_at=newest_known(moment_of(r.get("ts")) for r in page), warnings=warnings + more)


async def live_books(bus: Bus | None, symbols: frozenset[str], venues: frozenset[str], depth: int, now: datetime) -> Answer:
    """Books of these symbols and venues (all where empty), in order of symbol and venue, each side cut to `depth`."""
    warnings = await is_silent(bus)
    if bus is None or warnings:
        return Answer([], warnings=warnings)
    found = [
        _book(orjson.loads(text), depth, now)
        for key, text in (await bus.state(BOOKS)).items()
        if book_matches(key, symbols, venues)
    ]  # fmt: skip
    found.sort(key=lambda b: (b["symbol"], _RANK.get(b["exchange"], 99), b["exchange"]))
    return Answer(found, known_at=newest_known(moment_of(b["ts_ingest"]) for b in found), warnings=warnings)


def book_matches(key: str, symbols: frozenset[str], venues: frozenset[str]) -> bool:
    """Whether a book's key (`venue symbol`) is asked for; an empty set asks for all."""
    venue, _, symbol = key.partition(" ")
    return (not symbols or symbol in symbols) and (not venues or venue in venues)


def _book(book: dict[str, Any], depth: int, now: datetime) -> dict[str, Any]:
    ingest = moment_of(book.get("ts_ingest"))
    return book | {
        "bids": book["bids"][:depth], "asks": book["asks"][:depth],
        "age_ms": None if ingest is None else max(0, round((now - ingest).total_seconds() * 1000)),
    }  # fmt: skip


async def live_spreads(bus: Bus | None, symbol: str | None) -> Answer:
    """The newest coherent cut: symbols it holds, and of one symbol the edge of every ordered venue pair."""
    warnings = await is_silent(bus)
    text = (await bus.state(SPREADS)).get("cut") if bus is not None and not warnings else None
    if text is None:
        return Answer(None, warnings=warnings or ["no coherent cut yet: fewer than two live books of a symbol"])
    return _spreads(orjson.loads(text), symbol, warnings)


def _spreads(cut: dict[str, Any], symbol: str | None, warnings: list[str]) -> Answer:
    edges = cut.get("edges", [])
    symbols = sorted({e["symbol"] for e in edges})
    chosen = symbol if symbol is not None else _best_symbol(edges)
    of_symbol = [e for e in edges if e["symbol"] == chosen]
    venues = sorted({v for e in of_symbol for v in (e["buy_exchange"], e["sell_exchange"])}, key=lambda v: (_RANK.get(v, 99), v))
    data = {"ts": cut.get("ts"), "symbol": chosen, "symbols": symbols, "venues": venues, "edges": of_symbol}
    return Answer(data, known_at=moment_of(cut.get("ts")), warnings=warnings)


def _best_symbol(edges: Iterable[dict[str, Any]]) -> str | None:
    """The symbol with most pairs; of several the one with the best edge."""
    pairs: dict[str, tuple[int, float]] = {}
    for edge in edges:
        n, best = pairs.get(edge["symbol"], (0, float("-inf")))
        pairs[edge["symbol"]] = (n + 1, max(best, edge["net_edge_pct"] if edge["net_edge_pct"] is not None else best))
    return max(pairs, key=lambda s: pairs[s], default=None)


async def live_venues(bus: Bus | None) -> Answer:
    """Every venue that realtime knows, in our order of preference."""
    warnings = await is_silent(bus)
    if bus is None or warnings:
        return Answer([], warnings=warnings)
    rows = [orjson.loads(text) for text in (await bus.state(VENUE_STATES)).values()]
    if not rows and not warnings:
        warnings = ["no venue is configured: name some in BOOK_VENUES and restart realtime"]
    return Answer(sorted(rows, key=lambda v: (_RANK.get(v["venue"], 99), v["venue"])), warnings=warnings)
