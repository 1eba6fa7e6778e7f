"""Cycles of three conversions inside one venue: which exist, their rates after fees, the size that earns most.

What belongs here: the index from symbols to triangles, top and depth-aware worth of one. What does not: when they are looked
at (`scanner`). Each fee is taken off what its leg receives. Method: docs/methods/arbitrage.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

from altforecast.books import Book

START_ORDER = ("USDT", "USDC", "USD", "FDUSD", "EUR", "BTC", "ETH")
"""Asset that a cycle begins and ends with: the first of these, else the first by name."""


class Leg(NamedTuple):
    """One conversion: sell the base of a symbol at its bids, or buy it at its asks."""

    symbol: str
    is_sell: bool


@dataclass(frozen=True, slots=True)
class Triangle:
    """A directed cycle of three assets of one venue."""

    assets: tuple[str, str, str]
    """In order; the first is the one that profit is counted in."""
    legs: tuple[Leg, Leg, Leg]

    @property
    def name(self) -> str:
        """`A>B>C>A`."""
        return ">".join((*self.assets, self.assets[0]))


class CycleWalk(NamedTuple):
    """Best size of a triangle; amounts in its first asset."""

    amount: float
    """Paid in at the highest profit; 0 where no size makes one."""
    profit: float
    is_thin: bool
    """The walk ended because a book did."""


def find_triangles(symbols: Iterable[str]) -> list[Triangle]:
    """Every directed triangle of these canonical symbols, each cycle once per direction, sorted by name."""
    markets: dict[frozenset[str], str] = {}
    for symbol in sorted(symbols):
        base, quote, *perp = symbol.split("-")
        if not perp and base != quote:
            markets.setdefault(frozenset((base, quote)), symbol)
    near: dict[str, set[str]] = {}
    for pair in markets:
        one, other = pair
        near.setdefault(one, set()).add(other)
        near.setdefault(other, set()).add(one)
    found: dict[tuple[str, ...], None] = {}
    for asset in sorted(near):
        for one, other in combinations(sorted(near[asset]), 2):
            if frozenset((one, other)) in markets:
                found[tuple(sorted((asset, one, other)))] = None
    triangles = [_triangle(order, markets) for trio in found for order in _orders(trio)]
    return sorted(triangles, key=lambda t: t.name)


def _orders(trio: Sequence[str]) -> tuple[tuple[str, str, str], tuple[str, str, str]]:
    first = min(trio, key=lambda a: (START_ORDER.index(a) if a in START_ORDER else len(START_ORDER), a))
    one, other = (a for a in trio if a != first)
    return (first, one, other), (first, other, one)


def _triangle(order: tuple[str, str, str], markets: Mapping[frozenset[str], str]) -> Triangle:
    a, b, c = order
    legs = []
    for source, target in ((a, b), (b, c), (c, a)):
        symbol = markets[frozenset((source, target))]
        legs.append(Leg(symbol, symbol.split("-")[0] == source))
    return Triangle(order, (legs[0], legs[1], legs[2]))


def convert(book: Book, is_sell: bool, fee: float, amount: float) -> float | None:
    """What `amount` paid into one leg gives back after the fee, through depth; None where the book is too thin."""
    keys, sizes = (book.bid_keys, book.bid_sizes) if is_sell else (book.ask_keys, book.ask_sizes)
    got, left = 0.0, amount
    for i in range(len(keys) - 1, -1, -1):
        price, size = abs(keys[i]), sizes[i]
        room = size if is_sell else size * price
        take = left if left < room else room
        got += take * price if is_sell else take / price
        left -= take
        if left <= 0.0:
            return got * (1.0 - fee)
    return None


def cycle_value(books: Sequence[Book], legs: Sequence[Leg], fee: float, amount: float) -> float | None:
    """What `amount` of the first asset comes back as; None where a book is too thin."""
    for book, leg in zip(books, legs, strict=True):
        converted = convert(book, leg.is_sell, fee, amount)
        if converted is None:
            return None
        amount = converted
    return amount


def best_cycle(books: Sequence[Book], legs: Sequence[Leg], fee: float) -> CycleWalk:
    """The marginal walk through three books: pieces at the best remaining levels while a piece returns more than it took.

    Each leg's output is concave in its input, so the cycle's is too and no other size earns more.
    """
    sides = [(b.bid_keys, b.bid_sizes) if leg.is_sell else (b.ask_keys, b.ask_sizes) for b, leg in zip(books, legs, strict=True)]
    at = [len(keys) - 1 for keys, _ in sides]
    if min(at) < 0:
        return CycleWalk(0.0, 0.0, False)
    keep = 1.0 - fee
    room = [_room(sides[n], at[n], legs[n].is_sell) for n in range(3)]
    rates = [_rate(sides[n], at[n], legs[n].is_sell) * keep for n in range(3)]
    amount = profit = 0.0
    while (whole := rates[0] * rates[1] * rates[2]) > 1.0:
        reach = (room[0], room[1] / rates[0], room[2] / (rates[0] * rates[1]))
        take = min(reach)
        amount += take
        profit += take * (whole - 1.0)
        ended = reach.index(take)
        room[0] -= take
        room[1] -= take * rates[0]
        room[2] -= take * rates[0] * rates[1]
        at[ended] -= 1
        if at[ended] < 0:
            return CycleWalk(amount, profit, True)
        room[ended] = _room(sides[ended], at[ended], legs[ended].is_sell)
        rates[ended] = _rate(sides[ended], at[ended], legs[ended].is_sell) * keep
    return CycleWalk(amount, profit, False)


def _room(side: tuple[list[float], list[float]], i: int, is_sell: bool) -> float:
    return side[1][i] if is_sell else side[1][i] * -side[0][i]


def _rate(side: tuple[list[float], list[float]], i: int, is_sell: bool) -> float:
    return side[0][i] if is_sell else 1.0 / -side[0][i]
