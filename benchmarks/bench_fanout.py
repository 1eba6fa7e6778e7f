"""WebSocket fan-out: CPU per delivery of the real app against `websockets.broadcast`, and what a stalled client does to the others.

What belongs here: 1,000 clients at 4 Hz, both servers in processes of their own and in one run. What does not: what is
published (realtime) and the bus.
Run: python -m benchmarks.bench_fanout [--clients 1000] [--seconds 10]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.stand_ins import REPOSITORY, cpu_s, free_port, wait_until_open

HZ = 4.0
FRAME_BYTES = 368
LARGE_BYTES = 100_000
"""Large enough that a client that reads nothing fills every buffer of the kernel within seconds."""
ROWS_PER_TICK = 5
"""Rows are written this many times a tick, so that the age of the newest one says little about where in the tick it fell."""
SETTLE_S = 1.5
HANDSHAKE = (
    b"GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


class Reader(asyncio.Protocol):
    """A client that only finds the send time in what arrives: the machine's other core must serve a thousand of them."""

    def __init__(self, path: bytes, delays_ms: list[float]) -> None:
        self.path, self.delays_ms, self.n = path, delays_ms, 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the upgrade."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(HANDSHAKE % self.path)

    def data_received(self, data: bytes) -> None:
        """Note how old the newest row is."""
        now, at = time.time(), data.rfind(b'"sent":')
        if at >= 0:
            self.n += 1
            self.delays_ms.append((now - float(data[at + 7 : data.index(b",", at)])) * 1000)


def row(n_bytes: int) -> bytes:
    """A row that says when it was made."""
    head = b'{"id":"x","event":"updated","sent":%.6f,"note":"' % time.time()
    return head + b"x" * (n_bytes - len(head) - 2) + b'"}'


async def serve_app(port: int, home: str, n_bytes: int) -> None:
    """The real app over a memory bus that gets a row a tick."""
    import uvicorn

    from altforecast_io.bus import OPPORTUNITIES_FEED, MemoryBus
    from altforecast_io.settings import Settings
    from altforecast_serving.app import create_app

    bus = MemoryBus()
    app = create_app(Settings.load(base=Path(home), database_url_override="", ws_publish_hz=HZ, rate_limit_per_minute=1_000_000), bus=bus)
    config = uvicorn.Config(app, port=port, log_config=None, ws_per_message_deflate=False, backlog=4096)
    serving = asyncio.create_task(uvicorn.Server(config).serve())
    while not serving.done():
        await bus.append(OPPORTUNITIES_FEED, row(n_bytes // ROWS_PER_TICK))
        await asyncio.sleep(1 / HZ / ROWS_PER_TICK)


async def serve_broadcast(port: int, _: str, n_bytes: int) -> None:
    """The reference: websockets' own server and its broadcast, deflate off."""
    from websockets.asyncio.server import ServerConnection, broadcast, serve

    clients: set[ServerConnection] = set()

    async def keep(client: ServerConnection) -> None:
        clients.add(client)
        try:
            await client.wait_closed()
        finally:
            clients.discard(client)

    async with serve(keep, "127.0.0.1", port, compression=None, backlog=4096):
        while True:
            broadcast(clients, row(n_bytes).decode())
            await asyncio.sleep(1 / HZ)


SERVERS = {"app": serve_app, "broadcast": serve_broadcast}


@contextlib.contextmanager
def server(kind: str, home: str, n_bytes: int) -> Any:
    """One of the servers in its own process, as (port, pid)."""
    port = free_port()
    words = [sys.executable, "-m", "benchmarks.bench_fanout", "--serve", kind, "--port", str(port), "--home", home, "--bytes", str(n_bytes)]
    process = subprocess.Popen(words, cwd=REPOSITORY, env={**os.environ, "ALTFORECAST_HOME": home}, stderr=subprocess.DEVNULL)
    try:
        wait_until_open(port, process)
        yield port, process.pid
    finally:
        process.terminate()
        process.wait(20)


async def measure(kind: str, n_clients: int, seconds: float, n_stalled: int = 0, n_bytes: int = FRAME_BYTES) -> dict[str, float]:
    """CPU per delivery and delays of one server with so many clients, some of which read nothing."""
    with tempfile.TemporaryDirectory() as home, server(kind, home, n_bytes) as (port, pid):
        path, loop = (b"/ws/opportunities" if kind == "app" else b"/"), asyncio.get_running_loop()
        delays: list[float] = []
        readers = []
        for i in range(n_clients):
            _, reader = await loop.create_connection(lambda: Reader(path, delays), "127.0.0.1", port)
            readers.append(reader)
            if i < n_stalled:
                reader.transport.pause_reading()
            if i % 50 == 49:
                await asyncio.sleep(0.05)
        await asyncio.sleep(SETTLE_S)
        delays.clear()
        for reader in readers:
            reader.n = 0
        began, cpu = time.monotonic(), cpu_s(pid)
        await asyncio.sleep(seconds)
        cpu, took, n = cpu_s(pid) - cpu, time.monotonic() - began, sum(r.n for r in readers)
        ordered = sorted(delays)
        for reader in readers:
            reader.transport.abort()
        return {
            "deliveries": n, "us_per_delivery": round(cpu / max(n, 1) * 1e6, 2), "cores": round(cpu / took, 3),
            "delay_p50_ms": round(statistics.median(ordered), 1), "delay_p99_ms": round(ordered[int(0.99 * len(ordered))], 1),
            "fewest": min(r.n for r in readers[n_stalled:]),
        }  # fmt: skip


async def run(n_clients: int, seconds: float) -> dict[str, Any]:
    """Both servers one after the other, twice, then the app with large frames, without and with one stalled client."""
    found: dict[str, list[dict[str, float]]] = {"broadcast": [], "app": []}
    for kind in ("broadcast", "app", "app", "broadcast"):
        found[kind].append(await measure(kind, n_clients, seconds))
    best = {kind: min(runs, key=lambda r: r["us_per_delivery"]) for kind, runs in found.items()}
    large = [await measure("app", 100, seconds, n_stalled=n, n_bytes=LARGE_BYTES) for n in (0, 1)]
    return {
        "clients": n_clients, "hz": HZ, "frame_bytes": FRAME_BYTES, **best,
        "app_100_clients_large": large[0], "app_100_clients_large_one_stalled": large[1],
        "ratio_us_per_delivery": round(best["app"]["us_per_delivery"] / best["broadcast"]["us_per_delivery"], 2),
    }  # fmt: skip


def main() -> None:
    """Print one JSON line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--serve", choices=sorted(SERVERS))
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--home", default="")
    parser.add_argument("--bytes", type=int, default=FRAME_BYTES)
    asked = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(16_384, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),) * 2)
    if asked.serve:
        asyncio.run(SERVERS[asked.serve](asked.port, asked.home, asked.bytes))
    else:
        print(json.dumps(asyncio.run(run(asked.clients, asked.seconds))))


if __name__ == "__main__":
    main()
