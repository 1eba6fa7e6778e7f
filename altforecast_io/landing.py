"""Closed, immutable Parquet files that wait outside the tables until the asset of their table takes them in.

What belongs here: writing, listing, reading and removing landing files. What does not: fetching or checking rows
(`importer`, `backfill`) and the tables themselves (`lake`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl

from altforecast.errors import InputError
from altforecast.tables import table as table_of
from altforecast_io.lake import write_parquet_atomically
from altforecast_io.provenance import METADATA_KEY, Provenance, decode

_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$")
_SUFFIX = ".parquet"
COMPACT_BYTES = 50_000_000
"""Files above this are not put together with others any more."""


def landing_dir(lake_root: Path, table: str = "bars") -> Path:
    """Folder of the landing files of one table; raises UnknownNameError for an unknown table. Need not exist."""
    return lake_root / "landing" / table_of(table).name


def write_landing(lake_root: Path, name: str, frame: pl.DataFrame, provenance: Provenance | None = None, *, table: str = "bars") -> Path:
    """Write one closed file atomically (partial file, fsync, rename, fsync of the folder) and return its path.

    frame: rows of the table, any row order; checked against the table's schema (SchemaError) and stored sorted.
    name: file name without suffix; an existing file of that name is replaced as a whole.
    Raises InputError on a name that is no plain file name, StorageError when the disk refuses; then nothing is left behind.
    """
    if not _NAME.match(name):
        raise InputError("name", name, "not a plain file name")
    folder = landing_dir(lake_root, table)
    final = folder / f"{name}{_SUFFIX}"
    metadata = {METADATA_KEY: provenance.encode()} if provenance else {}
    write_parquet_atomically(final, table_of(table).conform(frame), metadata)
    _sync(folder)
    return final


def landing_files(lake_root: Path, table: str = "bars", prefix: str = "") -> list[Path]:
    """Closed files in order of name, of those whose name starts with `prefix`; empty where the folder is missing."""
    return sorted(landing_dir(lake_root, table).glob(f"{prefix}*{_SUFFIX}"))


def read_landing(paths: Path | Iterable[Path], table: str = "bars") -> pl.DataFrame:
    """Rows of one or more landing files one after the other (later files may repeat keys of earlier ones).

    A file that a compaction removed meanwhile counts as empty; no files give an empty frame of the table.
    """
    schema = table_of(table).schema
    frames = [_read(path) for path in ([paths] if isinstance(paths, Path) else paths)]
    present = [frame.select(schema.names()) for frame in frames if frame is not None]
    return pl.concat(present) if present else pl.DataFrame(schema=schema)


def landing_provenance(path: Path) -> Provenance | None:
    """The provenance in a landing file, or None where its writer gave none."""
    raw = pl.read_parquet_metadata(path).get(METADATA_KEY)
    return decode(raw) if raw else None


def remove_landing(paths: Sequence[Path]) -> int:
    """Remove taken-in files and return how many were still there; what they came from stays in the log of landings.

    The log is written before anything is removed: a kill in between leaves a line twice, never a file without one.
    """
    _remember(paths)
    removed = 0
    for path in paths:
        try:
            path.unlink()
            removed += 1
        except FileNotFoundError:
            continue
    return removed


def compact_landing(lake_root: Path, table: str, *, min_files: int, max_bytes: int = COMPACT_BYTES) -> int:
    """Put small files of one table together where at least `min_files` of them wait; returns how many went into the new one.

    The new file is named after the newest and takes the rows of all of them, oldest first; they are removed after it is
    written. A kill in between leaves rows twice, which taking them in drops. Files larger than `max_bytes` stay as they are.
    """
    small = [path for path in landing_files(lake_root, table) if (size := _size(path)) is not None and size <= max_bytes]
    if len(small) < min_files:
        return 0
    spec = table_of(table)
    rows = read_landing(small, table).unique(spec.key, keep="last", maintain_order=True)
    write_landing(lake_root, f"{small[-1].stem}-c", rows, table=table)
    remove_landing(small)
    return len(small)


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def landings_log(lake_root: Path) -> Path:
    """File with one line per landing file that was removed: its provenance, `part` being its name."""
    return lake_root / "provenance" / "landings.jsonl"


def _remember(paths: Sequence[Path]) -> None:
    lines: dict[Path, list[bytes]] = {}
    for path in paths:
        try:
            found = landing_provenance(path)
        except FileNotFoundError:
            continue
        if found is not None:
            record = replace(found, part=path.stem)
            lines.setdefault(landings_log(path.parent.parent.parent), []).append(record.encode().encode() + b"\n")
    for log, records in lines.items():
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file:
            file.write(b"".join(records))
            file.flush()
            os.fsync(file.fileno())


def _read(path: Path) -> pl.DataFrame | None:
    try:
        return pl.read_parquet(path, hive_partitioning=False)
    except FileNotFoundError:
        return None


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
