"""Importing bar files: every file is read, checked and staged for the `bars` asset, refused rows and files are kept aside.

What belongs here: walking paths, staging landing files, the quarantine, the import ledger and the report. What does not:
formats (`bar_formats`), reading (`bar_files`, `funding_files`), the checks (`altforecast.bar_checks`) and building `bars` (pipelines).
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from altforecast import CODE_VERSION
from altforecast.bar_checks import Checked, check_bars
from altforecast.errors import InputError, StorageError
from altforecast.funding_rates import check_funding
from altforecast.tables import BARS, FUNDING_RATES, QUARANTINE, TS
from altforecast.types import Window
from altforecast_io.bar_files import open_bar_file
from altforecast_io.bar_formats import Hints, RefusedFileError
from altforecast_io.clock import Clock
from altforecast_io.funding_files import FundingFile, add_funding, open_funding_file
from altforecast_io.lake import Lake, Scope, month_start, next_month, write_atomically
from altforecast_io.landing import landing_files, read_landing, remove_landing, write_landing
from altforecast_io.provenance import Input, Provenance

__all__ = ["FileReport", "ImportOptions", "ImportReport", "import_paths", "landing_files", "read_landing", "remove_landing"]

MAX_KEPT_BYTES = 256 * 1024**2
"""A refused file larger than this is named in the quarantine but not copied there."""
MAX_GAPS_SHOWN = 50
_SKIPPED_NAMES = ("README", "LICENSE", "LICENCE", "CHANGELOG", "SHA256SUMS")

Progress = Callable[[str, int, int], None]
"""Called with file name, finished rows and all rows of that file."""


@dataclass(frozen=True)
class ImportOptions:
    """What the user adds to what the files say."""

    hints: Hints = field(default_factory=Hints)
    repair_conflicts: bool = False

    def text(self) -> str:
        """Stable text: two imports of one file with other options are two imports."""
        return repr(self)


@dataclass
class FileReport:
    """What became of one file; rows = accepted + quarantined + dropped."""

    file: str
    import_id: str
    format: str = ""
    rows: int = 0
    accepted: int = 0
    dropped_duplicates: int = 0
    repaired: dict[str, int] = field(default_factory=dict)
    quarantined: dict[str, int] = field(default_factory=dict)
    quality: dict[str, int] = field(default_factory=dict)
    gaps: dict[str, int] = field(default_factory=dict)
    """Holes by kind."""
    missing_bars: dict[str, int] = field(default_factory=dict)
    """Missing bars by kind."""
    longest_gaps: list[dict[str, Any]] = field(default_factory=list)
    refused: str | None = None
    detail: str = ""
    notes: list[str] = field(default_factory=list)
    landing: list[str] = field(default_factory=list)
    first_imported_at: str = ""
    seconds: float = 0.0


@dataclass
class ImportReport:
    """What an import did, file by file; `totals` sums the counts."""

    files: list[FileReport] = field(default_factory=list)
    seconds: float = 0.0

    def totals(self) -> dict[str, Any]:
        """Sums over all files: rows, accepted, dropped, repaired and quarantined by reason, refused files by reason."""
        return {
            "files": len(self.files),
            "rows": sum(f.rows for f in self.files),
            "accepted": sum(f.accepted for f in self.files),
            "dropped_duplicates": sum(f.dropped_duplicates for f in self.files),
            "repaired": _summed(f.repaired for f in self.files),
            "quarantined": _summed(f.quarantined for f in self.files),
            "gaps": _summed(f.gaps for f in self.files),
            "refused_files": dict(Counter(f.refused for f in self.files if f.refused)),
            "seconds": round(self.seconds, 2),
        }

    def as_json(self) -> str:
        """The whole report as JSON text."""
        return orjson.dumps({"totals": self.totals(), "files": [asdict(f) for f in self.files]}, option=orjson.OPT_INDENT_2).decode()


def _summed(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for count in counts:
        total.update(count)
    return dict(sorted(total.items()))


def bar_files(paths: Sequence[Path]) -> list[tuple[Path, str]]:
    """Files under the paths and the names they get in reports (relative to the folder that was given), sorted.

    Folders are walked; hidden files and documents (README, LICENSE, *.md, check sums) inside them are passed over.
    Raises InputError for a path that does not exist.
    """
    found: dict[Path, str] = {}
    for path in paths:
        if path.is_dir():
            inside = (p for p in sorted(path.rglob("*")) if p.is_file() and _is_wanted(p.relative_to(path)))
            found.update({p.resolve(): str(p.relative_to(path)) for p in inside})
        elif path.exists():
            found[path.resolve()] = path.name
        else:
            raise InputError("path", str(path), "no such file or folder")
    return list(found.items())


def _is_wanted(relative: Path) -> bool:
    is_hidden = any(part.startswith(".") for part in relative.parts)
    return not (is_hidden or relative.suffix.lower() == ".md" or relative.name.upper().startswith(_SKIPPED_NAMES))


def import_paths(
    paths: Sequence[Path], lake: Lake, clock: Clock, progress: Progress | None = None, options: ImportOptions | None = None
) -> ImportReport:
    """Check every file under `paths` and stage what is good.

    Accepted bars become landing files of the table `bars` (`received_at` is the file's first import, or its `recorded_at`),
    refused rows go to the table `quarantine`, refused files also to `<lake>/quarantine/files/`. The same file with the same
    options always makes the same landing files and quarantine rows, so importing it again changes nothing. A file that
    fails half way leaves nothing staged. Raises InputError for a missing path, StorageError when the lake refuses a write.
    """
    begin = time.perf_counter()
    report = ImportReport()
    for path, name in bar_files(paths):
        report.files.append(_FileImport(path, name, lake, clock, progress, options or ImportOptions()).run())
    report.seconds = time.perf_counter() - begin
    return report


@dataclass
class _FileImport:
    """One file on its way into the lake."""

    path: Path
    name: str
    lake: Lake
    clock: Clock
    progress: Progress | None
    options: ImportOptions

    def run(self) -> FileReport:
        begin = time.perf_counter()
        report = FileReport(self.name, _import_id(self.path, self.options))
        now = self._first_imported_at(report.import_id)
        report.first_imported_at = now.isoformat()
        workdir = self.lake.root / "import-work" / report.import_id
        try:
            workdir.mkdir(parents=True, exist_ok=True)
            funding = open_funding_file(self.path, self.options.hints)
            refused = self._stage(report, now, workdir) if funding is None else self._keep_funding(funding, report, now)
        except RefusedFileError as error:
            _unstage(self.lake, report)
            report.refused, report.detail = error.reason, error.detail
            refused = self._whole_file(error)
        except StorageError:
            _unstage(self.lake, report)
            raise
        finally:
            shutil.rmtree(workdir, ignore_errors=True)
        self._quarantine(report.import_id, refused, now)
        report.seconds = round(time.perf_counter() - begin, 3)
        self._remember(report)
        return report

    def _stage(self, report: FileReport, now: datetime, workdir: Path) -> pl.DataFrame:
        file = open_bar_file(self.path, self.options.hints, now, workdir, repair_conflicts=self.options.repair_conflicts)
        report.format, report.notes = file.format, list(file.notes)
        report.rows = file.n_rows + file.refused.height
        refused = [file.refused.select("row", "reason", "detail", _json_line())]
        done = 0
        self._tell(0, file.n_rows)
        for chunk in file.chunks():
            checked = check_bars(chunk, now, options=file.options)
            if checked.quarantined.height:
                refused.append(checked.quarantined.join(file.raw(checked.quarantined["row"]), on="row", how="left"))
            self._land(report, checked.accepted, now)
            _count(report, checked)
            done += chunk.height
            self._tell(done, file.n_rows)
        rejected = pl.concat(refused)
        report.quarantined = dict(sorted(rejected.group_by("reason").len().iter_rows()))
        return rejected

    def _keep_funding(self, file: FundingFile, report: FileReport, now: datetime) -> pl.DataFrame:
        """Straight into the table: settlements need no build. What the lake knows already stays as it is."""
        checked = check_funding(file.rows, now)
        report.format, report.rows = "funding_rates", file.rows.height
        source = Input("import", self.name, report.import_id)
        record = Provenance(FUNDING_RATES.name, f"import-{report.import_id}", CODE_VERSION, self.lake.environment, now, (source,))
        n_new = add_funding(self.lake, checked.accepted, record)
        report.accepted, report.dropped_duplicates = n_new, report.rows - n_new - checked.refused.height
        report.quarantined = dict(sorted(checked.refused.group_by("reason").len().iter_rows()))
        raw = file.source.select("row", pl.struct(pl.exclude("row").cast(pl.String)).struct.json_encode().alias("raw"))
        return checked.refused.join(raw, on="row", how="left")

    def _tell(self, done: int, total: int) -> None:
        if self.progress is not None:
            self.progress(self.name, done, total)

    def _land(self, report: FileReport, accepted: pl.DataFrame, now: datetime) -> None:
        """One landing file per recording of a bar: within a file keys are unique."""
        for layer in _layers(accepted):
            name = f"import-{report.import_id}-{len(report.landing):04d}"
            source = Input("import", self.name, report.import_id)
            record = Provenance(
                "import", f"import-{report.import_id}", CODE_VERSION, self.lake.environment, now, (source,), n_rows=layer.height
            )
            report.landing.append(write_landing(self.lake.root, name, layer, record).name)

    def _whole_file(self, error: RefusedFileError) -> pl.DataFrame:
        size = self.path.stat().st_size
        kept = self._keep() if size <= MAX_KEPT_BYTES else "not copied: too large"
        raw = orjson.dumps({"path": self.name, "bytes": size, "copy": kept}).decode()
        return pl.DataFrame({"row": [-1], "reason": [error.reason], "detail": [error.detail], "raw": [raw]})

    def _keep(self) -> str:
        target = self.lake.root / "quarantine" / "files" / f"{_import_id(self.path, self.options)}-{self.path.name}"
        if not target.exists():
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(target, self.path.read_bytes())
            except OSError as error:
                raise StorageError(f"cannot keep refused file {self.path.name}: {error}") from error
        return str(target.relative_to(self.lake.root))

    def _quarantine(self, import_id: str, refused: pl.DataFrame, now: datetime) -> None:
        if refused.is_empty():
            return
        rows = refused.with_columns(
            pl.lit(now).cast(TS).alias("ts"),
            pl.lit(import_id).alias("import_id"),
            pl.lit(self.name).alias("file"),
            pl.col("raw").fill_null(""),
        ).select(QUARANTINE.schema.names())
        window = Window(month_start(now), next_month(now))
        old = self.lake.read(QUARANTINE.name, start=window.start, end=window.end)
        merged = pl.concat([old, rows]).unique(QUARANTINE.key, keep="first", maintain_order=True)
        if merged.height > old.height:
            source = Input("import", self.name, import_id)
            record = Provenance(QUARANTINE.name, f"import-{import_id}", CODE_VERSION, self.lake.environment, now, (source,))
            self.lake.replace(QUARANTINE.name, merged, Scope(window), record)

    # ---- ledger

    @property
    def _ledger(self) -> Path:
        return self.lake.root / "imports"

    def _first_imported_at(self, import_id: str) -> datetime:
        path = self._ledger / f"{import_id}.json"
        try:
            return datetime.fromisoformat(orjson.loads(path.read_bytes())["first_imported_at"])
        except (OSError, ValueError, KeyError):
            return self.clock()

    def _remember(self, report: FileReport) -> None:
        try:
            self._ledger.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"cannot keep the import ledger: {error}") from error
        write_atomically(self._ledger / f"{report.import_id}.json", orjson.dumps(asdict(report), option=orjson.OPT_INDENT_2))


def _import_id(path: Path, options: ImportOptions) -> str:
    """Hash of content, file name and options: 16 hex digits."""
    digest = hashlib.blake2b(digest_size=8)
    digest.update(f"{path.name}|{options.text()}|".encode())
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _json_line() -> pl.Expr:
    return pl.struct("line").struct.json_encode().alias("raw")


def _layers(accepted: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Rows split so that keys are unique in each part, older recordings first."""
    if accepted.is_empty():
        return
    if not accepted.select(BARS.key).is_duplicated().any():
        yield accepted
        return
    ordered = accepted.sort(*BARS.key, "received_at")
    number = pl.int_range(pl.len()).over(BARS.key).alias("_layer")
    yield from ordered.with_columns(number).sort("_layer").partition_by("_layer", include_key=False, maintain_order=True)


def _count(report: FileReport, checked: Checked) -> None:
    report.accepted += checked.accepted.height
    report.dropped_duplicates += checked.n_dropped
    report.repaired = _summed([report.repaired, dict(checked.repaired.group_by("reason").len().iter_rows())])
    report.quality = _summed([report.quality, dict(checked.accepted.group_by("quality").len().iter_rows())])
    report.gaps = _summed([report.gaps, dict(checked.gaps.group_by("kind").len().iter_rows())])
    missing = dict(checked.gaps.group_by("kind").agg(pl.col("n_bars").sum()).iter_rows())
    report.missing_bars = _summed([report.missing_bars, missing])
    report.notes += [n for n in checked.notes if n not in report.notes]
    shown = checked.gaps.sort("n_bars", descending=True).head(MAX_GAPS_SHOWN)
    listed = [*report.longest_gaps, *shown.select("symbol", "timeframe", "ts", "n_bars", "kind", "evidence").to_dicts()]
    report.longest_gaps = sorted(listed, key=lambda g: -int(g["n_bars"]))[:MAX_GAPS_SHOWN]


def _unstage(lake: Lake, report: FileReport) -> None:
    """Take back what a refused file had staged, and its counts."""
    names = set(report.landing)
    remove_landing([p for p in landing_files(lake.root, prefix=f"import-{report.import_id}-") if p.name in names])
    report.landing = []
    report.accepted = report.dropped_duplicates = report.rows = 0
    report.quarantined, report.repaired, report.quality, report.gaps, report.missing_bars = {}, {}, {}, {}, {}
    report.longest_gaps = []
