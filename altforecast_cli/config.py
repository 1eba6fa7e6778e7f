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
) -> None:
    """Print the effective value of every variable; ends with exit code 2 and one line when a value is wrong."""
    rows = [r for r in settings_report(Settings.load()) if not changed or r.source != "default"]
    if json:
        typer.echo(orjson.dumps([asdict(r) for r in rows], option=orjson.OPT_INDENT_2).decode())
    else:
        Console().print(_table(rows))


def _table(rows: list[SettingRow]) -> Table:
    table = Table("variable", "value", "from", "meaning", title="AltForecast settings")
    for row in rows:
        table.add_row(row.name, row.value or "-", row.source, row.message or row.meaning, style="yellow" if not row.ok else None)
    return table
