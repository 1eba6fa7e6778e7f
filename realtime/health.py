"""How this process does: lag of the event loop, heartbeats, and the health components it adds to the API.

What belongs here: measuring ourselves. What does not: the health of stores and sources (serving) and acting on it.
"""

from __future__ import annotations

import asyncio
import os
import resource
import time
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

from altforecast_io.store import heartbeats
from altforecast_io.store.engine import Store
from altforecast_io.store.inbox import InboxWriter
from realtime.metrics import LOOP_LAG

BEAT_S = 5.0
LAG_SAMPLE_S = 0.1
LAG_SAMPLES = 600
"""One minute of samples; older ones are forgotten."""
LAG_LIMIT_MS = 250.0
"""A loop that was blocked longer than this in the last minute is not healthy."""


class Health:
    """What serving and the heartbeat are told of this process; all numbers of the last minute."""

    def __init__(self, started_at: datetime) -> None:
        self.started_at = started_at
        self.inbox: InboxWriter | None = None
        self.parts: list[Callable[[], dict[str, dict[str, Any]]]] = []
        """More components, asked each time: books, arbitrage, bus, clock."""
        self.is_started: Callable[[], bool] = lambda: False
        """Whether the start is over; until then delays count as those of the start, which are no fault."""
        self.start_lag_ms = 0.0
        """Longest delay of the loop during the start [ms]."""
        self._is_running = False
        self._lags_ms: deque[float] = deque(maxlen=LAG_SAMPLES)

    def note_lag(self, lag_ms: float) -> None:
        """One sample: how late the loop woke up [ms]."""
        if not self._is_running:
            self.start_lag_ms = round(max(self.start_lag_ms, lag_ms), 1)
            self._is_running = self.is_started()
            return
        self._lags_ms.append(max(lag_ms, 0.0))
        LOOP_LAG.set(self.worst_lag_ms)

    @property
    def worst_lag_ms(self) -> float:
        """Longest delay of the loop since its start was over [ms]; 0 before the first sample."""
        return round(max(self._lags_ms, default=0.0), 1)

    def health(self) -> dict[str, dict[str, Any]]:
        """Components by name: the loop and those of `parts`."""
        found: dict[str, dict[str, Any]] = {"loop": self._loop()}
        for part in self.parts:
            found |= part()
        return found

    def _loop(self) -> dict[str, Any]:
        phase = "running" if self._is_running else "starting"
        return {"ok": self.worst_lag_ms < LAG_LIMIT_MS, "lag_ms": self.worst_lag_ms, "phase": phase, "start_lag_ms": self.start_lag_ms}

    def detail(self) -> dict[str, Any]:
        """What the heartbeat says: process id, peak memory [MB], lag [ms] and waiting alerts."""
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        waiting = self.inbox.depth if self.inbox else 0
        return {"pid": os.getpid(), "peak_rss_mb": peak_mb, "lag_ms": self.worst_lag_ms, "inbox_queue": waiting}


async def watch_loop(health: Health, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
    """Measure for ever how late the loop wakes up."""
    while True:
        began = time.perf_counter()
        await sleep(LAG_SAMPLE_S)
        health.note_lag((time.perf_counter() - began - LAG_SAMPLE_S) * 1000)


async def send_heartbeats(
    store: Store, health: Health, name: str, is_good: Callable[[], None], sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
) -> None:
    """Write a heartbeat every 5 s for ever; raises StorageError when the store refuses one."""
    while True:
        await asyncio.to_thread(heartbeats.beat, store, name, health.started_at, health.detail())
        is_good()
        await sleep(BEAT_S)
