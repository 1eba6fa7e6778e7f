"""Formulas D29-D36, exact cash flow and the marginal walk, against Decimal, brute force and a greedy rule."""

from __future__ import annotations

import random
from decimal import Decimal, localcontext

import pytest

from altforecast.arbitrage import Costs, best_size, book_profit, cash_profit, decimal_value, edge_at, takes_last_level, vwap
from altforecast.books import Book
from altforecast.symbols import VENUES
from altforecast.trading_terms import TradingTerms
from tests.domain.random_books import make

FEES = (0.0, 0.0005, 0.001, 0.002, 0.004)


def costs_of(rng: random.Random, coins: float = 0.0) -> Costs:
    return Costs(rng.choice(FEES), rng.choice(FEES), 0.02, coins, rng.choice((0.0, 2.0)), rng.choice((1.0, 0.9995)))


def two_books(rng: random.Random, edge: float = 0.02) -> tuple[Book, Book]:
    mid = rng.choice((0.19, 2.3, 160.0, 92_000.0))
    return make("a", "X-USDT", rng, mid), make("b", "X-USDT", rng, mid * (1 + rng.uniform(-0.002, edge)))


def sides(buy: Book, sell: Book) -> tuple[list[float], list[float], list[float], list[float]]:
    return buy.ask_keys, buy.ask_sizes, sell.bid_keys, sell.bid_sizes


def decimals(levels: list[tuple[float, float]]) -> list[tuple[Decimal, Decimal]]:
    return [(Decimal(repr(p)), Decimal(repr(s))) for p, s in levels]


def depth(book: Book) -> float:
    return sum(book.ask_sizes)


def test_vwap_takes_the_last_level_in_part() -> None:
    book = Book("a", "X-USDT")
    book.load([(9.0, 1.0), (8.0, 2.0)], [(10.0, 1.0), (11.0, 2.0)])
    assert vwap(book.ask_keys, book.ask_sizes, 2.0) == (10.5, 2.0)
    assert vwap(book.bid_keys, book.bid_sizes, 3.0) == (25.0 / 3.0, 3.0)


@pytest.mark.parametrize("quantity", [3.0001, 0.0, -1.0, float("nan")])
def test_vwap_too_thin_or_no_quantity(quantity: float) -> None:
    assert vwap([-11.0, -10.0], [2.0, 1.0], quantity) is None
    assert vwap([], [], 1.0) is None


def test_edge_at_by_hand() -> None:
    costs = Costs(0.001, 0.002, 0.05, 0.01, 0.0)
    edge = edge_at([-100.0], [5.0], [102.0], [5.0], 2.0, costs)
    assert edge is not None
    assert edge.gross_pct == pytest.approx(2.0)
    assert edge.fees_pct == pytest.approx(0.3)
    assert edge.withdraw_pct == pytest.approx(0.5)
    assert edge.net_pct == pytest.approx(2.0 - 0.3 - 0.05 - 0.5)


def test_cash_profit_pays_the_buy_fee_in_quote_and_loses_the_withdrawn_coins() -> None:
    costs = Costs(0.001, 0.002, 0.05, 0.01, 0.0)
    profit = cash_profit([-100.0], [5.0], [102.0], [5.0], 2.0, costs)
    assert profit == pytest.approx(1.99 * 102.0 * 0.998 - 2.0 * 100.0 * 1.001)


def test_edge_and_profit_equal_decimal_on_thousands_of_books() -> None:
    rng, flips, worst, n_valid, n = random.Random(1), 0, 0.0, 0, 0
    with localcontext() as context:
        context.prec = 40
        for _ in range(4000):
            buy, sell = two_books(rng)
            quantity = depth(buy) * rng.uniform(0.01, 1.1)
            costs = costs_of(rng, quantity * rng.choice((0.0, 0.0002)))
            edge, profit = edge_at(*sides(buy, sell), quantity, costs), cash_profit(*sides(buy, sell), quantity, costs)
            booked = book_profit(decimals(buy.asks(99)), decimals(sell.bids(99)), Decimal(repr(quantity)), costs)
            assert (edge is None) == (booked is None)
            if edge is None or booked is None or profit is None:
                continue
            n += 1
            worst = max(worst, abs(float(booked.net_edge_pct - Decimal(repr(edge.net_pct)))))
            flips += (edge.net_pct >= 0.1) != (booked.net_edge_pct >= Decimal("0.1"))
            n_valid += edge.net_pct >= 0.1
            assert profit == pytest.approx(float(booked.profit), rel=1e-9, abs=1e-7)
    assert n > 1500
    assert 200 < n_valid < n
    assert worst <= 1e-9
    assert flips == 0


def test_book_profit_rounds_the_amount_down_to_the_step() -> None:
    levels = [(Decimal(100), Decimal(5))]
    booked = book_profit(levels, [(Decimal(102), Decimal(5))], Decimal("1.2345"), Costs(0.0, 0.0, 0.0, 0.0, 0.0), Decimal("0.01"))
    assert booked is not None
    assert booked.quantity == Decimal("1.23")
    assert booked.profit == Decimal("2.46")
    assert book_profit(levels, levels, Decimal("0.001"), Costs(0.0, 0.0, 0.0, 0.0, 0.0), Decimal("0.01")) is None


def test_best_size_is_beaten_by_no_other_size() -> None:
    rng, n_found = random.Random(2), 0
    for _ in range(400):
        buy, sell = two_books(rng)
        costs = costs_of(rng, rng.choice((0.0, 0.01)) * depth(buy))
        walk = best_size(*sides(buy, sell), costs)
        most = min(depth(buy), sum(sell.bid_sizes) + costs.transfer_coins)
        tried = [cash_profit(*sides(buy, sell), most * (i + 1) / 200, costs) for i in range(199)]
        best = max(p for p in tried if p is not None)
        assert walk.profit >= best - 1e-9 * max(1.0, abs(best))
        if walk.quantity:
            n_found += 1
            assert cash_profit(*sides(buy, sell), walk.quantity, costs) == pytest.approx(walk.profit, rel=1e-9, abs=1e-9)
    assert n_found > 100


def test_best_size_keeps_below_the_given_quantity() -> None:
    rng = random.Random(3)
    for _ in range(200):
        buy, sell = two_books(rng)
        costs = costs_of(rng, 0.001 * depth(buy))
        most = depth(buy) * rng.uniform(0.002, 0.5)
        assert best_size(*sides(buy, sell), costs, most).quantity <= most * (1 + 1e-12)


def test_best_size_nothing_to_gain_and_empty_books() -> None:
    free = Costs(0.0, 0.0, 0.0, 0.0, 0.0)
    assert best_size([-100.0], [1.0], [99.0], [1.0], free).quantity == 0.0
    assert best_size([], [], [99.0], [1.0], free) == (0.0, 0.0, 0.0, False)
    # the transfer eats the profit: nothing is proposed, but what the books hold is still told
    walk = best_size([-100.0], [1.0], [101.0], [1.0], free._replace(transfer_quote=5.0))
    assert (walk.quantity, walk.profit, walk.available) == (0.0, 0.0, 1.0)


def test_takes_last_level() -> None:
    assert takes_last_level([1.0, 2.0], 2.5)
    assert not takes_last_level([1.0, 2.0], 2.0)


def greedy(buy: Book, sell: Book, costs: Costs, threshold: float) -> Decimal:
    """A fixed-threshold rule: take level by level while the level's own profit after fees is at least `threshold`."""
    asks, bids = decimals(buy.asks(99)), decimals(sell.bids(99))
    fee_buy, fee_sell, rate = (Decimal(repr(c)) for c in (costs.fee_buy, costs.fee_sell, costs.rate))
    quantity, i, j = Decimal(0), 0, 0
    have, want = asks[0][1], bids[0][1]
    while i < len(asks) and j < len(bids):
        margin = bids[j][0] * rate * (1 - fee_sell) / (asks[i][0] * (1 + fee_buy)) - 1
        if margin < Decimal(repr(threshold)):
            break
        take = min(have, want)
        quantity, have, want = quantity + take, have - take, want - take
        if not have:
            i += 1
            have = asks[i][1] if i < len(asks) else Decimal(0)
        if not want:
            j += 1
            want = bids[j][1] if j < len(bids) else Decimal(0)
    paid, got = decimal_value(asks, quantity), decimal_value(bids, max(quantity - Decimal(repr(costs.transfer_coins)), Decimal(0)))
    if not quantity or paid is None or got is None:
        return Decimal(0)
    return got * rate * (1 - fee_sell) - paid * (1 + fee_buy) - Decimal(repr(costs.transfer_quote))


def venue_pairs(seed: int, noise: float) -> list[tuple[Book, Book, Costs]]:
    """All ordered pairs of the fourteen venues in 20 symbols at the default fees and the default assumed transfer cost."""
    rng, terms = random.Random(seed), TradingTerms()
    cases = []
    for _ in range(20):
        mid = rng.choice((0.19, 2.3, 160.0, 92_000.0))
        books = [make(v, "X-USDT", rng, mid * (1 + rng.gauss(0, noise)), 50) for v in VENUES]
        for buy in books:
            for sell in books:
                if buy is not sell and sell.bid_keys[-1] > -buy.ask_keys[-1]:
                    cases.append((buy, sell, Costs(terms.taker_fee(buy.venue), terms.taker_fee(sell.venue), 0.02, 0.0, 5.0)))
    return cases


@pytest.mark.parametrize("seed", [4, 5])
def test_best_size_earns_more_than_the_best_greedy_threshold(seed: int) -> None:
    cases = venue_pairs(seed, 0.002)
    ours = [best_size(*sides(buy, sell), costs).profit for buy, sell, costs in cases]
    totals = []
    for threshold in (0.0, 0.0002, 0.0005, 0.001, 0.002, 0.003):
        theirs = [float(greedy(*case, threshold)) for case in cases]
        assert all(a >= b - 1e-7 for a, b in zip(ours, theirs, strict=True))
        totals.append(sum(theirs))
    assert sum(p > 0 for p in ours) > 50
    assert sum(ours) >= 1.25 * max(totals)
