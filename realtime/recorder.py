"""The recorder: every frame of every feed into the log, without ever holding a feed up.

What belongs here: the tap, its bounded queue, rotation, retention, what happens when the disk refuses. What does not: the form of
the files (`altforecast_io.recordings`) and the feeds.

Frames are written in a thread, four times a second, and flushed once a second: a crash loses less than 1.5 s, and the file stays
readable up to the last flush. A new file begins with every hour of the clock.
"""

from __future__ import annotations

import asyncio
import errno
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import structlog
from prometheus_client import Counter, Gauge

from altforecast_io.recordings import Frame, RecordingWriter, prune_recordings, recording_files

WRITE_S = 0.25
FLUSH_S = 1.0
PRUNE_S = 60.0
RETRY_S = 5.0
MAX_FRAMES = 100_000
"""Frames that may wait: at 17,000 a second, six seconds of a disk that hangs."""
MAX_BYTES = 128 << 20
HOUR_NS = 3_600_000_000_000
RECORDED = Counter("recorded_frames_total", "Frames written into recordings")
LOST = Counter("recorder_frames_lost_total", "Frames that were not recorded", ["why"])
SIZE = Gauge("recordings_bytes", "Size of all recordings on disk [bytes]")
log = structlog.get_logger(__name__)
OpenFile = Callable[[Path, int], RecordingWriter]


class Recorder:
    """The tap of all feeds. `frame` belongs to the event loop's thread, never waits and never raises.

    When frames come faster than the disk takes them, what does not fit into the queue is dropped and counted
    (`recorder_frames_lost_total{why="queue_full"}`). When the disk refuses, everything until the next try, RETRY_S later, is
    dropped and counted (`why="disk"`), and `health` says so. The feeds go on in both cases.
    """

    def __init__(
        self,
        folder: Path,
        *,
        retention_hours: float,
        max_mb: float,
        clock_ns: Callable[[], int] = time.time_ns,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        open_file: OpenFile = RecordingWriter,
        max_frames: int = MAX_FRAMES,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self.folder = folder
        self._retention_ns, self._max_bytes_kept = int(retention_hours * HOUR_NS), int(max_mb * 1_000_000)
        self._clock_ns, self._monotonic, self._sleep, self._open_file = clock_ns, monotonic, sleep, open_file
        self._max_frames, self._max_bytes = max_frames, max_bytes
        self._queue: list[Frame] = []
        self._queued_bytes = 0
        self._began: dict[tuple[str, str], int] = {}
        """Connections that are open as of the last frame written, and when they began."""
        self._file: RecordingWriter | None = None
        self._hour = -1
        self._flushed_at = self._retry_at = 0.0
        self._pruned_at = -PRUNE_S
        self._turn = asyncio.Lock()
        self.n_frames = self.n_lost = self.n_bytes = 0
        """Frames written, frames lost, bytes of finished files since the start."""
        self.error = ""

    def frame(self, recv_ns: int, venue: str, conn: str, direction: Any, payload: str | bytes) -> None:
        """One frame; direction is one of `altforecast_io.recordings.DIRECTIONS`."""
        if len(self._queue) >= self._max_frames or self._queued_bytes >= self._max_bytes:
            self._lose(1, "queue_full")
            return
        self._queue.append(Frame(recv_ns, venue, conn, direction, payload))
        self._queued_bytes += len(payload)

    async def run(self) -> None:
        """Write for ever; errors of the disk are counted, anything else is raised."""
        while True:
            await self._sleep(WRITE_S)
            await self.write()

    async def close(self) -> None:
        """Write what is left and end the file; call it after `run` was cancelled."""
        await self.write()
        async with self._turn:
            await asyncio.to_thread(self._guarded, self._finish, [])

    async def write(self) -> None:
        """Hand what waits to the disk, in a thread; returns when it is there."""
        async with self._turn:
            frames, self._queue, self._queued_bytes = self._queue, [], 0
            work = asyncio.ensure_future(asyncio.to_thread(self._guarded, lambda: self._write(frames), frames))
            try:
                await asyncio.shield(work)
            except asyncio.CancelledError:
                await asyncio.wait({work})
                raise

    @property
    def size(self) -> int:
        """Bytes on disk of what this recorder wrote since its start."""
        return self.n_bytes + (self._file.n_bytes if self._file else 0)

    def health(self) -> dict[str, Any]:
        """For the health of the process: good while the disk takes frames."""
        said = {"ok": not self.error, "frames": self.n_frames, "lost": self.n_lost, "bytes": self.size, "waiting": len(self._queue)}
        return said | ({"error": self.error} if self.error else {})

    # ---- in the thread

    def _guarded(self, work: Callable[[], None], frames: list[Frame]) -> None:
        try:
            work()
        except OSError as error:
            self._refused(error)
            self._skip(frames)

    def _skip(self, frames: list[Frame]) -> None:
        """Count frames as lost; what they say about connections is still needed."""
        self._lose(len(frames), "disk")
        for frame in frames:
            self._follow(frame)

    def _refused(self, error: OSError) -> None:
        why = "disk full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else str(error)
        if not self.error:
            log.error("recording_refused", error=why, folder=self.folder.name)
        self.error = f"{why}: frames are not recorded"
        if self._file is not None:
            self._file.abandon()
            self._file = None
        self._retry_at = self._monotonic() + RETRY_S

    def _write(self, frames: list[Frame]) -> None:
        now = self._monotonic()
        if self._file is None and now < self._retry_at:
            self._skip(frames)
            return
        start = 0
        for i, frame in enumerate(frames):
            if frame.recv_ns // HOUR_NS != self._hour or self._file is None:
                self._append(frames[start:i])
                start = i
                self._rotate(frame.recv_ns)
            self._follow(frame)
        self._append(frames[start:])
        if self._file is not None and now - self._flushed_at >= FLUSH_S:
            self._file.flush()
            self._flushed_at, self.error = now, ""
        if now - self._pruned_at >= PRUNE_S:
            self._pruned_at = now
            self._prune()

    def _append(self, frames: list[Frame]) -> None:
        if frames and self._file is not None:
            self._file.write(frames)
            self.n_frames += len(frames)
            RECORDED.inc(len(frames))

    def _rotate(self, recv_ns: int) -> None:
        self._finish()
        self._file, self._hour = self._open_file(self.folder, recv_ns), recv_ns // HOUR_NS
        self._file.write(Frame(recv_ns, venue, conn, "since", str(began)) for (venue, conn), began in self._began.items())

    def _follow(self, frame: Frame) -> None:
        if frame.direction == "received":
            return
        key = frame.venue, frame.conn
        if frame.direction in ("begin", "open"):
            if frame.direction == "begin" or key not in self._began:
                self._began[key] = frame.recv_ns
        elif frame.direction == "close":
            self._began.pop(key, None)

    def _finish(self) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            file.close()
            self.n_bytes += file.path.stat().st_size

    def _prune(self) -> None:
        removed = prune_recordings(self.folder, self._clock_ns() - self._retention_ns, self._max_bytes_kept)
        if removed:
            log.info("recordings_removed", n=len(removed))
        SIZE.set(sum(f.n_bytes for f in recording_files(self.folder)))

    def _lose(self, n: int, why: str) -> None:
        if n:
            self.n_lost += n
            LOST.labels(why).inc(n)
