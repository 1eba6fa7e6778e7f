"""Triangles: the index against an exhaustive search and Bellman-Ford, the best size against a brute grid."""

from __future__ import annotations

import random
from collections.abc import Mapping
from itertools import permutations
from math import log

import pytest

from altforecast.books import Book
from altforecast.triangles import Triangle, best_cycle, convert, cycle_value, find_triangles
from tests.domain.random_books import make

ASSETS = {"USDT": 1.0, "BTC": 100.0, "ETH": 10.0, "BNB": 3.0, "EUR": 1.1, "SOL": 0.7}
FEE = 0.0005


def market(seed: int, noise: float, share: float = 0.7) -> dict[str, Book]:
    rng, books = random.Random(seed), {}
    names = list(ASSETS)
    for i, quote in enumerate(names):
        for base in names[i + 1 :]:
            if rng.random() < share:
                mid = ASSETS[base] / ASSETS[quote] * (1 + rng.gauss(0, noise))
                books[f"{base}-{quote}"] = make("a", f"{base}-{quote}", rng, mid)
    return books


def top_rate(book: Book, is_sell: bool, fee: float) -> float:
    """Units received for one unit paid at the best price, after the fee; 0 where that side is empty."""
    keys = book.bid_keys if is_sell else book.ask_keys
    if not keys:
        return 0.0
    return keys[-1] * (1.0 - fee) if is_sell else (1.0 - fee) / -keys[-1]


def rates_of(books: Mapping[str, Book]) -> dict[tuple[str, str], float]:
    """Rate after fees of every conversion."""
    rates = {}
    for symbol, book in books.items():
        base, quote = symbol.split("-")
        rates[base, quote], rates[quote, base] = top_rate(book, True, FEE), top_rate(book, False, FEE)
    return rates


def rate_of(triangle: Triangle, books: Mapping[str, Book]) -> float:
    product = 1.0
    for leg in triangle.legs:
        product *= top_rate(books[leg.symbol], leg.is_sell, FEE)
    return product


def has_negative_cycle(rates: Mapping[tuple[str, str], float], most: int) -> bool:
    """Bellman-Ford from every asset at once over walks of at most `most` conversions that come back to their start."""
    for start in ASSETS:
        least = {start: 0.0}
        for step in range(1, most + 1):
            reached: dict[str, float] = {}
            for (source, target), rate in rates.items():
                if source in least and (target != start or step == most):
                    reached[target] = min(reached.get(target, 1e9), least[source] - log(rate))
            least = reached
        if least.get(start, 0.0) < -1e-12:
            return True
    return False


def classic_bellman_ford(rates: Mapping[tuple[str, str], float]) -> bool:
    """Whether any cycle at all, of any length, multiplies to more than one."""
    distance = dict.fromkeys(ASSETS, 0.0)
    for _ in ASSETS:
        changed = False
        for (source, target), rate in rates.items():
            if distance[source] - log(rate) < distance[target] - 1e-12:
                distance[target], changed = distance[source] - log(rate), True
        if not changed:
            return False
    return True


def test_find_triangles_both_directions_from_the_preferred_asset() -> None:
    found = find_triangles(["ETH-USDT", "BTC-USDT", "ETH-BTC", "SOL-USDT", "BTC-USDT-PERP"])
    assert [t.name for t in found] == ["USDT>BTC>ETH>USDT", "USDT>ETH>BTC>USDT"]
    assert [(leg.symbol, leg.is_sell) for leg in found[0].legs] == [("BTC-USDT", False), ("ETH-BTC", False), ("ETH-USDT", True)]


def test_find_triangles_none() -> None:
    assert find_triangles([]) == []
    assert find_triangles(["BTC-USDT", "ETH-USDT"]) == []


@pytest.mark.parametrize("seed", range(30))
def test_best_rate_equals_an_exhaustive_search(seed: int) -> None:
    books = market(seed, 0.001)
    rates = rates_of(books)
    every = [rates[a, b] * rates[b, c] * rates[c, a] for a, b, c in permutations(ASSETS, 3) if {(a, b), (b, c), (c, a)} <= rates.keys()]
    ours = [rate_of(t, books) for t in find_triangles(books)]
    assert len(every) == 3 * len(ours)
    assert max(ours, default=0.0) == pytest.approx(max(every, default=0.0), rel=1e-12)


def test_bellman_ford_of_length_three_agrees_with_the_index() -> None:
    """A profitable walk of exactly three conversions exists if and only if the index has a triangle above one.

    The classic form finds cycles of any length: it must find one wherever the index does, and may find longer ones.
    """
    n_found, n_not, n_longer = 0, 0, 0
    for seed in range(300):
        books = market(seed, 0.0006)
        rates = rates_of(books)
        ours = max((rate_of(t, books) for t in find_triangles(books)), default=0.0) > 1.0 + 1e-11
        assert has_negative_cycle(rates, 3) == ours
        anything = classic_bellman_ford(rates)
        assert anything or not ours
        n_found, n_not, n_longer = n_found + ours, n_not + (not ours), n_longer + (anything and not ours)
    assert min(n_found, n_not) > 30
    assert n_longer > 0


@pytest.mark.parametrize("seed", range(12))
def test_best_cycle_agrees_with_a_brute_grid(seed: int) -> None:
    books, n = market(seed, 0.003, 1.0), 0
    for triangle in find_triangles(books):
        members = [books[leg.symbol] for leg in triangle.legs]
        walk = best_cycle(members, triangle.legs, FEE)
        assert (walk.amount > 0.0) == (rate_of(triangle, books) > 1.0)
        if not walk.amount:
            continue
        n += 1
        back = cycle_value(members, triangle.legs, FEE, walk.amount * (1 - 1e-13))
        assert back is not None
        assert back - walk.amount == pytest.approx(walk.profit, rel=1e-8, abs=1e-9)
        grid = [walk.amount * i / 150 for i in range(1, 450)]
        profits = [v - a for a in grid if (v := cycle_value(members, triangle.legs, FEE, a)) is not None]
        assert walk.profit >= max(profits) - 1e-9 * walk.amount
        assert walk.profit <= max(profits) * 1.02 + 1e-9
    assert n > 0


def test_convert_too_thin_and_empty() -> None:
    book = Book("a", "X-USDT")
    assert convert(book, True, 0.0, 1.0) is None
    assert top_rate(book, True, 0.0) == top_rate(book, False, 0.0) == 0.0
    book.load([(10.0, 2.0)], [(11.0, 2.0)])
    assert convert(book, True, 0.1, 1.0) == pytest.approx(9.0)
    assert convert(book, False, 0.1, 11.0) == pytest.approx(0.9)
    assert convert(book, True, 0.0, 2.1) is None
    assert convert(book, False, 0.0, 22.1) is None
    assert best_cycle([book, Book("a", "Y-X"), book], find_triangles(["X-USDT", "Y-X", "Y-USDT"])[0].legs, 0.0).amount == 0.0
