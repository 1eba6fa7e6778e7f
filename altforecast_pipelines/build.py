"""The one mechanism by which a derived table is rebuilt: read inputs with warm-up, compute, write the window.

What belongs here: steps, chunks, provenance of what was read, turns between writers. What does not: Dagster (steps run
without it), what is due (`scope`) and what each table means (`assets`).
"""

import fcntl
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from time import perf_counter

import polars as pl
import pyarrow.parquet as pq

from altforecast.tables import table
from altforecast.types import Series, Timeframe, Window
from altforecast_io.lake import Lake, PartFile, Scope, months_between
from altforecast_io.provenance import Input, Provenance
from altforecast_pipelines.resources import House
from altforecast_pipelines.scope import Part, Plan

CHUNK_ROWS = 5_000_000
"""Bars computed at once; a longer window is built in runs of whole months, oldest first."""
HOLE_ROOM = 2
"""Warm-up is counted in bars but read by time: this many times the span, so that holes in a series do not shorten it."""
PREVIEW_ROWS = 5
MAX_INPUTS = 64
"""Inputs named one by one in a file's provenance; more are summed up in one line."""

Frames = Mapping[str, pl.DataFrame]
Reads = Mapping[str, tuple[tuple[Timeframe, ...], timedelta]]
Carry = Callable[[Lake, Timeframe, datetime, frozenset[Series]], pl.DataFrame | None]
Compute = Callable[[Frames, Timeframe, Window, pl.DataFrame | None], pl.DataFrame]


@dataclass(frozen=True)
class Step:
    """How one table is computed, timeframe by timeframe: what it reads, how far back, what it carries over.

    reads: table -> bars read before the window. carry: state at the start of the window, read from the lake (for what
    no warm-up can restore). compute: frames, timeframe, window, carry -> rows; rows outside the window are dropped.
    """

    table: str
    reads: Mapping[str, int]
    """The first table decides whether there is anything to compute."""
    compute: Compute
    carry: Carry | None = None


@dataclass(frozen=True)
class MarketStep:
    """How one table over the whole market is computed: `due` picks the scopes out of a plan, `compute` gives all their rows.

    reads: table -> timeframes and span before a month, for the lineage of the files written.
    """

    table: str
    reads: Reads
    due: Callable[[House, Plan], Sequence[Scope]]
    compute: Callable[[House, Scope], pl.DataFrame]


@dataclass(frozen=True)
class Built:
    """What a step did: rows in the rebuilt windows, files written, seconds, last rows."""

    table: str
    n_rows: int = 0
    parts: tuple[PartFile, ...] = ()
    seconds: float = 0.0
    preview: pl.DataFrame = field(default_factory=pl.DataFrame)
    rows_by_month: Mapping[str, int] = field(default_factory=dict)


def build(step: Step | MarketStep, house: House, plan: Plan, run_id: str) -> Built:
    """Rebuild a step's table for all derived parts of the plan; raises what reading, computing or writing raises.

    Writers of one table take turns over reading and writing, so the last one has always seen the newest inputs.
    """
    began = perf_counter()
    provenance = house.provenance(step.table, run_id)
    frames: list[pl.DataFrame] = []
    written: list[PartFile] = []
    for scope in due(step, house, plan):
        with turn(house.lake, step.table):
            rows, files = _build_scope(step, house, scope, provenance)
        frames.append(rows)
        written += files
    return summary(step.table, frames, written, perf_counter() - began)


def due(step: Step | MarketStep, house: House, plan: Plan) -> list[Scope]:
    """What the plan means for one step, in pieces that fit into memory, oldest first."""
    if isinstance(step, MarketStep):
        return list(step.due(house, plan))
    return [Scope(c.window, (c.timeframe,), c.series) for p in plan.derived for c in chunks(house.lake, p)]


def summary(name: str, frames: Iterable[pl.DataFrame], parts: Sequence[PartFile], seconds: float) -> Built:
    """The account of what was written."""
    counted: dict[str, int] = {}
    n_rows, preview = 0, table(name).empty()
    for frame in frames:
        n_rows += frame.height
        preview = frame.tail(PREVIEW_ROWS) if frame.height else preview
        for month, n in frame.group_by(pl.col("ts").dt.strftime("%Y-%m")).len().iter_rows():
            counted[month] = counted.get(month, 0) + n
    return Built(name, n_rows, tuple(parts), seconds, preview, dict(sorted(counted.items())))


def _build_scope(step: Step | MarketStep, house: House, scope: Scope, provenance: Provenance) -> tuple[pl.DataFrame, list[PartFile]]:
    lake, window = house.lake, scope.window
    if isinstance(step, MarketStep):
        rows, inputs = step.compute(house, scope), Inputs(lake, step.reads)
    else:
        tf = scope.timeframes[0]
        rows = compute_rows(step, lake, Part(tf, window, scope.series))
        inputs = Inputs(lake, {name: ((tf,), _span(tf, bars)) for name, bars in step.reads.items()}, step.table if step.carry else None)
    rows = rows.filter(pl.col("ts").is_between(window.start, window.end, closed="left"))
    return rows, lake.replace(step.table, rows, scope, lambda file: replace(provenance, inputs=inputs.of(file)))


def _span(timeframe: Timeframe, bars: int) -> timedelta:
    return timeframe.duration * bars * HOLE_ROOM


def compute_rows(step: Step, lake: Lake, part: Part) -> pl.DataFrame:
    """Rows of one timeframe and window, before anything is written."""
    start, end, tf = part.window.start, part.window.end, part.timeframe
    frames = {name: lake.read(name, tf, start - _span(tf, bars), end, part.series) for name, bars in step.reads.items()}
    first = next(iter(frames.values()))
    if first.is_empty():
        return table(step.table).empty()
    carry = step.carry(lake, tf, start, series_of(first)) if step.carry else None
    return step.compute(frames, tf, part.window, carry)


def series_of(frame: pl.DataFrame) -> frozenset[Series]:
    """Series that have rows in a frame."""
    return frozenset(Series(exchange, symbol) for exchange, symbol in frame.select("exchange", "symbol").unique().iter_rows())


def chunks(lake: Lake, part: Part, rows: int = CHUNK_ROWS) -> Iterator[Part]:
    """The part in runs of whole months that hold at most `rows` bars each (one month at least)."""
    sizes = {f.month: n_rows(f) for f in lake.files("bars", part.timeframe, part.window.start, part.window.end)}
    start, held = part.window.start, 0
    for month in months_between(part.window):
        size = sizes.get(month.strftime("%Y-%m"), 0)
        if held and held + size > rows:
            yield replace(part, window=Window(start, month))
            start, held = month, 0
        held += size
    yield replace(part, window=Window(start, part.window.end))


def n_rows(file: PartFile) -> int:
    """Rows of a file, from its footer."""
    return int(pq.read_metadata(file.path).num_rows)


@contextmanager
def turn(lake: Lake, name: str) -> Iterator[None]:
    """Hold the right to rebuild one table; waits for the writer that has it (a killed one gives it up at once)."""
    folder = lake.root / "locks"
    folder.mkdir(exist_ok=True)
    with (folder / f"build.{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class Inputs:
    """Lake files that each written file rests on, with their versions; folders are listed and footers read once."""

    def __init__(self, lake: Lake, reads: Reads, own: str | None = None) -> None:
        self._lake = lake
        self._reads = reads
        self._own = own
        self._listed: dict[tuple[str, str], list[PartFile]] = {}
        self._versions: dict[str, str] = {}

    def of(self, file: PartFile) -> tuple[Input, ...]:
        """Inputs of one written file: the months it covers and the warm-up before them."""
        files = [
            f
            for name, (timeframes, back) in self._reads.items()
            for tf in (timeframes or ("",))
            for f in self._between(name, tf, file.start - back, file.end)
        ]
        if self._own:
            before = self._lake.part(self._own, file.timeframe, file.start - timedelta(days=1))
            files += [before] if before.path.exists() else []
        named = [Input("lake", f.name, self._version(f)) for f in files[-MAX_INPUTS:]]
        left = len(files) - len(named)
        return (*([Input("lake", f"{left} earlier files")] if left > 0 else []), *named)

    def _between(self, name: str, timeframe: str, start: datetime, end: datetime) -> list[PartFile]:
        if (name, timeframe) not in self._listed:
            self._listed[name, timeframe] = self._lake.files(name, timeframe or None)
        first, last = start.strftime("%Y-%m"), (end - timedelta(milliseconds=1)).strftime("%Y-%m")
        return [f for f in self._listed[name, timeframe] if first <= f.month <= last]

    def _version(self, file: PartFile) -> str:
        if file.name not in self._versions or file.table == self._own:
            self._versions[file.name] = file.provenance().data_version
        return self._versions[file.name]
