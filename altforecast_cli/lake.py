"""`altforecast lake`: list, show, query and export the lake's tables.

What belongs here: read-only looks into the lake. What does not: writing tables (pipelines do).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import duckdb
import polars as pl
import typer
from rich.console import Console
from rich.table import Table

from altforecast.errors import InputError
from altforecast.tables import TABLES, table
from altforecast_io.lake import Lake
from altforecast_io.query import connect, export
from altforecast_io.settings import Settings

cli = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
FORMATS = ("table", "csv", "json")


def open_lake() -> Lake:
    """The lake of the effective settings."""
    settings = Settings.load()
    return Lake(settings.lake_dir, settings.environment)


@cli.command("ls")
def ls(name: Annotated[str | None, typer.Argument(help="table; all when left out")] = None) -> None:
    """List tables, or the files of one table with rows, run and data version."""
    lake = open_lake()
    Console().print(_files(lake, name) if name else _tables(lake))


def _tables(lake: Lake) -> Table:
    out = Table("table", "files", "rows", "from", "to", "meaning", title=f"{lake.environment} lake at {lake.root}")
    connection = connect(lake)
    for spec in TABLES.values():
        rows, first, last = connection.execute(f'SELECT count(*), min(ts), max(ts) FROM "{spec.name}"').fetchone() or (0, None, None)
        out.add_row(spec.name, str(len(lake.files(spec.name))), f"{rows:,}", _day(first), _day(last), spec.meaning)
    return out


def _day(moment: Any) -> str:
    return f"{moment:%Y-%m-%d %H:%M}" if moment else "-"


def _files(lake: Lake, name: str) -> Table:
    out = Table("part", "rows", "data version", "run", "written", title=name)
    for part in lake.files(table(name).name):
        record = part.provenance()
        out.add_row(part.name, f"{record.n_rows:,}", record.data_version, record.run_id, f"{record.written_at:%Y-%m-%d %H:%M:%S}")
    return out


@cli.command("show")
def show(
    name: Annotated[str, typer.Argument(help="table")],
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="newest rows shown")] = 20,
    symbol: Annotated[str | None, typer.Option(help="only this symbol")] = None,
    timeframe: Annotated[str | None, typer.Option(help="only this timeframe")] = None,
) -> None:
    """Show a table's columns with their meaning and its newest rows."""
    spec, console = table(name), Console()
    columns = Table("column", "type", "unit", "null", "meaning", title=f"{name}: {spec.meaning}")
    for c in spec.columns:
        columns.add_row(c.name, str(c.dtype), c.unit, "yes" if c.nullable else "", c.meaning)
    console.print(columns)
    filters = [(k, v) for k, v in (("symbol", symbol), ("timeframe", timeframe)) if v]
    where = " AND ".join(f'"{k}" = ?' for k, _ in filters) or "true"
    query = f'SELECT * FROM "{name}" WHERE {where} ORDER BY ts DESC LIMIT {limit}'
    _print(connect(open_lake()).sql(query, params=[v for _, v in filters]), "table")


@cli.command("sql")
def sql(
    query: Annotated[str, typer.Argument(help="DuckDB SQL; - reads standard input")],
    output: Annotated[str, typer.Option("--format", help="table, csv or json")] = "table",
) -> None:
    """Run SQL over the lake; every table of the registry is a view. It is your own DuckDB: COPY ... TO writes files."""
    if output not in FORMATS:
        raise InputError("format", output, "unknown format", FORMATS)
    text = sys.stdin.read() if query == "-" else query
    connection = connect(open_lake())
    try:
        relation = connection.sql(text)
        if relation is not None:
            _print(relation, output)
    except duckdb.Error as error:
        raise InputError("query", text, str(error).splitlines()[0]) from None


def _print(relation: duckdb.DuckDBPyRelation, output: str) -> None:
    frame = _frame(relation)
    if output == "csv":
        typer.echo(frame.write_csv(), nl=False)
    elif output == "json":
        typer.echo(frame.write_json())
    else:
        with pl.Config(tbl_rows=200, tbl_cols=40, tbl_width_chars=200, tbl_hide_dataframe_shape=True, fmt_str_lengths=60):
            typer.echo(str(frame))


def _frame(relation: duckdb.DuckDBPyRelation) -> pl.DataFrame:
    """Rows as Polars; types that Polars lacks (intervals, for one) as DuckDB's own text."""
    try:
        return pl.DataFrame(relation.pl())
    except (pl.exceptions.PolarsError, duckdb.Error):
        return pl.DataFrame(relation.project(", ".join(f'CAST("{c}" AS VARCHAR) AS "{c}"' for c in relation.columns)).pl())


@cli.command("export")
def export_file(path: Annotated[Path, typer.Argument(help="new .duckdb file")]) -> None:
    """Copy every table into one DuckDB file for analysts."""
    counts = export(open_lake(), path)
    typer.echo(f"{path}: {sum(counts.values()):,} rows in {len(counts)} tables")
