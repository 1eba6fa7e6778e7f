"""How tables that rest on opportunity events are taken in and rebuilt: plans, landing, markers, assets.

What belongs here: the plan of a run over these tables, taking landing files in, what is due after a killed run. What does not:
the tables themselves (`assets`) and when runs start (`sensors`, `arbitrage_sensors`).

Order of writes: the table that landed, the marker of the months that are due, the removal of the landing files. A run that is
killed in between leaves its files or its marker; taking files in again changes nothing, because keys are unique.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter
from typing import Any

import dagster as dg
import orjson
import polars as pl

from altforecast.tables import table
from altforecast.types import Timeframe, Window
from altforecast_io.lake import Lake, PartFile, Scope, months_between, next_month, write_atomically
from altforecast_io.landing import landing_files, read_landing, remove_landing
from altforecast_io.provenance import Input, Provenance
from altforecast_pipelines.build import Built, MarketStep, build, summary, turn
from altforecast_pipelines.checks import Check, check_specs, results
from altforecast_pipelines.intake import month_runs
from altforecast_pipelines.launcher import hold_while_alive
from altforecast_pipelines.partitions import MONTHLY
from altforecast_pipelines.resources import House
from altforecast_pipelines.scope import Part, Plan
from altforecast_pipelines.table_assets import account, shared_options

LANDED = ("opportunity_events", "book_cuts")
"""Tables that arrive as landing files."""
DERIVED = ("opportunities", "opportunity_outcomes", "opportunity_stats")
"""Tables rebuilt from `opportunity_events`, the last one last."""
PLAN_TAG = "altforecast/arbitrage"
FOLDER = "due_arbitrage"
PATIENCE = timedelta(minutes=5)
"""A marker younger than this belongs to a run that is expected to clear it; the pause doubles with every try."""
MAX_TRIES = 5
READ_FILES = 500
"""Landing files read at once."""


@dataclass(frozen=True)
class ArbitragePlan:
    """What one run takes in by table, and the months it rebuilds (None: those that the landing files touch)."""

    landing: dict[str, tuple[str, ...]] = field(default_factory=dict)
    window: Window | None = None


def encode_plan(plan: ArbitragePlan) -> str:
    """JSON text of a plan, for a run tag."""
    return orjson.dumps({"landing": plan.landing, "window": _months(plan.window) if plan.window else None}).decode()


def decode_plan(text: str) -> ArbitragePlan:
    """The plan that `encode_plan` wrote; raises ValueError or KeyError on anything else."""
    body = orjson.loads(text)
    return ArbitragePlan({k: tuple(v) for k, v in body["landing"].items()}, _window(*body["window"]) if body["window"] else None)


def _months(window: Window) -> list[str]:
    return [window.start.strftime("%Y-%m"), window.end.strftime("%Y-%m")]


def _window(start: str, end: str) -> Window:
    return Window(*(datetime.strptime(m, "%Y-%m").replace(tzinfo=UTC) for m in (start, end)))


def plan_of(context: dg.AssetExecutionContext, house: House) -> ArbitragePlan:
    """The plan in the run's tag; without one (a backfill, a click in the UI) all that waits and the run's months."""
    text = context.run.tags.get(PLAN_TAG)
    if text:
        return decode_plan(text)
    keys = context.partition_key_range
    start = MONTHLY.time_window_for_partition_key(keys.start).start
    last = MONTHLY.time_window_for_partition_key(keys.end).start
    waiting = {name: tuple(f.name for f in landing_files(house.lake.root, name)) for name in LANDED}
    return ArbitragePlan(waiting, Window(start, next_month(last)))


def take_in(house: House, name: str, plan: ArbitragePlan, provenance: Provenance) -> Built:
    """Add the plan's landing files to their table, each key once (the newest delivery stays), and remove them.

    Without files the account is of the months that stand. Raises StorageError when the disk refuses; then files wait.
    """
    began = perf_counter()
    wanted = set(plan.landing.get(name, ()))
    files = [f for f in landing_files(house.lake.root, name) if f.name in wanted]
    frames: list[pl.DataFrame] = []
    written: list[PartFile] = []
    touched: list[Window] = [plan.window] if plan.window else []
    for start in range(0, max(len(files), 1), READ_FILES):
        batch = files[start : start + READ_FILES]
        record = replace(provenance, inputs=tuple(Input("import", f.name) for f in batch))
        for window, rows in month_runs(read_landing(batch, name)):
            with turn(house.lake, name):
                merged, parts = _merge(house.lake, name, window, rows, record)
            frames.append(merged)
            written += parts
            touched.append(window)
        if name == LANDED[0]:
            mark(house, provenance.run_id, _union(touched))
        remove_landing(batch)
    if written:
        return summary(name, frames, written, perf_counter() - began)
    return _standing(house.lake, name, plan, perf_counter() - began)


def _merge(lake: Lake, name: str, window: Window, rows: pl.DataFrame, record: Provenance) -> tuple[pl.DataFrame, list[PartFile]]:
    known = lake.read(name, None, window.start, window.end)
    both = pl.concat([known, rows]).unique(table(name).key, keep="last", maintain_order=True)
    return both, lake.replace(name, both, Scope(window), record)


def _standing(lake: Lake, name: str, plan: ArbitragePlan, seconds: float) -> Built:
    parts = lake.files(name, None, plan.window.start, plan.window.end) if plan.window else []
    return replace(summary(name, [pl.read_parquet(p.path) for p in parts[-1:]], parts, seconds), n_rows=sum(_rows(p) for p in parts))


def _rows(part: PartFile) -> int:
    return part.provenance().n_rows


# ---- what is due


@dataclass(frozen=True)
class Marker:
    """Months whose derived tables are due, when to ask for them next, and how often they were asked for."""

    name: str
    window: Window
    next_at: datetime
    tries: int = 0


def mark(house: House, run_id: str, window: Window | None) -> None:
    """Durably note what a run has to rebuild: its own months and those of all markers before it, which it takes over."""
    before = [m for m in markers(house.lake) if m.name != run_id]
    whole = _union([*([window] if window else []), *(m.window for m in before)])
    if whole is None:
        return
    tries = max((m.tries for m in before), default=0)
    _write(house.lake, Marker(run_id, whole, house.clock() + PATIENCE * 2**tries, tries))
    for marker in before:
        clear(house.lake, marker.name)


def markers(lake: Lake) -> list[Marker]:
    """All markers in order of name; one that is cleared meanwhile is left out."""
    found = (_read(path) for path in sorted((lake.root / FOLDER).glob("*.json")))
    return [m for m in found if m is not None]


def retry(lake: Lake, now: datetime) -> Window | None:
    """Months of the markers whose time has come, each try counted; None when there are none. After MAX_TRIES a marker waits for
    the next run that takes anything in."""
    ready = [m for m in markers(lake) if m.next_at <= now and m.tries < MAX_TRIES]
    for marker in ready:
        _write(lake, replace(marker, tries=marker.tries + 1, next_at=now + PATIENCE * 2 ** (marker.tries + 1)))
    return _union([m.window for m in ready])


def clear(lake: Lake, name: str) -> None:
    """Remove a marker; one that is gone already is passed over."""
    (lake.root / FOLDER / f"{name}.json").unlink(missing_ok=True)


def due_window(house: House, run_id: str) -> Window | None:
    """Months that a run has to rebuild, as its marker says; None where it has none (another run took it over)."""
    return next((m.window for m in markers(house.lake) if m.name == run_id), None)


def _union(windows: Sequence[Window]) -> Window | None:
    return Window(min(w.start for w in windows), max(w.end for w in windows)) if windows else None


def _write(lake: Lake, marker: Marker) -> None:
    (lake.root / FOLDER).mkdir(exist_ok=True)
    body = {"window": _months(marker.window), "next_at": marker.next_at.isoformat(), "tries": marker.tries}
    write_atomically(lake.root / FOLDER / f"{marker.name}.json", orjson.dumps(body))


def _read(path: Path) -> Marker | None:
    try:
        body = orjson.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    return Marker(path.stem, _window(*body["window"]), datetime.fromisoformat(body["next_at"]), int(body["tries"]))


# ---- assets


def scopes(house: House, plan: Plan) -> list[Scope]:
    """Every month on its own: one month is in memory at a time."""
    return [Scope(Window(month, next_month(month))) for part in plan.derived for month in months_between(part.window)]


def landed_asset(name: str, *, checks: Sequence[Check], doc: str) -> dg.AssetsDefinition:
    """The asset of a table that arrives as landing files."""

    @dg.asset(name=name, check_specs=check_specs(name, checks), **shared_options(name, "arbitrage", doc, fresh=False))  # type: ignore[untyped-decorator]
    def asset(context: dg.AssetExecutionContext, house: dg.ResourceParam[House]) -> Iterator[dg.MaterializeResult[Any]]:
        hold_while_alive(house.settings.dagster_home, context.run_id)
        built = take_in(house, name, plan_of(context, house), house.provenance(name, context.run_id))
        yield dg.MaterializeResult(metadata=account(built), check_results=list(results(house, name, built, checks)))

    made: dg.AssetsDefinition = asset
    return made


def derived_asset(step: MarketStep, *, checks: Sequence[Check], doc: str) -> dg.AssetsDefinition:
    """The asset of a table that rests on opportunity events; the last of them clears the run's marker."""
    name = step.table

    @dg.asset(  # type: ignore[untyped-decorator]
        name=name, deps=list(step.reads), check_specs=check_specs(name, checks), **shared_options(name, "arbitrage", doc, fresh=False)
    )
    def asset(context: dg.AssetExecutionContext, house: dg.ResourceParam[House]) -> Iterator[dg.MaterializeResult[Any]]:
        window = due_window(house, context.run_id) or plan_of(context, house).window
        # these tables have no timeframe: the one named here stands for none
        built = build(step, house, Plan((Part(Timeframe.M1, window),)) if window else Plan(), context.run_id)
        if name == DERIVED[-1]:
            clear(house.lake, context.run_id)
        yield dg.MaterializeResult(metadata=account(built), check_results=list(results(house, name, built, checks)))

    made: dg.AssetsDefinition = asset
    return made
