"""Our Dagster instance: events written in batches, and a lane past the run queue for work that somebody waits for.

What belongs here: the classes named in `dagster.yaml` that decide how runs are started. What does not: storages (`storage`).
"""

from collections.abc import Mapping
from typing import Any

from dagster import DagsterInstance, DagsterRun
from dagster._core.instance.ref import InstanceRef
from dagster._core.run_coordinator.base import SubmitRunContext
from dagster._core.run_coordinator.queued_run_coordinator import QueuedRunCoordinator

EVENT_BATCH_SIZE = 500
LANE_TAG = "altforecast/lane"
EXPRESS, QUEUED, HEAVY = "express", "queued", "heavy"
FORECAST_QUEUE = "forecast"
"""Celery queue of heavy runs; `worker_forecast` takes them, one at a time each."""
HEAVY_TAGS = {LANE_TAG: HEAVY, "dagster-celery/queue": FORECAST_QUEUE}
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
        """Launch or enqueue."""
        run = context.dagster_run
        if run.tags.get(LANE_TAG) != EXPRESS:
            return super().submit_run(context)
        return self._instance.launch_run(run.run_id, context.workspace)
