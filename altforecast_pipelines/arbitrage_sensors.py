"""The sensor that takes in what the realtime process left in the landing area.

What belongs here: how often, and the run request. What does not: what a run does (`arbitrage`) and the sensors of bars (`sensors`).
"""

from datetime import datetime, timedelta

import dagster as dg
import orjson
import polars as pl

from altforecast.types import Window
from altforecast_io.lake import month_start, next_month
from altforecast_io.landing import landing_files
from altforecast_pipelines import arbitrage, jobs
from altforecast_pipelines.arbitrage import LANDED, PLAN_TAG, READ_FILES, ArbitragePlan
from altforecast_pipelines.instance import EXPRESS, LANE_TAG
from altforecast_pipelines.partitions import clip, range_tags
from altforecast_pipelines.resources import House
from altforecast_pipelines.scope import TRIGGER_TAG
from altforecast_pipelines.sensors import RUNNING, is_in_progress

EVERY = {"opportunity_events": timedelta(minutes=5), "book_cuts": timedelta(hours=1)}
"""At most one intake per table in this time: each rewrites the file of the current month."""
JOB = "on_arbitrage"


@dg.sensor(
    job=jobs.on_arbitrage, minimum_interval_seconds=30, default_status=RUNNING, description="Opportunity events and book cuts that landed."
)
def arbitrage_sensor(context: dg.SensorEvaluationContext, house: dg.ResourceParam[House]) -> dg.SensorResult | dg.SkipReason:
    """One run for all waiting files of the tables whose time has come, and for months that a lost run left due.

    Cursor: when each table was asked for last. Files that wait after a failed run are asked for again when their time comes.
    """
    if is_in_progress(context.instance, JOB):
        return dg.SkipReason("a run is in progress")
    now = house.clock()
    asked = {name: datetime.fromisoformat(at) for name, at in orjson.loads(context.cursor or "{}").items()}
    ready = [name for name in LANDED if name not in asked or now - asked[name] >= EVERY[name]]
    plan = plan_waiting(house, ready)
    if plan is None:
        return dg.SkipReason("nothing landed, or not long enough ago")
    cursor = orjson.dumps({name: at.isoformat() for name, at in (asked | dict.fromkeys(plan.landing, now)).items()}).decode()
    return dg.SensorResult([request(house, plan, now)], cursor=cursor)


def plan_waiting(house: House, names: list[str]) -> ArbitragePlan | None:
    """Plan for the waiting files of some tables, and for what is due; None when there is nothing."""
    files = {name: landing_files(house.lake.root, name)[: 4 * READ_FILES] for name in names}
    window = arbitrage.retry(house.lake, house.clock())
    landing = {name: tuple(f.name for f in found) for name, found in files.items() if found}
    return ArbitragePlan(landing, window) if landing or window else None


def request(house: House, plan: ArbitragePlan, now: datetime) -> dg.RunRequest:
    """A run over the months that the plan touches."""
    window = clip(plan.window or Window(month_start(now), next_month(now)), now)
    for name, names in plan.landing.items():
        found = [f for f in landing_files(house.lake.root, name) if f.name in set(names)]
        times = pl.scan_parquet(found, hive_partitioning=False).select(first=pl.col("ts").min(), last=pl.col("ts").max()).collect()
        first, last = times.row(0)
        window = clip(Window(min(window.start, month_start(first)), max(window.end, next_month(last))), now)
    tags = {PLAN_TAG: arbitrage.encode_plan(plan), TRIGGER_TAG: "arbitrage", LANE_TAG: EXPRESS}
    return dg.RunRequest(run_key=f"arbitrage:{now.isoformat()}", run_config=jobs.QUIET, tags=tags | range_tags(window))
