"""The books of one venue, made when they are first asked for.

What belongs here: which books a venue has and shows, and its clock. What does not: when they change (`hub`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from altforecast_sandbox.base_path import BasePath
from altforecast_sandbox.listings import listed_pairs
from altforecast_sandbox.order_flow import OrderFlow
from altforecast_sandbox.resting import Change, RestingBook
from altforecast_sandbox.stream_faults import StreamFaults

_STALE_MS = 1_000


class VenueBooks(Mapping[str, RestingBook]):
    """Books by canonical symbol; symbols whose subscription a fault refuses are hidden.

    now_ms: the venue's own time.
    """

    def __init__(
        self, seed: int, venue: str, path: BasePath, now_ms: Callable[[], int], faults: StreamFaults, extra_symbols: int = 0
    ) -> None:
        self.venue, self.now_ms = venue, now_ms
        self.flows: dict[str, OrderFlow] = {}
        self.followed: dict[str, int] = {}
        """Symbols that somebody follows, and how many do: the hub keeps these moving."""
        self._seed, self._path, self._faults = seed, path, faults
        self._pairs = {pair.symbol: pair for pair in listed_pairs(venue, extra_symbols)}

    def __getitem__(self, symbol: str) -> RestingBook:
        if symbol not in self:
            raise KeyError(symbol)
        flow = self.flow(symbol)
        if symbol not in self.followed and self.now_ms() - flow.book.ts_ms > _STALE_MS:
            flow.step(self.now_ms())
        return flow.book

    def __contains__(self, symbol: object) -> bool:
        return symbol in self._pairs and (not self._faults.faults or not self._is_refused(str(symbol)))

    def __iter__(self) -> Iterator[str]:
        return iter(self._pairs)

    def __len__(self) -> int:
        return len(self._pairs)

    def flow(self, symbol: str) -> OrderFlow:
        """The flow behind a listed symbol, started now if it is the first to ask."""
        if symbol not in self.flows:
            self.flows[symbol] = OrderFlow(self._seed, self.venue, self._pairs[symbol], self._path, self.now_ms())
        return self.flows[symbol]

    def step(self, symbol: str, ts_ms: int) -> Change:
        """The next change of a book, as faults want it."""
        flow = self.flow(symbol)
        if not self._faults.faults:
            return flow.step(ts_ms)
        slow = self._faults.find(self.venue, "slow_clock", symbol)
        is_crossed = self._faults.strikes(self.venue, "crossed", symbol) is not None
        return flow.step(ts_ms, is_crossed, round(slow.value * 1000) if slow else 0)

    def _is_refused(self, symbol: str) -> bool:
        return self._faults.find(self.venue, "refuse_subscription", symbol) is not None
