"""`altforecast demo`: the whole platform on a simulated market, without keys or network.

What belongs here: the order of the demo's steps. What does not: the simulated market (altforecast_sandbox) and the
platform itself, which is the same code as in production pointed at stand-in addresses.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console

from altforecast.errors import StorageError
from altforecast.types import Timeframe
from altforecast_cli.processes import REPOSITORY, child_environment, chosen, supervise
from altforecast_io.clock import utc_now
from altforecast_io.dagster_home import write_dagster_home
from altforecast_io.lake import Lake
from altforecast_io.settings import Settings
from altforecast_sandbox.telegram import TOKEN

DEMO_SECRET = "sandbox-demo"
BANNER = "SANDBOX: simulated market, no real prices"
FASTEST = Timeframe.M15
POSTED_AS_ALERTS = timedelta(hours=2)
"""The newest part of the history comes as alerts, so that the main flow is seen at once."""
LONGEST_CATCH_UP = timedelta(days=2)
PLANTS_PER_HOUR = 2400
"""Planted arbitrage: many are too small for the costs of a transfer, so that a few a minute remain to be seen."""
DEMO_CHAT = 1
"""Chat of the stand-in Telegram that gets the digests; they are shown at its `_messages`."""


@contextmanager
def sandbox_servers(seed: int, environment: dict[str, str]) -> Iterator[dict[str, Any]]:
    """Start the stand-in servers and give their addresses; stops them at the end."""
    command = [sys.executable, "-m", "altforecast_sandbox", "--seed", str(seed), "--port", "0", "--plants-per-hour", str(PLANTS_PER_HOUR)]
    process = subprocess.Popen(command, env=environment, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline() if process.stdout else ""
        if not line:
            raise StorageError("the sandbox servers did not start; see the lines above")
        yield orjson.loads(line)
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()


def demo_variables(addresses: dict[str, Any]) -> dict[str, str]:
    """Variables that point every outside service at its stand-in."""
    return {
        "EXCHANGE_BASE_URLS": ",".join(f"{venue}={url}" for venue, url in addresses["venues"].items()),
        "CONTEXT_BTC_DOMINANCE_URL": addresses["coingecko"] + "/api/v3/global",
        "CONTEXT_FEAR_GREED_URL": addresses["alternative_me"] + "/fng/?limit=1",
        "TELEGRAM_API_URL": addresses["telegram"],
        "TELEGRAM_BOT_TOKEN": TOKEN,
        "ADMIN_CHAT_ID": str(DEMO_CHAT),
        # Cheap transfers and a low bar: simulated opportunities are to be seen, real ones are rarer.
        "WITHDRAW_COST_USDT": "1",
        "MIN_NET_EDGE_PCT": "0.05",
        "SECRET_WEBHOOK_TOKEN": DEMO_SECRET,
        "EXCHANGE": "binance",
    }


def run_step(words: list[str], environment: dict[str, str]) -> None:
    """Run one `altforecast` command as a user would; raises StorageError when it fails."""
    result = subprocess.run([sys.executable, "-m", "altforecast_cli", *words], env=environment, cwd=REPOSITORY, check=False)
    if result.returncode:
        raise StorageError(f"altforecast {words[0]} ended with code {result.returncode}; its lines above say why")


def fill(seed: int, settings: Settings, environment: dict[str, str], console: Console) -> datetime:
    """Import simulated history and build every signal from it, unless the lake has bars already.

    Returns the close of the newest bar: alerts after it are posted by the demo's sender.
    """
    lake = Lake(settings.lake_dir, settings.environment)
    if lake.files("bars"):
        console.print(f"using the sandbox lake at {settings.lake_dir}")
        newest = lake.hot("bars", FASTEST)["known_at"].max()
        return max(newest, utc_now() - LONGEST_CATCH_UP) if isinstance(newest, datetime) else utc_now()
    cut = utc_now() - POSTED_AS_ALERTS
    history = settings.home / "history"
    words = ["--seed", str(seed), "--folder", str(history), "--end", cut.isoformat()]
    subprocess.run([sys.executable, "-m", "altforecast_sandbox.history", *words], env=environment, cwd=REPOSITORY, check=True)
    run_step(["import", str(history)], environment)
    run_step(["backfill"], environment)
    return cut


def demo(
    port: Annotated[int, typer.Option(help="port of the dashboard and API")] = 8000,
    dagster_port: Annotated[int, typer.Option(help="port of the Dagster UI")] = 3000,
    seed: Annotated[int, typer.Option(help="seed of the simulated market")] = 7,
    seconds: Annotated[float | None, typer.Option("--for", help="stop by itself after so many seconds of running")] = None,
    only: Annotated[str, typer.Option(help="start only these processes, comma separated")] = "",
) -> None:
    """Simulated market in, every signal out: fills a sandbox lake, starts all processes, posts alerts as bars close."""
    console, began = Console(), time.monotonic()
    console.rule(BANNER)
    settings = Settings.load(environment="sandbox", port=port, dagster_port=dagster_port)
    settings.make_folders()
    write_dagster_home(settings)
    environment = {"LOG_LEVEL": "WARNING", **child_environment(settings)}
    with sandbox_servers(seed, environment) as addresses:
        environment.update(demo_variables(addresses))
        newest = fill(seed, settings, environment, console)
        console.print(f"ready after {time.monotonic() - began:.0f} s: http://127.0.0.1:{port} (Dagster: http://127.0.0.1:{dagster_port})")
        commands = chosen(only)
        commands["alerts"] = _alert_command(seed, port, newest)
        raise typer.Exit(supervise(commands, environment, seconds))


def _alert_command(seed: int, port: int, after: datetime) -> str:
    url = f"http://127.0.0.1:{port}/webhook"
    words = f"--seed {seed} --url {url} --secret {DEMO_SECRET} --after {after.isoformat()}"
    return f"{Path(sys.executable)} -m altforecast_cli.when_ready {port} -m altforecast_sandbox.tradingview {words}"
