"""The REST depth as Binance prints it and MEXC after it.

What belongs here: reading that one body. What does not: its address and when it is asked for (`binance`, `mexc`, `joined`).
"""

from __future__ import annotations

import msgspec

from altforecast_io.exchanges.sessions.joined import Snapshot
from altforecast_io.exchanges.sessions.levels import Pair


class _Rest(msgspec.Struct):
    lastUpdateId: int
    bids: list[Pair]
    asks: list[Pair]


_decode = msgspec.json.Decoder(_Rest, strict=False).decode


def read_snapshot(body: bytes) -> Snapshot:
    """The whole book; raises msgspec's errors for anything else."""
    rest = _decode(body)
    return Snapshot(rest.lastUpdateId, rest.bids, rest.asks)
