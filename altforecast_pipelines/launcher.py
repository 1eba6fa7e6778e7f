"""Runs go to warm Celery workers; a worker that died is noticed by the lock it no longer holds.

What belongs here: launching and the health of run workers. What does not: the worker (`worker`) and the broker (`dagster_home`).
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dagster import DagsterRun
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus
from dagster_celery.launcher import CeleryRunLauncher

LOCKS = "run-workers"


class WarmRunLauncher(CeleryRunLauncher):
    """dagster-celery's launcher; run monitoring also learns of workers on this machine that were killed.

    A killed worker's task stays `STARTED` in the result backend, so Dagster would wait for `max_runtime_seconds`.
    """

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """FAILED where the run's lock exists and nobody holds it; RUNNING where somebody does; else what Celery knows."""
        state = lock_state(Path(self._instance.root_directory), run.run_id)
        if state == "held":
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        if state == "free":
            return CheckRunHealthResult(WorkerStatus.FAILED, "the worker of this run is gone", transient=True)
        return super().check_run_worker_health(run)


def lock_path(home: Path, run_id: str) -> Path:
    """The file that the worker of a run keeps locked."""
    return home / LOCKS / f"{run_id}.lock"


def lock_state(home: Path, run_id: str) -> str:
    """`none`, `held` or `free` (its holder is gone)."""
    try:
        with lock_path(home, run_id).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return "none"
    except BlockingIOError:
        return "held"
    return "free"


@contextmanager
def holding(home: Path, run_id: str) -> Iterator[None]:
    """Hold the lock of a run while it works; the file goes away at an orderly end only."""
    path = lock_path(home, run_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
        path.unlink(missing_ok=True)
