"""Processes that load and incident runs share: the sandbox servers and a realtime process pointed at them.

What belongs here: starting, watching and stopping them. What does not: what is measured.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@contextmanager
def sandbox(words: Sequence[str], output: Path) -> Iterator[dict[str, Any]]:
    """The stand-in servers with these options; gives what they print once they are ready, and `pid`."""
    command = [sys.executable, "-m", "altforecast_sandbox", "--port", "0", *words]
    with output.open("wb") as errors:
        process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=errors, text=True)
    try:
        line = process.stdout.readline() if process.stdout else ""
        if not line:
            raise RuntimeError(f"the sandbox did not start:\n{output.read_text()[-2000:]}")
        yield json.loads(line) | {"pid": process.pid}
    finally:
        _end(process)


@contextmanager
def realtime(home: Path, venues: Mapping[str, str], variables: Mapping[str, str]) -> Iterator[tuple[str, int]]:
    """A realtime process over the stand-ins, as (base address, process id); its log is `home/realtime.log`."""
    port = free_port()
    environment = os.environ | {
        "ALTFORECAST_HOME": str(home), "ALTFORECAST_ENVIRONMENT": "sandbox", "PORT": str(port),
        "EXCHANGE_BASE_URLS": ",".join(f"{venue}={url}" for venue, url in venues.items()), **variables,
    }  # fmt: skip
    with (home / "realtime.log").open("wb") as output:
        process = subprocess.Popen([sys.executable, "-m", "realtime"], cwd=REPOSITORY, env=environment, stdout=output, stderr=output)
    try:
        wait_until_open(port, process)
        yield f"http://127.0.0.1:{port}", process.pid
    finally:
        _end(process)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_open(port: int, process: subprocess.Popen[Any]) -> None:
    """Return when the port answers; raises RuntimeError when the process ended or a minute passed."""
    for _ in range(600):
        if process.poll() is not None:
            raise RuntimeError(f"the process ended with {process.returncode}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise RuntimeError("the process did not open its port within a minute")


def get_json(url: str) -> Any:
    """The JSON answer of a GET."""
    with urllib.request.urlopen(url, timeout=30) as answer:
        return json.load(answer)


def post_json(url: str, body: Any) -> Any:
    """The JSON answer of a POST."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def cpu_s(pid: int) -> float:
    """CPU time that a process has used [s]."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def rss_mb(pid: int) -> float:
    """Resident memory of a process [MB]."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def _end(process: subprocess.Popen[Any]) -> None:
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
