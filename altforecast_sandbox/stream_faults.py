"""Fault switches of the streams: what a venue's WebSocket does on its bad days.

What belongs here: which switches exist, what their value means, and using them up. What does not: connections (`streams.hub`).
"""

from __future__ import annotations

from collections import Counter

from altforecast_sandbox.switches import Fault

STREAM_KINDS = (
    "gap", "dropped_frame", "silence", "crossed", "checksum_error", "slow_clock", "midnight_rotation", "reconnect_moved",
    "garbage", "refuse_subscription", "subscribe_limit", "flap",
)  # fmt: skip
"""`times` counts: gap and crossed changes of a book; dropped_frame and checksum_error frames; garbage extra frames; flap
closings; subscribe_limit refused requests. The others last until removed, or strike once.

`value` means: silence its length [s]; slow_clock how far event times lie behind [s]; reconnect_moved the market's move
[share]; flap the time between closings [s].
"""
STREAM_DEFAULTS = {"silence": 30.0, "slow_clock": 5.0, "reconnect_moved": 0.015, "flap": 5.0}
ONCE = ("midnight_rotation", "reconnect_moved")
"""Strike once, at the next moment; `times` may ask for more."""


class StreamFaults:
    """The switches of all venues' streams."""

    def __init__(self, counts: Counter[str]) -> None:
        self.faults: list[Fault] = []
        self._counts = counts

    def add(self, fault: Fault) -> None:
        """Take a switch; its default value and count where none were given."""
        fault.value = fault.value or STREAM_DEFAULTS.get(fault.kind, 0.0)
        if fault.kind in ONCE and fault.times is None:
            fault.times = 1
        self.faults.append(fault)

    def find(self, service: str, kind: str, symbol: str = "") -> Fault | None:
        """The first switch of a kind that concerns a venue and symbol; not used up."""
        for fault in self.faults:
            if fault.kind == kind and fault.is_for(service, symbol):
                return fault
        return None

    def strikes(self, service: str, kind: str, symbol: str = "") -> Fault | None:
        """Like `find`; counted, and one of its `times` is used."""
        fault = self.find(service, kind, symbol)
        if fault is not None:
            self.use(fault, service)
        return fault

    def use(self, fault: Fault, service: str) -> None:
        """Count one strike, and remove the switch after the last."""
        self._counts[f"{service}.{fault.kind}"] += 1
        if fault.times is not None:
            fault.times -= 1
            if fault.times <= 0:
                self.remove(fault)

    def remove(self, fault: Fault) -> None:
        """Take a switch away."""
        self.faults = [f for f in self.faults if f is not fault]

    def is_silent(self, service: str, symbol: str, now_s: float) -> bool:
        """Whether nothing may be sent; a silence begins when it is first met and removes itself."""
        fault = self.find(service, "silence", symbol)
        if fault is None:
            return False
        if fault.at_s is None:
            fault.at_s = now_s
            self._counts[f"{service}.silence"] += 1
        if now_s - fault.at_s < fault.value:
            return True
        self.remove(fault)
        return False
