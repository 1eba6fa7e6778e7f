"""Import all real files, build every signal, and write what happened to docs/reports/real-data-run.md.

What belongs here: calling the commands as an analyst would and writing down their figures. What does not: computing anything.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.__main__ import _machine

REPOSITORY = Path(__file__).resolve().parent.parent
REPORT = REPOSITORY / "docs" / "reports" / "real-data-run.md"
COUNTS = """
SELECT '{name}' AS name, count(*) AS n, strftime(min(ts), '%Y-%m-%d') AS first, strftime(max(ts), '%Y-%m-%d') AS last FROM {name}
"""
TABLES = (
    "bars", "bar_gaps", "indicators", "pivots", "divergences", "divergence_outcomes", "evidence", "levels", "regime", "market_report",
    "quarantine",
)  # fmt: skip


def main() -> int:
    """Run import and backfill on ALTFORECAST_REAL_DATA/bars in a temporary home; exit code 1 when one of them fails."""
    data = Path(os.environ["ALTFORECAST_REAL_DATA"]).resolve()
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "ALTFORECAST_HOME": home}
        imported, import_seconds = _altforecast(environment, "import", "--json", "--no-build", str(data / "bars"))
        _, build_seconds = _altforecast(environment, "backfill")
        before = _sql(environment, BARS_AND_REVISIONS)
        _, again_seconds = _altforecast(environment, "import", str(data / "bars"))
        again = {"before": before, "after": _sql(environment, BARS_AND_REVISIONS)}
        tables = [_sql(environment, COUNTS.format(name=name))[0] for name in TABLES]
        files = len(list((Path(home) / "lake").glob("*/*/????-??.parquet"))) + len(list((Path(home) / "lake").glob("*/????-??.parquet")))
        signals = _sql(environment, "SELECT oscillator, kind, status, count(*) AS n FROM divergences GROUP BY ALL ORDER BY ALL")
        evidence = _sql(environment, EVIDENCE)
        gaps = _sql(environment, "SELECT kind, count(*) AS holes, sum(n_bars) AS bars FROM bar_gaps GROUP BY ALL ORDER BY ALL")
    totals = json.loads(imported)["totals"]
    report = _report(totals, again, (import_seconds, build_seconds, again_seconds), tables, files, signals, evidence, gaps)
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(report)
    print(report)
    return 0


BARS_AND_REVISIONS = "SELECT (SELECT count(*) FROM bars) AS bars, (SELECT count(*) FROM bar_revisions) AS revisions"
EVIDENCE = """
SELECT timeframe, signal, oscillator, kind, n, round(100 * hit_frac, 1) AS hit_pct, round(100 * base_frac, 1) AS base_pct,
       round(ci_low_pp, 1) AS ci_low_pp, round(ci_high_pp, 1) AS ci_high_pp, verdict
FROM evidence WHERE ts = (SELECT max(ts) FROM evidence) ORDER BY ALL
"""


def _altforecast(environment: dict[str, str], *words: str) -> tuple[str, float]:
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "altforecast_cli", *words], env=environment, cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"altforecast {words[0]} ended with {done.returncode}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return done.stdout, time.monotonic() - began


def _sql(environment: dict[str, str], query: str) -> list[dict[str, Any]]:
    out, _ = _altforecast(environment, "lake", "sql", "--format", "json", query)
    return list(json.loads(out))


def _table(rows: list[dict[str, Any]]) -> list[str]:
    if not rows:
        return ["(none)", ""]
    names = list(rows[0])
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    return [*lines, *("| " + " | ".join("" if row[n] is None else str(row[n]) for n in names) + " |" for row in rows), ""]


def _report(
    totals: dict[str, Any], again: dict[str, Any], seconds: tuple[float, float, float], tables: list[dict[str, Any]], files: int,
    signals: list[dict[str, Any]], evidence: list[dict[str, Any]], gaps: list[dict[str, Any]],
) -> str:  # fmt: skip
    reasons = {name: [{"reason": r, "rows": n} for r, n in totals[name].items()] for name in ("quarantined", "repaired")}
    lines = [
        "# All real bars through the platform", "",
        f"Written by `make reports` on {datetime.now(UTC):%Y-%m-%d}. Machine: {_machine()}.", "",
        "Times are wall clock, start of each process included.", "",
        "| step | seconds |", "|---|---|", f"| `altforecast import` (check and stage {totals['files']} files) | {seconds[0]:.1f} |",
        f"| `altforecast backfill` (one Dagster run, every table) | {seconds[1]:.1f} |",
        f"| `altforecast import` of the same files again, with its build | {seconds[2]:.1f} |", "",
        f"Rows in: {totals['rows']:,}. Accepted: {totals['accepted']:,}. Dropped as doubles: {totals['dropped_duplicates']:,}. "
        f"Quarantined: {sum(totals['quarantined'].values()):,}. Month files in the lake: {files:,}.", "",
        f"The second import {'changed nothing' if again['before'] == again['after'] else 'CHANGED THE LAKE'}: "
        f"{again['before']} before, {again['after']} after.", "",
        "## Quarantined, by reason", "", *_table(reasons["quarantined"]),
        "## Repaired or marked, by reason", "", *_table(reasons["repaired"]),
        "## Tables", "", *_table(tables), "## Holes", "", *_table(gaps),
        "## Divergences by kind and status change", "", *_table(signals), "## Evidence, newest month", "", *_table(evidence),
    ]  # fmt: skip
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
