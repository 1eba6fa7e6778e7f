"""Our Dagster instance: events written in batches, and a lane past the run queue for work that somebody waits for.

What belongs here: the classes named in `dagster.yaml` that decide how runs are started. What does not: storages (`storage`).
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from dagster import DagsterInstance, DagsterRun
from dagster._core.instance.ref import InstanceRef
from dagster._core.run_coordinator.base import SubmitRunContext
from dagster._core.run_coordinator.queued_run_coordinator import QueuedRunCoordinator
from dagster._core.storage.tags import PARTITION_NAME_TAG

from altforecast.types import Window
from altforecast_io.lake import month_start, next_month
from altforecast_pipelines.partitions import RANGE_START_TAG, range_tags
from altforecast_pipelines.scope import TRIGGER_TAG

EVENT_BATCH_SIZE = 500
LANE_TAG = "altforecast/lane"
EXPRESS, QUEUED, HEAVY = "express", "queued", "heavy"
FORECAST_QUEUE = "forecast"
"""Celery queue of heavy runs; `worker_forecast` takes them, one at a time each."""
HEAVY_TAGS = {LANE_TAG: HEAVY, "dagster-celery/queue": FORECAST_QUEUE}
HEAVY_JOB, HEAVY_ASSETS = "train_models", frozenset({"baselines", "candidates"})
"""Runs of this job, or that make one of these assets, are heavy whoever asks for them."""
BY_HAND = "by hand"
"""Trigger of a training that a person launched without choosing months."""
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
"""Run configuration: events, failures among them, are in the event log; printing each of them too would be a tenth of a bar-close run,
and pages where a run is interrupted at the stop."""


class HouseInstance(DagsterInstance):
    """Dagster's instance with batched events, so that the switch need not be an environment variable of every process."""

    @classmethod
    def config_schema(cls) -> Mapping[str, Any]:
        """No settings of its own."""
        return {}

    @classmethod
    def config_defaults(cls, base_dir: str) -> Mapping[str, Any]:
        """Dagster's defaults."""
        return InstanceRef.config_defaults(base_dir)

    def _get_event_batch_size(self) -> int:
        return EVENT_BATCH_SIZE


class ExpressRunCoordinator(QueuedRunCoordinator):
    """Dagster's run queue, except that runs tagged `altforecast/lane: express` are launched at once.

    The queue is looked through once a second at most and limits how many runs work at a time; bar-close runs are small, one
    per trigger, and must not wait for either. Everything else (backfills, fetches, upkeep) queues; of heavy runs (trainings) one works
    at a time.
    """

    def submit_run(self, context: SubmitRunContext) -> DagsterRun:
        """Launch or enqueue; a training that somebody asked for by hand gets what a scheduled one has first."""
        run = context.dagster_run
        if is_training(run):
            self._instance.add_run_tags(run.run_id, lacking(run, datetime.now(UTC)))
            return super().submit_run(context)
        if run.tags.get(LANE_TAG) != EXPRESS:
            return super().submit_run(context)
        return self._instance.launch_run(run.run_id, context.workspace)


def is_training(run: DagsterRun) -> bool:
    """Whether a run trains models: the job as a whole, or one of its assets chosen in the UI."""
    chosen = {key.to_user_string() for key in run.asset_selection or ()}
    return bool(chosen & HEAVY_ASSETS) if chosen else run.job_name == HEAVY_JOB


def lacking(run: DagsterRun, now: datetime) -> dict[str, str]:
    """Tags that a training misses: the lane; where no month was chosen, those that make it about everything that is due.

    Dagster cannot run partitioned assets without a partition, so the current month stands for none.
    """
    has_months = run.tags.get(PARTITION_NAME_TAG) or run.tags.get(RANGE_START_TAG)
    months = {} if has_months else {TRIGGER_TAG: BY_HAND, **range_tags(Window(month_start(now), next_month(now)))}
    return months | HEAVY_TAGS
