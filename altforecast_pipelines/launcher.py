"""Runs go to warm Celery workers; a worker that died is noticed by the lock it no longer holds.

What belongs here: launching and the health of run workers. What does not: the worker (`worker`) and the broker (`dagster_home`).
"""

import atexit
import fcntl
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from celery.exceptions import DuplicateTaskNameWarning
from dagster import DagsterInstance, DagsterRun, Field
from dagster._config import UserConfigSchema
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, LaunchRunContext, WorkerStatus
from dagster_celery.launcher import CeleryRunLauncher

from altforecast_pipelines.instance import EXPRESS, HEAVY, LANE_TAG

LOCKS = "run-workers"
# dagster-celery makes its one task anew at each launch; Celery keeps the first, which is the same, and would say so in ten lines.
warnings.filterwarnings("ignore", r"Task name '(execute|resume)_job'", DuplicateTaskNameWarning)


class WarmRunLauncher(CeleryRunLauncher):
    """dagster-celery's launcher; run monitoring also learns of workers on this machine that were killed.

    A killed worker's task stays `STARTED` in the result backend, so Dagster would wait for `max_runtime_seconds`.
    only_express: long work gets a process of its own from Dagster's default launcher, so that one worker is enough on one machine
    and bar-close runs never wait behind a backfill. Heavy runs (trainings) go to the workers of their own queue, broker or not.
    """

    def __init__(self, only_express: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self._only_express = only_express
        self._plain = DefaultRunLauncher()

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        """dagster-celery's options and `only_express`."""
        return {**super().config_type(), "only_express": Field(bool, is_required=False, default_value=False)}  # type: ignore[dict-item]

    def register_instance(self, instance: DagsterInstance) -> None:
        """Dagster hands over its instance; the default launcher needs it too."""
        super().register_instance(instance)
        self._plain.register_instance(instance)

    def is_warm(self, run: DagsterRun) -> bool:
        """Whether a run goes to the workers."""
        return not self._only_express or run.tags.get(LANE_TAG) in (EXPRESS, HEAVY)

    def launch_run(self, context: LaunchRunContext) -> None:
        """Queue the run for a worker, or start a process for it."""
        if self.is_warm(context.dagster_run):
            super().launch_run(context)
        else:
            self._plain.launch_run(context)

    def terminate(self, run_id: str) -> bool:
        """Ask whoever runs it to end it."""
        run = self._instance.get_run_by_id(run_id)
        if run is not None and not self.is_warm(run):
            return bool(self._plain.terminate(run_id))  # type: ignore[no-untyped-call]
        return super().terminate(run_id)

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """FAILED where the run's lock exists and nobody holds it; RUNNING where somebody does; else what Celery knows of warm runs."""
        state = lock_state(Path(self._instance.root_directory), run.run_id)
        if state == "held":
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        if state == "free":
            return CheckRunHealthResult(WorkerStatus.FAILED, "the worker of this run is gone", transient=True)
        if not self.is_warm(run):
            return CheckRunHealthResult(WorkerStatus.RUNNING)
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


def is_dead(home: Path, run_id: str) -> bool:
    """Whether a process took up the run and is gone without an orderly end."""
    return lock_state(home, run_id) == "free"


def hold_while_alive(home: Path, run_id: str) -> None:
    """Hold the lock of a run as long as this process lives, where nobody holds it yet: runs that have a process of their own."""
    if lock_state(home, run_id) != "held":
        lock = ExitStack()
        lock.enter_context(holding(home, run_id))
        atexit.register(lock.close)


@contextmanager
def holding(home: Path, run_id: str) -> Iterator[None]:
    """Hold the lock of a run while it works; the file goes away at an orderly end only."""
    path = lock_path(home, run_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
        path.unlink(missing_ok=True)
