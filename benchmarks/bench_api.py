"""`GET /api/bars/BTC/1h?limit=100` over a lake of 10 M bars, on one API process, as a ratio to the constant `/healthz`.

What belongs here: 8 keep-alive clients against a subprocess, first the same question, then different ones, then old ones.
What does not: tests.
Run: python benchmarks/bench_api.py [--symbols 100] [--bars 100000] [--clients 8] [--seconds 4]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from altforecast import CODE_VERSION  # noqa: E402
from altforecast.tables import BARS  # noqa: E402
from altforecast.types import Timeframe, Window  # noqa: E402
from altforecast_io.lake import Lake, Scope, months_between, next_month  # noqa: E402
from altforecast_io.provenance import Provenance  # noqa: E402

END = datetime(2025, 9, 1, tzinfo=UTC)


def symbols_of(count: int) -> list[str]:
    """BTC-USDT and made-up others."""
    return ["BTC-USDT", *(f"C{i:03d}-USDT" for i in range(1, count))]


def fill(lake: Lake, n_symbols: int, n_bars: int) -> int:
    """Hourly bars of all symbols, written a year at a time through the lake's own writer; returns how many."""
    rng, names = np.random.default_rng(20261121), symbols_of(n_symbols)
    start, written = END - timedelta(hours=n_bars), 0
    months = months_between(Window(start, END))
    for i in range(0, len(months), 12):
        first, last = max(months[i], start), min(next_month(months[min(i + 11, len(months) - 1)]), END)
        frame = _bars(rng, names, first, int((last - first) / Timeframe.H1.duration))
        record = Provenance("bars", "bench", CODE_VERSION, lake.environment, END)
        lake.replace("bars", frame, Scope(Window(first, last), (Timeframe.H1,)), record)
        written += frame.height
    return written


def _bars(rng: np.random.Generator, names: list[str], first: datetime, n: int) -> pl.DataFrame:
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.004, (len(names), n)), axis=1)).ravel()
    ts = int(first.timestamp() * 1000) + np.tile(np.arange(n), len(names)) * Timeframe.H1.ms
    frame = pl.DataFrame({"ts": ts, "open": close, "high": close * 1.01, "low": close * 0.99, "close": close, "volume": close / 10})
    frame = frame.with_columns(
        pl.col("ts").cast(BARS.schema["ts"]), symbol=pl.Series(np.repeat(names, n)), exchange=pl.lit("binance"), timeframe=pl.lit("1h"),
        quality=pl.lit("observed"), source=pl.lit("import"), received_at=pl.lit(END, dtype=BARS.schema["ts"]),
    )  # fmt: skip
    return frame.with_columns(known_at=pl.col("ts") + timedelta(hours=1)).select(BARS.schema.names())


@contextmanager
def api(home: Path) -> Iterator[tuple[int, int]]:
    """The API alone on a free port, as (port, process id)."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {"ALTFORECAST_HOME": str(home), "ALTFORECAST_ENVIRONMENT": "live", "RATE_LIMIT_PER_MINUTE": "100000000"}
    command = [sys.executable, "-m", "uvicorn", "altforecast_serving.main_api:app", "--port", str(port), "--no-access-log"]
    process = subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_until_answering(port)
        yield port, process.pid
    finally:
        process.terminate()
        process.wait(15)


def _wait_until_answering(port: int) -> None:
    for _ in range(300):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=1).read()
            return
        except OSError:
            time.sleep(0.1)
    raise SystemExit("the API did not start")


async def load(port: int, path_of: Callable[[int], str], clients: int, seconds: float) -> dict[str, float]:
    """Requests of `clients` keep-alive connections for some seconds: rate and latencies."""
    latencies: list[float] = []
    numbers = iter(range(10**9))
    until = time.perf_counter() + seconds
    began = time.perf_counter()
    await asyncio.gather(*(_client(port, path_of, numbers, latencies, until) for _ in range(clients)))
    spent = time.perf_counter() - began
    p50, p99 = (float(np.percentile(latencies, q)) * 1000 for q in (50, 99))
    return {"requests": len(latencies), "per_second": round(len(latencies) / spent, 1), "p50_ms": round(p50, 2), "p99_ms": round(p99, 2)}


async def _client(port: int, path_of: Callable[[int], str], numbers: Iterator[int], latencies: list[float], until: float) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while (now := time.perf_counter()) < until:
        writer.write(f"GET {path_of(next(numbers))} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"unexpected answer: {head[:200]!r}")
        length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
        await reader.readexactly(length)
        latencies.append(time.perf_counter() - now)
    writer.close()


def resident_mb(pid: int) -> float:
    """Resident memory of a process [MB]."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return round(next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024, 1)


def measure(home: Path, n_symbols: int, n_bars: int, clients: int, seconds: float) -> dict[str, object]:
    """All figures of one run."""
    began = time.perf_counter()
    total = fill(Lake(home / "lake", "live"), n_symbols, n_bars)
    built_s = time.perf_counter() - began
    names = symbols_of(n_symbols)
    old = [(END - timedelta(hours=n_bars * (i + 1) // 60)).strftime("%Y-%m-%dT%H:%M:%SZ") for i in range(50)]
    with api(home) as (port, pid):
        run = lambda path, s=seconds: asyncio.run(load(port, path, clients, s))  # noqa: E731 - the same call six times
        run(lambda _: "/api/bars/BTC/1h?limit=100", 1.0)
        alive = run(lambda _: "/healthz")
        same = run(lambda _: "/api/bars/BTC/1h?limit=100")
        different = run(lambda i: f"/api/bars/{names[i % len(names)]}/1h?limit={50 + i // len(names) % 100}")
        past = run(lambda i: f"/api/bars/{names[i % len(names)]}/1h?limit=100&to={old[i % len(old)]}")
        memory = resident_mb(pid)
    return {
        "bench": "api", "n_bars": total, "lake_build_s": round(built_s, 1), "clients": clients, "healthz": alive, "same_question": same,
        "different_questions": different, "old_bars_from_month_files": past, "resident_mb": memory,
        "ratio_same_to_healthz": round(same["per_second"] / alive["per_second"], 3),
        "ratio_different_to_healthz": round(different["per_second"] / alive["per_second"], 3),
        "meets_300_per_s_and_25_ms": same["per_second"] >= 300 and same["p99_ms"] < 25,
    }  # fmt: skip


def main() -> None:
    """Measure and print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--symbols", type=int, default=100)
    parser.add_argument("--bars", type=int, default=100_000, help="bars per symbol")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=4.0, help="per kind of question")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(Path(folder), chosen.symbols, chosen.bars, chosen.clients, chosen.seconds)))


if __name__ == "__main__":
    main()
