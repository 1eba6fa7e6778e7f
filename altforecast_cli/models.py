"""`altforecast models`: trained models, who answers, promotion and roll-back.

What belongs here: the commands and their exit codes (0 done, 1 refused by the rules, 2 wrong use). What does not: decisions
(`altforecast_io.model_decisions`), their rules (`altforecast.promotion`) and drawing tables (`model_tables`).
"""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console

from altforecast.errors import InputError, UnknownNameError
from altforecast.forecast_params import HORIZONS
from altforecast_cli import model_tables
from altforecast_io.clock import utc_now
from altforecast_io.model_registry import Registry, RegistryUnavailable, open_registry
from altforecast_io.settings import Settings, export_to_mlflow
from altforecast_io.store import models
from altforecast_io.store.engine import Store, open_store

cli = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
Version = Annotated[str, typer.Argument(help="version as listed, e.g. 1h-20261121T1430-3f9a2c")]
AsJson = Annotated[bool, typer.Option("--json", help="answer in JSON")]
Reason = Annotated[str, typer.Option(help="why; kept in the log")]
_console = Console(highlight=False)


@dataclass(frozen=True)
class _Place:
    settings: Settings
    store: Store
    registry: Registry


@contextmanager
def _place() -> Iterator[_Place]:
    settings = Settings.load()
    settings.make_folders()
    store = open_store(settings.database_url, settings.environment, utc_now)
    try:
        yield _Place(settings, store, open_registry(settings))
    finally:
        store.close()


@cli.command("list")
def list_models(
    horizon: Annotated[str | None, typer.Option(help="15m, 1h, 4h or 24h; all when left out")] = None,
    mlflow: Annotated[bool, typer.Option("--mlflow", help="also ask MLflow whether its aliases agree (takes seconds)")] = False,
    as_json: AsJson = False,
) -> None:
    """Newest models of each horizon (at most 50) and who answers."""
    with _place() as place:
        found = [_horizon(place, name, mlflow) for name in _horizons(horizon)]
    _say(found) if as_json else model_tables.print_horizons(_console, found)


@cli.command("compare")
def compare(
    version: Version, other: Annotated[str, typer.Argument(help="the version it is compared with")], as_json: AsJson = False
) -> None:
    """Scores, data and parameters of two models beside each other, and the test of their losses on common days."""
    with _place() as place:
        pair = [models.find_model(place.store, v) for v in (version, other)]
    if pair[0].horizon != pair[1].horizon:
        raise InputError("other", other, f"forecasts {pair[1].horizon}, {version} forecasts {pair[0].horizon}")
    found = model_tables.comparison(pair[0], pair[1])
    _say(found) if as_json else model_tables.print_comparison(_console, found)


@cli.command("promote")
def promote(
    version: Version,
    reason: Reason = "",
    force: Annotated[bool, typer.Option("--force", help="against the gate; needs a reason, logged as forced")] = False,
    as_json: AsJson = False,
) -> None:
    """Make a model the champion if the gate allows it; otherwise the verdicts and exit code 1."""
    from altforecast_io.model_decisions import RefusedError
    from altforecast_io.model_decisions import promote as decide

    with _place() as place:
        try:
            decision = decide(place.store, place.settings.models_dir, version, _actor(), reason, force)
        except RefusedError as error:
            _refuse(error, as_json)
        verdicts = [verdict._asdict() for verdict in decision.verdicts]
        answer = {"version": version, "forced": force, "reason": decision.reason, "verdicts": verdicts}
        _tell(place, models.find_model(place.store, version).horizon, answer, as_json)


@cli.command("rollback")
def rollback(
    horizon: Annotated[str, typer.Argument(help="15m, 1h, 4h or 24h")],
    reason: Annotated[str, typer.Option(help="why; kept in the log")],
    to: Annotated[str, typer.Option(help="a former champion, or baseline")] = "baseline",
    as_json: AsJson = False,
) -> None:
    """Take the champion away: the baseline, or a former champion, answers from the next bar on."""
    from altforecast_io.model_decisions import RefusedError, roll_back

    with _place() as place:
        [name] = _horizons(horizon)
        target = None if to == "baseline" else to
        try:
            event = roll_back(place.store, place.settings.models_dir, name, _actor(), reason, target)
        except RefusedError as error:
            _refuse(error, as_json)
        _tell(place, name, {"horizon": name, "answers": event.version or "baseline", "reason": event.reason}, as_json)


@cli.command("card")
def card(version: Version, as_json: AsJson = False) -> None:
    """Everything known about one model: data, scores, verdicts, history."""
    with _place() as place:
        model = models.find_model(place.store, version)
        history = [e for e in models.newest_events(place.store, model.horizon, 1000) if e.version == version]
        found = model_tables.card(models.with_judgement(place.store, model), history, _role(place.store, model))
    _say(found) if as_json else model_tables.print_card(_console, found)


@cli.command("register")
def register(version: Version, as_json: AsJson = False) -> None:
    """Give a model to MLflow now; exit code 1 where MLflow is away."""
    from altforecast_io.model_decisions import register as give

    with _place() as place:
        model = models.find_model(place.store, version)
        try:
            is_new = give(place.store, place.registry, place.settings.models_dir, model)
        except RegistryUnavailable as error:
            _refuse(error, as_json)
        kept = models.find_model(place.store, version)
        answer = {"version": version, "run_id": kept.mlflow_run_id, "mlflow_version": kept.mlflow_version, "new": is_new}
        _tell(place, model.horizon, answer, as_json)


@cli.command("ui")
def ui(port: Annotated[int | None, typer.Option(min=1, max=65535, help="default MLFLOW_PORT")] = None) -> None:
    """Open MLflow's UI on the backend of the settings; it ends with Ctrl-C. Takes over this process."""
    settings = Settings.load()
    settings.make_folders()
    if settings.mlflow_uri.startswith("http"):
        typer.echo(f"the registry is a server of its own: {settings.mlflow_uri}")
        return
    settings.mlflow_dir.mkdir(parents=True, exist_ok=True)
    export_to_mlflow(MLFLOW_BACKEND_STORE_URI=settings.mlflow_uri)  # not an argument: it may hold a password
    artifacts = (settings.mlflow_dir / "artifacts").as_uri()
    where = ["--host", settings.host, "--port", str(port or settings.mlflow_port)]
    typer.echo(f"MLflow UI of the {settings.environment} registry: http://{settings.host}:{port or settings.mlflow_port}")
    sys.stdout.flush()
    more = ["--default-artifact-root", artifacts, "--workers", "1"]
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", "server", *where, *more])


def _horizons(name: str | None) -> list[str]:
    if name is not None and name not in HORIZONS:
        raise UnknownNameError("horizon", name, "no such horizon", HORIZONS)
    return list(HORIZONS) if name is None else [name]


def _horizon(place: _Place, horizon: str, ask_mlflow: bool) -> dict[str, Any]:
    store = place.store
    roles = {"champion": models.champion(store, horizon), "challenger": models.challenger(store, horizon)}
    found: dict[str, Any] = {
        "horizon": horizon, **{role: model and model.version for role, model in roles.items()},
        "models": [model_tables.summary(model, _role(store, model)) for model in models.newest_models(store, horizon)],
    }  # fmt: skip
    if ask_mlflow:
        found["mlflow"] = _aliases(place.registry, horizon, {role: found[role] for role in roles if found[role]})
    return found


def _aliases(registry: Registry, horizon: str, wanted: dict[str, str]) -> dict[str, Any]:
    try:
        there = registry.aliases(horizon)
    except RegistryUnavailable as error:
        return {"fault": str(error)}
    return {"aliases": there, "agrees": there == wanted}


def _role(store: Store, model: models.Model) -> str:
    for role, holder in (("champion", models.champion), ("challenger", models.challenger)):
        found = holder(store, model.horizon)
        if found is not None and found.version == model.version:
            return role
    return ""


def _actor() -> str:
    return f"cli:{getpass.getuser()}"[:64]


def _tell(place: _Place, horizon: str, answer: dict[str, Any], as_json: bool) -> None:
    """Mirror a decision that is logged already and print both."""
    from altforecast_io.model_decisions import mirror

    found = mirror(place.store, place.registry, place.settings.models_dir, horizon)
    answer["mlflow"] = {
        "registered": list(found.registered), "changes": [c._asdict() for c in found.changes], "faults": list(found.faults),
    }  # fmt: skip
    _say(answer) if as_json else model_tables.print_decision(_console, answer)


def _refuse(error: Any, as_json: bool) -> Any:
    """Say why not and end with exit code 1."""
    decision = getattr(error, "decision", None)
    verdicts = [] if decision is None else [verdict._asdict() for verdict in decision.verdicts]
    answer = {"error": error.code, "reason": str(error), "verdicts": verdicts}
    _say(answer) if as_json else model_tables.print_decision(_console, answer)
    raise typer.Exit(1)


def _say(answer: object) -> None:
    typer.echo(orjson.dumps(answer, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY).decode())
