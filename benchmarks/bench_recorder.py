"""CPU of recording as a share of the handler's CPU on the same real frames, and frames replayed per second.

What belongs here: the recorder and the replay against the sessions' own work. What does not: sessions against other libraries.
Run: python -m benchmarks.bench_recorder [--rounds 5]   (needs ALTFORECAST_REAL_DATA)
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from altforecast_io.foreign_recordings import open_foreign_session, read_foreign
from altforecast_io.recordings import Frame, answer_of, read_recording, recording_files
from altforecast_io.replay import Replay
from altforecast_io.replay_runs import Choice, make_scanner
from altforecast_io.settings import Settings
from realtime.recorder import Recorder

SETS = {
    "binance BTC-USDT": ("hftbacktest", "hftbacktest/spot", "binance"),
    "kraken, 10 symbols": ("cryptofeed", "cryptofeed/KRAKEN.ws.50.0", "kraken"),
}
BATCH = 250
"""Frames between two hand-overs to the disk: a quarter of a second at 1,000 frames a second."""
MIN_FRAMES = 40_000
"""A recording is recorded as often as it takes to get there: opening a file is no cost of a frame."""


def handled(frames: Sequence[Frame]) -> float:
    """CPU seconds of a session on the frames."""
    session = open_foreign_session(frames[0].venue, str(frames[0].payload).split(","))
    session.begin()
    session.opened(frames[0].recv_ns)
    asked = [f for f in frames if f.direction == "body" and answer_of(f).key == ""]
    began = time.process_time()
    for frame in frames:
        if frame.direction == "received":
            session.received(frame.payload, frame.recv_ns)
        elif asked and frame is asked[0]:
            session.answered(next(iter(session._lines)), 200, answer_of(frame).body, frame.recv_ns)  # type: ignore[attr-defined]
    return time.process_time() - began


def recorded(frames: Sequence[Frame], folder: Path) -> float:
    """CPU seconds of the recorder on the frames, threads included."""

    async def run() -> float:
        recorder = Recorder(folder, retention_hours=1e9, max_mb=1e9)
        began = time.process_time()
        for start in range(0, len(frames), BATCH):
            for f in frames[start : start + BATCH]:
                recorder.frame(f.recv_ns, f.venue, f.conn, f.direction, f.payload)
            await recorder.write()
        await recorder.close()
        took = time.process_time() - began
        assert recorder.n_lost == 0
        return took

    return asyncio.run(run())


def best(rounds: int, work: Callable[[], float]) -> float:
    """The least of several rounds: what else runs on the machine only adds."""
    return min(work() for _ in range(rounds))


def measure(name: str, rounds: int, data: Path) -> dict[str, Any]:
    """One set of frames."""
    form, path, venue = SETS[name]
    frames = [f for f in read_foreign(form, data / "recordings" / path, venue) if "bookTicker" not in str(f.payload[:60])]
    times = -(-MIN_FRAMES // len(frames))
    with tempfile.TemporaryDirectory() as folder:
        handler = best(rounds, lambda: handled(frames)) * times
        many = list(frames) * times
        recorder = best(rounds, lambda: recorded(many, Path(tempfile.mkdtemp(dir=folder))))
        one = recording_files(max(Path(folder).iterdir(), key=lambda p: p.stat().st_mtime))
        size = sum(f.n_bytes for f in one)
        reading = best(rounds, lambda: _timed(lambda: sum(1 for f in one for _ in read_recording(f.path))))
        replay = best(rounds, lambda: _timed(lambda: Replay(open_foreign_session).run(frames)))
        settings = Settings.load(base=Path(folder))
        scan = best(rounds, lambda: _timed(lambda: Replay(open_foreign_session, [make_scanner(settings, Choice())]).run(frames)))
    return {
        "frames": len(many), "handler_us_per_frame": round(handler / len(many) * 1e6, 2),
        "recorder_us_per_frame": round(recorder / len(many) * 1e6, 2),
        "recorder_share_of_handler": round(recorder / handler, 4), "bytes_per_frame_on_disk": round(size / len(many), 1),
        "read_frames_per_s": round(len(many) / reading), "verify_frames_per_s": round(len(frames) / replay),
        "replay_frames_per_s": round(len(frames) / scan),
    }  # fmt: skip


def _timed(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def main() -> None:
    """Print one JSON line per set of frames."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    data = os.environ.get("ALTFORECAST_REAL_DATA")
    if not data:
        sys.exit("ALTFORECAST_REAL_DATA is not set: no real frames here")
    for name in SETS:
        print(json.dumps({"set": name, **measure(name, asked.rounds, Path(data))}))


if __name__ == "__main__":
    main()
