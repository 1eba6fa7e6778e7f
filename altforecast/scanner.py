"""Finds opportunities as books change: only what a change can matter to is looked at, and the only clock is `now_ns`.

What belongs here: which pairs and triangles are looked at when. What does not: what they are worth (`spatial`, `cycles`),
the lives of opportunities (`opportunity_ledger`), the coherent cut (`arbitrage_cut`).
"""

from __future__ import annotations

from collections.abc import Iterable

from altforecast.arbitrage_cut import CutEdge, coherent_cut
from altforecast.book_slots import Group, Slot, Target, least_ratio
from altforecast.books import Book, BookState
from altforecast.capture_chance import CaptureChance
from altforecast.conversions import Conversions
from altforecast.cycles import Cycle, Cyclic, VenueCycles
from altforecast.opportunities import Opportunity, OpportunityEvent
from altforecast.opportunity_ledger import Ledger, What
from altforecast.params import ARBITRAGE, ArbitrageParams
from altforecast.spatial import Pair, Spatial
from altforecast.trading_terms import TradingTerms

NS_PER_MS = 1_000_000


class Scanner:
    """Keeps books by venue and symbol, and the ledger of what they offer.

    Two scanners that are told the same at the same `now_ns` return the same events. Memory is bounded by the number of books
    (pairs, triangles) and by the ledger's bounds. Not thread-safe. Fees are read when a venue's book is first set.
    """

    def __init__(self, terms: TradingTerms, params: ArbitrageParams = ARBITRAGE, chance: CaptureChance | None = None) -> None:
        self._terms, self._params, self._revision = terms, params, terms.revision
        self._stale_ns = int(params.stale_after_ms * NS_PER_MS)
        self._floor_pct = params.slippage_bps / 100.0 + params.min_net_edge_pct - params.close_margin_pct
        self._cycle_least, self._ratio, self._most_fee = (1.0 + self._floor_pct / 100.0) * (1.0 - 1e-12), 1.0, -1.0
        self._slots: dict[Book, Slot] = {}
        self._places: dict[tuple[str, str], Slot] = {}
        self._groups: dict[str, Group] = {}
        self._seats: dict[str, list[Slot]] = {}
        self._venues: dict[str, VenueCycles] = {}
        """Triangles by venue; a venue that is missing here has new books."""
        self._pairs: dict[tuple[Slot, Slot], Pair] = {}
        self._cycles: dict[tuple[str, str], Cycle] = {}
        self._open: dict[What, Target] = {}
        self._born: dict[What, Target] = {}
        """Everything that ever opened: what captures are valued by."""
        self._dirty: dict[Slot, None] = {}
        self._expiry_ns: int | None = None
        """No book of an open opportunity gets too old before this."""
        self.chance = chance or CaptureChance(params)
        self.ledger = Ledger(params, self.chance)
        self._conversions = Conversions(params)
        self._spatial, self._cyclic = Spatial(params, terms, self._conversions), Cyclic(params, self._conversions)

    # ---- books

    def set_book(self, book: Book) -> None:
        """A book exists, or takes the place of the one with the same venue and symbol."""
        slot = self._places.get((book.venue, book.symbol))
        if slot is None:
            slot = self._place(book)
        self._slots.pop(slot.book, None)
        slot.book = book
        self._slots[book] = slot
        self._dirty[slot] = None

    def _place(self, book: Book) -> Slot:
        group = self._groups.get(book.symbol)
        if group is None:
            group = self._groups[book.symbol] = Group(book.symbol)
            self._relate(group)
        slot = self._places[book.venue, book.symbol] = group.add(book, self._terms.taker_fee(book.venue))
        if slot.fee > self._most_fee:
            self._most_fee = slot.fee
            self._ratio = least_ratio(self._floor_pct, slot.fee)
        self._seats.setdefault(book.venue, []).append(slot)
        self._venues.pop(book.venue, None)
        self._conversions.add(book.symbol, slot)
        return slot

    def _relate(self, group: Group) -> None:
        convertible = self._params.convertible
        for other in self._groups.values():
            if other is not group and other.base == group.base and group.quote in convertible and other.quote in convertible:
                group.others.append(other)
                other.others.append(group)

    def drop(self, venue: str, symbol: str | None = None) -> None:
        """A book, or all of a venue, is withdrawn: not used from now on until it is marked or set again."""
        for slot in self._seats.get(venue, ()):
            if symbol in (None, slot.group.symbol):
                self._slots.pop(slot.book, None)
                slot.book = Book(venue, slot.group.symbol)
                slot.book.state = BookState.SUSPECT
                self._dirty[slot] = None

    def mark(self, book: Book) -> None:
        """A book changed."""
        slot = self._slots.get(book)
        if slot is None:
            self.set_book(book)
        else:
            self._dirty[slot] = None

    # ---- evaluation

    def evaluate(self, now_ns: int) -> list[OpportunityEvent]:
        """What the changes since the last call mean: opened, updated and closed opportunities, and captures that are due."""
        oldest_ns = now_ns - self._stale_ns
        events: list[OpportunityEvent] = []
        is_swept = self._spread(now_ns, oldest_ns)
        if self._dirty:
            dirty, self._dirty = self._dirty, {}
            self._look_at(dirty, is_swept, events, now_ns, oldest_ns)
        elif is_swept:
            self._look_at({}, True, events, now_ns, oldest_ns)
        if self._expiry_ns is not None and oldest_ns > self._expiry_ns:
            self._judge_all(list(self._open.values()), set(), events, now_ns, oldest_ns)
            self._expiry_ns = min((s.book.ts_ingest_ns for t in self._open.values() for s in t.slots), default=None)
        if self.ledger.waits:
            self._settle(events, now_ns, oldest_ns)
        return events

    def _spread(self, now_ns: int, oldest_ns: int) -> bool:
        """Mark what changed by other things than its own book; whether conversions changed."""
        if self._terms.revision != self._revision:
            self._revision = self._terms.revision
            self._dirty.update(dict.fromkeys(self._places.values()))
        if self._conversions.is_value_due(now_ns):
            names = {g.quote for g in self._groups.values()} | set(self._params.convertible)
            if changed := self._conversions.revalue(names, now_ns, oldest_ns):
                for slot in self._places.values():
                    if slot.group.quote in changed or slot.group.base in changed:
                        slot.hot = True
                        self._dirty[slot] = None
        return self._conversions.is_ageing(oldest_ns)

    def _look_at(self, dirty: dict[Slot, None], is_swept: bool, events: list[OpportunityEvent], now_ns: int, oldest_ns: int) -> None:
        for slot in dirty:
            if slot.venue not in self._venues:
                self._venues[slot.venue] = VenueCycles(self._seats[slot.venue], self._cycles)
            if slot.refresh():
                slot.hot = True
                self._venues[slot.venue].refresh(slot)
            if slot.is_conversion:
                is_swept = True
        found: list[Target] = []
        if is_swept:
            self._conversions.forget_ceilings()
            self._find_converted(found)
        for slot in dirty:
            self._find_pairs(slot, found)
            if slot.hot and slot.triangles:
                found += self._venues[slot.venue].candidates(slot, self._cycle_least)
            if slot.opens:
                found += slot.opens
        if found:
            self._judge_all(found, set(), events, now_ns, oldest_ns)

    def _find_pairs(self, slot: Slot, found: list[Target]) -> None:
        """Pairs of a book whose best prices could do, by one comparison with the best of all others."""
        group, ratio = slot.group, self._ratio
        sell, buy = group.sells[slot.place], group.buys[slot.place]
        if sell >= ratio * min(group.buys):
            found += [self._pair(o, slot) for o in group.slots if o.venue != slot.venue and sell >= ratio * group.buys[o.place]]
        if max(group.sells) >= ratio * buy:
            found += [self._pair(slot, o) for o in group.slots if o.venue != slot.venue and group.sells[o.place] >= ratio * buy]
        for other in group.others:
            sold = sell * self._conversions.ceiling(group.quote, other.quote)
            if sold >= ratio * min(other.buys):
                found += [self._pair(o, slot) for o in other.slots if o.venue != slot.venue and sold >= ratio * other.buys[o.place]]
            rate = self._conversions.ceiling(other.quote, group.quote)
            if rate * max(other.sells) >= ratio * buy:
                found += [self._pair(slot, o) for o in other.slots if o.venue != slot.venue and rate * other.sells[o.place] >= ratio * buy]

    def _find_converted(self, found: list[Target]) -> None:
        """Pairs over two quotes whose best prices could do, and those that are open: a conversion changed."""
        found += [t for t in self._open.values() if isinstance(t, Pair) and t.buy.group is not t.sell.group]
        for group in self._groups.values():
            for other in group.others:
                rate = self._conversions.ceiling(other.quote, group.quote)
                if rate * max(other.sells) >= self._ratio * min(group.buys):
                    for slot in group.slots:
                        least = self._ratio * group.buys[slot.place]
                        found += [
                            self._pair(slot, o) for o in other.slots if o.venue != slot.venue and rate * other.sells[o.place] >= least
                        ]

    def _pair(self, buy: Slot, sell: Slot) -> Pair:
        pair = self._pairs.get((buy, sell))
        if pair is None:
            pair = self._pairs[buy, sell] = Pair(buy, sell)
        return pair

    # ---- judging

    def _judge_all(self, targets: Iterable[Target], seen: set[Target], events: list[OpportunityEvent], now_ns: int, oldest_ns: int) -> None:
        for target in targets:
            if target in seen:
                continue
            seen.add(target)
            if isinstance(target, Pair):
                event = self._judge_pair(target, now_ns, oldest_ns)
            else:
                assert isinstance(target, Cycle)
                event = self._judge_cycle(target, now_ns, oldest_ns)
            if event is not None:
                events.append(event)

    def _judge_pair(self, pair: Pair, now_ns: int, oldest_ns: int) -> OpportunityEvent | None:
        result = None if self._spatial.trouble(pair, oldest_ns) else self._spatial.find(pair, pair.is_open, now_ns, oldest_ns)
        if result is None:
            return self._close(pair, self._spatial.why_gone(pair, oldest_ns), now_ns) if pair.is_open else None
        found, ways = result
        event = self.ledger.offer(pair.what, found.figures, found.edge_pct, found.quantity, lambda: self._spatial.curve(pair, ways), now_ns)
        self._note_open(pair)
        return event

    def _judge_cycle(self, cycle: Cycle, now_ns: int, oldest_ns: int) -> OpportunityEvent | None:
        trouble = self._cyclic.trouble(cycle, oldest_ns)
        found = None if trouble else self._cyclic.find(cycle, cycle.is_open)
        if found is None:
            return self._close(cycle, trouble or "edge_gone", now_ns) if cycle.is_open else None
        event = self.ledger.offer(cycle.what, found.figures, found.edge_pct, found.quantity, lambda: self._cyclic.curve(cycle), now_ns)
        self._note_open(cycle)
        return event

    def _note_open(self, target: Target) -> None:
        if target.is_open or not self.ledger.is_open(target.what):
            return
        target.is_open = True
        self._open[target.what] = self._born[target.what] = target
        oldest = min(slot.book.ts_ingest_ns for slot in target.slots)
        self._expiry_ns = oldest if self._expiry_ns is None else min(self._expiry_ns, oldest)
        for slot in target.slots:
            slot.opens[target] = None

    def _close(self, target: Target, reason: str, now_ns: int) -> OpportunityEvent | None:
        target.is_open = False
        del self._open[target.what]
        for slot in target.slots:
            slot.opens.pop(target, None)
        return self.ledger.close(target.what, reason, now_ns)

    def _settle(self, events: list[OpportunityEvent], now_ns: int, oldest_ns: int) -> None:
        """Held-back changes and captures whose time has come."""
        events += self.ledger.tell_throttled(now_ns)
        for life, delay in self.ledger.due(now_ns):
            target = self._born[life.what]
            if isinstance(target, Pair):
                worth = self._spatial.worth(target, life.quantity, now_ns, oldest_ns)
            else:
                assert isinstance(target, Cycle)
                worth = self._cyclic.worth(target, life.quantity, oldest_ns)
            event = self.ledger.capture(life, delay, worth, now_ns)
            if event is not None:
                events.append(event)

    def next_due_ns(self) -> int | None:
        """When `evaluate` should be called even if no book changes: a capture, a held-back change or an open book's expiry."""
        due = self.ledger.next_due_ns()
        if self._expiry_ns is None:
            return due
        expiry = self._expiry_ns + self._stale_ns + 1
        return expiry if due is None else min(due, expiry)

    def close(self, now_ns: int) -> list[OpportunityEvent]:
        """End every open opportunity with reason `shutdown`; captures that are still due are not valued."""
        for target in list(self._open.values()):
            target.is_open = False
            for slot in target.slots:
                slot.opens.pop(target, None)
        self._open.clear()
        self._expiry_ns = None
        return self.ledger.close_all("shutdown", now_ns)

    # ---- views

    def open_opportunities(self) -> list[Opportunity]:
        """What is open, in order of birth, with the newest figures."""
        return self.ledger.open_opportunities()

    def cut(self, now_ns: int) -> list[CutEdge]:
        """The net edge of every ordered venue pair of every symbol, over all books that are live, fresh and within the skew."""
        return coherent_cut(self._groups.values(), self._terms, self._params, self._conversions.values, now_ns)
