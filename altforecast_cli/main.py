"""Entry point of `altforecast`: registers one module per noun.

What belongs here: the list of commands. What does not: what they do.
"""

from __future__ import annotations

import sys

import typer
from rich.console import Console

from altforecast.errors import AltForecastError
from altforecast_cli import backfill, config, demo, doctor, evaluate, imports, keys, lake, models, processes, record, replay, tv_send
from altforecast_io.logs import configure_logs

cli = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help="Crypto market intelligence platform.")
cli.command("up")(processes.up)
cli.command("demo")(demo.demo)
cli.command("import")(imports.import_bars)
cli.command("backfill")(backfill.backfill)
cli.command("record")(record.record)
cli.command("replay")(replay.replay)
cli.command("evaluate")(evaluate.evaluate)
cli.command("config")(config.config)
cli.command("doctor")(doctor.doctor)
cli.command("tv-send")(tv_send.tv_send)
cli.add_typer(lake.cli, name="lake", help="Look into the Parquet lake.")
cli.add_typer(models.cli, name="models", help="Trained models: who answers, promotion, roll-back.")
cli.add_typer(keys.cli, name="keys", help="API keys of the writing routes.")


def app() -> None:
    """Run the command line; errors of ours end it with one line and exit code 2."""
    configure_logs("ERROR")  # people read the command's own words; the services it starts log for themselves
    try:
        cli()
    except AltForecastError as error:
        Console(stderr=True, highlight=False).print(f"[red]error[/red] {error.code}: {error}", soft_wrap=True)
        sys.exit(2)
