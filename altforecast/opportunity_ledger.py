"""The ledger of opportunities: identity over time, what is told when, what became of the same trade later.

What belongs here: births, throttled changes, deaths, due captures. What does not: how edges are computed (`arbitrage`,
`triangles`), which books may be used (`scanner`), storage (`opportunity_history`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from heapq import heapify, heappop, heappush
from typing import NamedTuple

from altforecast.capture_chance import CaptureChance
from altforecast.opportunities import Capture, Opportunity, OpportunityEvent, OpportunityEventKind, OpportunityType, RiskFlag
from altforecast.params import ArbitrageParams

NS_PER_MS = 1_000_000
LOT = 16
"""Captures, and held-back changes, that one evaluation takes on [count]."""
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
        self._due: list[tuple[int, What, int, int, Life]] = []
        """Heap of captures: when, of what, after which delay [ms], number of the entry."""
        self._n_void = 0
        """Entries of `_due` whose life was given up."""
        self._throttled: dict[What, Life] = {}
        self._held: list[tuple[int, What, int, Life]] = []
        """Heap of what is held back: until when, what, number of the entry. Void where it was told or closed since."""
        self._update_ns = int(params.update_ms * NS_PER_MS)
        self._n = 0
        self._rest_ns = 0
        """What is left over of a full lot is looked at from this on."""
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
        if what not in self._throttled:
            self._throttled[what] = life
            self._n += 1
            heappush(self._held, (life.told_ns + self._update_ns, what, self._n, life))
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
            life.waits += 1
            self._n += 1
            heappush(self._due, (now_ns + delay * NS_PER_MS, what, delay, self._n, life))
        return _event(OpportunityEventKind.OPENED, life, now_ns)

    def _is_to_be_told(self, life: Life, now_ns: int) -> bool:
        if now_ns - life.told_ns >= self._update_ns:
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
        """Changes that were held back and may be told now; at most LOT at once, the rest a millisecond later."""
        ready: list[Life] = []
        while (top := self._first_held()) is not None and top[0] <= now_ns:
            if len(ready) == LOT:
                self._rest_ns = now_ns + NS_PER_MS
                break
            heappop(self._held)
            ready.append(top[3])
            del self._throttled[top[1]]
        return [self._tell(life, now_ns) for life in sorted(ready, key=lambda one: one.what)]

    def _first_held(self) -> tuple[int, What, int, Life] | None:
        """What may be told first; entries that are void are dropped on the way."""
        while self._held:
            until, what, _, life = self._held[0]
            if self._throttled.get(what) is life and life.told_ns + self._update_ns == until:
                return self._held[0]
            heappop(self._held)
        return None

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
        self._held.clear()
        self._ended.clear()
        self._n_void = 0
        return events

    def _give_up(self, life: Life) -> None:
        del self._ended[life]
        self.n_given_up += 1
        self._n_void += life.waits
        life.waits = 0
        if 2 * self._n_void > len(self._due):
            self._due = [entry for entry in self._due if entry[4].waits]
            self._n_void = 0
            heapify(self._due)

    def _first_due(self) -> int | None:
        """When the first capture is due; those that were given up are dropped on the way."""
        while self._due and not self._due[0][4].waits:
            heappop(self._due)
            self._n_void -= 1
        return self._due[0][0] if self._due else None

    @property
    def waits(self) -> bool:
        """Whether anything is to be told or valued later."""
        return bool(self._due or self._throttled)

    def next_due_ns(self) -> int | None:
        """When the next capture or held-back change is due; None while nothing is."""
        held, due = self._first_held(), self._first_due()
        times = [t for t in (held[0] if held is not None else None, due) if t is not None]
        return max(min(times), self._rest_ns) if times else None

    def due(self, now_ns: int) -> Iterator[tuple[Life, int]]:
        """Captures that are due: what, and after which delay [ms]; each must be answered by `capture`.

        At most LOT at once, the rest a millisecond later: many that opened together must not hold up books.
        """
        n = 0
        while (first := self._first_due()) is not None and first <= now_ns:
            if n == LOT:
                self._rest_ns = now_ns + NS_PER_MS
                return
            n += 1
            _, _, delay, _, life = heappop(self._due)
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
    figures = life.figures
    # by position: both tuples follow the order of the fields
    return Opportunity(
        life.id, *life.what, *figures[:-1], life.curve, figures.risk_flags, life.seen_ns // NS_PER_MS, life.chance
    )  # fmt: skip


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
