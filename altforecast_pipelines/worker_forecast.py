"""The worker of heavy runs: trainings, one at a time, at low priority, in a child process that ends with the run.

What belongs here: its command. What does not: the worker of bar-close runs (`worker`) and what a training does (`training`). Start:
`python -m altforecast_pipelines.worker_forecast` (DAGSTER_HOME set); start more, here or on other machines behind a broker, for more
trainings at a time. The parent imports no code location, so it stays small; the child is forked before anything was used.
"""

import logging
import os
from contextlib import ExitStack
from typing import Any

from celery import Celery, signals
from dagster._serdes import unpack_value
from dagster_celery.make_app import make_app
from dagster_celery.tasks import create_execute_job_task, create_resume_job_task
from kombu.transport import sqlalchemy as database_transport

from altforecast_io.dagster_home import celery_config
from altforecast_io.settings import Settings
from altforecast_pipelines.instance import FORECAST_QUEUE
from altforecast_pipelines.launcher import holding

NICENESS = 10
"""Trainings give way to everything that somebody waits for."""
LOOK_S = 1.0
settings = Settings.load()
app: Celery = make_app(celery_config(settings))  # type: ignore[no-untyped-call]
execute_job = create_execute_job_task(app)
resume_job = create_resume_job_task(app)
_held: dict[str, ExitStack] = {}


@signals.task_prerun.connect  # type: ignore[untyped-decorator]
def hold(task_id: str, kwargs: dict[str, Any], **_: Any) -> None:
    """Take the lock of the run that begins; the child's death gives it up, so that the run is known to be dead."""
    run: Any = next((unpack_value(v) for name, v in kwargs.items() if name.endswith("_job_args_packed")), None)
    if run is not None:
        stack = _held[task_id] = ExitStack()
        stack.enter_context(holding(settings.dagster_home, run.run_id))


@signals.task_postrun.connect  # type: ignore[untyped-decorator]
def let_go(task_id: str, **_: Any) -> None:
    """Give it up."""
    if stack := _held.pop(task_id, None):
        stack.close()


@signals.worker_shutting_down.connect  # type: ignore[untyped-decorator]
def expect_the_end(**_: Any) -> None:
    """At the stop the child is killed; the pool need not report that as an error. A child killed at any other time is still told."""
    logging.getLogger("multiprocessing").addFilter(lambda record: not str(record.msg).startswith("Process %r pid:%r exited"))


def main() -> None:
    """Run the worker; ends on SIGTERM after the run in progress."""
    os.nice(NICENESS)
    database_transport.Transport.polling_interval = LOOK_S
    # A child that was killed is not replaced by the same task: run monitoring starts the run again, from its own beginning.
    app.conf.task_reject_on_worker_lost = False
    app.worker_main(
        [
            "--quiet",
            "worker",
            "--pool",
            "prefork",
            "--concurrency",
            "1",
            "--max-tasks-per-child",
            "1",
            "--queues",
            FORECAST_QUEUE,
            "--hostname",
            f"forecast-{os.getpid()}@%h",
            "--loglevel",
            "warning",
            "--without-gossip",
            "--without-mingle",
            "--without-heartbeat",
        ]
    )


if __name__ == "__main__":
    main()
