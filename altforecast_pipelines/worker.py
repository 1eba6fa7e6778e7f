"""A run worker: a process that has imported the code location and runs what the launcher queues, one run at a time.

What belongs here: the Celery app, its imports and its command. What does not: the broker's address (`altforecast_io.dagster_home`).
Start: `python -m altforecast_pipelines.worker` (DAGSTER_HOME set); start more for more runs at a time. The solo pool, because a
child forked after Polars was used hangs.
"""

from contextlib import ExitStack
from typing import Any

from celery import Celery, signals
from dagster._serdes import unpack_value
from dagster_celery.make_app import make_app
from dagster_celery.tasks import create_execute_job_task, create_resume_job_task
from kombu.transport import sqlalchemy as database_transport

import altforecast_pipelines.definitions  # noqa: F401 - imported once here, so that no run pays for it
from altforecast_io.dagster_home import POLLING_S, celery_config
from altforecast_io.settings import Settings
from altforecast_pipelines.launcher import holding
from altforecast_pipelines.warm import warm_up

QUEUE = "dagster"
settings = Settings.load()
app: Celery = make_app(celery_config(settings))  # type: ignore[no-untyped-call]
execute_job = create_execute_job_task(app)
resume_job = create_resume_job_task(app)
_held: dict[str, ExitStack] = {}


@signals.task_prerun.connect  # type: ignore[untyped-decorator]
def hold(task_id: str, kwargs: dict[str, Any], **_: Any) -> None:
    """Take the lock of the run that begins."""
    run: Any = next((unpack_value(v) for name, v in kwargs.items() if name.endswith("_job_args_packed")), None)
    if run is not None:
        stack = _held[task_id] = ExitStack()
        stack.enter_context(holding(settings.dagster_home, run.run_id))


@signals.task_postrun.connect  # type: ignore[untyped-decorator]
def let_go(task_id: str, **_: Any) -> None:
    """Give it up."""
    if stack := _held.pop(task_id, None):
        stack.close()


def main() -> None:
    """Start the worker; ends on SIGTERM after the run in progress."""
    # The database transport takes no option for its polling; a second between looks would be most of the latency.
    database_transport.Transport.polling_interval = POLLING_S
    warm_up()
    app.worker_main(
        [
            "--quiet",
            "worker",
            "--pool",
            "solo",
            "--queues",
            QUEUE,
            "--loglevel",
            "warning",
            "--without-gossip",
            "--without-mingle",
            "--without-heartbeat",
        ]
    )


if __name__ == "__main__":
    main()
