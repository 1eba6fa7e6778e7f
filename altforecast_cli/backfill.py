"""`altforecast backfill`: fetch bars from an exchange where asked, then rebuild all tables from a month on in one Dagster run.

What belongs here: the command, its progress and its table. What does not: fetching (`altforecast_io.backfill`) and the run
(`altforecast_pipelines.ingest`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from altforecast.errors import InputError
from altforecast.symbols import parse_symbol, parse_timeframe, parse_venue
from altforecast.types import Timeframe
from altforecast_io.clock import utc_now
from altforecast_io.lake import Lake
from altforecast_io.settings import Settings

if TYPE_CHECKING:
    from altforecast_io.backfill import Backfill
    from altforecast_pipelines.ingest import Summary

NOTHING = (
    "The lake has no bars and nothing waits. Fill it: altforecast import PATH..., "
    "or altforecast backfill --exchange binance --from 2024-01-01"
)
SHOWN_FAILURES = 10


def backfill(
    from_: Annotated[
        str, typer.Option("--from", help="first month or day to fetch and rebuild, for example 2024-01; default: the first bar")
    ] = "",
    to: Annotated[
        str, typer.Option("--to", help="end of what is fetched, not included; tables are always rebuilt to the newest month")
    ] = "",
    exchange: Annotated[str, typer.Option(help="first fetch missing bars of this venue")] = "",
    symbols: Annotated[str, typer.Option(help="symbols to fetch, comma separated; default: TRACKED_SYMBOLS")] = "",
    timeframes: Annotated[str, typer.Option(help="timeframes to fetch, comma separated")] = "15m,1h,4h,1d",
) -> None:
    """Rebuild every table that rests on bars, from --from to the newest month, in a single run.

    --to bounds what is fetched only: later months carry state of earlier ones (on-balance volume, levels, regime, evidence).
    """
    settings = Settings.load()
    settings.make_folders()
    console = Console(stderr=True)
    start, end = parse_day(from_, "--from"), parse_day(to, "--to")
    if start and end and start >= end:
        raise InputError("--from", from_, f"must be before {to}")
    if exchange:
        fetch(settings, console, exchange, symbols, timeframes, start, end)
    build(settings, console, start)


def parse_day(text: str, name: str) -> datetime | None:
    """Midnight UTC of `2024`, `2024-05` or `2024-05-17`; None for an empty text."""
    if not text:
        return None
    for form in ("%Y-%m-%d", "%Y-%m", "%Y"):
        try:
            return datetime.strptime(text, form).replace(tzinfo=UTC)
        except ValueError:
            continue
    raise InputError(name, text, "not a date", ["2024", "2024-05", "2024-05-17"])


def fetch(
    settings: Settings, console: Console, exchange: str, symbols: str, timeframes: str, start: datetime | None, end: datetime | None
) -> None:
    """Fetch missing bars into landing files; what failed is printed, what came is built."""
    from altforecast_io.backfill import Progress as Fetched
    from altforecast_io.backfill import backfill_bars

    if start is None:
        raise InputError("--from", "", "fetching needs a first day")
    venue = parse_venue(exchange)
    wanted = [parse_symbol(s) for s in (symbols.split(",") if symbols else settings.tracked_symbols)]
    lengths: list[Timeframe] = [parse_timeframe(t) for t in timeframes.split(",")]
    lake = Lake(settings.lake_dir, settings.environment)
    with spinner(console) as say:

        def tell(at: Fetched) -> None:
            span = at.span
            say(f"{venue} {span.series.symbol} {span.timeframe}: {at.n_rows:,} bars, up to {at.done_until:%Y-%m-%d}")

        done = backfill_bars(settings, lake, venue, wanted, lengths, start, end or utc_now(), progress=tell)
    print_fetch(console, done)


def print_fetch(console: Console, done: Backfill) -> None:
    """How much came, and what did not."""
    console.print(f"fetched {done.n_rows:,} bars in {done.n_files} files")
    for span, why in done.failures[:SHOWN_FAILURES]:
        console.print(f"[yellow]not fetched[/yellow] {span.series.symbol} {span.timeframe}: {why}")
    if len(done.failures) > SHOWN_FAILURES:
        console.print(f"[yellow]and {len(done.failures) - SHOWN_FAILURES} more[/yellow]")


def build(settings: Settings, console: Console, start: datetime | None) -> None:
    """Run the backfill and print rows per table."""
    from altforecast_pipelines.ingest import run_backfill  # Dagster takes two seconds to import: only where it is used

    with spinner(console) as say:
        summary = run_backfill(settings, start, lambda table, state: say(f"{table}: {state}"))
    if not summary.run_id:
        console.print(NOTHING, soft_wrap=True)
        raise typer.Exit(1)
    print_summary(Console(), summary)


@contextmanager
def spinner(console: Console) -> Iterator[Callable[[str], None]]:
    """One line that says what is at work, with the time since the start."""
    with Progress(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=console, transient=True) as bar:
        task = bar.add_task("starting", total=None)
        yield lambda text: bar.update(task, description=text)


def print_summary(console: Console, summary: Summary) -> None:
    """Rows, files and seconds per table."""
    assert summary.window is not None
    title = f"{summary.window.start:%Y-%m} to {summary.window.end:%Y-%m} (not included), {summary.seconds:.1f} s, run {summary.run_id}"
    out = Table(title=title, box=box.SIMPLE_HEAD)
    out.add_column("table")
    for name in ("rows", "files", "seconds"):
        out.add_column(name, justify="right")
    for account in summary.tables:
        out.add_row(account.table, f"{account.n_rows:,}", str(account.n_files), f"{account.seconds:.1f}")
    console.print(out)
    for warning in summary.warnings:
        console.print(f"[yellow]check[/yellow] {warning}", soft_wrap=True)
