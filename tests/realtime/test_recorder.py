"""The recorder: everything is on disk a second later, and nothing it meets reaches the feeds."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from altforecast_io.recordings import RecordingWriter, read_recording, recording_files
from realtime.recorder import HOUR_NS, RETRY_S, Recorder

pytestmark = pytest.mark.anyio
NOON_NS = 1_717_243_200_000_000_000


class Clock:
    """Time that stands until it is moved."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def monotonic(self) -> float:
        return self.seconds

    def ns(self) -> int:
        return NOON_NS + int(self.seconds * 1e9)


def make(folder: Path, clock: Clock, **options: object) -> Recorder:
    return Recorder(folder, retention_hours=48, max_mb=100, clock_ns=clock.ns, monotonic=clock.monotonic, **options)  # type: ignore[arg-type]


def feed(recorder: Recorder, n: int, at_ns: int = NOON_NS, conn: str = "okx-1") -> None:
    for i in range(n):
        recorder.frame(at_ns + i, "okx", conn, "received", f'{{"seq":{i}}}')


async def test_recorder_writes_what_passed_in_order(tmp_path: Path) -> None:
    recorder = make(tmp_path, Clock())
    recorder.frame(NOON_NS, "okx", "okx-1", "begin", "BTC-USDT")
    feed(recorder, 5)
    recorder.frame(NOON_NS + 9, "htx", "1", "received", b"\x1f\x8b")
    recorder.frame(NOON_NS + 9, "binance", "1", "body", "depth\n200\n{}")
    await recorder.close()
    frames = list(read_recording(recording_files(tmp_path)[0].path))
    assert [f.payload for f in frames] == ["BTC-USDT", *(f'{{"seq":{i}}}' for i in range(5)), b"\x1f\x8b", "depth\n200\n{}"]
    assert (recorder.n_frames, recorder.n_lost, recorder.size) == (8, 0, recording_files(tmp_path)[0].n_bytes)
    assert recorder.health()["ok"]


async def test_recorder_flushes_once_a_second(tmp_path: Path) -> None:
    clock = Clock()
    recorder = make(tmp_path, clock)
    feed(recorder, 3)
    await recorder.write()
    feed(recorder, 2, NOON_NS + 100)
    clock.seconds += 0.5
    await recorder.write()
    assert len(list(read_recording(recording_files(tmp_path)[0].path))) == 3
    clock.seconds += 0.5
    await recorder.write()
    assert len(list(read_recording(recording_files(tmp_path)[0].path))) == 5
    await recorder.close()


async def test_recorder_begins_a_file_every_hour_and_says_what_was_open(tmp_path: Path) -> None:
    recorder = make(tmp_path, Clock())
    recorder.frame(NOON_NS, "okx", "a", "begin", "BTC-USDT")
    recorder.frame(NOON_NS + 1, "okx", "a", "open", "wss://x")
    recorder.frame(NOON_NS + 2, "okx", "b", "open", "wss://x")
    recorder.frame(NOON_NS + 3, "okx", "b", "close", "")
    feed(recorder, 2, NOON_NS + HOUR_NS, "a")
    await recorder.close()
    first, second = recording_files(tmp_path)
    assert len(list(read_recording(first.path))) == 4
    frames = list(read_recording(second.path))
    assert [(f.conn, f.direction, f.payload) for f in frames[:2]] == [("a", "since", str(NOON_NS)), ("a", "received", '{"seq":0}')]


async def test_recorder_with_a_full_queue_drops_counts_and_goes_on(tmp_path: Path) -> None:
    recorder = make(tmp_path, Clock(), max_frames=10)
    feed(recorder, 25)
    assert recorder.n_lost == 15
    await recorder.write()
    feed(recorder, 5, NOON_NS + 100)
    await recorder.close()
    assert (recorder.n_frames, recorder.n_lost) == (15, 15)
    small = make(tmp_path / "small", Clock(), max_bytes=20)
    feed(small, 5)
    assert small.n_lost == 2
    await small.close()


async def test_recorder_with_a_full_disk_counts_says_so_and_tries_again(tmp_path: Path) -> None:
    clock, is_full = Clock(), True

    def open_file(folder: Path, first_ns: int) -> RecordingWriter:
        if is_full:
            raise OSError(28, "No space left on device")
        return RecordingWriter(folder, first_ns)

    recorder = make(tmp_path, clock, open_file=open_file)
    recorder.frame(NOON_NS, "okx", "a", "begin", "BTC-USDT")
    feed(recorder, 3)
    await recorder.write()
    assert recorder.health() == {
        "ok": False,
        "frames": 0,
        "lost": 4,
        "bytes": 0,
        "waiting": 0,
        "error": "disk full: frames are not recorded",
    }
    is_full = False
    feed(recorder, 3)
    await recorder.write()
    assert recorder.n_lost == 7
    clock.seconds += RETRY_S
    feed(recorder, 3, NOON_NS + 50)
    await recorder.close()
    frames = list(read_recording(recording_files(tmp_path)[0].path))
    assert [(f.direction, f.payload) for f in frames[:1]] == [("since", str(NOON_NS))]
    assert len(frames) == 4
    assert recorder.health()["ok"]


async def test_recorder_gives_up_a_file_that_breaks(tmp_path: Path) -> None:
    clock = Clock()
    recorder = make(tmp_path, clock)
    feed(recorder, 3)
    await recorder.write()
    assert recorder._file is not None
    recorder._file._file.close()  # a write now fails as on a lost mount
    recorder._file._zstd = _Broken()  # type: ignore[assignment]
    feed(recorder, 4)
    await recorder.write()
    assert not recorder.health()["ok"]
    assert recorder.n_lost == 4
    await recorder.close()


class _Broken:
    def write(self, _: bytes) -> int:
        raise OSError(5, "Input/output error")


async def test_recorder_keeps_to_its_size(tmp_path: Path) -> None:
    clock = Clock()
    recorder = Recorder(tmp_path, retention_hours=48, max_mb=0.01, clock_ns=clock.ns, monotonic=clock.monotonic)
    for hour in range(6):
        for i in range(20):
            recorder.frame(NOON_NS + hour * HOUR_NS + i, "htx", "1", "received", os.urandom(300))
        clock.seconds += 61
        await recorder.write()
    await recorder.close()
    files = recording_files(tmp_path)
    assert 1 <= len(files) < 6
    assert files[-1].first_ns == NOON_NS + 5 * HOUR_NS


async def test_recorder_runs_beside_a_loop(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, retention_hours=1e6, max_mb=100)
    task = asyncio.create_task(recorder.run())
    feed(recorder, 100)
    for _ in range(100):
        await asyncio.sleep(0.05)
        if recorder.n_frames == 100:
            break
    task.cancel()
    feed(recorder, 7, NOON_NS + 1000)
    await recorder.close()
    assert len(list(read_recording(recording_files(tmp_path)[0].path))) == 107


KILLED = """
import asyncio, sys, time
from pathlib import Path
from realtime.recorder import Recorder

async def main():
    recorder = Recorder(Path(sys.argv[1]), retention_hours=48, max_mb=100)
    asyncio.create_task(recorder.run())
    n = 0
    while True:
        recorder.frame(time.time_ns(), "okx", "1", "received", str(n))
        n += 1
        await asyncio.sleep(0.001)

asyncio.run(main())
"""


async def test_recorder_killed_loses_the_last_seconds_alone(tmp_path: Path, repository: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], cwd=repository)
    try:
        for _ in range(200):
            await asyncio.sleep(0.1)
            if recording_files(tmp_path) and len(list(read_recording(recording_files(tmp_path)[0].path))) > 300:
                break
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    killed_ns = time.time_ns()
    frames = list(read_recording(recording_files(tmp_path)[0].path))
    assert [f.payload for f in frames] == [str(i) for i in range(len(frames))]
    assert len(frames) > 300
    assert killed_ns - frames[-1].recv_ns < 5e9
