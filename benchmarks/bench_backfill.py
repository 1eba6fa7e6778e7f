"""Backfill through Dagster against the same steps called directly, on the same files.

What belongs here: both ways and their ratio. What does not: the speed of single domain functions (bench_indicators and others).
Run: `ALTFORECAST_REAL_DATA=<folder> python benchmarks/bench_backfill.py [--rounds 1]`; without real data seeded bars are used.
Each way runs in a process of its own after a warm-up of compiled code; prints one JSON line. Goal: ratio at most 1.3.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))


def prepare(home: Path) -> int:
    """A lake with bars and nothing else; returns rows."""
    from altforecast_io.clock import utc_now
    from altforecast_io.importer import ImportOptions, import_paths
    from altforecast_io.lake import Lake
    from altforecast_io.settings import Settings
    from altforecast_pipelines.ingest import ingest_landing

    settings = Settings.load(base=home)
    settings.make_folders()
    real = os.environ.get("ALTFORECAST_REAL_DATA")
    if real:
        import_paths([Path(real) / "bars"], Lake(settings.lake_dir, "live"), utc_now, lambda *_: None, ImportOptions())
    else:
        from datetime import UTC, datetime

        from altforecast_io.landing import write_landing
        from benchmarks.bench_latency import bars

        write_landing(settings.lake_dir, "seed", bars(datetime.now(UTC)))
    return ingest_landing(settings).tables[0].n_rows


def direct(home: Path) -> float:
    """Seconds of all steps, called one after the other without Dagster."""
    from altforecast_io.settings import Settings
    from altforecast_pipelines.assets import bar_gaps, divergences, evidence, indicators, levels, outcomes, pivots, regime, reports
    from altforecast_pipelines.build import build
    from altforecast_pipelines.ingest import plan_backfill
    from altforecast_pipelines.intake import take_in
    from altforecast_pipelines.resources import House
    from altforecast_pipelines.warm import warm_up

    warm_up()
    house = House(lambda: Settings.load(base=home))
    began = time.perf_counter()
    plan = plan_backfill(house)
    take_in(house, plan, house.provenance("bars", "direct"))
    for module in (bar_gaps, indicators, pivots, divergences, levels, outcomes, evidence, regime, reports):
        build(module.STEP, house, plan, "direct")
    return time.perf_counter() - began


def through_dagster(home: Path) -> float:
    """Seconds of the same in one Dagster run: instance, events, checks and metadata included."""
    from altforecast_io.settings import Settings
    from altforecast_pipelines.ingest import run_backfill
    from altforecast_pipelines.warm import warm_up

    warm_up()
    settings = Settings.load(base=home)
    began = time.perf_counter()
    run_backfill(settings)
    return time.perf_counter() - began


def in_process(way: str, home: Path) -> float:
    """One way in a new process."""
    done = subprocess.run(
        [sys.executable, __file__, "--way", way, "--home", str(home)], capture_output=True, text=True, check=True, cwd=REPOSITORY
    )
    return float(done.stdout.strip().splitlines()[-1])


def main() -> None:
    """Prepare, run both ways in turns, print the figures."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=1)
    arguments.add_argument("--way", choices=["direct", "dagster"])
    arguments.add_argument("--home", type=Path)
    given = arguments.parse_args()
    if given.way:
        print((direct if given.way == "direct" else through_dagster)(given.home))
        return
    with tempfile.TemporaryDirectory() as folder:
        seed = Path(folder) / "seed"
        rows = prepare(seed)
        taken: dict[str, list[float]] = {"direct": [], "dagster": []}
        for number in range(given.rounds):
            for way in taken:
                home = Path(folder) / f"{way}{number}"
                shutil.copytree(seed, home)
                taken[way].append(in_process(way, home))
                shutil.rmtree(home)
    best = {way: min(seconds) for way, seconds in taken.items()}
    result = {"benchmark": "backfill", "bars": rows, "direct_s": round(best["direct"], 2), "dagster_s": round(best["dagster"], 2)}
    print(json.dumps(result | {"ratio": round(best["dagster"] / best["direct"], 3)}))


if __name__ == "__main__":
    main()
