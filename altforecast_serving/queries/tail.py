"""Bars that are acknowledged but not yet in the lake, as rows that look like bars.

What belongs here: following the unbuilt end of the inbox. What does not: writing the inbox, building bars.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import polars as pl
import structlog
from anyio import to_thread

from altforecast.errors import StorageError
from altforecast.tables import BARS
from altforecast.types import Quality, Series, Timeframe
from altforecast_io.sources.tradingview import Alert
from altforecast_io.store import inbox
from altforecast_io.store.engine import Store

REFRESH_AFTER_S = 0.02
"""A reading older than this is renewed beside the request that meets it, which still uses it."""
MAX_AGE_S = 0.08
"""A reading older than this is renewed first: the request waits."""
MAX_ROWS = 10_000
"""Unbuilt rows shown; beyond it only the newest are, and the older ones appear once they are built."""
Key = tuple[Series, Timeframe]
log = structlog.get_logger(__name__)


class CountingInboxWriter(inbox.InboxWriter):
    """An inbox writer that counts what it has stored, so that readers in this process see it at once."""

    n_stored = 0

    async def submit(self, alert: Alert, source_ip: str | None = None) -> inbox.Receipt:
        """As InboxWriter.submit."""
        receipt = await super().submit(alert, source_ip)
        self.n_stored += 1
        return receipt


class Tail:
    """The provisional bars of one moment; immutable."""

    def __init__(self, version: tuple[int, ...] = (0, 0, 0), rows: Iterable[inbox.InboxRow] = (), *, is_lost: bool = False) -> None:
        """rows: in id order; of several for one bar the last wins.  is_lost: the store did not answer, rows may be missing."""
        newest: dict[Key, dict[Any, dict[str, Any]]] = defaultdict(dict)
        for row in rows:
            newest[(row.series, row.timeframe)][row.ts] = _bar(row)
        self.version = version
        self.is_lost = is_lost
        self._frames = {key: pl.DataFrame(list(bars.values()), schema=BARS.schema).sort("ts") for key, bars in newest.items()}

    def of(self, series: Series, timeframe: Timeframe) -> pl.DataFrame | None:
        """Provisional bars of one series, oldest first; None where there are none."""
        return self._frames.get((series, timeframe))

    def matching(self, timeframes: Iterable[Timeframe]) -> list[pl.DataFrame]:
        """Provisional bars of all series on these timeframes."""
        wanted = set(timeframes)
        return [frame for (_, timeframe), frame in self._frames.items() if timeframe in wanted]

    @property
    def series(self) -> dict[Series, list[Timeframe]]:
        """Series that have provisional bars, with their timeframes."""
        found: dict[Series, list[Timeframe]] = {}
        for series, timeframe in self._frames:
            found.setdefault(series, []).append(timeframe)
        return found


def _bar(row: inbox.InboxRow) -> dict[str, Any]:
    return {
        "ts": row.ts, "symbol": row.series.symbol, "exchange": row.series.exchange, "timeframe": row.timeframe.value,
        "open": float(row.open), "high": float(row.high), "low": float(row.low), "close": float(row.close),
        "volume": None if row.volume is None else float(row.volume), "quality": Quality.PROVISIONAL.value, "source": row.kind,
        "received_at": row.received_at, "known_at": row.ts + row.timeframe.duration,
    }  # fmt: skip


class TailReader:
    """Keeps a Tail fresh: read again when this process stored something, or when the last reading has aged.

    What this process stored is seen by the next request; what another process stored or built, at most MAX_AGE_S later.
    """

    def __init__(self, store: Store, writer: CountingInboxWriter | None, clock: Callable[[], float]) -> None:
        """clock: seconds that never run backwards."""
        self._store = store
        self._writer = writer
        self._clock = clock
        self._tail = Tail()
        self._read_at = float("-inf")
        self._n_stored = -1
        self._turn = asyncio.Lock()
        self._renewal: asyncio.Task[Tail] | None = None

    async def fresh(self) -> Tail:
        """The tail, after asking the inbox if need be; requests that wait share one question."""
        if not self._is_usable():
            return await self._renewed()
        if self._clock() - self._read_at > REFRESH_AFTER_S and (self._renewal is None or self._renewal.done()):
            self._renewal = asyncio.create_task(self._renewed(must=True), name="inbox-tail")
        return self._tail

    async def close(self) -> None:
        """End a reading that is under way."""
        if self._renewal is not None:
            await asyncio.wait([self._renewal])

    def _is_usable(self) -> bool:
        return self._stored() == self._n_stored and self._clock() - self._read_at < MAX_AGE_S

    def _stored(self) -> int:
        return self._writer.n_stored if self._writer else 0

    async def _renewed(self, *, must: bool = False) -> Tail:
        async with self._turn:
            if not must and self._is_usable():
                return self._tail
            stored, read_at = self._stored(), self._clock()
            self._tail = await to_thread.run_sync(self._read)
            self._n_stored, self._read_at = stored, read_at
            return self._tail

    def _read(self) -> Tail:
        try:
            waiting = inbox.pending(self._store)
            version = (waiting.n_rows, waiting.first_id or 0, waiting.last_id or 0)
            if version == self._tail.version and not self._tail.is_lost:
                return self._tail
            return Tail(version, inbox.unbuilt(self._store, MAX_ROWS) if waiting.n_rows else ())
        except StorageError as error:
            # The lake can still be read: answers go on without provisional bars and say so.
            log.warning("inbox_not_readable", error=str(error))
            return Tail((-1, -1, -1), is_lost=True)
