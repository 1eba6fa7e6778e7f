"""Run every benchmark alone, one after the other, and write docs/performance.md.

What belongs here: running and writing down. What does not: measuring.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
REPORT = HERE.parent / "docs" / "performance.md"
TIMEOUT_SEC = 1200
LOCAL_BROKER = "amqp://guest:guest@127.0.0.1:5672//"
VARIANTS: dict[str, list[list[str]]] = {"bench_latency": [[], ["--broker", LOCAL_BROKER]]}
"""Arguments of the runs of a script; one run without arguments where it is not named."""


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
    for name, rows in sorted(results.items()):
        lines += [f"## {name}", "", "| measure | value |", "|---|---|"]
        for row in rows:
            lines += [f"| {key} | {value} |" for key, value in _flat(row)]
        lines.append("")
    return "\n".join(lines)


def _flat(row: dict[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in row.items():
        name = f"{before}{key}"
        if isinstance(value, dict):
            yield from _flat(value, f"{name}.")
        else:
            yield name, value


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
