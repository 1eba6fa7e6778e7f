"""Opening bar files of any known format: what is on disk becomes candidate rows for `altforecast.bar_checks`.

What belongs here: bytes, encodings, compression, batches and refusals of whole files. What does not: the meaning of columns
(`bar_formats`) and the checks themselves.
"""

from __future__ import annotations

import gzip
import io
import itertools
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, TextIO, cast

import polars as pl

from altforecast.bar_checks import CANDIDATE, PRICES, CheckOptions
from altforecast.bar_times import parse_times
from altforecast.params import CLEAN
from altforecast.types import Timeframe
from altforecast_io.bar_formats import BINANCE_HEADER, Hints, Layout, RefusedFileError, find_layout, is_binance_row

BATCH_LINES = 500_000
"""Text lines held as text at once; more are spilled to temporary Parquet files."""
CHUNK_ROWS = 2_000_000
"""Rows that are checked at once, unless one series alone has more."""
MAX_TEXT_BYTES = 16 * 1024**3
"""Unpacked text beyond this is refused: nobody publishes bars in such files, but zip bombs exist."""
_MARKERS = ("<<<<<<<", "=======", ">>>>>>>")
_CORRUPT = (pl.exceptions.ComputeError, pl.exceptions.PolarsError, OSError)


@dataclass
class BarFile:
    """One readable file: candidate rows, plus rows that were refused while reading."""

    format: str
    rows: pl.LazyFrame
    """Columns of CANDIDATE, and `line` (text) for text files."""
    n_rows: int
    options: CheckOptions
    notes: tuple[str, ...] = ()
    refused: pl.DataFrame = field(default_factory=lambda: _no_refusals())
    """row, reason, detail, line of text lines that are no rows of the table."""
    source: pl.LazyFrame | None = None
    """Original columns with `row`, for formats other than text."""

    def chunks(self) -> Iterator[pl.DataFrame]:
        """Candidate rows, all timeframes of a series together; raises RefusedFileError where the data turn out corrupt."""
        try:
            lean = self.rows.select(pl.exclude("line"))
            if self.n_rows <= CHUNK_ROWS:
                yield lean.collect()
                return
            for names in self._packs():
                yield lean.join(names.lazy(), on=["exchange", "symbol"], how="semi", nulls_equal=True).sort("row").collect()
        except _CORRUPT as error:
            raise RefusedFileError("unreadable", str(error).splitlines()[0][:200]) from error

    def _packs(self) -> Iterator[pl.DataFrame]:
        sizes = self.rows.group_by("exchange", "symbol").len().sort("exchange", "symbol").collect()
        pack = (sizes["len"].cum_sum() - 1) // CHUNK_ROWS
        yield from sizes.with_columns(pack.alias("pack")).partition_by("pack", include_key=False, maintain_order=True)

    def raw(self, rows: pl.Series) -> pl.DataFrame:
        """`row` and `raw` (JSON of the row as it came) of some rows."""
        whole = self.source if self.source is not None else self.rows.select("row", "line")
        found = whole.filter(pl.col("row").is_in(rows.implode())).collect()
        plain = found.with_columns(pl.col(pl.Datetime, pl.Date).cast(pl.String))
        return plain.select("row", pl.struct(pl.exclude("row")).struct.json_encode().alias("raw"))


def _no_refusals() -> pl.DataFrame:
    return pl.DataFrame(schema={"row": pl.Int64, "reason": pl.String, "detail": pl.String, "line": pl.String})


def open_bar_file(path: Path, hints: Hints, now: datetime, workdir: Path, *, repair_conflicts: bool = False) -> BarFile:
    """Recognise a file by its content and read it; raises RefusedFileError with reason and detail.

    workdir: an existing folder for batches of large text files; the caller removes it. Memory stays near BATCH_LINES lines
    of text, or CHUNK_ROWS rows, plus the largest single series.
    """
    try:
        kind = _kind(path)
        if kind == "parquet":
            return _open_parquet(path, hints, now)
        with ExitStack() as stack:
            return _open_text(_text(path, kind, stack), path.name, hints, now, workdir, repair_conflicts)
    except RefusedFileError:
        raise
    except UnicodeDecodeError as error:
        raise RefusedFileError("wrong_encoding", f"not UTF-8 at byte {error.start}: save the file as UTF-8") from error
    except (OSError, EOFError, zipfile.BadZipFile) as error:
        raise RefusedFileError("unreadable", str(error)[:200]) from error


def _kind(path: Path) -> str:
    if path.stat().st_size == 0:
        raise RefusedFileError("empty_file", "0 bytes")
    with path.open("rb") as file:
        head = file.read(4096)
    if head.startswith(b"version https://git-lfs"):
        raise RefusedFileError("git_lfs_pointer", "a pointer, not the data: run `git lfs pull` where the file comes from")
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith((b"ARROW1", b"FEA1")):
        raise RefusedFileError("unsupported_file_type", "Feather; save the bars as Parquet or CSV")
    if head.startswith(b"\x1f\x8b"):
        return "gzip"
    if head.startswith(b"PK\x03\x04"):
        return "zip"
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise RefusedFileError("wrong_encoding", "UTF-16; save the file as UTF-8")
    if b"\x00" in head:
        raise RefusedFileError("not_a_bars_file", "binary content of an unknown kind")
    return "text"


# ---- Parquet


def _open_parquet(path: Path, hints: Hints, now: datetime) -> BarFile:
    try:
        scan = pl.scan_parquet(path, hive_partitioning=False)
        schema = scan.collect_schema()
        n_rows = int(scan.select(pl.len()).collect().item())
    except _CORRUPT as error:
        raise RefusedFileError("corrupt_parquet", str(error).splitlines()[0][:200]) from error
    if not n_rows:
        raise RefusedFileError("empty_file", "no rows")
    layout = find_layout(schema.names(), path.name, hints)
    source = scan.with_row_index("row").with_columns(pl.col("row").cast(pl.Int64))
    layout = _with_timeframe(layout, source, now)
    return BarFile(layout.format, source.select(_mapping(layout)), n_rows, layout.options, layout.notes, source=source)


def _mapping(layout: Layout) -> list[pl.Expr]:
    known = [pl.col(source).alias(target) for target, source in layout.columns.items()]
    fixed = [pl.lit(value).alias(name) for name, value in layout.constants.items() if name not in layout.columns]
    texts = [e.cast(pl.String) if e.meta.output_name() in ("symbol", "exchange", "timeframe") else e for e in [*known, *fixed]]
    return [pl.col("row"), *texts]


def _with_timeframe(layout: Layout, rows: pl.LazyFrame, now: datetime) -> Layout:
    """The layout with a timeframe; where nothing tells it, the commonest step between neighbouring rows does."""
    if "timeframe" in layout.columns or "timeframe" in layout.constants:
        return layout
    times = parse_times(rows.select(pl.col(layout.columns["time"]).alias("t")).head(10_000).collect()["t"], now, CLEAN.first_year)
    steps = times["ts"].dt.epoch("ms").diff().abs().drop_nulls().value_counts(sort=True)
    found = next((t for t in Timeframe if steps.height and t.ms == steps[0, 0]), None)
    if found is None:
        raise RefusedFileError("unsupported_timeframe", "no column tells the timeframe and the steps fit none: give --timeframe")
    note = f"timeframe {found.value} taken from the steps between rows"
    return Layout(layout.format, layout.columns, {**layout.constants, "timeframe": found.value}, layout.options, (*layout.notes, note))


# ---- text


def _text(path: Path, kind: str, stack: ExitStack) -> TextIO:
    binary: BinaryIO
    if kind == "gzip":
        binary = cast(BinaryIO, stack.enter_context(gzip.GzipFile(path)))
    elif kind == "zip":
        archive = stack.enter_context(zipfile.ZipFile(path))
        members = [m for m in archive.namelist() if not m.endswith("/")]
        if len(members) != 1:
            raise RefusedFileError("unsupported_file_type", f"an archive of {len(members)} files; give archives of one CSV file")
        binary = cast(BinaryIO, stack.enter_context(archive.open(members[0])))
    else:
        binary = stack.enter_context(path.open("rb"))
    return io.TextIOWrapper(binary, encoding="utf-8-sig", newline=None)


@dataclass(frozen=True)
class _Table:
    """Where the rows of a text file begin and how its lines are cut."""

    layout: Layout
    header: list[str]
    separator: str
    first_line: int
    """Number of the line (from 1) that holds row 0."""


def _open_text(text: TextIO, name: str, hints: Hints, now: datetime, workdir: Path, repair_conflicts: bool) -> BarFile:
    table, lines = _find_table(text, name, hints)
    batches, markers, refused = _read_batches(lines, table, workdir)
    if markers and not repair_conflicts:
        shown = ", ".join(str(n) for n in markers[:20])
        raise RefusedFileError("merge_conflict_markers", f"lines {shown}: resolve them, or import with --repair-conflicts")
    rows = pl.concat(batches) if batches else None
    n_rows = int(rows.select(pl.len()).collect().item()) if rows is not None else 0
    if rows is None or not n_rows + refused.height:
        raise RefusedFileError("empty_file", "a header without rows")
    layout = _with_timeframe(table.layout, rows.with_columns(pl.col("time").alias(table.layout.columns["time"])), now)
    if "timeframe" not in layout.columns:
        rows = rows.with_columns(pl.lit(layout.constants["timeframe"]).alias("timeframe"))
    if markers:
        rows, disputed = _undisputed(rows)
        refused = pl.concat([refused, disputed])
        n_rows -= disputed.height
    if not n_rows:
        raise RefusedFileError("not_a_bars_file", "no line has as many fields as the header")
    return BarFile(layout.format, rows.drop("side"), n_rows, layout.options, layout.notes, refused)


def _find_table(text: TextIO, name: str, hints: Hints) -> tuple[_Table, Iterator[str]]:
    """Header and layout, and the lines that follow."""
    head = list(itertools.islice(text, 3))
    if head and head[0].startswith(_MARKERS[0]):
        raise RefusedFileError("merge_conflict_markers", "line 1")
    prefix = head[0].strip() if head and ("://" in head[0].split(",")[0] or "cryptodatadownload" in head[0].lower()) else ""
    start = 1 if prefix else 0
    first = head[start].strip() if len(head) > start else ""
    separator = next((s for s in (",", ";", "\t") if s in first), ",")
    cells = [c.strip().strip('"') for c in first.split(separator)]
    has_header = not is_binance_row(cells)
    header = cells if has_header else list(BINANCE_HEADER)
    if len(header) != len(set(header)):
        raise RefusedFileError("not_a_bars_file", "the header names a column twice, or is no header")
    try:
        layout = find_layout(header, name, hints, prefix)
    except RefusedFileError:
        _refuse_markers(itertools.chain(head, text))
        raise
    begin = start + (1 if has_header else 0)
    return _Table(layout, header, separator, begin + 1), itertools.chain(head[begin:], text)


def _refuse_markers(lines: Iterable[str]) -> None:
    """Name merge conflicts first: they may be why nothing else is understood."""
    found = [str(n) for n, line in enumerate(lines, 1) if line.startswith(_MARKERS)]
    if len(found) >= len(_MARKERS):
        raise RefusedFileError("merge_conflict_markers", f"lines {', '.join(found[:20])}")


def _read_batches(lines: Iterator[str], table: _Table, workdir: Path) -> tuple[list[pl.LazyFrame], list[int], pl.DataFrame]:
    """Frames of rows (in memory, or spilled from the second on), line numbers of conflict markers, refused lines."""
    batches: list[pl.LazyFrame] = []
    markers: list[int] = []
    refused = [_no_refusals()]
    row, side, size = 0, 0, 0
    while batch := list(itertools.islice(lines, BATCH_LINES)):
        size += sum(map(len, batch))
        if size > MAX_TEXT_BYTES:
            raise RefusedFileError("too_large", f"more than {MAX_TEXT_BYTES >> 30} GB of text: split the file")
        marked = pl.DataFrame({"line": pl.Series(batch, dtype=pl.String).str.strip_chars_end("\r\n")})
        marked = marked.with_columns((pl.int_range(pl.len(), dtype=pl.Int64) + row).alias("row"))
        marked, side, found = _sides(marked, side, table.first_line)
        markers += found
        rows, bad = _cut(marked, table)
        refused.append(bad)
        batches.append(_spilled(rows, workdir, len(batches)) if len(batch) == BATCH_LINES or batches else rows.lazy())
        row += len(batch)
    return batches, markers, pl.concat(refused)


def _sides(lines: pl.DataFrame, side: int, first_line: int) -> tuple[pl.DataFrame, int, list[int]]:
    """Lines without markers, with `side` (0 outside, 1 and 2 of a conflict); the side after the last; marker line numbers."""
    start = pl.col("line").str.slice(0, 7)
    is_marker = start.is_in(_MARKERS)
    if not lines.select(is_marker.any()).item():
        return lines.with_columns(pl.lit(side, pl.Int8).alias("side")), side, []
    value = start.replace_strict({_MARKERS[0]: 1, _MARKERS[1]: 2, _MARKERS[2]: 0}, default=None, return_dtype=pl.Int8)
    told = lines.with_columns(value.forward_fill().fill_null(side).alias("side"))
    numbers = (lines.filter(is_marker)["row"] + first_line).to_list()
    return told.filter(~is_marker), int(told["side"][-1]), numbers


def _cut(lines: pl.DataFrame, table: _Table) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Candidate rows of lines with as many fields as the header; the others as refused. Blank lines are neither."""
    lines = lines.filter(pl.col("line").str.strip_chars() != "")
    wanted = len(table.header) - 1
    count = pl.col("line").str.count_matches(table.separator, literal=True)
    detail = pl.format(f"{{}} fields instead of {wanted + 1}", count + 1)
    bad = lines.filter(count != wanted).select("row", pl.lit("malformed_row").alias("reason"), detail.alias("detail"), "line")
    good = lines.filter(count == wanted)
    cells = good["line"].str.replace_all('"', "", literal=True).str.split_exact(table.separator, wanted).struct.unnest()
    cells.columns = [f"cell:{h}" for h in table.header]
    named = [_cell(target, source) for target, source in table.layout.columns.items()]
    fixed = [pl.lit(v).alias(n) for n, v in table.layout.constants.items() if n not in table.layout.columns]
    return good.select("row", "line", "side").hstack(
        cells.select(*named, *fixed) if good.height else cells.clear().select(*named, *fixed)
    ), bad


def _cell(target: str, source: str) -> pl.Expr:
    """Text of a column; prices as numbers, where text that is no number becomes NaN and empty text null."""
    text = pl.col(f"cell:{source}").str.strip_chars()
    given = pl.when(text != "").then(text)
    if target in (*PRICES, "volume"):
        number = given.cast(pl.Float64, strict=False)
        return pl.when(number.is_null() & given.is_not_null()).then(float("nan")).otherwise(number).alias(target)
    if target == "recorded_at":
        return given.str.to_datetime(strict=False, time_unit="ms", time_zone="UTC").alias(target)
    return given.alias(target)


def _spilled(rows: pl.DataFrame, workdir: Path, number: int) -> pl.LazyFrame:
    path = workdir / f"batch-{number:05d}.parquet"
    rows.write_parquet(path, compression="lz4")
    return pl.scan_parquet(path)


def _undisputed(rows: pl.LazyFrame) -> tuple[pl.LazyFrame, pl.DataFrame]:
    """Rows outside of conflicts or equal on both sides; the rest as refused lines."""
    whole = rows.collect()
    columns = [c for c in CANDIDATE if c in whole.columns and c != "row"]
    agreed = pl.col("side").filter(pl.col("side") > 0).n_unique().over(columns) == 2
    told = whole.with_columns(((pl.col("side") == 0) | agreed).alias("ok"))
    disputed = told.filter(~pl.col("ok"))
    refused = disputed.select(
        "row", pl.lit("merge_conflict").alias("reason"), pl.format("stands on side {} only", "side").alias("detail"), "line"
    )
    return told.filter("ok").drop("ok").lazy(), refused
