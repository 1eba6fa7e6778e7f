"""Publishing planted opportunities, and the log of what was really published.

What belongs here: when plants begin and end, and the truth about them. What does not: plans (`plants`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from altforecast.errors import InputError
from altforecast_sandbox.plants import Plant, pins_of, plants_of_hour, truth
from altforecast_sandbox.streams.venue_books import VenueBooks

_HOUR_MS = 3_600_000
MOST_LOGGED = 10_000
"""Rows of the truth; the oldest are dropped."""
MOST_PLANNED = 10_000
Publish = Callable[[str, str, int], int]
"""Change a book of a venue now and send it; the change's event time [ms] comes back."""


class Planter:
    """Plans that begin and end as time goes by, and the truth about them."""

    def __init__(
        self, seed: int, per_hour: float, books: Mapping[str, VenueBooks], usdt_price: Callable[[str], float], publish: Publish
    ) -> None:
        self.log: deque[dict[str, Any]] = deque(maxlen=MOST_LOGGED)
        self.n_unseen = 0
        """Plants left out because nobody followed one of their books, or a book was planted already."""
        self._seed, self._per_hour = seed, per_hour
        self._books, self._usdt_price, self._publish = books, usdt_price, publish
        self._planned: list[Plant] = []
        self._open: list[tuple[Plant, dict[str, Any]]] = []
        self._hour: int | None = None

    def add(self, plant: Plant) -> None:
        """Plan one more; raises InputError for a book that does not exist or when there are 10,000."""
        for leg in plant.legs:
            if leg.venue not in self._books or leg.symbol not in self._books[leg.venue]:
                raise InputError("symbol", leg.symbol, f"{leg.venue} has no such book")
        if len(self._planned) >= MOST_PLANNED:
            raise InputError("plants", len(self._planned), "too many planned already")
        self._planned.append(plant)
        self._planned.sort(key=lambda p: p.start_ms)

    def tick(self, now_ms: int) -> None:
        """End what is over and begin what is due."""
        self._plan(now_ms)
        for plant, row in [entry for entry in self._open if entry[0].end_ms <= now_ms]:
            self._end(plant, row, now_ms)
        while self._planned and self._planned[0].start_ms <= now_ms:
            self._begin(self._planned.pop(0), now_ms)

    def rows(self) -> list[dict[str, Any]]:
        """The truth so far, by start; `end_ms` is null while it lasts."""
        return list(self.log)

    def _plan(self, now_ms: int) -> None:
        hour = now_ms // _HOUR_MS
        if self._per_hour > 0 and hour != self._hour:
            for plant in plants_of_hour(self._seed, hour, self._per_hour):
                if plant.start_ms >= now_ms and all(leg.venue in self._books for leg in plant.legs):
                    self.add(plant)
        self._hour = hour

    def _begin(self, plant: Plant, now_ms: int) -> None:
        flows = [self._books[leg.venue].flow(leg.symbol) for leg in plant.legs]
        is_seen = all(leg.symbol in self._books[leg.venue].followed for leg in plant.legs)
        if not is_seen or plant.end_ms <= now_ms or any(flow.pins for flow in flows):
            self.n_unseen += 1
            return
        for leg, flow, pin in zip(plant.legs, flows, pins_of(plant, flows, now_ms, self._usdt_price), strict=True):
            flow.pins[leg.side] = pin
        times = [self._publish(leg.venue, leg.symbol, now_ms) for leg in plant.legs]
        row = {
            "kind": plant.kind,
            "legs": [{"venue": leg.venue, "symbol": leg.symbol, "side": leg.side} for leg in plant.legs],
            "planned_start_ms": plant.start_ms,
            "planned_end_ms": plant.end_ms,
            "planned_edge_bps": plant.edge_bps,
            "money_usdt": plant.money_usdt,
            "fees_bps": plant.fees_bps,
            "start_ms": max(times),
            "end_ms": None,
        } | truth(plant, [flow.book for flow in flows])
        self.log.append(row)
        self._open.append((plant, row))

    def _end(self, plant: Plant, row: dict[str, Any], now_ms: int) -> None:
        for leg in plant.legs:
            self._books[leg.venue].flow(leg.symbol).pins.clear()
        row["end_ms"] = min(self._publish(leg.venue, leg.symbol, now_ms) for leg in plant.legs)
        self._open = [entry for entry in self._open if entry[0] is not plant]
