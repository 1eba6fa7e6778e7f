"""Runs outside the workers whose process is killed: sensors go on, and what was left is built."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import dagster as dg

from altforecast.types import Timeframe
from altforecast_pipelines import due
from altforecast_pipelines.ingest import open_instance
from altforecast_pipelines.launcher import hold_while_alive, holding, is_dead, lock_state
from altforecast_pipelines.resources import House
from altforecast_pipelines.sensors import IN_PROGRESS, due_sensor, is_in_progress
from tests.pipelines.conftest import BTC, NOW, START, land, random_bars, run_requests

DIES_BEHIND_BARS = """
import sys, time
from datetime import datetime
from pathlib import Path
from altforecast_io.settings import Settings
from altforecast_pipelines import ingest

def tell(table, state):
    if (table, state) == ("bars", "done"):
        Path(sys.argv[1], "behind-bars").touch()
        time.sleep(120)

settings = Settings.load(base=Path(sys.argv[1]), fetch_exchange_bars=False)
ingest.run_backfill(settings, progress=tell, clock=lambda: datetime.fromisoformat(sys.argv[2]))
"""


def test_killed_backfill_is_not_in_progress_and_its_tables_are_built(house: House, repository: Path) -> None:
    land(house, random_bars(BTC, Timeframe.H1, START, START + timedelta(days=40)))
    home = house.settings.home
    command = [sys.executable, "-c", DIES_BEHIND_BARS, str(home), NOW.isoformat()]
    process = subprocess.Popen(command, cwd=repository, stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 120
        while not (home / "behind-bars").exists():
            assert process.poll() is None, process.stderr and process.stderr.read().decode()[-2000:]
            assert time.monotonic() < deadline
            time.sleep(0.05)
        with open_instance(house.settings) as instance:
            assert is_in_progress(instance)
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            (run,) = instance.get_runs(dg.RunsFilter(statuses=IN_PROGRESS))
            assert run.status is dg.DagsterRunStatus.STARTED
            assert not is_in_progress(instance)
            assert "FAILED" in str(instance.run_launcher.check_run_worker_health(run).status)
            house.clock = lambda: NOW + due.PATIENCE
            asked = due_sensor(dg.build_sensor_context(instance=instance), house=house)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
    assert isinstance(asked, dg.SensorResult)
    assert [r.success for r in run_requests(house, asked.run_requests)] == [True]
    assert house.lake.read("indicators").height == house.lake.read("bars").height == 40 * 24
    assert due.markers(house.lake) == []


def test_hold_while_alive_leaves_a_lock_that_is_held(tmp_path: Path) -> None:
    with holding(tmp_path, "run"):
        hold_while_alive(tmp_path, "run")
        assert lock_state(tmp_path, "run") == "held"
    assert lock_state(tmp_path, "run") == "none"


def test_hold_while_alive_ends_with_the_process(tmp_path: Path, repository: Path) -> None:
    imports = "import os, sys; from pathlib import Path; from altforecast_pipelines.launcher import hold_while_alive"
    code = f"{imports}; hold_while_alive(Path(sys.argv[1]), 'run')"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=repository, check=True)
    assert lock_state(tmp_path, "run") == "none"
    subprocess.run([sys.executable, "-c", code + "; os._exit(9)", str(tmp_path)], cwd=repository, check=False)
    assert is_dead(tmp_path, "run")
