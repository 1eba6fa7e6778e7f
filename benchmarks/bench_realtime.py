"""Order books under load: 14 venues x 50 symbols at thousands of messages a second into a real realtime process.

What belongs here: CPU, memory, loop stalls and what arrived, over minutes. What does not: handlers alone
(`bench_book_sessions`) and the engine alone (`bench_arbitrage`).
Run: python -m benchmarks.bench_realtime [--seconds 600] [--rate 5700] [--feed native|ccxt]
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from altforecast.symbols import VENUES
from benchmarks.stand_ins import cpu_s, get_json, realtime, rss_mb, sandbox

WARM_UP_S = 30.0
STEP_S = 5.0
SYMBOLS_PER_VENUE = 50
RATE_OF_ONE = 5620.0
"""Messages a second of 14 venues x 50 symbols at `--book-rate 1`: the sum of measured means of real recordings."""


def symbols(n: int) -> str:
    """The synthetic symbols that every venue of the sandbox trades."""
    return ",".join(f"S{i:03d}-USDT" for i in range(1, n + 1))


def run(seconds: float, rate: float, feed: str) -> dict[str, Any]:
    """One run; the sandbox is asked for `rate` messages a second over all venues."""
    variables = {"BOOK_SYMBOLS": symbols(SYMBOLS_PER_VENUE), "BOOK_FEEDS": f"all={feed}", "LOG_LEVEL": "WARNING"}
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        words = ["--extra-symbols", str(SYMBOLS_PER_VENUE), "--book-rate", str(rate / RATE_OF_ONE), "--plants-per-hour", "600"]
        with sandbox(words, home / "sandbox.log") as there, realtime(home, there["venues"], variables) as (base, pid):
            time.sleep(WARM_UP_S)
            return _watch(base, pid, int(there["pid"]), seconds) | {"asked_messages_per_s": rate, "feed": feed}


def _watch(base: str, pid: int, sandbox_pid: int, seconds: float) -> dict[str, Any]:
    began, cpu, other = time.monotonic(), cpu_s(pid), cpu_s(sandbox_pid)
    memory, lags, rates = [rss_mb(pid)], [], []
    while time.monotonic() - began < seconds:
        time.sleep(STEP_S)
        memory.append(rss_mb(pid))
        lags.append(get_json(f"{base}/health")["components"]["loop"]["lag_ms"])
        rates.append(sum(v["messages_per_s"] or 0 for v in get_json(f"{base}/api/venues")["data"]))
    took = time.monotonic() - began
    venues = get_json(f"{base}/api/venues")["data"]
    third = max(len(memory) // 3, 1)
    return {
        "seconds": round(took), "messages_per_s": round(statistics.fmean(rates)), "venues": len(venues),
        "books_live": sum(v["n_live"] for v in venues), "books_asked": len(VENUES) * SYMBOLS_PER_VENUE,
        "realtime_cores": round((cpu_s(pid) - cpu) / took, 3), "sandbox_cores": round((cpu_s(sandbox_pid) - other) / took, 3),
        "worst_loop_lag_ms": max(lags), "median_of_worst_lag_per_minute_ms": statistics.median(lags),
        "rss_first_third_mb": round(statistics.fmean(memory[:third])), "rss_last_third_mb": round(statistics.fmean(memory[-third:])),
        "rss_peak_mb": round(max(memory)),
        "gaps": sum(v["gaps"] for v in venues), "reconnects": sum(sum(v["reconnects"].values()) for v in venues),
    }  # fmt: skip


def main() -> None:
    """Print one JSON line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--rate", type=float, default=5700)
    parser.add_argument("--feed", choices=("native", "ccxt"), default="native")
    asked = parser.parse_args()
    print(json.dumps(run(asked.seconds, asked.rate, asked.feed)))


if __name__ == "__main__":
    main()
