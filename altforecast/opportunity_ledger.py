"""The ledger of opportunities: identity over time, what is told when, what became of the same trade later.

What belongs here: births, throttled changes, deaths, due captures. What does not: how edges are computed (`arbitrage`,
`triangles`), which books may be used (`scanner`), storage (`opportunity_history`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from heapq import heappop, heappush
from typing import NamedTuple

from altforecast.capture_chance import CaptureChance
from altforecast.opportunities import Capture, Opportunity, OpportunityEvent, OpportunityEventKind, OpportunityType, RiskFlag
from altforecast.params import ArbitrageParams

NS_PER_MS = 1_000_000
Curve = tuple[tuple[float, float], ...]


class What(NamedTuple):
    """What an opportunity is, whenever it is: at most one of them is open at a time."""

    type: OpportunityType
    symbol: str
    buy_exchange: str
    sell_exchange: str
    sell_symbol: str

    @property
    def pair(self) -> str:
        """Name under which capture chances are learned."""
        return f"{self.symbol} {self.buy_exchange}>{self.sell_exchange} {self.sell_symbol}"


class Figures(NamedTuple):
    """Everything of an `Opportunity` that moves with the books."""

    buy_vwap: float
    sell_vwap: float
    gross_edge_pct: float
    fees_pct: float
    slippage_pct: float
    withdraw_pct: float
    net_edge_pct: float
    expected_profit_usdt: float
    available_qty: float
    optimal_qty: float
    optimal_profit_usdt: float
    risk_flags: tuple[RiskFlag, ...]


@dataclass(slots=True, eq=False)
class Life:
    """One opportunity from birth to death."""

    what: What
    id: str
    opened_ns: int
    quantity: float
    """Size whose later worth is captured: the fixed one, or the best where books were too thin for it."""
    figures: Figures
    edge_pct: float
    """Net edge at the fixed size, or at the best where books are too thin for the fixed one [percent]."""
    curve: Curve
    chance: float | None
    seen_ns: int
    """When the figures last changed."""
    told: tuple[float, float]
    told_ns: int
    peak_pct: float
    peak_ns: int
    birth_pct: float
    is_told: bool = True
    reason: str = ""
    waits: int = 0
    """Captures that are still due."""
    captures: list[Capture] = field(default_factory=list)
    make_curve: Callable[[], Curve] | None = None


def opportunity_id(what: What, opened_ms: int) -> str:
    """16 hex digits: hash of type, symbol, venues, sell symbol and opening time; the same on every machine."""
    text = "|".join(("opportunity", *what, str(opened_ms)))
    return blake2b(text.encode(), digest_size=8).hexdigest()


class Ledger:
    """Open opportunities and those whose captures are due; every event comes back from the call that made it.

    Bounds: `max_open` open ones (more are refused and counted in `n_refused`), `max_ended` ended ones that wait for
    captures (beyond, the oldest is given up and counted in `n_given_up`).
    """

    def __init__(self, params: ArbitrageParams, chance: CaptureChance) -> None:
        self._params, self._chance = params, chance
        self._lives: dict[What, Life] = {}
        self._ended: dict[Life, None] = {}
        self._due: list[tuple[int, int, int, Life]] = []
        self._throttled: dict[What, Life] = {}
        self._held_ns = 0
        """Nothing that is held back may be told before this."""
        self._n = 0
        self.n_refused = 0
        self.n_given_up = 0

    def __len__(self) -> int:
        return len(self._lives)

    def is_open(self, what: What) -> bool:
        """Whether it lives."""
        return what in self._lives

    def open_opportunities(self) -> list[Opportunity]:
        """All that live, in order of birth, with their newest figures."""
        return [_opportunity(life) for life in self._lives.values()]

    def offer(
        self, what: What, figures: Figures, edge_pct: float, quantity: float, make_curve: Callable[[], Curve], now_ns: int
    ) -> OpportunityEvent | None:
        """What is there now: opens, or updates what is open. None where nothing is to be told (yet)."""
        life = self._lives.get(what)
        if life is None:
            return self._open(what, figures, edge_pct, quantity, make_curve, now_ns)
        if figures == life.figures:
            return None
        life.figures, life.edge_pct, life.seen_ns, life.make_curve = figures, edge_pct, now_ns, make_curve
        if edge_pct > life.peak_pct:
            life.peak_pct, life.peak_ns = edge_pct, now_ns
        if self._is_to_be_told(life, now_ns):
            return self._tell(life, now_ns)
        self._throttled[what] = life
        self._held_ns = min(self._held_ns, life.told_ns + int(self._params.update_ms * NS_PER_MS))
        return None

    def _open(
        self, what: What, figures: Figures, edge_pct: float, quantity: float, make_curve: Callable[[], Curve], now_ns: int
    ) -> OpportunityEvent | None:
        if len(self._lives) >= self._params.max_open:
            self.n_refused += 1
            return None
        name = opportunity_id(what, now_ns // NS_PER_MS)
        chance = self._chance.chance(what.pair, edge_pct)
        told = (edge_pct, figures.optimal_profit_usdt)
        life = Life(what, name, now_ns, quantity, figures, edge_pct, make_curve(), chance, now_ns, told, now_ns, edge_pct, now_ns, edge_pct)
        self._lives[what] = life
        for delay in self._params.capture_ms:
            self._n += 1
            life.waits += 1
            heappush(self._due, (now_ns + delay * NS_PER_MS, self._n, delay, life))
        return _event(OpportunityEventKind.OPENED, life, now_ns)

    def _is_to_be_told(self, life: Life, now_ns: int) -> bool:
        if now_ns - life.told_ns >= self._params.update_ms * NS_PER_MS:
            return True
        edge, profit = life.told
        limit = self._params.update_change_frac
        return abs(life.edge_pct - edge) > limit * abs(edge) or abs(life.figures.optimal_profit_usdt - profit) > limit * abs(profit)

    def _tell(self, life: Life, now_ns: int) -> OpportunityEvent:
        self._throttled.pop(life.what, None)
        if life.make_curve is not None:
            life.curve, life.make_curve = life.make_curve(), None
        life.told, life.told_ns = (life.edge_pct, life.figures.optimal_profit_usdt), now_ns
        return _event(OpportunityEventKind.UPDATED, life, now_ns)

    def tell_throttled(self, now_ns: int) -> list[OpportunityEvent]:
        """Changes that were held back and may be told now."""
        if now_ns < self._held_ns:
            return []
        ready = [life for life in self._throttled.values() if self._is_to_be_told(life, now_ns)]
        events = [self._tell(life, now_ns) for life in sorted(ready, key=lambda one: one.what)]
        oldest = min((life.told_ns for life in self._throttled.values()), default=now_ns)
        self._held_ns = oldest + int(self._params.update_ms * NS_PER_MS)
        return events

    def close(self, what: What, reason: str, now_ns: int) -> OpportunityEvent | None:
        """The end of what is open, with its last figures; None where it is not open."""
        life = self._lives.pop(what, None)
        if life is None:
            return None
        self._throttled.pop(what, None)
        life.reason, life.make_curve = reason, None
        if life.waits:
            self._ended[life] = None
            if len(self._ended) > self._params.max_ended:
                self._give_up(next(iter(self._ended)))
        return _event(OpportunityEventKind.CLOSED, life, now_ns)

    def close_all(self, reason: str, now_ns: int) -> list[OpportunityEvent]:
        """The end of everything; captures that are still due are given up."""
        events = [event for what in list(self._lives) if (event := self.close(what, reason, now_ns))]
        self._due.clear()
        self._ended.clear()
        return events

    def _give_up(self, life: Life) -> None:
        del self._ended[life]
        self._due = [entry for entry in self._due if entry[3] is not life]
        self._due.sort()
        self.n_given_up += 1

    @property
    def waits(self) -> bool:
        """Whether anything is to be told or valued later."""
        return bool(self._due or self._throttled)

    def next_due_ns(self) -> int | None:
        """When the next capture or held-back change is due; None while nothing is."""
        held = min((life.told_ns for life in self._throttled.values()), default=None)
        times = [] if held is None else [held + int(self._params.update_ms * NS_PER_MS)]
        if self._due:
            times.append(self._due[0][0])
        return min(times, default=None)

    def due(self, now_ns: int) -> Iterator[tuple[Life, int]]:
        """Captures that are due: what, and after which delay [ms]; each must be answered by `capture`."""
        while self._due and self._due[0][0] <= now_ns:
            _, _, delay, life = heappop(self._due)
            yield life, delay

    def capture(self, life: Life, delay_ms: int, worth: tuple[float, float] | None, now_ns: int) -> OpportunityEvent | None:
        """(net edge in percent, profit in USDT) of the trade now; the last one of an ended opportunity is told at once."""
        life.waits -= 1
        edge, profit = worth if worth is not None else (None, None)
        life.captures.append(Capture(delay_ms, edge, profit))
        if delay_ms == self._params.usual_delay_ms and profit is not None:
            self._chance.learn(life.what.pair, life.birth_pct, profit > 0.0, life.chance)
        if life.reason and not life.waits:
            self._ended.pop(life, None)
            return _event(OpportunityEventKind.UPDATED, life, now_ns)
        return None


def _opportunity(life: Life) -> Opportunity:
    return Opportunity(
        id=life.id,
        **life.what._asdict(),
        **life.figures._asdict(),
        edge_curve=life.curve,
        ts_detected_ms=life.seen_ns // NS_PER_MS,
        capture_chance=life.chance,
    )


def _event(kind: OpportunityEventKind, life: Life, now_ns: int) -> OpportunityEvent:
    return OpportunityEvent(
        kind=kind,
        opportunity=_opportunity(life),
        ts_ms=now_ns // NS_PER_MS,
        opened_ms=life.opened_ns // NS_PER_MS,
        peak_edge_pct=life.peak_pct,
        peak_ms=life.peak_ns // NS_PER_MS,
        reason=life.reason,
        captures=tuple(life.captures),
    )
