"""Pairs of books on two venues: what buying here and selling there is worth, with all that is known of its costs.

What belongs here: sizing, costs, figures and flags of one ordered pair. What does not: which pairs are looked at
(`scanner`), formulas (`arbitrage`), conversion rates (`conversions`).
"""

from __future__ import annotations

from math import inf
from typing import NamedTuple

from altforecast.arbitrage import NO_EDGE, Costs, best_size, cash_of, cash_profit, edge_at, edge_of, takes_last_level, value_of, vwap
from altforecast.book_slots import WITHDRAWN, Slot, Target, pair_trouble, trouble
from altforecast.conversions import Conversions
from altforecast.opportunities import OpportunityType, RiskFlag
from altforecast.opportunity_ledger import Curve, Figures, What
from altforecast.params import ArbitrageParams
from altforecast.trading_terms import TradingTerms, Transfer

NS_PER_MS = 1_000_000


class Found(NamedTuple):
    """What a pair, or a triangle, is worth now."""

    figures: Figures
    edge_pct: float
    """Net edge at the size that makes it an opportunity: the fixed one, or else the best one [percent]."""
    quantity: float
    """That size; it is valued again later."""


class Pair(Target):
    """Buy from one slot, sell to another."""

    __slots__ = ("buy", "sell")

    def __init__(self, buy: Slot, sell: Slot) -> None:
        what = What(OpportunityType.SPATIAL, buy.group.symbol, buy.venue, sell.venue, sell.group.symbol)
        super().__init__(what, (buy, sell))
        self.buy, self.sell = buy, sell


class Ways(NamedTuple):
    """Costs of a pair at one moment."""

    costs: Costs
    transfer: Transfer
    value: float
    """USDT per unit of the buy side's quote."""
    quantity: float
    """The fixed target size [base]."""
    conversion: Slot | None


class Spatial:
    """Values pairs; holds nothing but what it is given."""

    def __init__(self, params: ArbitrageParams, terms: TradingTerms, conversions: Conversions) -> None:
        self._params, self._terms, self._conversions = params, terms, conversions
        self._skew_ns = params.max_skew_ms * NS_PER_MS

    def trouble(self, pair: Pair, oldest_ns: int) -> str:
        """Why the pair's books may not be compared now; empty where they may.

        An open pair is not judged by skew: a quiet book of a living connection says that nothing changed, and what was there when
        both were new is still there. It ends when a book is withdrawn or stale.
        """
        return pair_trouble(pair.buy.book, pair.sell.book, oldest_ns, inf if pair.is_open else self._skew_ns)

    def ways(self, pair: Pair, now_ns: int, oldest_ns: int) -> Ways | None:
        """Costs and fixed size; None where the coins differ, no book converts, or the quote's value is unknown."""
        buy, sell, params = pair.buy, pair.sell, self._params
        value = self._conversions.values.get(buy.group.quote)
        transfer = self._terms.transfer(buy.group.base, buy.venue, sell.venue, now_ns // NS_PER_MS)
        if value is None or transfer.is_other_coin:
            return None
        rate, conversion = 1.0, None
        if buy.group.quote != sell.group.quote:
            found = self._conversions.rate(sell.group.quote, buy.group.quote, (sell.venue, buy.venue), oldest_ns)
            if found is None:
                return None
            rate, conversion = found
        coins, assumed = (transfer.fee, 0.0) if transfer.fee is not None else (0.0, params.withdraw_cost_usdt / value)
        costs = Costs(buy.fee, sell.fee, params.slippage_bps / 100.0, coins, assumed, rate)
        return Ways(costs, transfer, value, params.target_size_usdt / (value * -buy.book.ask_keys[-1]), conversion)

    def find(self, pair: Pair, is_open: bool, now_ns: int, oldest_ns: int) -> tuple[Found, Ways] | None:
        """Figures where the pair is an opportunity (or still one, with the closing margin); None where it is not."""
        ways = self.ways(pair, now_ns, oldest_ns)
        if ways is None:
            return None
        buy, sell, params, costs, quantity = pair.buy.book, pair.sell.book, self._params, ways.costs, ways.quantity
        least = params.min_net_edge_pct - (params.close_margin_pct if is_open else 0.0)
        bought = vwap(buy.ask_keys, buy.ask_sizes, quantity)
        sold = vwap(sell.bid_keys, sell.bid_sizes, quantity) if bought is not None else None
        edge = edge_of(bought[0], sold[0], quantity, costs) if bought is not None and sold is not None else None
        most = quantity if ways.conversion is not None else float("inf")
        walk = best_size(buy.ask_keys, buy.ask_sizes, sell.bid_keys, sell.bid_sizes, costs, most)
        profit, best = walk.profit * ways.value, None
        if edge is None or edge.net_pct < least:
            if walk.quantity > 0.0 and profit >= (0.0 if is_open else params.min_profit_usdt):
                best = edge_at(buy.ask_keys, buy.ask_sizes, sell.bid_keys, sell.bid_sizes, walk.quantity, costs)
            if best is None or best.net_pct < least:
                return None
        shown = edge or best
        assert shown is not None
        cash = 0.0
        if bought is not None and sold is not None:
            # the sizes differ only where coins are paid for the transfer
            rest = quantity - costs.transfer_coins
            got = sold[0] * quantity if costs.transfer_coins == 0.0 else value_of(sell.bid_keys, sell.bid_sizes, rest)
            cash = cash_of(bought[0] * quantity, got or 0.0, costs)
        # what makes it an opportunity: the fixed size, or else the best one; captures are valued at that size
        is_fixed = edge is not None and edge.net_pct >= least
        edge_pct = shown.net_pct if is_fixed or best is None else best.net_pct
        counted = quantity if is_fixed else walk.quantity
        thin = edge is None or walk.is_thin or takes_last_level(buy.ask_sizes, quantity) or takes_last_level(sell.bid_sizes, quantity)
        figures = Figures(
            *shown[:-1],
            net_edge_pct=edge.net_pct if edge else NO_EDGE,
            expected_profit_usdt=cash * ways.value,
            available_qty=walk.available,
            optimal_qty=walk.quantity,
            optimal_profit_usdt=profit,
            risk_flags=self._flags(pair, ways, edge_pct, thin, counted),
        )
        return Found(figures, edge_pct, counted), ways

    def _flags(self, pair: Pair, ways: Ways, edge_pct: float, is_thin: bool, quantity: float) -> tuple[RiskFlag, ...]:
        flags = list(ways.transfer.flags)
        if quantity < ways.transfer.minimum and RiskFlag.WITHDRAWAL_CLOSED not in flags:
            flags.append(RiskFlag.WITHDRAWAL_CLOSED)
        if ways.conversion is not None:
            flags.append(RiskFlag.CONVERTED_QUOTE)
        return (*flags, *common_flags(pair.slots, edge_pct, is_thin, self._params))

    def curve(self, pair: Pair, ways: Ways) -> Curve:
        """(notional USDT, net edge in percent) at the notionals of the parameters that both books can fill."""
        buy, sell = pair.buy.book, pair.sell.book
        points = []
        for notional in self._params.curve_usdt:
            if ways.conversion is not None and notional > self._params.target_size_usdt:
                break
            quantity = ways.quantity * notional / self._params.target_size_usdt
            edge = edge_at(buy.ask_keys, buy.ask_sizes, sell.bid_keys, sell.bid_sizes, quantity, ways.costs)
            if edge is None:
                break
            points.append((notional, edge.net_pct))
        return tuple(points)

    def worth(self, pair: Pair, quantity: float, now_ns: int, oldest_ns: int) -> tuple[float, float] | None:
        """(net edge in percent, profit in USDT) of buying and selling `quantity` now.

        None where a book is not live or nothing converts; (-100, 0) where the books are too thin for the size. Skew does not
        count: a book that stood still since is the book that the trade would have met.
        """
        if trouble(pair.buy.book, oldest_ns) or trouble(pair.sell.book, oldest_ns):
            return None
        ways = self.ways(pair, now_ns, oldest_ns)
        if ways is None:
            return None
        buy, sell = pair.buy.book, pair.sell.book
        edge = edge_at(buy.ask_keys, buy.ask_sizes, sell.bid_keys, sell.bid_sizes, quantity, ways.costs)
        profit = cash_profit(buy.ask_keys, buy.ask_sizes, sell.bid_keys, sell.bid_sizes, quantity, ways.costs)
        return (NO_EDGE, 0.0) if edge is None or profit is None else (edge.net_pct, profit * ways.value)

    def why_gone(self, pair: Pair, oldest_ns: int) -> str:
        """Reason to close a pair that is no opportunity any more."""
        if found := self.trouble(pair, oldest_ns):
            return found
        crosses = pair.buy.group.quote != pair.sell.group.quote
        return WITHDRAWN if crosses and self._conversion_is_gone(pair, oldest_ns) else "edge_gone"

    def _conversion_is_gone(self, pair: Pair, oldest_ns: int) -> bool:
        venues = (pair.sell.venue, pair.buy.venue)
        return self._conversions.rate(pair.sell.group.quote, pair.buy.group.quote, venues, oldest_ns) is None


def common_flags(slots: tuple[Slot, ...], edge_pct: float, is_thin: bool, params: ArbitrageParams) -> list[RiskFlag]:
    """Flags of any trade: an edge that is too good, a size that takes the last level, event times that lag."""
    flags = []
    if edge_pct > params.sane_edge_pct:
        flags.append(RiskFlag.EDGE_TOO_GOOD)
    if is_thin:
        flags.append(RiskFlag.THIN)
    if any(is_lagging(slot, params.event_lag_ms) for slot in slots):
        flags.append(RiskFlag.EVENT_TIME_LAG)
    return flags


def is_lagging(slot: Slot, limit_ms: float) -> bool:
    """Whether the book's event time is later than the least delay seen by more than the limit; False where it has none."""
    book = slot.book
    if book.ts_event_ms is None or slot.least_lag is None:
        return False
    return book.ts_ingest_ns / NS_PER_MS - book.ts_event_ms - slot.least_lag > limit_ms
