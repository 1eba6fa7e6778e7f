"""Runs of the bars job inside the calling process: after an import, and for backfills from the command line.

What belongs here: plan, run, account. What does not: fetching or checking files (`altforecast_io`), printing (the CLI).
"""

import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from time import perf_counter

import dagster as dg
from dagster._core.storage.tags import MAX_RETRIES_TAG

from altforecast.errors import AltForecastError
from altforecast.types import Window
from altforecast_io.clock import Clock, utc_now
from altforecast_io.dagster_home import write_dagster_home
from altforecast_io.lake import month_start, next_month
from altforecast_io.landing import landing_files
from altforecast_io.settings import Settings
from altforecast_io.store import inbox
from altforecast_pipelines.due import markers
from altforecast_pipelines.intake import touched_by_landing
from altforecast_pipelines.jobs import EVERYTHING_FROM_BARS, QUIET
from altforecast_pipelines.launcher import holding
from altforecast_pipelines.partitions import clip, range_tags
from altforecast_pipelines.resources import House
from altforecast_pipelines.scope import SCOPE_TAG, TRIGGER_TAG, Plan, encode_plan, plan_range
from altforecast_pipelines.sensors import plan_inbox, plan_landing

Progress = Callable[[str, str], None]
"""Called with a table and `started` or `done`."""
IMPORTED = ("bars", "bar_gaps")


class RunFailedError(AltForecastError):
    """A run ended in failure; the message names the first step that failed and why."""

    code = "run_failed"


@dataclass(frozen=True)
class TableAccount:
    """What a run did to one table."""

    table: str
    n_rows: int
    n_files: int
    seconds: float


@dataclass(frozen=True)
class Summary:
    """What a run did; without anything to do `run_id` is empty."""

    run_id: str = ""
    window: Window | None = None
    seconds: float = 0.0
    tables: tuple[TableAccount, ...] = ()
    warnings: tuple[str, ...] = field(default=())
    """Checks that did not hold but do not block."""


def ingest_landing(settings: Settings, progress: Progress | None = None, clock: Clock = utc_now) -> Summary:
    """Take all landing files into `bars` and look for gaps: what `altforecast import` ends with. Raises RunFailedError."""
    house = House(lambda: settings, clock)
    files = landing_files(house.lake.root)
    if not files:
        return Summary()
    return run_assets(house, IMPORTED, plan_landing(house, files), "import", progress)


def run_backfill(
    settings: Settings,
    start: datetime | None = None,
    progress: Progress | None = None,
    clock: Clock = utc_now,
) -> Summary:
    """Rebuild all tables that rest on bars, from the month of `start` (default: the first bar) to the newest month, in one run.

    It always reaches to the newest month, because on-balance volume, levels, regime and evidence carry every earlier bar. What
    waits in the landing area and the inbox is taken in first; its months, and those that are due, are built too even where they
    lie before `start`. Raises RunFailedError; an empty lake gives an empty summary.
    """
    house = House(lambda: settings, clock)
    plan = plan_backfill(house, start)
    return run_assets(house, EVERYTHING_FROM_BARS, plan, "backfill", progress) if plan.window else Summary()


def plan_backfill(house: House, start: datetime | None = None) -> Plan:
    """Everything from a month on, together with what waits and what is due."""
    files = landing_files(house.lake.root)
    touched = touched_by_landing(files)
    up_to = inbox.last_id(house.store)
    waiting = plan_inbox(house, up_to)
    windows = [Window(month_start(t.first), next_month(t.last)) for t in touched]
    windows += [p.window for p in waiting.derived] if waiting else []
    extent = house.lake.extent("bars")
    if extent and (start is None or start < extent.end):
        windows.append(Window(start or extent.start, extent.end))
    windows += [w for m in markers(house.lake) if (w := m.plan.window)]
    if not windows:
        return Plan()
    timeframes = {
        *house.lake.timeframes("bars"),
        *(t.timeframe for t in touched),
        *(p.timeframe for p in (waiting.derived if waiting else ())),
    }
    last = max(w.end for w in (*windows, *([extent] if extent else [])))
    whole = clip(Window(min(w.start for w in windows), last), house.clock())
    return plan_range(whole, sorted(timeframes, key=lambda t: t.ms), up_to if waiting else 0, [f.name for f in files])


def run_assets(house: House, assets: Sequence[str], plan: Plan, trigger: str, progress: Progress | None = None) -> Summary:
    """One run of the named assets for a plan, in this process, recorded in the environment's Dagster instance.

    The process holds the run's lock, so that sensors do not wait for a run whose process was killed. Such a run is not
    started again by Dagster: what it left is due (`due`).
    """
    window = plan.window
    assert window is not None
    began, run_id = perf_counter(), str(uuid.uuid4())
    tags = {SCOPE_TAG: encode_plan(plan), TRIGGER_TAG: trigger, MAX_RETRIES_TAG: "0", **range_tags(clip(window, house.clock()))}
    with holding(house.settings.dagster_home, run_id), open_instance(house.settings) as instance:
        if progress:
            instance.add_event_listener(run_id, lambda entry, _cursor=None: _tell(entry, progress))
        result = job(house).execute_in_process(
            run_config=QUIET,
            instance=instance,
            tags=tags,
            run_id=run_id,
            raise_on_error=False,
            asset_selection=[dg.AssetKey(a) for a in assets],
        )
    if not result.success:
        raise RunFailedError(_first_failure(result))
    return Summary(run_id, window, perf_counter() - began, tuple(_accounts(result)), tuple(_warnings(result)))


def job(house: House) -> dg.JobDefinition:
    """The bars job on a given house."""
    from altforecast_pipelines.definitions import build_definitions

    return build_definitions(overrides={"house": house}).resolve_job_def("on_bars")


@contextmanager
def open_instance(settings: Settings) -> Iterator[dg.DagsterInstance]:
    """The environment's Dagster instance, made where missing."""
    home = write_dagster_home(settings)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        yield instance


def _tell(entry: dg.EventLogEntry, progress: Progress) -> None:
    event = entry.dagster_event
    if event is None or event.step_key is None:
        return
    if event.event_type is dg.DagsterEventType.STEP_START:
        progress(event.step_key, "started")
    elif event.event_type is dg.DagsterEventType.STEP_SUCCESS:
        progress(event.step_key, "done")


def _first_failure(result: dg.ExecuteInProcessResult) -> str:
    for event in result.all_events:
        if event.is_step_failure:
            error = event.step_failure_data.error
            cause = error.cause or error if error else None
            return f"{event.step_key}: {cause.message.strip() if cause else 'failed'}"
    return "the run failed before its first step"


def _accounts(result: dg.ExecuteInProcessResult) -> Iterator[TableAccount]:
    newest: dict[str, dict[str, dg.MetadataValue]] = {}
    for event in result.all_events:
        if event.is_step_materialization and event.asset_key:
            newest[event.asset_key.to_user_string()] = dict(event.materialization.metadata)
    for name, metadata in newest.items():
        values = [metadata[k].value for k in ("dagster/row_count", "files", "seconds") if k in metadata]
        yield TableAccount(name, *values)  # type: ignore[arg-type]


def _warnings(result: dg.ExecuteInProcessResult) -> Iterator[str]:
    for evaluation in result.get_asset_check_evaluations():
        if not evaluation.passed:
            told = {k: v.value for k, v in evaluation.metadata.items()}
            name = f"{evaluation.asset_key.to_user_string()}.{evaluation.check_name}"
            yield f"{name}: {told.get('rows_broken', '?')} rows in {told.get('files', '?')} files; first: {told.get('first', '?')}"
