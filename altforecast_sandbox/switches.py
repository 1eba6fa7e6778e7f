"""One fault switch, as `POST /_faults` sets it.

What belongs here: the switch. What does not: what it does to answers (`faults`) and to streams (`stream_faults`).
"""

from __future__ import annotations

from dataclasses import dataclass

EVERY_SERVICE = "*"


@dataclass
class Fault:
    """One switch: what happens to the next `times` matching requests, changes or frames (None: to all until removed).

    `value` means seconds for latency, rate_limit (Retry-After) and clock_skew, the status for server_error; for the kinds
    of streams see `stream_faults`.
    """

    service: str
    kind: str
    value: float = 0.0
    times: int | None = None
    path: str = ""
    """Only requests whose path contains this text."""
    symbol: str = ""
    """Only the stream of this canonical symbol."""
    at_s: float | None = None
    """When a stream first met it [s of the hub's clock]; set by the sandbox."""

    def is_for(self, service: str, symbol: str = "") -> bool:
        """Whether it concerns a service and a symbol; frames that belong to no symbol only where the switch names none."""
        return self.service in (service, EVERY_SERVICE) and self.symbol in ("", symbol)
