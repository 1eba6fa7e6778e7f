"""From nothing to the first divergence: clone, `make demo` with empty caches, ask the API until it answers with one.

What belongs here: the cold start as a newcomer meets it, the time from an acknowledged alert to its readable bar, and memory. What
does not: steady-state speed. Needs the package registry; 2 to 3 minutes.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from benchmarks.stand_ins import free_port

REPOSITORY = Path(__file__).resolve().parent.parent
LIMIT_SEC = 600
ALERTS = 40


def main() -> None:
    """Print one JSON line."""
    with tempfile.TemporaryDirectory() as folder:
        clone, port = Path(folder) / "clone", free_port()
        subprocess.run(["git", "clone", "-q", str(REPOSITORY), str(clone)], check=True)
        environment = {**os.environ, "UV_CACHE_DIR": f"{folder}/uv", "PIP_CACHE_DIR": f"{folder}/pip", "ALTFORECAST_HOME": f"{folder}/home"}
        words = ["make", "demo", f"ARGS=--port {port} --dagster-port {free_port()}"]
        began = time.monotonic()
        with (Path(folder) / "demo.log").open("w") as log:
            process = subprocess.Popen(words, cwd=clone, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            base = f"http://127.0.0.1:{port}"
            seconds = first_divergence(base, began, process)
            result = (
                {"bench": "demo", "cold_to_first_divergence_s": round(seconds, 1)} | readable(base) | {"realtime_rss_mb": rss(str(clone))}
            )
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(timeout=60)
    print(json.dumps(result))


def first_divergence(base: str, began: float, process: subprocess.Popen[bytes]) -> float:
    """Seconds until the API gives an active divergence."""
    while time.monotonic() - began < LIMIT_SEC and process.poll() is None:
        try:
            if httpx.get(f"{base}/api/divergences?status=active&limit=1", timeout=5).json()["data"]:
                return time.monotonic() - began
        except (httpx.HTTPError, ValueError, KeyError):
            time.sleep(0.2)
    raise SystemExit("the demo gave no divergence")


def readable(base: str) -> dict[str, Any]:
    """Milliseconds from the acknowledgement of an alert until its provisional bar is read over HTTP."""
    taken = []
    with httpx.Client(timeout=5) as client:
        for i in range(ALERTS):
            ts = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=2 + i)
            close = 100_000 + i
            body = {"v": 1, "token": "sandbox-demo", "symbol": "BINANCE:BTCUSDT", "tf": "60", "t": int(ts.timestamp() * 1000)}
            body |= {"o": "100000", "h": "100100", "l": "99900", "c": str(close), "vol": "1"}
            answer = client.post(f"{base}/webhook", json=body)
            answer.raise_for_status()
            acknowledged = time.perf_counter()
            while not _is_there(client, base, ts, close):
                if time.perf_counter() - acknowledged > 5:
                    raise SystemExit(f"the bar of {ts} did not become readable")
            taken.append((time.perf_counter() - acknowledged) * 1000)
    taken.sort()
    return {"alert_to_readable_median_ms": round(taken[len(taken) // 2], 1), "alert_to_readable_max_ms": round(taken[-1], 1)}


def _is_there(client: httpx.Client, base: str, ts: datetime, close: float) -> bool:
    span = {"from": ts.isoformat(), "to": (ts + timedelta(hours=1)).isoformat()}
    rows = client.get(f"{base}/api/bars/BTC/1h", params=span).json()["data"]
    return bool(rows) and rows[0]["close"] == close


def rss(clone: str) -> float:
    """Resident memory [MB] of the realtime process that runs from the clone."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().decode().split("\0")
            if words[1:3] == ["-m", "realtime"] and str((folder / "cwd").readlink()).startswith(clone):
                line = next(x for x in (folder / "status").read_text().splitlines() if x.startswith("VmRSS"))
                return round(int(line.split()[1]) / 1024, 1)
        except (OSError, IndexError, StopIteration):
            continue
    raise SystemExit("no realtime process")


if __name__ == "__main__":
    main()
