"""A real realtime process on a free port, with a home of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from altforecast_io.store import inbox
from altforecast_io.store.engine import open_store

REPOSITORY = Path(__file__).resolve().parents[2]
SECRET = "tests-only-webhook-secret"
START_S = 60.0


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def alert_body(n: int = 0, **changes: Any) -> bytes:
    """The alert of the BTC bar that closed `n` quarters of an hour before the last closed one."""
    quarter = 900_000
    last = (int((datetime.now(UTC) - timedelta(seconds=1)).timestamp() * 1000) // quarter - 1) * quarter
    body = {
        "v": 1, "token": SECRET, "symbol": "BINANCE:BTCUSDT", "tf": "15", "t": last - n * quarter,
        "o": "95000", "h": "96000.5", "l": "94000", "c": "95500", "vol": "12.5",
    }  # fmt: skip
    return json.dumps(body | changes).encode()


class Realtime:
    """One process, its output and its store."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.output = home.parent / f"{home.name}-output.txt"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def database_url(self) -> str:
        """Its store, for reading beside it."""
        return f"sqlite:///{self.home}/store/altforecast.sqlite"

    def launch(self, **variables: str) -> subprocess.Popen[bytes]:
        """Start without waiting."""
        environment = os.environ | {"ALTFORECAST_HOME": str(self.home), "PORT": str(self.port), "SECRET_WEBHOOK_TOKEN": SECRET}
        environment |= {"BOOK_VENUES": ""} | variables
        with self.output.open("ab") as output:
            command = [sys.executable, "-m", "realtime"]
            self.process = subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=output, stderr=output)
        return self.process

    def start(self, **variables: str) -> subprocess.Popen[bytes]:
        """Start and wait until it answers."""
        process = self.launch(**variables)
        deadline = time.monotonic() + START_S
        while not self.is_listening():
            assert process.poll() is None, self.output.read_text()[-3000:]
            assert time.monotonic() < deadline, "did not listen in time"
            time.sleep(0.05)
        return process

    def is_listening(self) -> bool:
        """Whether the port answers."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def end(self) -> None:
        """Whatever happened: nothing is left running."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def rows(self) -> list[inbox.InboxRow]:
        """Everything in its inbox."""
        store = open_store(self.database_url, "live")
        try:
            return inbox.tail(store, limit=1_000_000)
        finally:
            store.close()

    def everything_written(self) -> str:
        """Output and every log file."""
        files = [self.output, *self.home.glob("logs/*")]
        return "\n".join(f.read_text(errors="replace") for f in files if f.is_file())


@pytest.fixture
def realtime(tmp_path: Path) -> Iterator[Realtime]:
    """A process that is not started yet."""
    made = Realtime(tmp_path / "home")
    yield made
    made.end()
