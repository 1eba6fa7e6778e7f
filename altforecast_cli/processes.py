"""`altforecast up`: start the processes of the Procfile and keep them together.

What belongs here: which processes run, with which environment. What does not: what they do.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from honcho import manager as honcho_manager
from honcho.environ import parse_procfile

from altforecast.errors import InputError
from altforecast_io.dagster_home import write_dagster_home
from altforecast_io.settings import Settings

STOP_SEC = 20
"""Time that processes have to end on their own before they are killed."""
REPOSITORY = Path(__file__).resolve().parent.parent


def procfile() -> dict[str, str]:
    """Name and command of every process of the repository's Procfile."""
    return dict(parse_procfile((REPOSITORY / "Procfile").read_text()).processes)


def child_environment(settings: Settings, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Environment of every child: ours, plus the folders and ports that settle defaults once for all of them."""
    environment = dict(os.environ)
    environment.update(
        {
            "ALTFORECAST_HOME": str(settings.base.resolve()),
            "ALTFORECAST_ENVIRONMENT": settings.environment,
            "DAGSTER_HOME": str(settings.dagster_home),
            "DAGSTER_PORT": str(settings.dagster_port),
            "PORT": str(settings.port),
            "DAGSTER_DISABLE_TELEMETRY": "1",
            "PYTHONPATH": os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH", "")])),
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        }
    )
    environment.update(extra or {})
    return environment


def chosen(only: str) -> dict[str, str]:
    """Processes to start: all, or those named (comma separated); raises InputError for an unknown name."""
    known = procfile()
    wanted = [n.strip() for n in only.split(",") if n.strip()]
    for name in wanted:
        if name not in known:
            raise InputError("only", name, "no such process", known)
    return {n: c for n, c in known.items() if not wanted or n in wanted}


def supervise(commands: Mapping[str, str], environment: dict[str, str], seconds: float | None = None) -> int:
    """Run the commands until one ends, a signal comes or the time is over; stops all; 0 unless a process failed on its own."""
    honcho_manager.KILL_WAIT = STOP_SEC
    manager = honcho_manager.Manager()
    for name, command in commands.items():
        manager.add_process(name, f"exec {command}", env=environment, cwd=str(REPOSITORY))
    if seconds is not None:
        timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGTERM))
        timer.daemon = True
        timer.start()
    manager.loop()
    stopped_by_us = manager.returncode in (None, 0, -signal.SIGTERM, -signal.SIGINT, 128 + signal.SIGTERM, 128 + signal.SIGINT)
    return 0 if stopped_by_us else int(manager.returncode)


def up(only: Annotated[str, typer.Option(help="start only these processes, comma separated")] = "") -> None:
    """Start realtime, the Dagster code server, daemon and UI, and a run worker."""
    settings = Settings.load()
    settings.make_folders()
    write_dagster_home(settings)
    environment = child_environment(settings)
    raise typer.Exit(supervise(chosen(only), environment))
