"""Schedules: work that the clock starts.

What belongs here: when. What does not: what (`jobs`).
"""

import dagster as dg

from altforecast.types import Window
from altforecast_io.lake import month_start, next_month
from altforecast_pipelines import jobs
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


SCHEDULES = (exchange_bars_schedule, gaps_schedule, tidy_schedule, market_context_schedule, transfer_terms_schedule)
