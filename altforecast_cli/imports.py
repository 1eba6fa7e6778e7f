"""`altforecast import`: bring bar files into the lake and say what became of every row.

What belongs here: the command, its progress bar and its table. What does not: reading and checking files
(`altforecast_io.importer`) and building `bars` (`altforecast_pipelines.ingest`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from altforecast_io.bar_formats import Hints
from altforecast_io.clock import utc_now
from altforecast_io.importer import FileReport, ImportOptions, ImportReport, bar_files, import_paths
from altforecast_io.lake import Lake
from altforecast_io.settings import Settings

NOTHING_USABLE = 1
"""Exit code when no row of any file could be used, or there was no file."""
SOME_REFUSED = 3
"""Exit code when some files were refused as a whole and the others imported."""
DETAIL_CHARS = 160


def import_bars(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="files or folders of CSV and Parquet bars")],
    symbol: Annotated[str | None, typer.Option(help="symbol of all rows, for example BTC-USD")] = None,
    exchange: Annotated[str | None, typer.Option(help="venue of all rows, for example binance")] = None,
    timeframe: Annotated[str | None, typer.Option(help="bar length of all rows: 1m 5m 15m 1h 4h 1d")] = None,
    repair_conflicts: Annotated[
        bool, typer.Option("--repair-conflicts", help="use rows on which both sides of a merge conflict agree")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print the report as JSON")] = False,
    no_build: Annotated[bool, typer.Option("--no-build", help="stage the bars without building the table")] = False,
) -> None:
    """Import bars: check every row, keep refused ones in quarantine with the reason, build the table `bars`."""
    settings = Settings.load()
    settings.make_folders()
    options = ImportOptions(Hints(symbol, exchange, timeframe), repair_conflicts)
    console = Console(stderr=True)
    if not bar_files(paths):
        console.print(f"no file to import in {', '.join(map(str, paths))}: empty, or only documents and hidden files", highlight=False)
        raise typer.Exit(NOTHING_USABLE)
    with shown_progress(console, paths) as progress:
        report = import_paths(paths, Lake(settings.lake_dir, settings.environment), utc_now, progress, options)
    typer.echo(report.as_json()) if as_json else print_report(Console(), report)
    if not any(f.accepted or f.dropped_duplicates for f in report.files):
        raise typer.Exit(NOTHING_USABLE)
    if not no_build:
        build(settings, console)
    n_refused = sum(1 for f in report.files if f.refused)
    if n_refused:
        console.print(f"{n_refused} of {len(report.files)} files were refused as a whole: exit code {SOME_REFUSED}", highlight=False)
        raise typer.Exit(SOME_REFUSED)


@contextmanager
def shown_progress(console: Console, paths: list[Path]) -> Iterator[Callable[[str, int, int], None]]:
    """A bar over all files that names the file at work and its rows."""
    columns = (TextColumn("importing"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.fields[at]}"))
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("import", total=len(bar_files(paths)), at="")
        seen: dict[str, None] = {}

        def tell(name: str, done: int, total: int) -> None:
            seen.setdefault(name)
            bar.update(task, completed=len(seen) - (done < total), at=f"{name}: {done:,} of {total:,} rows")

        yield tell


def print_report(console: Console, report: ImportReport) -> None:
    """One line per file, the sums, and what was noticed."""
    out = Table(title="import", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    out.add_column("file", overflow="fold")
    for name in ("rows", "accepted", "doubles"):
        out.add_column(name, justify="right", no_wrap=True)
    for name in ("repaired, quarantined", "gaps (missing bars)"):
        out.add_column(name, overflow="fold")
    for f in report.files:
        out.add_row(f.file, *_cells(f), style="red" if f.refused else None)
    totals = report.totals()
    sums = (f"{totals[k]:,}" for k in ("rows", "accepted", "dropped_duplicates"))
    out.add_section()
    out.add_row(f"{totals['files']} files", *sums, _reasons(totals["repaired"], totals["quarantined"]), _lines(totals["gaps"]))
    console.print(out)
    for f in report.files:
        for note in [*([f"refused, {f.refused}: {f.detail[:DETAIL_CHARS]}"] if f.refused else []), *f.notes]:
            console.print(f"{f.file}: {note}", style="dim", highlight=False, markup=False)
    seen = "; refused rows: altforecast lake show quarantine" if totals["quarantined"] or totals["refused_files"] else ""
    console.print(f"{totals['rows']:,} rows in {report.seconds:.1f} s{seen}", highlight=False)


def _cells(f: FileReport) -> tuple[str, ...]:
    if f.refused:
        return "-", "-", "-", f"file: {f.refused}", "-"
    gaps = {f"{kind} {n:,}": f.missing_bars.get(kind, 0) for kind, n in f.gaps.items()}
    lines = "\n".join(f"{name} ({n:,})" for name, n in gaps.items())
    return f"{f.rows:,}", f"{f.accepted:,}", f"{f.dropped_duplicates:,}", _reasons(f.repaired, f.quarantined), lines


def _reasons(repaired: dict[str, int], quarantined: dict[str, int]) -> str:
    return "\n".join(filter(None, [_lines({f"repaired {k}": n for k, n in repaired.items()}), _lines(quarantined)]))


def _lines(counts: dict[str, int]) -> str:
    return "\n".join(f"{name} {n:,}" for name, n in counts.items())


def build(settings: Settings, console: Console) -> None:
    """Run the assets `bars` and `bar_gaps` for the months that were touched."""
    from altforecast_pipelines.ingest import ingest_landing

    with console.status("building bars") as status:
        summary = ingest_landing(settings, lambda table, state: status.update(f"building bars: {table} {state}"))
    for table in summary.tables:
        console.print(f"{table.table}: {table.n_rows:,} rows in {table.n_files} files, {table.seconds:.1f} s", highlight=False)
    for warning in summary.warnings:
        console.print(f"warning: {warning}", style="yellow", highlight=False, markup=False)
    console.print("signals still rest on the bars before: run `altforecast backfill` (a running Dagster does it within minutes)")
