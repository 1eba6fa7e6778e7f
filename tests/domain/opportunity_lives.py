"""Seeded opportunity events for tests of the ledger's tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from altforecast.opportunities import Capture, Opportunity, OpportunityEvent, OpportunityEventKind, OpportunityType, RiskFlag

DELAYS = (100, 500, 1000, 5000)


def opportunity(
    name: str, edge: float, at_ms: int, *, venues: tuple[str, str] = ("okx", "kraken"), flags: tuple[RiskFlag, ...] = ()
) -> Opportunity:
    """An opportunity with an edge [%]; its profit is ten times that [USDT]."""
    return Opportunity(
        name, OpportunityType.SPATIAL, "BTC-USDT", *venues, "BTC-USDT", 100.0, 101.0, edge + 0.4, 0.2, 0.02, 0.18, edge, edge * 10,
        3.0, 2.0, edge * 20, ((1000.0, edge), (3000.0, edge / 2)), flags, at_ms,
    )  # fmt: skip


def event(
    kind: str,
    name: str,
    at_ms: int,
    opened_ms: int,
    edge: float,
    *,
    peak: tuple[float, int] | None = None,
    captures: tuple[Capture, ...] = (),
    venues: tuple[str, str] = ("okx", "kraken"),
    flags: tuple[RiskFlag, ...] = (),
) -> OpportunityEvent:
    """One event."""
    top, top_ms = peak or (edge, at_ms)
    one = opportunity(name, edge, at_ms, venues=venues, flags=flags)
    reason = "edge_gone" if kind == "closed" else ""
    return OpportunityEvent(OpportunityEventKind(kind), one, at_ms, opened_ms, top, top_ms, reason, captures)


def life(name: str, opened_ms: int, lifetime_ms: int, venues: tuple[str, str] = ("okx", "kraken")) -> Iterator[OpportunityEvent]:
    """A whole life: the edge rises from 0.2 to 0.6 half-way and ends at -0.1; captured for as long as it lives."""
    middle, closed = opened_ms + lifetime_ms // 2, opened_ms + lifetime_ms
    yield event("opened", name, opened_ms, opened_ms, 0.2, venues=venues)
    yield event("updated", name, middle, opened_ms, 0.6, venues=venues, flags=(RiskFlag.THIN,))
    done = tuple(Capture(d, 0.3, 3.0) for d in DELAYS if d <= lifetime_ms)
    yield event("closed", name, closed, opened_ms, -0.1, peak=(0.6, middle), captures=done, venues=venues)
    late = tuple(Capture(d, None, None) if d == 5000 else Capture(d, -0.1, -1.0) for d in DELAYS if d > lifetime_ms)
    if late:
        yield event("updated", name, max(closed, opened_ms + 5000), opened_ms, -0.1, peak=(0.6, middle), captures=late, venues=venues)


def lives(start_ms: int, end_ms: int, n: int, seed: int = 5) -> list[OpportunityEvent]:
    """Lives that open at seeded times; some outlast `end_ms`, and their later events are there too."""
    rng = np.random.default_rng(seed)
    pairs = [("okx", "kraken"), ("binance", "okx"), ("gate", "binance")]
    found: list[OpportunityEvent] = []
    for i, opened in enumerate(sorted(rng.integers(start_ms, end_ms, n).tolist())):
        found += life(f"op-{i:05d}", opened, int(rng.integers(50, 9000)), pairs[int(rng.integers(3))])
    return in_time(found)


def in_time(events: Iterable[OpportunityEvent]) -> list[OpportunityEvent]:
    """Events in order of their time."""
    return sorted(events, key=lambda e: (e.ts_ms, e.opportunity.id))
