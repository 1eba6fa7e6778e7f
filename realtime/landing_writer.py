"""Opportunity events and book cuts on their way into the lake: closed landing files, written off the event loop.

What belongs here: collecting rows, when to write, what happens when the disk refuses. What does not: the form of rows
(`altforecast.opportunity_history`), landing files themselves (`altforecast_io.landing`) and who takes them in (pipelines).

A file is closed at most every `interval_s`, or as soon as `rows_per_file` wait; a crash loses what came since then, a stop nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import structlog
from prometheus_client import Counter

from altforecast.errors import StorageError
from altforecast.opportunities import OpportunityEvent
from altforecast.opportunity_history import cut_frame, event_frame
from altforecast_io.clock import Clock
from altforecast_io.landing import compact_landing, write_landing

INTERVAL_S = 10.0
ROWS_PER_FILE = 20_000
MAX_ROWS = 200_000
"""Rows of one table that may wait while the disk refuses; of more the oldest are dropped and counted."""
FILES_BEFORE_COMPACTION = 360
"""Landing files of one table (an hour of them) that are put together when nobody takes them in."""
CHECK_S = 0.5
LOST = Counter("landing_rows_lost_total", "Rows dropped because the disk refused landing files for too long", ["table"])
WRITTEN = Counter("landing_rows_total", "Rows written into landing files", ["table"])
ToFrame = Callable[[Sequence[Any]], pl.DataFrame]
log = structlog.get_logger(__name__)


class _Pile:
    """Rows of one table that wait to be written; bounded, the oldest go first."""

    def __init__(self, table: str, to_frame: ToFrame, max_rows: int) -> None:
        self.table, self.to_frame = table, to_frame
        self.rows: deque[Any] = deque(maxlen=max_rows)
        self.n_lost = 0
        self.error = ""
        """What the disk said last about this table; empty while it takes files."""

    def add(self, row: Any) -> None:
        if len(self.rows) == self.rows.maxlen:
            self.n_lost += 1
            LOST.labels(self.table).inc()
        self.rows.append(row)

    def take(self) -> list[Any]:
        taken = list(self.rows)
        self.rows.clear()
        return taken

    def give_back(self, rows: Sequence[Any]) -> None:
        """Rows that could not be written, in front of what came meanwhile."""
        room = (self.rows.maxlen or 0) - len(self.rows)
        lost = max(len(rows) - room, 0)
        if lost:
            self.n_lost += lost
            LOST.labels(self.table).inc(lost)
        self.rows.extendleft(reversed(rows[lost:]))


class LandingWriter:
    """Collects rows in the event loop and writes them in a thread; `note` and `note_cut` never wait and never raise.

    While the disk refuses, at most `max_rows` rows of each table are kept and tried again every interval; of more, the oldest are
    dropped and counted (`landing_rows_lost_total`). Nothing else in the process notices.
    """

    def __init__(
        self,
        lake_root: Path,
        clock: Clock,
        *,
        interval_s: float = INTERVAL_S,
        rows_per_file: int = ROWS_PER_FILE,
        max_rows: int = MAX_ROWS,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._root, self._clock, self._sleep = lake_root, clock, sleep
        self._interval_s, self._rows_per_file = interval_s, rows_per_file
        self._events = _Pile("opportunity_events", event_frame, max_rows)
        self._cuts = _Pile("book_cuts", cut_frame, max_rows)
        self._n_files = 0
        self._turn = asyncio.Lock()

    def note(self, event: OpportunityEvent) -> None:
        """One event of the scanner."""
        self._events.add(event)

    def note_cut(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Rows of one cut of the books (`altforecast.opportunity_history.cut_rows`)."""
        for row in rows:
            self._cuts.add(row)

    @property
    def n_waiting(self) -> int:
        """Rows that are not on disk yet."""
        return len(self._events.rows) + len(self._cuts.rows)

    @property
    def n_lost(self) -> int:
        """Rows that were dropped since the start."""
        return self._events.n_lost + self._cuts.n_lost

    @property
    def error(self) -> str:
        """What the disk said last; empty while it takes the files of both tables."""
        return self._events.error or self._cuts.error

    def health(self) -> dict[str, Any]:
        """For the health of the process: good while the disk takes files."""
        return {
            "ok": not self.error,
            "rows_waiting": self.n_waiting,
            "rows_lost": self.n_lost,
            **({"error": self.error} if self.error else {}),
        }

    async def run(self) -> None:
        """Write for ever, every interval or when a file is full; a bug is raised, a refusing disk is not."""
        waited = 0.0
        while True:
            await self._sleep(min(CHECK_S, self._interval_s))
            waited += min(CHECK_S, self._interval_s)
            is_full = not self.error and max(len(self._events.rows), len(self._cuts.rows)) >= self._rows_per_file
            if waited >= self._interval_s or is_full:
                waited = 0.0
                await self.flush()

    async def close(self) -> None:
        """Write what is left; call it after `run` was cancelled."""
        await self.flush()

    async def flush(self) -> None:
        """Write everything that waits now; what the disk refuses is kept."""
        async with self._turn:
            for pile in (self._events, self._cuts):
                await self._write(pile)

    async def _write(self, pile: _Pile) -> None:
        rows = pile.take()
        if not rows:
            return
        work = asyncio.ensure_future(asyncio.to_thread(self._write_file, pile.table, pile.to_frame, rows))
        try:
            await asyncio.shield(work)
        except StorageError as error:
            pile.give_back(rows)
            if not pile.error:
                log.error("landing_refused", table=pile.table, error=str(error), rows_waiting=self.n_waiting)
            pile.error = str(error)[:200]
        except asyncio.CancelledError:
            await asyncio.wait({work})
            if work.exception() is not None:
                pile.give_back(rows)
            raise
        except Exception:
            # a bug: the rows are gone, and that is counted before the process ends
            pile.n_lost += len(rows)
            LOST.labels(pile.table).inc(len(rows))
            raise
        else:
            pile.error = ""

    def _write_file(self, table: str, to_frame: ToFrame, rows: Sequence[Any]) -> None:
        now = self._clock()
        self._n_files += 1
        name = f"{now:%Y%m%dT%H%M%S}{now.microsecond // 1000:03d}-{self._n_files:06d}"
        write_landing(self._root, name, to_frame(rows), table=table)
        WRITTEN.labels(table).inc(len(rows))
        if self._n_files % FILES_BEFORE_COMPACTION == 0:
            self._compact()

    def _compact(self) -> None:
        """Fewer, larger files; where the disk refuses, the small ones stay, and the rows just written are not written again."""
        for table in ("opportunity_events", "book_cuts"):
            try:
                compact_landing(self._root, table, min_files=FILES_BEFORE_COMPACTION // 2)
            except StorageError as error:
                log.warning("landing_not_compacted", table=table, error=str(error))
