"""`altforecast keys`: make, list and revoke the API keys of the writing routes.

What belongs here: showing a new key once. What does not: how keys are stored (`altforecast_io.store.keys`).
"""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from altforecast_io.clock import utc_now
from altforecast_io.settings import Settings
from altforecast_io.store import keys
from altforecast_io.store.engine import Store, open_store

cli = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)


def _store() -> Store:
    settings = Settings.load()
    settings.make_folders()
    return open_store(settings.database_url, settings.environment, utc_now)


@cli.command("create")
def create(
    name: Annotated[str, typer.Argument(help="who will use it")],
    scope: Annotated[list[str], typer.Option(help="what it may do: read, write, admin")],
) -> None:
    """Make a key and print it once; only its hash is kept."""
    created = keys.create(_store(), name=name, scopes=tuple(scope))
    typer.echo(created.secret)


@cli.command("list")
def list_keys() -> None:
    """List keys without their secrets."""
    out = Table("id", "name", "scopes", "created", "revoked")
    for key in keys.all_keys(_store()):
        out.add_row(str(key.id), key.name, ", ".join(key.scopes), f"{key.created_at:%Y-%m-%d %H:%M}", str(key.revoked_at or ""))
    Console().print(out)


@cli.command("revoke")
def revoke(key_id: Annotated[int, typer.Argument(help="id as listed")]) -> None:
    """End a key at once."""
    keys.revoke(_store(), key_id)
    typer.echo(f"key {key_id} revoked")
