"""The triangles of one venue in the scanner: cheap check by best prices, figures of those that pass.

What belongs here: rates by seat, triangles by book, figures and flags of one cycle. What does not: cycles themselves
(`triangles`), the ledger.
"""

from __future__ import annotations

from collections.abc import Sequence

from altforecast.arbitrage import NO_EDGE
from altforecast.book_slots import SKEW, Slot, Target, trouble
from altforecast.conversions import Conversions
from altforecast.opportunities import OpportunityType
from altforecast.opportunity_ledger import Curve, Figures, What
from altforecast.params import ArbitrageParams
from altforecast.spatial import Found, common_flags
from altforecast.triangles import CycleWalk, Triangle, best_cycle, cycle_value, find_triangles

NS_PER_MS = 1_000_000


class Cycle(Target):
    """One triangle with the books it runs through."""

    __slots__ = ("triangle",)

    def __init__(self, triangle: Triangle, slots: tuple[Slot, ...]) -> None:
        venue = slots[0].venue
        super().__init__(What(OpportunityType.TRIANGULAR, triangle.name, venue, venue, triangle.name), slots)
        self.triangle = triangle


class VenueCycles:
    """All triangles of one venue; made anew when the venue gets a new book."""

    def __init__(self, slots: Sequence[Slot], known: dict[tuple[str, str], Cycle]) -> None:
        """known: cycles that exist already, by venue and name; new ones are added."""
        self.rates = [0.0] * (2 * len(slots))
        """Per seat: rate of buying and of selling at the best price after the fee; 0 while the book may not be used."""
        by_symbol = {slot.group.symbol: slot for slot in slots}
        for seat, slot in enumerate(slots):
            slot.seat, slot.triangles, slot.hot = seat, [], True
            self.refresh(slot)
        for triangle in find_triangles(by_symbol):
            members = tuple(by_symbol[leg.symbol] for leg in triangle.legs)
            cycle = known.setdefault((members[0].venue, triangle.name), Cycle(triangle, members))
            i, j, k = (2 * by_symbol[leg.symbol].seat + leg.is_sell for leg in triangle.legs)
            for slot in members:
                slot.triangles.append((i, j, k, cycle))

    def refresh(self, slot: Slot) -> None:
        """Take over the best prices of a book."""
        bid, ask = slot.top
        keep = 1.0 - slot.fee
        self.rates[2 * slot.seat] = keep / ask
        self.rates[2 * slot.seat + 1] = keep * bid

    def candidates(self, slot: Slot, least: float) -> list[Target]:
        """Cycles through a book whose rate at best prices reaches `least`; their books are marked hot."""
        rates = self.rates
        found = [cycle for i, j, k, cycle in slot.triangles if rates[i] * rates[j] * rates[k] >= least]
        slot.hot = bool(found)
        for cycle in found:
            for member in cycle.slots:
                member.hot = True
        return found


class Cyclic:
    """Values triangles; holds nothing but what it is given."""

    def __init__(self, params: ArbitrageParams, conversions: Conversions) -> None:
        self._params, self._conversions = params, conversions
        self._skew_ns = params.max_skew_ms * NS_PER_MS

    def trouble(self, cycle: Cycle, oldest_ns: int) -> str:
        """Why the three books may not be compared now; empty where they may. An open cycle is not judged by skew (see `spatial`)."""
        for slot in cycle.slots:
            if found := trouble(slot.book, oldest_ns):
                return found
        if cycle.is_open:
            return ""
        times = [slot.book.ts_ingest_ns for slot in cycle.slots]
        return SKEW if max(times) - min(times) > self._skew_ns else ""

    def find(self, cycle: Cycle, is_open: bool) -> Found | None:
        """Figures where the cycle is an opportunity (or still one, with the closing margin); None where it is not."""
        value = self._conversions.values.get(cycle.triangle.assets[0])
        if value is None:
            return None
        params, books, fee = self._params, [s.book for s in cycle.slots], cycle.slots[0].fee
        amount, slippage = params.target_size_usdt / value, params.slippage_bps / 100.0
        walk = best_cycle(books, cycle.triangle.legs, fee)
        net = self._net(cycle, amount)
        best = walk.profit / walk.amount * 100.0 - slippage if walk.amount > 0.0 else NO_EDGE
        least = params.min_net_edge_pct - (params.close_margin_pct if is_open else 0.0)
        profit = walk.profit * value
        if not (net is not None and net >= least) and not (best >= least and profit >= (0.0 if is_open else params.min_profit_usdt)):
            return None
        found = self._found(cycle, walk, net, best, amount if net is not None else walk.amount, value)
        # captures are valued at the size that makes it an opportunity: the fixed one, or else the best one
        return found if net is not None and net >= least else found._replace(edge_pct=best, quantity=walk.amount)

    def _found(self, cycle: Cycle, walk: CycleWalk, net: float | None, best: float, amount: float, value: float) -> Found:
        params, books = self._params, [s.book for s in cycle.slots]
        free = cycle_value(books, cycle.triangle.legs, 0.0, amount)
        shown, slippage = net if net is not None else best, params.slippage_bps / 100.0
        gross = (free / amount - 1.0) * 100.0 if free is not None else shown + slippage
        edge_pct = shown
        figures = Figures(
            buy_vwap=1.0,
            sell_vwap=1.0 + gross / 100.0,
            gross_edge_pct=gross,
            fees_pct=gross - slippage - shown,
            slippage_pct=slippage,
            withdraw_pct=0.0,
            net_edge_pct=net if net is not None else NO_EDGE,
            expected_profit_usdt=(net + slippage) / 100.0 * amount * value if net is not None else 0.0,
            available_qty=walk.amount,
            optimal_qty=walk.amount,
            optimal_profit_usdt=walk.profit * value,
            risk_flags=tuple(common_flags(cycle.slots, edge_pct, walk.is_thin or net is None, params)),
        )
        return Found(figures, edge_pct, amount)

    def _net(self, cycle: Cycle, amount: float) -> float | None:
        """Net edge of a size [percent]: the exact return after three fees, less the latency buffer."""
        back = cycle_value([s.book for s in cycle.slots], cycle.triangle.legs, cycle.slots[0].fee, amount)
        return None if back is None else (back / amount - 1.0) * 100.0 - self._params.slippage_bps / 100.0

    def curve(self, cycle: Cycle) -> Curve:
        """(notional USDT, net edge in percent) at the notionals of the parameters that the books can fill."""
        value = self._conversions.values.get(cycle.triangle.assets[0])
        nets = [(n, self._net(cycle, n / value)) for n in self._params.curve_usdt] if value is not None else []
        return tuple((notional, net) for notional, net in nets if net is not None)

    def worth(self, cycle: Cycle, amount: float, oldest_ns: int) -> tuple[float, float] | None:
        """(net edge in percent, profit in USDT) of `amount` now; None where a book is not live, (-100, 0) where too thin."""
        value = self._conversions.values.get(cycle.triangle.assets[0])
        if value is None or any(trouble(slot.book, oldest_ns) for slot in cycle.slots):
            return None
        net = self._net(cycle, amount)
        if net is None:
            return NO_EDGE, 0.0
        return net, (net + self._params.slippage_bps / 100.0) / 100.0 * amount * value
