"""Schedules: work that the clock starts.

What belongs here: when. What does not: what (`jobs`).
"""

import dagster as dg

from altforecast.types import Window
from altforecast_io.lake import month_start, next_month
from altforecast_pipelines import jobs
from altforecast_pipelines.forecast_sensors import training_request
from altforecast_pipelines.partitions import range_tags
from altforecast_pipelines.transfers import transfer_terms_schedule

RUNNING = dg.DefaultScheduleStatus.RUNNING

exchange_bars_schedule = dg.ScheduleDefinition(
    name="exchange_bars_schedule",
    job=jobs.fetch_exchange_bars,
    cron_schedule="1-59/15 * * * *",
    default_status=RUNNING,
    description="Every quarter of an hour, a minute after the close.",
)
gaps_schedule = dg.ScheduleDefinition(
    name="gaps_schedule",
    job=jobs.refill_bar_gaps,
    cron_schedule="23 * * * *",
    default_status=RUNNING,
    description="Hourly refill of holes.",
)
tidy_schedule = dg.ScheduleDefinition(
    name="tidy_schedule",
    job=jobs.tidy_up,
    cron_schedule="41 3 * * *",
    default_status=RUNNING,
    description="Nightly retention and compaction.",
)


@dg.schedule(job=jobs.on_context, cron_schedule="7 * * * *", default_status=RUNNING, description="Hourly market context.")
def market_context_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """One run for the current month."""
    now = context.scheduled_execution_time
    return dg.RunRequest(run_key=now.isoformat(), tags=range_tags(Window(month_start(now), next_month(now))))


@dg.schedule(job=jobs.train_models, cron_schedule="20 0 * * *", default_status=RUNNING, description="New baselines every night.")
def baselines_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """Features, training set and baselines; seconds to a minute."""
    return training_request(f"baselines:{context.scheduled_execution_time.isoformat()}", jobs.BASELINE_TRAINING, "schedule")


@dg.schedule(job=jobs.train_models, cron_schedule="10 1 * * 0", default_status=RUNNING, description="New candidates every Sunday.")
def candidates_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """Everything up to the gate; minutes."""
    return training_request(f"candidates:{context.scheduled_execution_time.isoformat()}", jobs.TRAINING, "schedule")


SCHEDULES = (
    exchange_bars_schedule, gaps_schedule, tidy_schedule, market_context_schedule, transfer_terms_schedule, baselines_schedule,
    candidates_schedule,
)  # fmt: skip
