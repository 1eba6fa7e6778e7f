"""Markers of derived tables that are still due: they outlive a run that fails or is killed after the bars were written.

What belongs here: writing, reading and clearing markers, and which of them are to be tried again. What does not: asking for
the run (`sensors`) and rebuilding (`build`).

A run that took bars in leaves `<lake>/due/<run id>.json` before it gives the arrivals away, and clears every marker that its
plan covers once all derived tables are built. What a run has built so far is kept in its process: a lost process clears nothing.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

import orjson

from altforecast_io.lake import Lake, write_atomically
from altforecast_pipelines.jobs import EVERYTHING_FROM_BARS
from altforecast_pipelines.resources import House
from altforecast_pipelines.scope import Plan, covers, decode_plan, encode_plan, union

FOLDER = "due"
DERIVED = frozenset(EVERYTHING_FROM_BARS) - {"bars"}
PATIENCE = timedelta(minutes=3)
"""A marker younger than this belongs to a run that is expected to clear it; the pause doubles with every try."""
MAX_TRIES = 5
"""After this many runs the marker waits for a backfill or a later run that covers it."""


@dataclass(frozen=True)
class Marker:
    """What is due, when to ask for it next, and how often it was asked for."""

    name: str
    plan: Plan
    next_at: datetime
    tries: int = 0

    @property
    def is_given_up(self) -> bool:
        """Whether no further run is asked for."""
        return self.tries >= MAX_TRIES


@dataclass
class Progress:
    """What a run that has written its bars will clear, and the tables it has built so far."""

    clears: tuple[str, ...]
    built: set[str] = field(default_factory=set)


def mark(house: House, name: str, plan: Plan) -> None:
    """Durably note that a plan's derived tables are due; an empty plan leaves no marker. Raises StorageError."""
    if plan.derived:
        write(house.lake, Marker(name, Plan(plan.derived), house.clock() + PATIENCE))


def write(lake: Lake, marker: Marker) -> None:
    """Write a marker atomically, replacing its older form."""
    folder = lake.root / FOLDER
    folder.mkdir(exist_ok=True)
    body = {"plan": encode_plan(marker.plan), "next_at": marker.next_at.isoformat(), "tries": marker.tries}
    write_atomically(folder / f"{marker.name}.json", orjson.dumps(body))


def markers(lake: Lake) -> list[Marker]:
    """All markers in order of name; one that is cleared meanwhile is left out."""
    found = (_read(path) for path in sorted((lake.root / FOLDER).glob("*.json")))
    return [m for m in found if m is not None]


def _read(path: Path) -> Marker | None:
    try:
        body = orjson.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    return Marker(path.stem, decode_plan(body["plan"]), datetime.fromisoformat(body["next_at"]), int(body["tries"]))


def clear(lake: Lake, names: Iterable[str]) -> None:
    """Remove markers; those that are gone already are passed over."""
    for name in names:
        (lake.root / FOLDER / f"{name}.json").unlink(missing_ok=True)


def union_of(lake: Lake, found: Sequence[Marker]) -> Plan:
    """One plan for all markers, up to the newest month of bars: later months carry state of the months that are due."""
    extent = lake.extent("bars")
    return union([m.plan for m in found], extent.end if extent else None)


def retry(lake: Lake, now: datetime) -> list[Marker]:
    """Markers whose time has come, with the try counted and the next pause doubled; empty when none is ready."""
    ready = [m for m in markers(lake) if m.next_at <= now and not m.is_given_up]
    counted = [replace(m, tries=m.tries + 1, next_at=now + PATIENCE * 2 ** (m.tries + 1)) for m in ready]
    for marker in counted:
        write(lake, marker)
    return counted


def begin(house: House, run_id: str, plan: Plan) -> None:
    """The run's bars are written: from here on it rebuilds what every marker of now that its plan covers asks for.

    Markers that come later are not the run's to clear: their bars may have come after it read.
    """
    covered = tuple(m.name for m in markers(house.lake) if covers(plan, union_of(house.lake, [m])))
    if covered:
        house.progress.clear()  # a process runs one run at a time; what an earlier, failed one left is of no use
        house.progress[run_id] = Progress(covered)


def finish(house: House, run_id: str, table: str) -> None:
    """A table is built; after the last one the markers that the run covers are cleared."""
    progress = house.progress.get(run_id)
    if progress is None:
        return
    progress.built.add(table)
    if progress.built >= DERIVED:
        clear(house.lake, progress.clears)
        del house.progress[run_id]
