"""`altforecast config`: the effective settings, secrets masked.

What belongs here: showing settings. What does not: reading them (`altforecast_io.settings`).
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import orjson
import typer
from rich.console import Console
from rich.table import Table

from altforecast_io.settings import Settings
from altforecast_io.settings_report import SettingRow, settings_report


def config(
    json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    changed: Annotated[bool, typer.Option("--changed", help="only variables that differ from their default")] = False,
    example: Annotated[bool, typer.Option("--example", help="print the .env.example file")] = False,
) -> None:
    """Print the effective value of every variable; ends with exit code 2 and one line when a value is wrong."""
    if example:
        typer.echo(_example(settings_report(Settings.load())))
        return
    rows = [r for r in settings_report(Settings.load()) if not changed or r.source != "default"]
    if json:
        typer.echo(orjson.dumps([asdict(r) for r in rows], option=orjson.OPT_INDENT_2).decode())
    else:
        Console().print(_table(rows))


def _example(rows: list[SettingRow]) -> str:
    lines = [
        "# Every variable with its default. Copy to .env for development; in production set them in the environment.",
        "# Old names keep working; `altforecast config` shows what is in force.",
    ]
    for row in rows:
        old = f" (old names: {', '.join(row.aliases)})" if row.aliases else ""
        lines += ["", f"# {row.meaning}{old}", f"# {row.name}={row.default}"]
    return "\n".join(lines)


def _table(rows: list[SettingRow]) -> Table:
    table = Table("variable", "value", "from", "meaning", title="AltForecast settings")
    for row in rows:
        table.add_row(row.name, row.value or "-", row.source, row.message or row.meaning, style="yellow" if not row.ok else None)
    return table
