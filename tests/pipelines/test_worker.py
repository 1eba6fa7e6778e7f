"""Real processes: code server, daemon and run workers; a worker is killed in the middle of a run."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from altforecast.types import Timeframe
from altforecast_io.dagster_home import write_dagster_home
from altforecast_io.lake import Lake
from altforecast_io.settings import Settings
from altforecast_io.store import inbox
from altforecast_io.store.engine import open_store
from altforecast_pipelines.launcher import LOCKS, holding, lock_state
from altforecast_pipelines.resources import House
from tests.pipelines.conftest import BTC, alert, deliver

H1 = Timeframe.H1


def test_lock_state_tells_working_from_dead(tmp_path: Path) -> None:
    assert lock_state(tmp_path, "run") == "none"
    with holding(tmp_path, "run"):
        assert lock_state(tmp_path, "run") == "held"
    assert lock_state(tmp_path, "run") == "none"
    (tmp_path / LOCKS / "run.lock").touch()
    assert lock_state(tmp_path, "run") == "free"


QUIET_START_AND_STOP = """
import logging
from celery import signals
from dagster_celery.make_app import make_app
from dagster_celery.tasks import create_execute_job_task
import altforecast_pipelines.launcher, altforecast_pipelines.worker_forecast
app = make_app({"broker": "memory://"})
for _ in range(2):
    create_execute_job_task(app).si(execute_job_args_packed={})
log = logging.getLogger("multiprocessing")
log.error("Process %r pid:%r exited with %r", "at work", 1, "signal 9")
signals.worker_shutting_down.send(sender=None)
log.error("Process %r pid:%r exited with %r", "at the stop", 1, "signal 9")
log.error("anything else")
"""


def test_launches_and_stops_are_quiet_but_a_killed_child_is_told(tmp_path: Path, repository: Path) -> None:
    environment = {**os.environ, "ALTFORECAST_HOME": str(tmp_path), "PYTHONPATH": str(repository)}
    command = [sys.executable, "-W", "ignore", "-W", "default::UserWarning", "-c", QUIET_START_AND_STOP]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stderr.splitlines() == ["Process 'at work' pid:1 exited with 'signal 9'", "anything else"]


@contextmanager
def running(command: list[str], environment: dict[str, str], log: Path, cwd: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("ab") as out:
        process = subprocess.Popen(command, env=environment, cwd=cwd, stdout=out, stderr=out, start_new_session=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait(until: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.e2e
def test_killed_worker_is_noticed_and_its_run_repeated(tmp_path: Path, repository: Path) -> None:
    settings = Settings.load(base=tmp_path, fetch_exchange_bars=False)
    settings.make_folders()
    write_dagster_home(settings)
    house = House(lambda: settings)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    workspace = tmp_path / "workspace.yaml"
    workspace.write_text(f"load_from:\n  - grpc_server: {{host: 127.0.0.1, port: {port}, location_name: altforecast}}\n")
    environment = {
        **os.environ, "DAGSTER_HOME": str(settings.dagster_home), "ALTFORECAST_HOME": str(tmp_path), "FETCH_EXCHANGE_BARS": "false",
        "CONTEXT_ENABLE": "false", "CELERY_BROKER_URL": "", "DAGSTER_POSTGRES_URL": "",
    }  # fmt: skip
    module = [sys.executable, "-m"]
    server = [*module, "dagster", "api", "grpc", "-h", "127.0.0.1", "-p", str(port), "-m", "altforecast_pipelines.definitions"]
    daemon = [*module, "altforecast_pipelines.daemon", "run", "-w", str(workspace)]
    worker = [*module, "altforecast_pipelines.worker"]
    log = tmp_path / "processes.log"
    locks = settings.dagster_home / LOCKS
    ts = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=2)
    with running(server, environment, log, repository), running(daemon, environment, log, repository):
        with running(worker, environment, log, repository) as doomed:
            deliver(house, alert(BTC, H1, ts))
            wait(lambda: any(locks.glob("*.lock")), 60, "no run began")
            os.killpg(doomed.pid, signal.SIGKILL)
        with running(worker, environment, log, repository):
            store, lake = open_store(settings.database_url), Lake(settings.lake_dir, "live")
            wait(lambda: inbox.pending(store).n_rows == 0, 200, f"never built: {log.read_text()[-2000:]}")
            wait(lambda: lake.read("indicators", "1h").height == 1, 60, "indicators never built")
            wait(lambda: [*(settings.lake_dir / "due").iterdir()] == [], 60, "the run did not clear its marker")
            store.close()
    assert lake.read("bars", "1h")["ts"].to_list() == [ts]
