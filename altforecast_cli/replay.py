"""`altforecast replay`: recorded frames through the same sessions and scanner as live, with other costs and sizes.

What belongs here: the command and how its result is shown. What does not: the replay (`altforecast_io.replay_runs`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich import box
from rich.console import Console
from rich.table import Table

from altforecast.errors import StorageError
from altforecast_io.settings import Settings


def replay(
    source: Annotated[str, typer.Argument(metavar="FILE|DIR|FROM..TO", help="a recording, a folder of them, or a range of times (UTC)")],
    fees: Annotated[str, typer.Option(help="taker fees in bps, for example binance=7.5,okx=8; default: as configured")] = "",
    size: Annotated[list[float] | None, typer.Option(help="fixed size in USDT; repeat for several")] = None,
    threshold: Annotated[list[float] | None, typer.Option(help="smallest net edge in percent; repeat for several")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="write account and results as JSON into this file")] = None,
    format_: Annotated[str, typer.Option("--format", help="form of somebody else's recording: cryptofeed or hftbacktest")] = "",
    venue: Annotated[str, typer.Option(help="whose frames somebody else's recording holds, for example binance")] = "",
    symbols: Annotated[str, typer.Option(help="canonical symbols, comma separated, where the recording does not name them")] = "",
    verify: Annotated[bool, typer.Option("--verify", help="print as JSON what can be checked in the frames; no opportunities")] = False,
) -> None:
    """Replay a recording: books, opportunities and a digest that is the same on every machine."""
    from altforecast_io.replay_runs import Choice, find_recording, grid, parse_fees, replay_choices

    settings = Settings.load()
    recorded = find_recording(settings, source, format_, venue, [s for s in symbols.split(",") if s])
    choices = [] if verify else grid(size or (), threshold or (), [fees] if fees else ()) or [Choice(fees_bps=parse_fees(fees))]
    account, rows = replay_choices(settings, recorded, choices)
    result = account.as_dict() | ({} if verify else {"results": rows})
    if json_file is not None:
        _write(json_file, result)
    if verify:
        typer.echo(orjson.dumps(result, option=orjson.OPT_INDENT_2).decode())
    else:
        show(Console(), result)


def _write(path: Path, result: dict[str, Any]) -> None:
    try:
        path.write_bytes(orjson.dumps(result, option=orjson.OPT_INDENT_2))
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}") from None


def show(console: Console, result: dict[str, Any]) -> None:
    """What was replayed, one line per choice, the digest."""
    told = (
        f"{result['frames']:,} frames over {result['seconds_recorded']:,.1f} s, {result['books']} books, {result['book_updates']:,} updates"
    )
    if result["frames_unjoined"]:
        told += f"; {result['frames_unjoined']:,} frames of connections that began before the recording or broke off"
    console.print(told, highlight=False)
    if result["bytes_unread"]:
        console.print(
            f"damaged: {result['bytes_unread']:,} bytes lie behind a broken block and were not replayed", style="red", highlight=False
        )
    for text in result["first_faults"]:
        console.print(f"fault: {text}", style="dim", highlight=False, markup=False)
    out = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    names = ["size", "threshold", "fees", "found", "profit", "best size", "median ms", "after 100", "500", "1000", "5000 ms"]
    for name in names:
        out.add_column(name, justify="right")
    for row in result["results"]:
        out.add_row(*_cells(row))
    console.print(out)
    console.print(f"digest {result['digest']}", highlight=False)


def _cells(row: dict[str, Any]) -> list[str]:
    chosen = ["configured" if row[k] is None else f"{row[k]}" for k in ("size_usdt", "threshold_pct", "fees_bps")]
    life = row["median_lifetime_ms"]
    captured = [row[f"capture_{d}ms_frac"] for d in (100, 500, 1000, 5000)]
    return [
        *chosen,
        f"{row['opportunities']:,}",
        f"{row['profit_usdt']:,.2f}",
        f"{row['optimal_profit_usdt']:,.2f}",
        "-" if life is None else f"{life:,.0f}",
        *("-" if c is None else f"{c:.0%}" for c in captured),
    ]
