"""What two books are worth against each other: prices by depth, net edges, exact cash flow, the best size.

What belongs here: formulas D29-D36 on levels, the marginal walk, the same in Decimal. What does not: which books may be
compared and when (`scanner`), cycles inside one venue (`triangles`), what a transfer costs (`trading_terms`).

Levels are the lists of `books.Book`: best at the END, ask keys negated; nothing is copied. Method: docs/methods/arbitrage.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_DOWN, Decimal
from typing import NamedTuple

FULL = 1e-12
"""A side that lacks no more than this share of the quantity fills it."""
NO_EDGE = -100.0
"""Net edge where the books are too thin for the size [percent]."""


class Costs(NamedTuple):
    """What a spatial trade pays; the coin leaves the buy venue and arrives on the sell venue."""

    fee_buy: float
    """Taker fee, fraction of what is paid, paid in quote on top."""
    fee_sell: float
    """Taker fee, fraction of what is received, taken off the quote."""
    slippage_pct: float
    """Latency buffer [percent]; in the net edge, not in the cash flow."""
    transfer_coins: float
    """Withdrawal fee [base]: bought, paid for, and not sold."""
    transfer_quote: float
    """Assumed transfer cost where the fee is unknown [quote of the buy side]."""
    rate: float = 1.0
    """Quote of the buy side got for one unit of the sell side's quote, after the conversion's fee."""


class Edge(NamedTuple):
    """D30-D34 at one size; percentages in 0-100 points."""

    buy_vwap: float
    sell_vwap: float
    gross_pct: float
    fees_pct: float
    slippage_pct: float
    withdraw_pct: float
    net_pct: float


class Walk(NamedTuple):
    """Result of the marginal walk; amounts in base and in the quote of the buy side."""

    quantity: float
    """Bought [base] at the highest profit; 0 where no size makes one."""
    profit: float
    """Exact cash flow at that size, transfer included; 0 where no size makes one."""
    available: float
    """Base that both books hold at a profit, before the transfer."""
    is_thin: bool
    """The walk ended because a book did, not because the profit did."""


def vwap(keys: Sequence[float], sizes: Sequence[float], quantity: float) -> tuple[float, float] | None:
    """D29: volume-weighted price of `quantity` and what was filled; the last level is taken in part.

    keys, sizes: one side of a Book. None where the side holds less than `quantity`, or quantity is not positive.
    """
    if not quantity > 0.0:
        return None
    total, left = 0.0, quantity
    for i in range(len(keys) - 1, -1, -1):
        size = sizes[i]
        if size >= left:
            return abs(total + keys[i] * left) / quantity, quantity
        total += keys[i] * size
        left -= size
    # the whole side, added up in another order, may differ in the last digit
    return (abs(total) / quantity, quantity) if left <= FULL * quantity and keys else None


def value_of(keys: Sequence[float], sizes: Sequence[float], quantity: float) -> float | None:
    """Quote paid or received for `quantity` before fees; 0 for a quantity of 0 or less, None where the side is too thin."""
    if quantity <= 0.0:
        return 0.0
    found = vwap(keys, sizes, quantity)
    return None if found is None else found[0] * quantity


def takes_last_level(sizes: Sequence[float], quantity: float) -> bool:
    """Whether `quantity` reaches into the worst level that is known: what lies behind it is not."""
    for i in range(len(sizes) - 1, 0, -1):
        quantity -= sizes[i]
        if quantity <= 0.0:
            return False
    return True


def edge_of(buy_vwap: float, sell_vwap: float, quantity: float, costs: Costs) -> Edge:
    """D30-D34 of two prices; sell_vwap in the quote of the sell side, it is converted by `costs.rate`."""
    sell = sell_vwap * costs.rate
    gross = (sell - buy_vwap) / buy_vwap * 100.0
    fees = (costs.fee_buy + costs.fee_sell) * 100.0
    withdraw = (costs.transfer_coins * buy_vwap + costs.transfer_quote) / (buy_vwap * quantity) * 100.0
    return Edge(buy_vwap, sell, gross, fees, costs.slippage_pct, withdraw, gross - fees - costs.slippage_pct - withdraw)


def edge_at(
    ask_keys: Sequence[float], ask_sizes: Sequence[float], bid_keys: Sequence[float], bid_sizes: Sequence[float],
    quantity: float, costs: Costs,
) -> Edge | None:  # fmt: skip
    """D29-D34 of buying and selling `quantity`; None where either book is too thin."""
    buy = vwap(ask_keys, ask_sizes, quantity)
    if buy is None:
        return None
    sell = vwap(bid_keys, bid_sizes, quantity)
    return None if sell is None else edge_of(buy[0], sell[0], quantity, costs)


def cash_profit(
    ask_keys: Sequence[float], ask_sizes: Sequence[float], bid_keys: Sequence[float], bid_sizes: Sequence[float],
    quantity: float, costs: Costs,
) -> float | None:  # fmt: skip
    """Exact cash flow of buying `quantity` [quote of the buy side]; None where a book is too thin.

    The buy fee is paid in quote on top; the withdrawal fee is coins that are bought and never sold.
    """
    paid = value_of(ask_keys, ask_sizes, quantity)
    got = value_of(bid_keys, bid_sizes, quantity - costs.transfer_coins)
    return None if paid is None or got is None else cash_of(paid, got, costs)


def cash_of(paid: float, got: float, costs: Costs) -> float:
    """What is left of a trade [quote of the buy side]: paid before the fee, got in the sell side's quote before fee and conversion."""
    return got * costs.rate * (1.0 - costs.fee_sell) - paid * (1.0 + costs.fee_buy) - costs.transfer_quote


def best_size(
    ask_keys: Sequence[float], ask_sizes: Sequence[float], bid_keys: Sequence[float], bid_sizes: Sequence[float],
    costs: Costs, max_quantity: float = float("inf"),
) -> Walk:  # fmt: skip
    """The marginal walk: both books from the best level on while the next piece earns more than it costs.

    The withdrawal fee's coins are bought first, at the best asks; what they and an assumed cost take off is part of the
    objective, so a size is named only where the whole trade earns. Profit is concave in size: no other size is better.
    """
    available, gain, is_thin = _matched(ask_keys, ask_sizes, bid_keys, bid_sizes, 0.0, costs, max_quantity)
    if available <= 0.0:
        return Walk(0.0, 0.0, 0.0, False)
    matched, coins = available, costs.transfer_coins
    if coins > 0.0:
        matched, gain, is_thin = _matched(ask_keys, ask_sizes, bid_keys, bid_sizes, coins, costs, max_quantity)
    profit = gain - costs.transfer_quote
    if matched <= 0.0 or profit <= 0.0:
        return Walk(0.0, 0.0, available, is_thin)
    return Walk(matched + coins, profit, available, is_thin)


def _matched(
    ask_keys: Sequence[float], ask_sizes: Sequence[float], bid_keys: Sequence[float], bid_sizes: Sequence[float],
    skip: float, costs: Costs, max_quantity: float,
) -> tuple[float, float, bool]:  # fmt: skip
    """(sold, profit with the skipped coins paid for, whether a book ended) of the walk that begins `skip` coins into the asks."""
    up, down = -(1.0 + costs.fee_buy), costs.rate * (1.0 - costs.fee_sell)
    i, j = len(ask_keys) - 1, len(bid_keys) - 1
    profit, sold, left = 0.0, 0.0, max_quantity - skip
    while i >= 0 and ask_sizes[i] <= skip:
        skip -= ask_sizes[i]
        profit -= ask_keys[i] * up * ask_sizes[i]
        i -= 1
    if i < 0 or j < 0:
        return 0.0, profit, True
    profit -= ask_keys[i] * up * skip
    have, want = ask_sizes[i] - skip, bid_sizes[j]
    cost, worth = ask_keys[i] * up, bid_keys[j] * down
    if left <= 0.0:
        return sold, profit, False
    while (gain := worth - cost) > 0.0:
        take = have if have < want else want
        if left <= take:
            is_last = (left >= have and i == 0) or (left >= want and j == 0)
            return sold + left, profit + gain * left, is_last
        sold += take
        profit += gain * take
        left -= take
        if have > take:
            have -= take
        else:
            i -= 1
            if i < 0:
                return sold, profit, True
            have, cost, want = ask_sizes[i], ask_keys[i] * up, want - take
            if want > 0.0:
                continue
        j -= 1
        if j < 0:
            return sold, profit, True
        want, worth = bid_sizes[j], bid_keys[j] * down
    return sold, profit, False


class Booked(NamedTuple):
    """A trade in Decimal, rounded as venues round; amounts in base and quote."""

    quantity: Decimal
    buy_vwap: Decimal
    sell_vwap: Decimal
    net_edge_pct: Decimal
    profit: Decimal


DecimalLevel = tuple[Decimal, Decimal]


def book_profit(
    asks: Sequence[DecimalLevel], bids: Sequence[DecimalLevel], quantity: Decimal, costs: Costs, amount_step: Decimal | None = None
) -> Booked | None:
    """The numbers of `edge_at` and `cash_profit` in Decimal, for what is written down as money.

    asks, bids: best first, as the venue printed them (prices are on its steps already). amount_step: the quantity is
    rounded down to it. None where a book is too thin or nothing is left after rounding.
    """
    if amount_step is not None:
        quantity = (quantity / amount_step).to_integral_value(ROUND_DOWN) * amount_step
    fee_buy, fee_sell, slippage, coins, fixed, rate = (Decimal(repr(c)) for c in costs)
    paid, got = decimal_value(asks, quantity), decimal_value(bids, quantity)
    sold = decimal_value(bids, max(quantity - coins, Decimal(0)))
    if quantity <= 0 or paid is None or got is None or sold is None:
        return None
    buy, sell = paid / quantity, got / quantity * rate
    withdraw = (coins * buy + fixed) / (buy * quantity) * 100
    net = (sell - buy) / buy * 100 - (fee_buy + fee_sell) * 100 - slippage - withdraw
    return Booked(quantity, buy, sell, net, sold * rate * (1 - fee_sell) - paid * (1 + fee_buy) - fixed)


def decimal_value(levels: Sequence[DecimalLevel], quantity: Decimal) -> Decimal | None:
    """Quote for `quantity` along levels, best first; None where they hold less."""
    total, left = Decimal(0), quantity
    for price, size in levels:
        take = min(size, left)
        total += price * take
        left -= take
        if left <= 0:
            return total
    return total if left <= 0 else None
