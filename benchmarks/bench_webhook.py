"""Durable acknowledgements per second of `POST /webhook`, over the whole HTTP stack of a real realtime process.

What belongs here: 64 keep-alive senders against a subprocess, and the same rows committed
in bare groups as a yardstick. What does not: tests.
Run: python benchmarks/bench_webhook.py [--alerts 20000] [--senders 64]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import uvloop

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from altforecast.streams import expected_streams  # noqa: E402
from altforecast.types import Timeframe  # noqa: E402
from altforecast_io.sources.tradingview import SANDBOX_TOKEN, parse_alert  # noqa: E402
from altforecast_io.store import inbox  # noqa: E402
from altforecast_io.store.engine import open_store  # noqa: E402
from benchmarks.stand_ins import cpu_s, realtime, rss_mb  # noqa: E402

INTERVALS = {Timeframe.M15: "15", Timeframe.H1: "60", Timeframe.H4: "240", Timeframe.D1: "1D"}


def bodies(count: int, now: datetime) -> list[bytes]:
    """Distinct alerts in the order in which bars close, newest first: all streams of one moment together."""
    made: list[bytes] = []
    age = 0
    while len(made) < count:
        for _, series, timeframe in expected_streams():
            opened = int(now.timestamp() // (timeframe.ms // 1000)) * timeframe.ms - (age + 1) * timeframe.ms
            symbol = f"{series.exchange.upper()}:{series.symbol.replace('-', '')}"
            prices = {"o": "4.61", "h": "4.70", "l": "4.58", "c": f"4.6{age % 10}", "vol": None, "src": "pine6"}
            head = {"v": 1, "token": SANDBOX_TOKEN, "symbol": symbol, "tf": INTERVALS[timeframe], "t": opened}
            made.append(json.dumps({**head, "tc": opened + timeframe.ms, **prices}, separators=(",", ":")).encode())
        age += 1
    return made[:count]


async def sender(port: int, work: Iterator[bytes], seconds: list[float], statuses: list[bytes]) -> None:
    """One keep-alive connection that posts until the work is done."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = b"POST /webhook HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    for body in work:
        began = time.perf_counter()
        writer.write(head % len(body) + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        length = int(answer.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        seconds.append(time.perf_counter() - began)
        statuses.append(answer[9:12])
    writer.close()


async def fire(port: int, work: list[bytes], senders: int) -> tuple[float, list[float], list[bytes]]:
    """Wall seconds, seconds per request and statuses."""
    seconds: list[float] = []
    statuses: list[bytes] = []
    shared = iter(work)
    began = time.perf_counter()
    await asyncio.gather(*(sender(port, shared, seconds, statuses) for _ in range(senders)))
    return time.perf_counter() - began, seconds, statuses


def bare_commits(work: list[bytes], now: datetime, group: int, folder: Path) -> float:
    """Seconds to commit the same alerts in groups, without HTTP and without another thread."""
    store = open_store(f"sqlite:///{folder}/bare.sqlite", "sandbox")
    parsed = [parse_alert(b, secret=SANDBOX_TOKEN, path_token=None, now=now, tv_btc_symbol="BINANCE:BTCUSDT") for b in work]
    began = time.perf_counter()
    for start in range(0, len(parsed), group):
        inbox.append(store, [inbox.Delivery(a) for a in parsed[start : start + group]])
    spent = time.perf_counter() - began
    store.close()
    return spent


def main() -> None:
    """Print one JSON line."""
    chosen = argparse.ArgumentParser()
    chosen.add_argument("--alerts", type=int, default=20_000)
    chosen.add_argument("--senders", type=int, default=64)
    options = chosen.parse_args()
    now = datetime.now(UTC) - timedelta(minutes=1)
    work = bodies(options.alerts + 1000, now)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        with realtime(home, {}, {}) as (base, pid):
            port = int(base.rsplit(":", 1)[1])
            uvloop.run(fire(port, work[:1000], options.senders))
            used = cpu_s(pid)
            spent, seconds, statuses = uvloop.run(fire(port, work[1000:], options.senders))
            used = cpu_s(pid) - used
            memory = rss_mb(pid)
        store = open_store(f"sqlite:///{home}/sandbox/store/altforecast.sqlite", "sandbox")
        n_stored = inbox.last_id(store)
        store.close()
        bare = bare_commits(work[1000:], now, options.senders, home)
    ordered = sorted(seconds)
    print(
        json.dumps(
            {
                "bench": "webhook", "senders": options.senders, "alerts": options.alerts, "acks_per_s": round(len(seconds) / spent),
                "p50_ms": round(ordered[len(ordered) // 2] * 1000, 1), "p99_ms": round(ordered[int(len(ordered) * 0.99)] * 1000, 1),
                "max_ms": round(ordered[-1] * 1000, 1), "all_200": set(statuses) == {b"200"}, "all_in_store": n_stored == len(work),
                "cpu_us_per_ack": round(used / options.alerts * 1e6),
                "bare_group_commits_per_s": round(options.alerts / bare), "ratio_to_bare": round(spent / bare, 2),
                "rss_mb": round(memory),
            }
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()
