"""What one quote currency is worth in another, by live books only: USD, USDT, USDC and EUR are never taken as equal.

What belongs here: conversion rates with fees and depth, the USDT value of quotes. What does not: comparing books (`spatial`).
"""

from __future__ import annotations

from statistics import median

from altforecast.arbitrage import vwap
from altforecast.book_slots import Slot, trouble
from altforecast.params import ArbitrageParams

NS_PER_MS = 1_000_000
USDT = "USDT"
VIA = "BTC"
"""Coin through which a quote without a book against USDT is valued."""


class Conversions:
    """Books between convertible quotes, and the value of every quote [USDT per unit]."""

    def __init__(self, params: ArbitrageParams) -> None:
        self._params = params
        self._slots: dict[str, list[Slot]] = {}
        self.values: dict[str, float] = {USDT: 1.0}
        """USDT per unit of a quote; absent where no live book tells."""
        self._taken_ns: int | None = None
        self._refresh_ns = params.value_refresh_ms * NS_PER_MS
        self._ceilings: dict[tuple[str, str], float] = {}
        self._converting: list[Slot] = []
        self._youngest_ns = 0
        """No conversion book that was young at the last look is older than this."""

    def is_conversion(self, base: str, quote: str) -> bool:
        """Whether books of this symbol convert one quote into another."""
        return base in self._params.convertible and quote in self._params.convertible

    def add(self, symbol: str, slot: Slot) -> None:
        """A book of a symbol that values quotes or converts them; sorted by venue so that order of arrival does not matter."""
        slot.is_conversion = self.is_conversion(slot.group.base, slot.group.quote)
        if slot.is_conversion:
            self._converting.append(slot)
        slots = [s for s in self._slots.get(symbol, []) if s.venue != slot.venue]
        self._slots[symbol] = sorted([*slots, slot], key=lambda s: s.venue)

    def is_ageing(self, oldest_ns: int) -> bool:
        """Whether a conversion book became too old since the last call (one becomes young again only by a change, which is marked)."""
        if oldest_ns <= self._youngest_ns or not self._converting:
            return False
        times = [s.book.ts_ingest_ns for s in self._converting]
        changed = any(self._youngest_ns <= t < oldest_ns for t in times)
        self._youngest_ns = min((t for t in times if t >= oldest_ns), default=oldest_ns)
        return changed

    def is_value_due(self, now_ns: int) -> bool:
        """Whether the values are older than `value_refresh_ms`."""
        return self._taken_ns is None or now_ns - self._taken_ns >= self._refresh_ns

    def revalue(self, quotes: set[str], now_ns: int, oldest_ns: int) -> set[str]:
        """Take the values anew; the quotes whose value changed."""
        self._taken_ns = now_ns
        changed = set()
        for quote in sorted(quotes - {USDT}):
            value = self._value(quote, oldest_ns)
            if value != self.values.get(quote):
                changed.add(quote)
                if value is None:
                    del self.values[quote]
                else:
                    self.values[quote] = value
        return changed

    def _value(self, quote: str, oldest_ns: int) -> float | None:
        direct, inverse = self._mid(f"{quote}-{USDT}", oldest_ns), self._mid(f"{USDT}-{quote}", oldest_ns)
        if direct is not None:
            return direct
        if inverse is not None:
            return 1.0 / inverse
        over, under = self._mid(f"{VIA}-{USDT}", oldest_ns), self._mid(f"{VIA}-{quote}", oldest_ns)
        return over / under if over is not None and under is not None else None

    def _mid(self, symbol: str, oldest_ns: int) -> float | None:
        mids = [(s.book.bid_keys[-1] - s.book.ask_keys[-1]) / 2 for s in self._slots.get(symbol, ()) if not trouble(s.book, oldest_ns)]
        return median(mids) if mids else None

    def forget_ceilings(self) -> None:
        """A conversion book changed."""
        self._ceilings.clear()

    def ceiling(self, source: str, target: str) -> float:
        """An upper bound of every rate from `source` to `target`, by best prices; 0 where no book can convert."""
        if source == target:
            return 1.0
        known = self._ceilings.get((source, target))
        if known is None:
            selling = [s.top[0] * (1.0 - s.fee) for s in self._slots.get(f"{source}-{target}", ())]
            buying = [(1.0 - s.fee) / s.top[1] for s in self._slots.get(f"{target}-{source}", ())]
            known = self._ceilings[source, target] = max([0.0, *selling, *buying])
        return known

    def rate(self, source: str, target: str, venues: tuple[str, str], oldest_ns: int) -> tuple[float, Slot] | None:
        """Units of `target` for one of `source` at the target size, after the fee, and the book that gives them.

        The best book on one of `venues`, else the best of any venue; None where no live book is deep enough.
        """
        value = self.values.get(source)
        if value is None:
            return None
        amount = self._params.target_size_usdt / value
        found = [r for r in (self._sold(s, amount, oldest_ns) for s in self._slots.get(f"{source}-{target}", ())) if r]
        found += [r for r in (self._bought(s, amount, oldest_ns) for s in self._slots.get(f"{target}-{source}", ())) if r]
        near = [r for r in found if r[1].venue in venues]
        return max(near or found, key=lambda r: r[0], default=None)

    def _sold(self, slot: Slot, amount: float, oldest_ns: int) -> tuple[float, Slot] | None:
        if trouble(slot.book, oldest_ns):
            return None
        priced = vwap(slot.book.bid_keys, slot.book.bid_sizes, amount)
        return (priced[0] * (1.0 - slot.fee), slot) if priced else None

    def _bought(self, slot: Slot, amount: float, oldest_ns: int) -> tuple[float, Slot] | None:
        if trouble(slot.book, oldest_ns):
            return None
        priced = vwap(slot.book.ask_keys, slot.book.ask_sizes, amount / -slot.book.ask_keys[-1])
        return ((1.0 - slot.fee) / priced[0], slot) if priced else None
