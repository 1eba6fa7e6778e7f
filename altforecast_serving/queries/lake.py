"""Reading the lake for the outside: newest rows from memory, older ones from month files, with their versions.

What belongs here: caches keyed by file version, bounded walks over months, provenance of parts. What does not: what a row
means (the query of its noun).
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import IO, Any, TypeVar

import polars as pl

from altforecast.errors import StorageError
from altforecast.tables import TABLES, table
from altforecast.types import Series, Timeframe
from altforecast_io.lake import HOT_ROWS, Lake, PartFile, month_start, next_month
from altforecast_io.provenance import Provenance

T = TypeVar("T")
Version = tuple[int, ...]
NO_FILE: Version = (0, 0, 0)
MAX_TEXTS = 16
"""Series of one table and timeframe whose newest rows are kept as JSON (about 170 kB each)."""
MAX_MONTHS_AT_ONCE = 16
"""Months read in one step: with six timeframes that is 96 open files."""
MAX_PART_VALUES = 8192
"""Cached values per kind of part summary; beyond it the one used longest ago is dropped and computed again when asked."""


def stamp(path: Path | str) -> Version:
    """Changes whenever the file or folder at `path` does: (mtime ns, size, inode), zeros where there is none."""
    try:
        stat = os.stat(path)
    except OSError:
        return NO_FILE
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


@dataclass(frozen=True)
class HotTable:
    """The newest rows of every series of one table and timeframe, in memory, oldest first within each series."""

    version: Version
    frame: pl.DataFrame
    spans: dict[Series, tuple[int, int]]
    texts: OrderedDict[Series, list[bytes]] = field(default_factory=OrderedDict)
    """Rows of some series as JSON, newest first; at most MAX_TEXTS series, the one used longest ago goes first."""
    values: dict[str, Any] = field(default_factory=dict)
    """What queries have derived from the whole table, one value per name."""

    def of(self, series: Series) -> pl.DataFrame:
        """Rows of one series, oldest first; empty where there are none."""
        offset, length = self.spans.get(series, (0, 0))
        return self.frame.slice(offset, length)

    def newest_first(self, series: Series, limit: int | None = None) -> pl.DataFrame:
        """The newest rows of one series (all where None), newest first; empty where there are none."""
        rows = self.of(series)
        return (rows if limit is None else rows.tail(limit)).reverse()

    def json_rows(self, series: Series, render: Callable[[pl.DataFrame], list[bytes]]) -> list[bytes]:
        """Rows of one series as JSON texts, newest first, rendered once and kept as long as this table."""
        # Taken out and put back: several threads ask at once, and another may drop it in between.
        held = self.texts.pop(series, None)
        if held is None:
            held = render(self.newest_first(series))
        self.texts[series] = held
        while len(self.texts) > MAX_TEXTS:
            self.texts.popitem(last=False)
        return held

    def derived(self, name: str, compute: Callable[[HotTable], T]) -> T:
        """A value computed once and kept as long as this table; two threads may both compute it the first time."""
        if name not in self.values:
            self.values[name] = compute(self)
        found: T = self.values[name]
        return found

    def is_complete(self, series: Series) -> bool:
        """Whether these are all rows that the series has."""
        return self.spans.get(series, (0, 0))[1] < HOT_ROWS


def _load_hot(lake: Lake, name: str, timeframe: Timeframe, version: Version) -> HotTable:
    frame = lake.hot(name, timeframe)
    runs = frame.select(pl.struct("symbol", "exchange").rle().alias("run")).unnest("run").unnest("value")
    spans, offset = {}, 0
    for length, symbol, exchange in runs.select("len", "symbol", "exchange").iter_rows():
        spans[Series(exchange, symbol)] = (offset, length)
        offset += length
    return HotTable(version, frame.rechunk(), spans)


def _version_paths(lake: Lake, name: str) -> list[str]:
    """The provenance log of a table and its folders."""
    root = lake.root / name
    folders = [root / f"timeframe={tf.value}" for tf in Timeframe] if table(name).by_timeframe else [root]
    return [str(lake.root / "provenance" / f"{name}.jsonl"), *map(str, folders)]


class LakeReader:
    """One lake, read by many requests at once; every cache is bounded and checks the version of its file."""

    def __init__(self, lake: Lake) -> None:
        self.lake = lake
        self._hot: dict[tuple[str, Timeframe], HotTable] = {}
        self._values: OrderedDict[tuple[str, Path, Version], Any] = OrderedDict()
        self._lock = Lock()
        # As plain texts, once: these are asked for with every request.
        self._version_paths = {name: _version_paths(lake, name) for name in TABLES}
        self._hot_paths = {(name, tf): str(lake.hot_path(name, tf)) for name in TABLES for tf in Timeframe}

    # ---- versions

    def version(self, name: str) -> Version:
        """Changes after every write to the table.

        The table's provenance log grows once a write is complete, so rows read under a version are never older than it;
        the folders are added because a deleted month leaves no line in the log.
        """
        log, *folders = self._version_paths[name]
        return stamp(log) + tuple(stamp(folder)[0] for folder in folders)

    def hot_version(self, name: str, timeframe: Timeframe) -> Version:
        """Version of one hot file."""
        return stamp(self._hot_paths[(name, timeframe)])

    # ---- newest rows

    def hot_if_loaded(self, name: str, timeframe: Timeframe) -> HotTable | None:
        """The hot table when memory holds its present version: no disk read beyond one stat."""
        held = self._hot.get((name, timeframe))
        return held if held is not None and held.version == self.hot_version(name, timeframe) else None

    def hot(self, name: str, timeframe: Timeframe) -> HotTable:
        """The hot table, read again when its file has been replaced."""
        held = self.hot_if_loaded(name, timeframe)
        if held is None:
            held = _load_hot(self.lake, name, timeframe, self.hot_version(name, timeframe))
            self._hot[(name, timeframe)] = held
        return held

    def series(self) -> dict[Series, list[Timeframe]]:
        """Every series that has bars, with its timeframes, shortest first."""
        found: dict[Series, list[Timeframe]] = {}
        for timeframe in Timeframe:
            if self.hot_version("bars", timeframe) != NO_FILE:
                for series in self.hot("bars", timeframe).spans:
                    found.setdefault(series, []).append(timeframe)
        return found

    # ---- parts

    def of_part(self, kind: str, part: PartFile, compute: Callable[[PartFile], T]) -> T:
        """A value computed from one file, kept until the file is replaced."""
        key = (kind, part.path, stamp(part.path))
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                held: T = self._values[key]
                return held
        value = compute(part)
        with self._lock:
            self._values[key] = value
            while len(self._values) > MAX_PART_VALUES:
                self._values.popitem(last=False)
        return value

    def provenance(self, part: PartFile) -> Provenance | None:
        """The record inside a part; None when it was removed or replaced under our hands."""
        try:
            return self.of_part("provenance", part, PartFile.provenance)
        except StorageError:
            return None

    def rests_on(self, name: str, timeframes: Sequence[Timeframe], rows: pl.DataFrame) -> list[tuple[PartFile, Provenance]]:
        """Parts (with their provenance) of the months and timeframes that hold these rows; months without rows are left out."""
        if rows.is_empty():
            return []
        months = _months(rows["ts"])
        wanted = [tf.value for tf in timeframes] if table(name).by_timeframe else [""]
        parts = [self.lake.part(name, tf, month) for month in months for tf in wanted]
        records = [(part, self.provenance(part)) for part in parts]
        return [(part, record) for part, record in records if record is not None]

    # ---- older rows

    def walk(
        self, name: str, timeframes: Sequence[Timeframe], start: datetime | None, end: datetime | None, *, newest_first: bool
    ) -> Iterator[list[Path]]:
        """Files in steps of 1, 2, 4, 8 ... months from one end of time to the other: a reader stops when it has enough."""
        wanted: Sequence[Timeframe | None] = timeframes if table(name).by_timeframe else [None]
        months: dict[str, list[Path]] = {}
        for timeframe in wanted:
            for part in self.lake.files(name, timeframe, start, end):
                months.setdefault(part.month, []).append(part.path)
        ordered = [months[m] for m in sorted(months, reverse=newest_first)]
        step = 1
        while ordered:
            chunk, ordered = ordered[:step], ordered[step:]
            yield [path for paths in chunk for path in paths]
            step = min(step * 2, MAX_MONTHS_AT_ONCE)

    def page(
        self,
        name: str,
        timeframes: Sequence[Timeframe],
        predicate: pl.Expr,
        sort: Sequence[str],
        limit: int,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        newest_first: bool = True,
    ) -> pl.DataFrame:
        """The first `limit` rows in order of `sort` (which begins with ts), reading as few months as will do.

        start, end: half-open bounds of ts.  Empty frame with the table's columns where nothing matches.
        """
        bounded = predicate & _within(start, end)
        found: list[pl.DataFrame] = []
        for paths in self.walk(name, timeframes, start, end, newest_first=newest_first):
            found.append(scan(paths, bounded, sort=sort, limit=limit, newest_first=newest_first))
            if sum(f.height for f in found) >= limit:
                break
        frames = [f for f in found if f.height] or [table(name).empty()]
        return pl.concat(frames).sort(sort, descending=newest_first).head(limit)


def _within(start: datetime | None, end: datetime | None) -> pl.Expr:
    bounds = pl.lit(True)
    if start is not None:
        bounds &= pl.col("ts") >= start
    if end is not None:
        bounds &= pl.col("ts") < end
    return bounds


def _months(ts: pl.Series) -> list[datetime]:
    """First instants of the months that hold these times, oldest first."""
    first, last = month_start(ts.min()), month_start(ts.max())  # type: ignore[arg-type]
    # Most answers lie within two months, where nothing can be left out: starting the query engine would cost ten times as much.
    if last <= next_month(first):
        return sorted({first, last})
    return ts.dt.truncate("1mo").unique().sort().to_list()


def scan(
    paths: Sequence[Path], wanted: pl.Expr, *, sort: Sequence[str] = (), limit: int | None = None, newest_first: bool = True
) -> pl.DataFrame:
    """Matching rows of some files, in order and cut when asked.

    Files are opened once: a scan by path would reopen them for their pages, and could meet a newer file under the same name.
    """
    with ExitStack() as stack:
        handles = [stack.enter_context(handle) for path in paths if (handle := _open(path)) is not None]
        if not handles:
            return table(_table_name(paths[0])).empty() if paths else pl.DataFrame()
        lazy = pl.scan_parquet(handles, hive_partitioning=False).filter(wanted)
        if sort:
            lazy = lazy.sort(sort, descending=newest_first)
        return lazy.head(limit).collect() if limit is not None else lazy.collect()


def _open(path: Path) -> IO[bytes] | None:
    try:
        return path.open("rb")
    except FileNotFoundError:
        return None


def _table_name(path: Path) -> str:
    return path.parent.parent.name if path.parent.name.startswith("timeframe=") else path.parent.name


def one_series(series: Series) -> pl.Expr:
    """Rows of one series, written so that row groups can be skipped by their statistics."""
    return (pl.col("symbol") == series.symbol) & (pl.col("exchange") == series.exchange)


def beyond(columns: Sequence[str], values: Sequence[Any], *, newest_first: bool) -> pl.Expr:
    """Rows that come after the given key in lexicographic order of `columns`: what a cursor means."""
    further = pl.lit(False)
    for column, value in reversed(list(zip(columns, values, strict=True))):
        mine = pl.lit(value, dtype=pl.Datetime("ms", "UTC")) if isinstance(value, datetime) else pl.lit(value)
        step = pl.col(column) < mine if newest_first else pl.col(column) > mine
        further = step | ((pl.col(column) == mine) & further)
    return further


def moment(ms: int) -> datetime:
    """UTC-aware time of epoch milliseconds."""
    return datetime.fromtimestamp(ms / 1000, tz=UTC)
