"""`altforecast doctor`: is this machine ready, and if not, what to do.

What belongs here: showing checks and advice. What does not: the checks of outside services (`altforecast_io`).
"""

from __future__ import annotations

import asyncio
import shutil
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

import httpx
import orjson
import typer
from rich.console import Console
from rich.table import Table

from altforecast.errors import AltForecastError
from altforecast_io.clock import utc_now
from altforecast_io.lake import Lake
from altforecast_io.reachability import reachability
from altforecast_io.settings import Settings
from altforecast_io.store import heartbeats
from altforecast_io.store.engine import open_store
from altforecast_io.telegram import Telegram, TelegramError, TokenError

MIN_FREE_BYTES = 2_000_000_000
HEARTBEAT_LIMIT_SEC = 60


@dataclass(frozen=True)
class Check:
    """One finding: `state` is ok, warn or fail; `advice` says what to do where it is not ok."""

    name: str
    state: str
    found: str
    advice: str = ""


def doctor(json: Annotated[bool, typer.Option("--json", help="print JSON")] = False) -> None:
    """Check ports, disk, clock, stores, Dagster and every source; exit code 1 when something must be mended."""
    found = list(checks(Settings.load()))
    if json:
        typer.echo(orjson.dumps([c.__dict__ for c in found], option=orjson.OPT_INDENT_2).decode())
    else:
        Console().print(_table(found))
    raise typer.Exit(any(c.state == "fail" for c in found))


def _table(found: list[Check]) -> Table:
    out = Table("check", "state", "found", "what to do", title="AltForecast doctor")
    colours = {"ok": "green", "warn": "yellow", "fail": "red"}
    for check in found:
        out.add_row(check.name, f"[{colours[check.state]}]{check.state}[/]", check.found, check.advice)
    return out


def checks(settings: Settings) -> Iterator[Check]:
    """All checks in the order in which they should be mended; a check that breaks is itself a failed finding."""
    parts: list[tuple[str, Callable[[Settings], Iterator[Check]]]] = [
        ("disk", _disk), ("clock", _clock), ("lake", _lake), ("store", _store), ("ports", _ports), ("dagster", _dagster),
        ("webhook", _webhook), ("telegram", _telegram), ("sources", _sources),
    ]  # fmt: skip
    for name, part in parts:
        try:
            yield from part(settings)
        except (AltForecastError, OSError) as error:
            yield Check(name, "fail", str(error), "mend what the message names, then run doctor again")


def _disk(settings: Settings) -> Iterator[Check]:
    settings.make_folders()
    free = shutil.disk_usage(settings.home).free
    state = "ok" if free >= MIN_FREE_BYTES else "fail"
    yield Check(
        "disk",
        state,
        f"{free / 1e9:.1f} GB free at {settings.home}",
        "" if state == "ok" else "free at least 2 GB, or move ALTFORECAST_HOME",
    )


def _clock(_settings: Settings) -> Iterator[Check]:
    year = datetime.now(UTC).year
    state = "ok" if 2024 <= year < 2100 else "fail"
    yield Check(
        "clock", state, f"{utc_now():%Y-%m-%d %H:%M:%S} UTC", "" if state == "ok" else "set the system clock (systemd-timesyncd or chrony)"
    )


def _lake(settings: Settings) -> Iterator[Check]:
    lake = Lake(settings.lake_dir, settings.environment)
    n_files = len(lake.files("bars"))
    found = f"{settings.environment} lake at {lake.root}, {n_files} bar files"
    yield Check("lake", "ok" if n_files else "warn", found, "" if n_files else "fill it: altforecast import PATH, or make demo")


def _store(settings: Settings) -> Iterator[Check]:
    began = time.monotonic()
    store = open_store(settings.database_url, settings.environment, utc_now)
    yield Check("store", "ok", f"{store.dialect}, opened in {(time.monotonic() - began) * 1000:.0f} ms, sqlite {sqlite3.sqlite_version}")
    beats = heartbeats.latest(store)
    for name in ("realtime",):
        seen = beats.get(name)
        fresh = seen is not None and (utc_now() - seen).total_seconds() < HEARTBEAT_LIMIT_SEC
        advice = "" if fresh else "start it: altforecast up"
        yield Check(f"process {name}", "ok" if fresh else "warn", f"last heartbeat {seen:%H:%M:%S} UTC" if seen else "never seen", advice)


def _listening(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _ports(settings: Settings) -> Iterator[Check]:
    for name, port, path in (("api", settings.port, "/healthz"), ("dagster ui", settings.dagster_port, "/server_info")):
        if not _listening(port):
            yield Check(f"port {port}", "ok", f"free for the {name}")
            continue
        ours = _answers(f"http://127.0.0.1:{port}{path}")
        advice = "" if ours else "another program holds the port: set PORT or DAGSTER_PORT"
        yield Check(f"port {port}", "ok" if ours else "fail", f"{name} is running" if ours else "taken by another program", advice)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


def _dagster(settings: Settings) -> Iterator[Check]:
    url = f"http://127.0.0.1:{settings.dagster_port}/graphql"
    query = "{ instance { daemonHealth { allDaemonStatuses { daemonType required healthy } } } }"
    try:
        answer = httpx.post(url, json={"query": query}, timeout=5).json()
        daemons = answer["data"]["instance"]["daemonHealth"]["allDaemonStatuses"]
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        yield Check("dagster daemon", "warn", "the Dagster UI does not answer", "start it: altforecast up")
        return
    ill = [d["daemonType"] for d in daemons if d["required"] and not d["healthy"]]
    yield Check(
        "dagster daemon",
        "fail" if ill else "ok",
        f"not healthy: {', '.join(ill)}" if ill else "healthy",
        "restart: altforecast up" if ill else "",
    )


def _webhook(settings: Settings) -> Iterator[Check]:
    secret = settings.secret_webhook_token is not None
    yield Check("webhook secret", "ok" if secret else "warn", "set" if secret else "not set", "" if secret else "set SECRET_WEBHOOK_TOKEN")
    public = settings.public_base_url.startswith("https://")
    advice = "" if public else "TradingView calls only ports 80 and 443 over IPv4: put Caddy or nginx before port 8000 (deploy/)"
    yield Check("public address", "ok" if public else "warn", settings.public_base_url or "not set", advice)


def _telegram(settings: Settings) -> Iterator[Check]:
    yield telegram_check(settings)


def telegram_check(settings: Settings) -> Check:
    """Which bot the token belongs to; the token is never shown. Nobody is asked without one. Must not be called inside an event loop."""
    if settings.telegram_bot_token is None:
        return Check("telegram", "ok", "no TELEGRAM_BOT_TOKEN: nothing is sent")
    try:
        name = asyncio.run(_bot_name(settings.telegram_api_url, settings.telegram_bot_token.get_secret_value()))
    except TokenError as error:
        return Check("telegram", "fail", str(error), "set TELEGRAM_BOT_TOKEN to the token that @BotFather gave")
    except TelegramError as error:
        return Check("telegram", "warn", str(error), "check the network; messages wait and are sent later")
    advice = "" if settings.admin_chat_id is not None else "set ADMIN_CHAT_ID: digests have no chat to go to"
    return Check("telegram", "warn" if advice else "ok", f"bot @{name}", advice)


async def _bot_name(api_url: str, token: str) -> str:
    async with Telegram(api_url, token) as telegram:
        return await telegram.me()


def _sources(settings: Settings) -> Iterator[Check]:
    for name, ok, detail in reachability(settings):
        yield Check(
            f"source {name}",
            "ok" if ok else "warn",
            detail,
            "" if ok else "check the network or the source's status; it is tried again by itself",
        )
