"""Decisions about models, written down: promotion through the gate or by force, roll-back, and telling MLflow.

What belongs here: the steps of one decision in the right order (log first, mirror afterwards). What does not: the rules
(`altforecast.promotion`), the log itself (`store.models`) and MLflow (`model_registry`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from altforecast.errors import AltForecastError, InputError, StorageError
from altforecast.forecast_packs import BASELINE
from altforecast.promotion import Decision, judge_candidate
from altforecast_io.model_registry import AliasChange, Registry, RegistryUnavailable
from altforecast_io.store import models
from altforecast_io.store.engine import Store
from altforecast_io.store.models import Event, Model, ModelEvent


class RefusedError(AltForecastError):
    """A decision that the rules do not allow; nothing was changed."""

    code = "refused"

    def __init__(self, reason: str, decision: Decision | None = None) -> None:
        self.decision = decision
        super().__init__(reason)


@dataclass(frozen=True)
class Mirror:
    """What telling MLflow came to."""

    registered: tuple[str, ...] = ()
    """Versions that MLflow did not have yet."""
    changes: tuple[AliasChange, ...] = ()
    faults: tuple[str, ...] = ()
    """What could not be told and why; the next call tries again."""


def judge(store: Store, model: Model) -> Decision:
    """The gate's word on a model against today's champion; raises InputError for a baseline."""
    if model.family == BASELINE:
        raise InputError("version", model.version, "is a baseline: it answers wherever there is no champion and cannot be promoted")
    live = models.champion(store, model.horizon)
    if live is None or live.version == model.version:
        return judge_candidate(model.horizon, model.report)
    return judge_candidate(model.horizon, model.report, live.report, model.family == live.family)


def promote(store: Store, models_dir: Path, version: str, actor: str, reason: str = "", force: bool = False) -> Decision:
    """Make a model the champion where the gate allows it, or by force, which needs a reason and is logged as forced.

    Raises UnknownNameError for an unknown version; InputError for a baseline, the champion itself, files that are missing or
    altered, and force without a reason; RefusedError with the verdicts where the gate says no.
    """
    model = models.find_model(store, version)
    if force and not reason.strip():
        raise InputError("reason", reason, "a forced promotion needs one; it is logged")
    live = models.champion(store, model.horizon)
    if live is not None and live.version == version:
        raise InputError("version", version, f"is the champion of {model.horizon} already")
    decision = judge(store, model)
    _check_files(models_dir / model.folder)
    if decision.outcome != "promoted" and not force:
        raise RefusedError(decision.reason, decision)
    event = Event.FORCED if force else Event.PROMOTED
    words = f"{reason.strip()} [gate: {decision.reason}]" if reason.strip() else decision.reason
    verdicts = [verdict._asdict() for verdict in decision.verdicts]
    models.add_event(store, ModelEvent(model.horizon, version, event, actor, words, verdicts))
    return replace(decision, outcome="promoted", reason=words)


def roll_back(store: Store, models_dir: Path, horizon: str, actor: str, reason: str, to: str | None = None) -> ModelEvent:
    """Take the champion of a horizon away; `to` answers again, None: the baseline does.

    Raises InputError for an empty reason, a version of another horizon, the champion itself or files that are missing or altered;
    UnknownNameError for an unknown version; RefusedError where there is no champion or `to` never was one.
    """
    live = models.champion(store, horizon)
    if live is None:
        raise RefusedError(f"{horizon}: no champion, the baseline answers already")
    if to is not None:
        _check_target(store, models_dir, live, to)
    words = f"{reason.strip()} [{live.version} went]" if reason.strip() else ""
    event = ModelEvent(horizon, to, Event.ROLLED_BACK, actor, words)
    models.add_event(store, event)
    return event


def _check_target(store: Store, models_dir: Path, live: Model, version: str) -> None:
    target = models.find_model(store, version)
    if target.horizon != live.horizon:
        raise InputError("to", version, f"forecasts {target.horizon}, not {live.horizon}")
    if version == live.version:
        raise InputError("to", version, "is the champion that is to go")
    if not models.was_champion(store, version):
        raise RefusedError(f"{version} never was champion of {live.horizon}: promote it, so that the gate judges it")
    _check_files(models_dir / target.folder)


def _check_files(folder: Path) -> None:
    from altforecast_io.model_files import load_pack  # loads LightGBM where the pack has models

    load_pack(folder)


def mirror(store: Store, registry: Registry, models_dir: Path, horizon: str) -> Mirror:
    """Register what MLflow lacks and put its aliases right; never raises for MLflow's sake, but says what could not be done.

    Bounded: the newest 50 models of the horizon are looked at; baselines are not registered (one a day would bury the rest).
    """
    roles = [models.champion(store, horizon), models.challenger(store, horizon)]
    named = {m.version: m for m in models.newest_models(store, horizon) if m.mlflow_version is None and m.family != BASELINE}
    named |= {m.version: m for m in roles if m is not None}
    registered, faults = [], []
    try:
        for model in sorted(named.values(), key=lambda m: (m.trained_at, m.version)):  # so that MLflow's numbers rise with time
            try:
                if register(store, registry, models_dir, model):
                    registered.append(model.version)
            except RegistryUnavailable:
                raise
            except StorageError as error:
                faults.append(str(error))
        champion, challenger = (None if m is None else m.version for m in roles)
        return Mirror(tuple(registered), tuple(registry.sync_aliases(horizon, champion, challenger)), tuple(faults))
    except RegistryUnavailable as error:
        return Mirror(tuple(registered), (), (*faults, str(error)))


def register(store: Store, registry: Registry, models_dir: Path, model: Model) -> bool:
    """Give one model to MLflow and note it in the log; False where MLflow had it.

    Raises RegistryUnavailable, StorageError where the files are missing.
    """
    found = registry.register(models.with_judgement(store, model), models_dir / model.folder)
    if model.mlflow_version != found.version or model.mlflow_run_id != found.run_id:
        models.set_registered(store, model.version, found.run_id, found.version)
        words = f"version {found.version} of {registry.model_name(model.horizon)}"
        models.add_event(store, ModelEvent(model.horizon, model.version, Event.REGISTERED, "registry", words))
    return found.is_new
