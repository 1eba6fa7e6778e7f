"""The Parquet lake: one folder per table, one file per month (and timeframe), replaced atomically.

What belongs here: paths, schema-checked writes, bounded reads, the hot file of newest rows. What does not: what the
numbers mean (`altforecast.tables`), SQL over the lake (`query`), who computes them (pipelines).

Layout: `<root>/<table>/timeframe=<tf>/<YYYY-MM>.parquet`, without the middle level for tables that have no timeframe;
`<root>/hot/<table>/<tf>.parquet`; `<root>/landing/`; `<root>/lake.json` names the environment.
A file is written under a temporary name, synced and renamed: a crash leaves the old file, a reader sees old or new,
never a half. Writers of one (table, timeframe) take turns by a file lock.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import orjson
import polars as pl
import pyarrow.parquet as pq

from altforecast.errors import EnvironmentMismatchError, SchemaError, StorageError
from altforecast.table_schema import sorted_rows
from altforecast.tables import Table, table
from altforecast.types import Series, Timeframe, Window
from altforecast_io.provenance import METADATA_KEY, Provenance, data_version, decode

HOT_ROWS = Table.hot_rows
"""Newest rows kept per series in the hot file, where its table names no other number."""
ROW_GROUP_ROWS = 100_000
OPEN_FILES = 200
"""Files read at once; more are read in turns, to stay under the process's limit of open files."""
FORMAT = 1


@dataclass(frozen=True)
class Scope:
    """Which rows a write replaces: a window of whole months, some timeframes, all series or the named ones."""

    window: Window
    timeframes: tuple[Timeframe, ...] = ()
    series: frozenset[Series] | None = None


@dataclass(frozen=True)
class PartFile:
    """One Parquet file of the lake."""

    table: str
    timeframe: str
    month: str
    path: Path

    @property
    def name(self) -> str:
        """Part name as used in lineage: `bars@1h@2024-01`."""
        return "@".join(p for p in (self.table, self.timeframe, self.month) if p)

    @property
    def start(self) -> datetime:
        """First instant of the file's month."""
        return datetime(int(self.month[:4]), int(self.month[5:]), 1, tzinfo=UTC)

    @property
    def end(self) -> datetime:
        """First instant of the next month."""
        return next_month(self.start)

    def provenance(self) -> Provenance:
        """The record inside the file; raises StorageError when the file is not ours or unreadable."""
        try:
            metadata = pq.read_metadata(self.path).metadata or {}
            return decode(metadata[METADATA_KEY.encode()].decode())
        except (OSError, KeyError, ValueError) as error:
            raise StorageError(f"{self.name}: no provenance in {self.path.name}: {error}") from error

    def stamp(self) -> tuple[int, int]:
        """Changes whenever the file is replaced: (modification time in ns, size)."""
        stat = self.path.stat()
        return stat.st_mtime_ns, stat.st_size


def next_month(moment: datetime) -> datetime:
    """First instant of the month after the one that holds `moment`."""
    first = moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return first.replace(year=first.year + 1, month=1) if first.month == 12 else first.replace(month=first.month + 1)


def month_start(moment: datetime) -> datetime:
    """First instant of the month that holds `moment`."""
    return moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def months_between(window: Window) -> list[datetime]:
    """Starts of all months that touch [start, end)."""
    months, current = [], month_start(window.start)
    while current < window.end:
        months.append(current)
        current = next_month(current)
    return months


class Lake:
    """One lake of one environment."""

    def __init__(self, root: Path | str, environment: str) -> None:
        """Open or create; raises EnvironmentMismatchError when the folder belongs to the other environment."""
        self.root = Path(root)
        self.environment = environment
        self._claim()

    def _claim(self) -> None:
        marker = self.root / "lake.json"
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            if not marker.exists():
                content = orjson.dumps({"environment": self.environment, "format": FORMAT})
                write_atomically(marker, content)
            found = orjson.loads(marker.read_bytes())
        except (OSError, ValueError) as error:
            raise StorageError(f"lake at {self.root} cannot be opened: {error}") from error
        if found.get("environment") != self.environment:
            raise EnvironmentMismatchError(
                f"the lake at {self.root} holds {found.get('environment')} data; this process runs in {self.environment} mode"
            )

    # ---- finding files

    @property
    def landing(self) -> Path:
        """Folder of closed files that wait for the pipelines."""
        return self.root / "landing"

    def files(
        self, name: str, timeframe: Timeframe | str | None = None, start: datetime | None = None, end: datetime | None = None
    ) -> list[PartFile]:
        """Files of a table that can hold rows in [start, end), oldest month first within each timeframe."""
        spec = table(name)
        folders = self._folders(spec, timeframe)
        found = []
        for tf, folder in folders:
            for path in sorted(folder.glob("????-??.parquet")):
                part = PartFile(name, tf, path.stem, path)
                if (start is None or part.end > start) and (end is None or part.start < end):
                    found.append(part)
        return found

    def _folders(self, spec: Table, timeframe: Timeframe | str | None) -> list[tuple[str, Path]]:
        base = self.root / spec.name
        if not spec.by_timeframe:
            return [("", base)]
        wanted = [Timeframe(timeframe)] if timeframe else list(Timeframe)
        return [(tf.value, base / f"timeframe={tf.value}") for tf in wanted]

    def part(self, name: str, timeframe: str, month: datetime) -> PartFile:
        """The file of one month, whether it exists or not."""
        (tf, folder), *_ = self._folders(table(name), timeframe or None)
        stem = month.strftime("%Y-%m")
        return PartFile(name, tf, stem, folder / f"{stem}.parquet")

    def timeframes(self, name: str) -> list[Timeframe]:
        """Timeframes of which the table has files, shortest first."""
        return [tf for tf in Timeframe if any((self.root / name / f"timeframe={tf.value}").glob("????-??.parquet"))]

    def extent(self, name: str) -> Window | None:
        """Whole months that hold rows, or None for an empty table."""
        parts = self.files(name)
        return Window(min(p.start for p in parts), max(p.end for p in parts)) if parts else None

    # ---- reading

    def read(
        self,
        name: str,
        timeframe: Timeframe | str | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        series: Iterable[Series] | None = None,
        columns: Sequence[str] | None = None,
    ) -> pl.DataFrame:
        """Rows with start <= ts < end, sorted as the table says; an empty table gives an empty frame."""
        spec = table(name)
        names = list(columns) if columns else spec.schema.names()
        wanted = pl.lit(True)
        if start is not None:
            wanted &= pl.col("ts") >= start
        if end is not None:
            wanted &= pl.col("ts") < end
        if series is not None:
            wanted &= series_filter(series)
        needed = list(dict.fromkeys([*names, *spec.sort]))
        parts = self.files(name, timeframe, start, end)
        frames = [_read_once(batch, wanted, needed) for batch in batched(parts, OPEN_FILES)]
        return sorted_rows(pl.concat([spec.empty().select(needed), *frames]), spec.sort).select(names)

    def hot_path(self, name: str, timeframe: Timeframe | str) -> Path:
        """Path of the hot file, whether it exists or not."""
        return self.root / "hot" / name / f"{Timeframe(timeframe).value}.parquet"

    def hot(self, name: str, timeframe: Timeframe | str) -> pl.DataFrame:
        """The newest `hot_rows` rows of every series (and forecaster, horizon), sorted; empty where nothing was written yet."""
        path = self.hot_path(name, timeframe)
        return pl.read_parquet(path) if path.exists() else table(name).empty()

    # ---- writing

    def replace(
        self, name: str, frame: pl.DataFrame, scope: Scope, provenance: Provenance | Callable[[PartFile], Provenance]
    ) -> list[PartFile]:
        """Put `frame` in place of all rows inside the scope; rows outside it stay. Returns the files written.

        The window is widened to whole months; `provenance` may be a function of the part, where inputs differ by month.
        Each file changes all or nothing; a failure in the middle leaves the later files as they were, and the same call
        again completes the work. Raises SchemaError for rows outside the scope or a wrong schema (then nothing is written)
        and StorageError when the disk refuses.
        """
        spec = table(name)
        rows = spec.conform(frame)
        timeframes = [tf.value for tf in scope.timeframes or tuple(Timeframe)] if spec.by_timeframe else [""]
        if spec.by_timeframe and not rows.is_empty() and set(rows["timeframe"].unique()) - set(timeframes):
            raise SchemaError(f"table {name}: rows of timeframes {rows['timeframe'].unique().to_list()} outside the scope {timeframes}")
        written: list[PartFile] = []
        for tf in timeframes:
            mine = rows.filter(pl.col("timeframe") == tf) if spec.by_timeframe else rows
            with self._locked(name, tf):
                written += self._replace_months(spec, tf, mine, scope, provenance)
                if spec.is_hot and tf:
                    self._refresh_hot(spec, tf, mine, scope)
        self._log(written)
        return written

    def _replace_months(
        self, spec: Table, tf: str, rows: pl.DataFrame, scope: Scope, provenance: Provenance | Callable[[PartFile], Provenance]
    ) -> list[PartFile]:
        months = months_between(scope.window)
        by_month = _split_by_month(rows)
        outside = set(by_month) - {m.strftime("%Y-%m") for m in months}
        if outside:
            raise SchemaError(f"table {spec.name}: rows of {sorted(outside)} lie outside the scope {scope.window}")
        written = []
        for month in months:
            part = self.part(spec.name, tf, month)
            new = by_month.get(part.month, spec.empty())
            if scope.series is not None and part.path.exists():
                kept = pl.read_parquet(part.path, hive_partitioning=False).filter(~series_filter(scope.series))
                new = pl.concat([kept, new]).sort(spec.sort) if kept.height else new
            if new.is_empty():
                part.path.unlink(missing_ok=True)
                continue
            self._write(part, new, provenance(part) if callable(provenance) else provenance)
            written.append(part)
        return written

    def _write(self, part: PartFile, frame: pl.DataFrame, provenance: Provenance) -> None:
        record = replace(provenance, data_version=data_version(frame), part=part.name, n_rows=frame.height, environment=self.environment)
        write_parquet_atomically(part.path, frame, {METADATA_KEY: record.encode()})

    def _refresh_hot(self, spec: Table, tf: str, rows: pl.DataFrame, scope: Scope) -> None:
        path = self.hot_path(spec.name, tf)
        old = pl.read_parquet(path) if path.exists() else spec.empty()
        in_scope = (pl.col("ts") >= month_start(scope.window.start)) & (pl.col("ts") < _widened_end(scope.window))
        if scope.series is not None:
            in_scope &= series_filter(scope.series)
        newest = pl.concat([old.filter(~in_scope), _newest_of_groups(spec, rows)]).sort(spec.sort)
        newest = _newest_of_groups(spec, newest).sort(spec.sort)
        write_parquet_atomically(path, newest, {})

    def _log(self, written: list[PartFile]) -> None:
        for part in written:
            path = self.root / "provenance" / f"{part.table}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as file:
                file.write(part.provenance().encode().encode() + b"\n")

    @contextmanager
    def _locked(self, name: str, tf: str) -> Iterator[None]:
        folder = self.root / "locks"
        folder.mkdir(exist_ok=True)
        with (folder / f"{name}.{tf or 'all'}.lock").open("w") as file, _exclusive(file):
            yield


def batched(parts: Sequence[PartFile], size: int) -> Iterator[Sequence[PartFile]]:
    """The parts in runs of at most `size`."""
    return (parts[i : i + size] for i in range(0, len(parts), size))


def _read_once(parts: Sequence[PartFile], wanted: pl.Expr, columns: Sequence[str]) -> pl.DataFrame:
    """Rows of the parts through handles opened once: a scan by path reopens the file for its pages, and a writer that
    renames a new file over it in between would make the footer of one version read the pages of another."""
    with ExitStack() as stack:
        handles = [stack.enter_context(handle) for part in parts if (handle := _open(part)) is not None]
        if not handles:
            return pl.DataFrame(schema={c: table(parts[0].table).schema[c] for c in columns})
        return pl.scan_parquet(handles, hive_partitioning=False).filter(wanted).select(columns).collect()


def _open(part: PartFile) -> IO[bytes] | None:
    try:
        return part.path.open("rb")
    except FileNotFoundError:
        return None


def _newest_of_groups(spec: Table, rows: pl.DataFrame) -> pl.DataFrame:
    """What a hot file keeps of rows in their order."""
    return rows.group_by(spec.groups, maintain_order=True).tail(spec.hot_rows).select(spec.schema.names())


def series_filter(series: Iterable[Series]) -> pl.Expr:
    """Rows that belong to one of the series."""
    wanted = pl.DataFrame({"exchange": [s.exchange for s in series], "symbol": [s.symbol for s in series]})
    keys = (wanted["exchange"] + "|" + wanted["symbol"]).to_list()
    return (pl.col("exchange") + "|" + pl.col("symbol")).is_in(keys)


def _widened_end(window: Window) -> datetime:
    months = months_between(window)
    return next_month(months[-1]) if months else window.end


def _split_by_month(rows: pl.DataFrame) -> dict[str, pl.DataFrame]:
    if rows.is_empty():
        return {}
    oldest, newest = rows["ts"].min(), rows["ts"].max()
    if isinstance(oldest, datetime) and isinstance(newest, datetime) and month_start(oldest) == month_start(newest):
        return {oldest.strftime("%Y-%m"): rows}
    labelled = rows.with_columns(pl.col("ts").dt.strftime("%Y-%m").alias("_month"))
    groups = labelled.partition_by("_month", as_dict=True, include_key=False, maintain_order=True)
    return {str(key[0]): frame for key, frame in groups.items()}


@contextmanager
def _exclusive(file: IO[str]) -> Iterator[None]:
    fcntl.flock(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


def write_parquet_atomically(path: Path, frame: pl.DataFrame, metadata: dict[str, str]) -> None:
    """Write next to `path`, sync, rename over it; on failure the old file stands and the temporary one is removed."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        frame.write_parquet(temporary, compression="lz4", row_group_size=ROW_GROUP_ROWS, statistics=True, metadata=metadata)
        _sync_and_rename(temporary, path)
    except (OSError, pl.exceptions.ComputeError) as error:
        _discard(temporary)
        raise StorageError(f"cannot write {path.name}: {error}; the file that stood before is intact") from error


def write_atomically(path: Path, content: bytes) -> None:
    """Bytes into a file, all or nothing."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        _sync_and_rename(temporary, path)
    except OSError as error:
        _discard(temporary)
        raise StorageError(f"cannot write {path.name}: {error}; the file that stood before is intact") from error


def _discard(temporary: Path) -> None:
    with suppress(OSError):
        temporary.unlink(missing_ok=True)


def _sync_and_rename(temporary: Path, path: Path) -> None:
    _sync(temporary)
    temporary.replace(path)
    _sync(path.parent)  # the new name must outlive a power cut too: what it replaces may be marked as built right after


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
