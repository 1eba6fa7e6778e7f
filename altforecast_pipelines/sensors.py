"""Sensors: arrivals that start a run.

What belongs here: waiting, cursors, run keys, run requests. What does not: what a run rebuilds (`scope`) and how (`assets`).

A tick of `inbox_sensor` waits inside the code server until something arrives (at most WAIT_S, far below Dagster's 60 s
limit), so an alert is seen within POLL_S and not at the next tick. Rows that arrive together become one run. Late and
revised bars take the same way: the plan of their run reaches back to the months they touch.
"""

import hashlib
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

import dagster as dg

from altforecast_io.lake import month_start
from altforecast_io.landing import landing_files
from altforecast_io.store import heartbeats, inbox
from altforecast_pipelines import due, jobs
from altforecast_pipelines.instance import EXPRESS, LANE_TAG, QUEUED
from altforecast_pipelines.intake import touched_by_inbox, touched_by_landing, waiting_rows
from altforecast_pipelines.launcher import is_dead
from altforecast_pipelines.partitions import clip, range_tags
from altforecast_pipelines.resources import House
from altforecast_pipelines.scope import SCOPE_TAG, TRIGGER_TAG, Plan, Touched, encode_plan, plan_arrivals

WAIT_S = 10.0
POLL_S = 0.05
GATHER_S = 0.1
"""After the first row of a quiet time, wait this long for its companions: alerts of one bar close come in a burst."""
BUSY_S = 8.0
"""At most this long a run in progress is waited for, so that what arrives meanwhile becomes one run behind it."""
LEFT_BEHIND = timedelta(minutes=3)
LANDING_FILES_PER_RUN = 2_000
EXPRESS_BYTES = 2_000_000
"""Landing files up to this size together are built at once (a scheduled fetch is far smaller); an import queues."""
RUNS_LOOKED_AT = 50
"""Newest unfinished runs looked at; more of them dead at a time would hide an older living one."""
HEARTBEAT = "dagster-sensors"
RUNNING = dg.DefaultSensorStatus.RUNNING
IN_PROGRESS = [
    dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED,
]  # fmt: skip


def request(trigger: str, run_key: str, plan: Plan, house: House, lane: str = EXPRESS) -> dg.RunRequest:
    """A run of `on_bars` for a plan, over the plan's months."""
    window = plan.window
    assert window is not None
    tags = {SCOPE_TAG: encode_plan(plan), TRIGGER_TAG: trigger, LANE_TAG: lane}
    return dg.RunRequest(run_key=run_key, run_config=jobs.QUIET, tags=tags | range_tags(clip(window, house.clock())))


def plan_inbox(house: House, up_to: int) -> Plan | None:
    """Plan for all unbuilt inbox rows up to an id; None when there are none."""
    touched = touched_by_inbox(waiting_rows(house.store, up_to))
    return plan_touched(house, touched, inbox_to=up_to) if touched else None


def plan_landing(house: House, files: Sequence[Path]) -> Plan:
    """Plan for landing files."""
    return plan_touched(house, touched_by_landing(files), landing=[f.name for f in files])


def plan_touched(house: House, touched: Sequence[Touched], inbox_to: int = 0, landing: Sequence[str] = ()) -> Plan:
    """Plan that reaches to the newest month the lake has or the arrivals bring."""
    extent = house.lake.extent("bars")
    newest = max(t.last for t in touched)
    if extent is not None:
        newest = max(newest, month_start(extent.end - timedelta(milliseconds=1)))
    return plan_arrivals(touched, newest, inbox_to, landing)


def wait_for_inbox(house: House, cursor: int, is_busy: Callable[[], bool], wait_s: float) -> int:
    """Wait until the inbox holds a row behind the cursor and no run is in the way; returns the newest id (the cursor if none came)."""
    began = time.monotonic()
    while True:
        newest = inbox.last_id(house.store)
        waited = time.monotonic() - began
        if newest > cursor and (not is_busy() or waited > min(BUSY_S, wait_s)):
            if waited + GATHER_S < wait_s:
                time.sleep(GATHER_S)
            return inbox.last_id(house.store)
        if waited + POLL_S > wait_s:
            return cursor
        time.sleep(POLL_S)


def inbox_cursor(house: House, text: str | None) -> tuple[int, str]:
    """The cursor, and a mark for the run key where the store is another one than the cursor was set in (its ids are lower).

    A new or restored store starts before its first unbuilt row; the mark keeps its run keys apart from those of the old one.
    """
    cursor = int(text or 0)
    newest = inbox.last_id(house.store)
    if newest >= cursor:
        return cursor, ""
    first = inbox.pending(house.store).first_id
    return newest if first is None else first - 1, f":{house.clock():%Y-%m-%dT%H:%M:%S}"


def oldest_ms(house: House) -> int:
    """When the oldest unbuilt row came, in milliseconds since 1970: run keys of two stores differ in it, those of one tick do not."""
    oldest = inbox.pending(house.store).oldest_received_at
    return int(oldest.timestamp() * 1000) if oldest else 0


def is_in_progress(instance: dg.DagsterInstance, job: str = "on_bars") -> bool:
    """Whether a run of the job waits or works; runs whose process is gone are passed over, whatever their status says."""
    runs = instance.get_runs(dg.RunsFilter(job_name=job, statuses=IN_PROGRESS), limit=RUNS_LOOKED_AT)
    home = Path(instance.root_directory)
    return any(not is_dead(home, run.run_id) for run in runs)


@dg.sensor(job=jobs.on_bars, minimum_interval_seconds=1, default_status=RUNNING, description="Alerts in the inbox start one run.")
def inbox_sensor(context: dg.SensorEvaluationContext, house: dg.ResourceParam[House]) -> dg.SensorResult | dg.SkipReason:
    """Cursor: id of the newest inbox row that a run was asked for. Each tick is a sign of life for `/health`."""
    heartbeats.beat(house.store, HEARTBEAT, house.clock(), {"sensor": "inbox_sensor"})
    cursor, mark = inbox_cursor(house, context.cursor)
    up_to = wait_for_inbox(house, cursor, lambda: is_in_progress(context.instance), WAIT_S)
    plan = plan_inbox(house, up_to) if up_to > cursor else None
    if plan is None:
        return dg.SensorResult(skip_reason="nothing arrived", cursor=str(up_to))
    key = f"inbox:{cursor}-{up_to}:{oldest_ms(house)}{mark}"
    return dg.SensorResult([request("inbox", key, plan, house)], cursor=str(up_to))


@dg.sensor(job=jobs.on_bars, minimum_interval_seconds=60, default_status=RUNNING, description="Alerts that a lost run left behind.")
def late_data_sensor(context: dg.SensorEvaluationContext, house: dg.ResourceParam[House]) -> dg.SensorResult | dg.SkipReason:
    """Rows still unbuilt LEFT_BEHIND after they came, while nothing runs: their run failed or was lost; ask again."""
    waiting = inbox.pending(house.store)
    is_old = waiting.oldest_received_at is not None and house.clock() - waiting.oldest_received_at > LEFT_BEHIND
    plan = plan_inbox(house, waiting.last_id or 0) if is_old and not is_in_progress(context.instance) else None
    if plan is None:
        return dg.SkipReason("nothing was left behind")
    key = f"late:{waiting.first_id}-{waiting.last_id}:{house.clock():%Y-%m-%dT%H:%M}"
    return dg.SensorResult([request("late", key, plan, house)])


@dg.sensor(job=jobs.on_bars, minimum_interval_seconds=5, default_status=RUNNING, description="Landing files of fetches and imports.")
def landing_sensor(context: dg.SensorEvaluationContext, house: dg.ResourceParam[House]) -> dg.SensorResult | dg.SkipReason:
    """One run for all closed landing files; the same files are asked for once an hour, should their run fail."""
    files = landing_files(house.lake.root)[:LANDING_FILES_PER_RUN]
    if not files or is_in_progress(context.instance):
        return dg.SkipReason("nothing landed" if not files else "a run is in progress")
    digest = hashlib.sha256("\n".join(f.name for f in files).encode()).hexdigest()[:16]
    key = f"landing:{digest}:{house.clock():%Y-%m-%dT%H}"
    is_small = sum(f.stat().st_size for f in files) <= EXPRESS_BYTES
    return dg.SensorResult([request("landing", key, plan_landing(house, files), house, EXPRESS if is_small else QUEUED)])


@dg.sensor(job=jobs.on_bars, minimum_interval_seconds=30, default_status=RUNNING, description="Tables that a lost run left unbuilt.")
def due_sensor(context: dg.SensorEvaluationContext, house: dg.ResourceParam[House]) -> dg.SensorResult | dg.SkipReason:
    """One run for all markers whose time has come, while nothing runs; pauses grow and tries are bounded (`due`)."""
    lost = [m.name for m in due.markers(house.lake) if m.is_given_up]
    if lost:
        context.log.warning(f"given up after {due.MAX_TRIES} runs, `altforecast backfill` builds them: {', '.join(lost)}")
    found = [] if is_in_progress(context.instance) else due.retry(house.lake, house.clock())
    if not found:
        return dg.SkipReason(f"nothing is due, {len(lost)} given up")
    digest = hashlib.sha256("\n".join(f"{m.name} {m.tries}" for m in found).encode()).hexdigest()[:16]
    return dg.SensorResult([request("due", f"due:{digest}", due.union_of(house.lake, found), house, QUEUED)])


SENSORS = (inbox_sensor, late_data_sensor, landing_sensor, due_sensor)
