"""Run every benchmark alone, one after the other, and write docs/performance.md.

What belongs here: running and writing down. What does not: measuring.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
REPORT = HERE.parent / "docs" / "performance.md"
TIMEOUT_SEC = 1200
LOCAL_BROKER = "amqp://guest:guest@127.0.0.1:5672//"
REAL_DATA = os.environ.get("ALTFORECAST_REAL_DATA", "")
CRYPTOFEED = os.environ.get("CRYPTOFEED_PYTHON", "")
"""An interpreter that has cryptofeed, if one is to be compared with."""
VARIANTS: dict[str, list[list[str]]] = {
    "bench_latency": [[], ["--broker", LOCAL_BROKER]],
    "bench_arbitrage": [["--data", REAL_DATA] if REAL_DATA else []],
    "bench_book_sessions": [["--cryptofeed-python", CRYPTOFEED] if CRYPTOFEED else []],
    "bench_forecasts": [["--data", str(Path(REAL_DATA) / "bars")] if REAL_DATA else []],
    "bench_forecast_run": [["--data", str(Path(REAL_DATA) / "bars")]] if REAL_DATA else [],
    "bench_incident_day": [["--feed", "native"], ["--feed", "ccxt"]],
}
"""Arguments of the runs of a script; one run without arguments where it is not named."""


GOALS: tuple[tuple[str, str, Callable[[Any], Any]], ...] = (
    ("six indicators, 10 M bars: time against raw TA-Lib", "<= 2.5 (aim 1.5)", lambda r: r["bench_indicators"][0]["ratio_all_threads"]),
    ("the same, peak above the input [GiB]", "<= 1", lambda r: r["bench_indicators"][0]["peak_above_input_gib"]),
    (
        "divergences, LZ4 Parquet to events, RSI [M bars/s and core]",
        ">= 15 (aim 25)",
        lambda r: r["bench_divergences"][0]["lz4"]["m_bars_per_s_rsi"],
    ),
    ("levels, Parquet to events [M bars/s and core]", ">= 3.5", lambda r: round(r["bench_levels"][-1]["bars_per_s"] / 1e6, 2)),
    ("backfill of the real files, Dagster against direct", "<= 1.3 (aim 1.1)", lambda r: r["bench_backfill"][0]["ratio"]),
    ("webhook, 64 senders: durable acknowledgements per second", ">= 1000", lambda r: r["bench_webhook"][0]["acks_per_s"]),
    ("the same, p99 [ms]", "< 50", lambda r: r["bench_webhook"][0]["p99_ms"]),
    ("/api/bars/BTC/1h?limit=100 over 10 M bars, 8 clients, p99 [ms]", "< 25", lambda r: r["bench_api"][0]["same_question"]["p99_ms"]),
    ("the same, requests per second", ">= 300", lambda r: r["bench_api"][0]["same_question"]["per_second"]),
    ("alert acknowledged to bar readable, slowest [ms]", "< 100", lambda r: r["bench_demo"][0]["alert_to_readable_max_ms"]),
    ("alert to derived signals, no broker, median [s]", "<= 6 (aim 1.5)", lambda r: r["bench_latency"][0]["median_s"]),
    ("alert to derived signals, RabbitMQ, median [s]", "<= 1.5", lambda r: r["bench_latency"][1]["median_s"]),
    ("make demo, empty caches, to the first divergence [s]", "< 180", lambda r: r["bench_demo"][0]["cold_to_first_divergence_s"]),
    ("realtime process in the demo [MB]", "< 300", lambda r: r["bench_demo"][0]["realtime_rss_mb"]),
    (
        "order book: decode, apply, top 50 of real BTCUSDT frames, times faster than ccxt.pro",
        ">= 3",
        lambda r: r["bench_book_sessions"][0]["ratio_to_ccxt"],
    ),
    (
        "the same, times faster than cryptofeed without its export",
        ">= 2",
        lambda r: r["bench_book_sessions"][0]["ratio_to_cryptofeed_without_its_export"],
    ),
    (
        "one book update through the engine, times cheaper than a numpy full scan",
        ">= 300",
        lambda r: r["bench_arbitrage"][0]["ratio_full_scan"],
    ),
    ("the same, share of decode and apply", "<= 0.25", lambda r: r["bench_arbitrage"][0]["engine_share_of_decode"]),
    (
        "triangles by index, times faster than enumerating cycles of 57 symbols",
        ">= 1000",
        lambda r: r["bench_arbitrage"][0]["ratio_triangles"],
    ),
    ("frame to published opportunity in process, p99 [ms]", "< 1", lambda r: r["bench_arbitrage"][0]["frame_to_published_p99_ms"]),
    (
        "recorder, share of the handler's CPU on real Binance frames",
        "<= 0.10",
        lambda r: r["bench_recorder"][0]["recorder_share_of_handler"],
    ),
    (
        "1,000 WebSocket clients at 4 Hz: CPU per delivery against websockets.broadcast",
        "<= 3",
        lambda r: r["bench_fanout"][0]["ratio_us_per_delivery"],
    ),
    ("14 venues x 50 symbols for ten minutes [messages/s]", ">= 5700", lambda r: r["bench_realtime"][0]["messages_per_s"]),
    ("the same, cores of the realtime process", "< 1", lambda r: r["bench_realtime"][0]["realtime_cores"]),
    ("the same, worst stall of the loop [ms]", "< 50", lambda r: r["bench_realtime"][0]["worst_loop_lag_ms"]),
    ("features of 1,000 new bars of 33 series [ms]", "< 150", lambda r: round(r["bench_forecasts"][0]["ms_median"])),
    ("forecasts of 33 series x 4 horizons at a new bar, p95 [ms]", "< 250", lambda r: round(r["bench_forecasts"][1]["refresh_ms_p95"])),
    (
        "the same inside the run, from looking to written, p95 [ms]",
        "< 250",
        lambda r: round(r["bench_forecast_run"][0]["ms_p95"]),
    ),
    ("training against bare LightGBM", "<= 1.25", lambda r: round(r["bench_forecasts"][2]["ratio"], 2)),
    ("day of incidents: share of planted opportunities found", "1", lambda r: r["bench_incident_day"][0]["recall"]),
    ("the same, false ones", "0", lambda r: r["bench_incident_day"][0]["false"]),
)
"""What is asked, its bar, and where the figure stands in the results."""


def main(wanted: list[str]) -> int:
    """Run the named benchmarks (all when none is named); exit code 1 when one of them failed."""
    scripts = [p for p in sorted(HERE.glob("bench_*.py")) if not wanted or p.stem.removeprefix("bench_") in wanted]
    results = {p.stem: _run(p) for p in scripts}
    stored = HERE / "results.json"
    known: dict[str, Any] = json.loads(stored.read_text()) if stored.exists() else {}
    known.update({name: rows for name, rows in results.items() if rows})
    stored.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
    REPORT.write_text(_report(known))
    return int(any(not rows for rows in results.values()))


def _run(script: Path) -> list[dict[str, Any]]:
    return [row for words in VARIANTS.get(script.stem, [[]]) for row in _run_once(script, words)]


def _run_once(script: Path, words: list[str]) -> list[dict[str, Any]]:
    print(f"== {script.stem} {' '.join(words)}", flush=True)
    command = [sys.executable, "-m", f"benchmarks.{script.stem}", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SEC, cwd=HERE.parent, check=False)
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    for row in rows:
        print("  ", row, flush=True)
    if done.returncode:
        print(done.stderr[-2000:], flush=True)
        return []
    return rows


def _machine() -> str:
    model = next((line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "?")
    return f"{model}, {os.cpu_count()} cores (virtual), Linux {platform.release()}, Python {platform.python_version()}"


def _report(results: dict[str, Any]) -> str:
    lines = [
        "# Performance", "", "Written by `make bench`; trust ratios, not seconds: the machine is a shared virtual one.", "",
        f"Machine: {_machine()}. Date: {datetime.now(UTC):%Y-%m-%d}.", "",
    ]  # fmt: skip
    lines += ["| goal | bar | measured |", "|---|---|---|"]
    lines += [f"| {goal} | {bar} | {_figure(find, results)} |" for goal, bar, find in GOALS]
    lines.append("")
    for name, rows in sorted(results.items()):
        lines += [f"## {name}", "", "| measure | value |", "|---|---|"]
        for row in rows:
            lines += [f"| {key} | {value} |" for key, value in _flat(row)]
        lines.append("")
    return "\n".join(lines)


def _figure(find: Callable[[Any], Any], results: dict[str, Any]) -> Any:
    try:
        return find(results)
    except (KeyError, IndexError):
        return "not measured"


def _flat(row: dict[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in row.items():
        name = f"{before}{key}"
        if isinstance(value, dict):
            yield from _flat(value, f"{name}.")
        else:
            yield name, value


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
