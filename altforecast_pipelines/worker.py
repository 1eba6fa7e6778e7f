"""The Celery application of run workers: a process that has imported the code location and runs what the launcher queues.

What belongs here: the app and its imports. What does not: the broker's address (`altforecast_io.dagster_home`).
Start: `celery -A altforecast_pipelines.worker worker --pool solo` (DAGSTER_HOME set). One run at a time per worker; start more
workers for more. The solo pool, because a child forked after Polars was used hangs.
"""

from celery import Celery
from dagster_celery.make_app import make_app
from dagster_celery.tasks import create_execute_job_task, create_resume_job_task

import altforecast_pipelines.definitions  # noqa: F401 - imported once here, so that no run pays for it
from altforecast_io.dagster_home import celery_config
from altforecast_io.settings import Settings

app: Celery = make_app(celery_config(Settings.load()))
execute_job = create_execute_job_task(app)
resume_job = create_resume_job_task(app)
