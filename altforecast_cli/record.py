"""`altforecast record`: the feeds and the recorder, nothing else.

What belongs here: the command and what it shows. What does not: recording (`realtime.recording`).
"""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from altforecast_io.settings import Settings

if TYPE_CHECKING:
    from realtime.recording import Progress

NOTHING_RECORDED = 1
"""Exit code when no frame came."""
MB = 1_000_000


def record(
    venues: Annotated[str, typer.Option(help="venues, comma separated; default: BOOK_VENUES")] = "",
    symbols: Annotated[str, typer.Option(help="symbols, comma separated; default: BOOK_SYMBOLS")] = "",
    seconds: Annotated[float, typer.Option("--for", min=0, metavar="SECONDS", help="how long; 0: until Ctrl-C")] = 0.0,
    out: Annotated[Path | None, typer.Option("--out", help="folder; default: recordings of this environment")] = None,
) -> None:
    """Record every frame of the order book feeds; ends with exit code 1 when none came."""
    from altforecast_io.replay_runs import recordings_dir

    chosen = {name: value for name, value in (("book_venues", venues), ("book_symbols", symbols)) if value}
    settings = Settings.load(**chosen)
    console = Console(stderr=True)
    folder = out or recordings_dir(settings)
    with console.status("connecting") as status:
        done = asyncio.run(_record(settings, folder, seconds, lambda p: status.update(line(p))))
    console.print(f"{line(done)} in {folder}", highlight=False, soft_wrap=True)
    if not done.frames:
        raise typer.Exit(NOTHING_RECORDED)


async def _record(settings: Settings, folder: Path, seconds: float, tell: object) -> Progress:
    from realtime.recording import record as run

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return await run(settings, folder, seconds, stop, tell)  # type: ignore[arg-type]


def line(p: Progress) -> str:
    """Frames, size and rate so far."""
    rate, size = (p.frames / p.seconds, p.size / p.seconds) if p.seconds else (0.0, 0.0)
    lost = f", {p.lost:,} lost" if p.lost else ""
    left_out = f"; not recorded (ccxt feed): {', '.join(p.left_out)}" if p.left_out else ""
    told = (
        f"{p.frames:,} frames{lost}, {p.books_live} live books, {p.size / MB:,.2f} MB, {rate:,.0f} frames/s, {size * 3600 / MB:,.1f} MB/h"
    )
    return f"{told}{left_out}; {p.error}" if p.error else told + left_out
