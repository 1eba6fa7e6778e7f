"""Trained models and the log of which of them is in use.

What belongs here: tables models and model_events. What does not: model files (`model_files`), the MLflow registry
(`model_registry`), which mirrors this log, and the rules of promotion (`altforecast.promotion`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

import orjson
from sqlalchemy import Row, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from altforecast.errors import InputError, UnknownNameError
from altforecast_io.store.engine import Store
from altforecast_io.store.schema import model_events, models


class Event(StrEnum):
    """What may happen to a model."""

    TRAINED = "trained"
    REGISTERED = "registered"
    CHALLENGER = "challenger"
    """Forecasts in the shadow of the champion."""
    PROMOTED = "promoted"
    REJECTED = "rejected"
    FORCED = "forced"
    """Made champion by a person against or without the gate."""
    ROLLED_BACK = "rolled_back"
    """The champion went; version is the model that answers again, null: the baseline."""


_DECIDES = {
    "champion": (Event.PROMOTED, Event.FORCED, Event.ROLLED_BACK),
    "challenger": (Event.CHALLENGER, Event.PROMOTED, Event.FORCED, Event.ROLLED_BACK),
}


@dataclass(frozen=True)
class Model:
    """One trained model whose files are complete."""

    version: str
    horizon: str
    family: str
    folder: str
    """Path below `models_dir`."""
    trained_at: datetime
    train_from: datetime
    train_until: datetime
    n_rows: int
    data_hash: str
    code_version: str
    dagster_run_id: str
    report: Mapping[str, Any] = field(default_factory=dict)
    """Scores, folds, groups and verdicts as JSON values."""
    mlflow_run_id: str | None = None
    mlflow_version: int | None = None
    registered_at: datetime | None = None


@dataclass(frozen=True)
class ModelEvent:
    """One entry of the log."""

    horizon: str
    version: str | None
    event: Event
    actor: str
    """gate | health | cli:<user> | dagster"""
    reason: str
    verdicts: Sequence[Mapping[str, Any]] = ()
    at: datetime | None = None
    id: int | None = None


def add_model(store: Store, model: Model) -> bool:
    """Keep a trained model; False where its version is kept already. Raises StorageError."""
    row = {c.name: getattr(model, c.name) for c in models.columns if c.name != "report"}
    row["report"] = orjson.dumps(model.report, option=orjson.OPT_SERIALIZE_NUMPY).decode()
    insert_it = (postgresql if store.dialect == "postgresql" else sqlite).insert(models).values(**row)
    with store.write() as connection:
        return connection.execute(insert_it.on_conflict_do_nothing()).rowcount == 1


def set_registered(store: Store, version: str, mlflow_run_id: str, mlflow_version: int) -> None:
    """Note that MLflow has the model; raises UnknownNameError for an unknown version."""
    values = {"mlflow_run_id": mlflow_run_id, "mlflow_version": mlflow_version, "registered_at": store.clock()}
    with store.write() as connection:
        done = connection.execute(update(models).where(models.c.version == version).values(**values))
    if not done.rowcount:
        raise UnknownNameError("version", version, "no such model")


def find_model(store: Store, version: str) -> Model:
    """One model; raises UnknownNameError."""
    with store.read() as connection:
        row = connection.execute(select(models).where(models.c.version == version)).first()
    if row is None:
        raise UnknownNameError("version", version, "no such model")
    return _model(row)


def newest_models(
    store: Store, horizon: str | None = None, limit: int = 50, family: str | None = None, with_reports: bool = True
) -> list[Model]:
    """Models, newest training first; of one horizon or of all, of one family or of all. Reports are large: {} where not asked for."""
    columns = [c for c in models.columns if with_reports or c.name != "report"]
    asked = select(*columns).order_by(models.c.trained_at.desc(), models.c.version.desc()).limit(limit)
    if horizon is not None:
        asked = asked.where(models.c.horizon == horizon)
    if family is not None:
        asked = asked.where(models.c.family == family)
    with store.read() as connection:
        return [_model(row) for row in connection.execute(asked)]


def add_event(store: Store, event: ModelEvent) -> int:
    """Append to the log; the number of the entry. Raises InputError for an empty reason, StorageError."""
    if not event.reason.strip():
        raise InputError("reason", event.reason, "must not be empty")
    values = {
        "horizon": event.horizon, "version": event.version, "event": event.event.value, "actor": event.actor, "reason": event.reason,
        "verdicts": orjson.dumps(list(event.verdicts)).decode(), "at": event.at or store.clock(),
    }  # fmt: skip
    with store.write() as connection:
        result = connection.execute(insert(model_events).values(**values))
    key = result.inserted_primary_key
    return int(key[0]) if key else 0


def newest_events(store: Store, horizon: str | None = None, limit: int = 100) -> list[ModelEvent]:
    """The log, newest first; of one horizon or of all."""
    asked = select(model_events).order_by(model_events.c.id.desc()).limit(limit)
    if horizon is not None:
        asked = asked.where(model_events.c.horizon == horizon)
    with store.read() as connection:
        return [_event(row) for row in connection.execute(asked)]


def with_judgement(store: Store, model: Model) -> Model:
    """The model with the newest judgement of the log as `verdicts` of its report; what training left there goes to `goals`.

    As it is where nobody has judged it yet.
    """
    is_mine = (model_events.c.version == model.version) & (model_events.c.verdicts != "[]")
    with store.read() as connection:
        row = connection.execute(select(model_events).where(is_mine).order_by(model_events.c.id.desc()).limit(1)).first()
    if row is None:
        return model
    goals = model.report.get("verdicts") or []
    return replace(model, report={**model.report, "goals": goals, "verdicts": list(_event(row).verdicts)})


def champion(store: Store, horizon: str) -> Model | None:
    """The model that answers for a horizon; None: the baseline does."""
    newest = _deciding(store, horizon, "champion")
    return find_model(store, newest.version) if newest is not None and newest.version is not None else None


def challenger(store: Store, horizon: str) -> Model | None:
    """The model that forecasts in the champion's shadow; None without one.

    A shadow ends when any model becomes champion, at a roll-back, and when the model itself is rejected (not when another one is).
    """
    newest = _deciding(store, horizon, "challenger")
    if newest is None or newest.event is not Event.CHALLENGER or newest.version is None:
        return None
    is_mine = (model_events.c.version == newest.version) & (model_events.c.event == Event.REJECTED.value)
    with store.read() as connection:
        rejected = connection.execute(select(model_events.c.id).where(is_mine, model_events.c.id > newest.id).limit(1)).first()
    return find_model(store, newest.version) if rejected is None else None


def was_champion(store: Store, version: str) -> bool:
    """Whether a model ever answered; False for an unknown version."""
    promoting = [event.value for event in _DECIDES["champion"]]
    asked = select(model_events.c.id).where(model_events.c.version == version, model_events.c.event.in_(promoting)).limit(1)
    with store.read() as connection:
        return connection.execute(asked).first() is not None


def _deciding(store: Store, horizon: str, role: str) -> ModelEvent | None:
    wanted = [event.value for event in _DECIDES[role]]
    asked = select(model_events).where(model_events.c.horizon == horizon, model_events.c.event.in_(wanted))
    with store.read() as connection:
        row = connection.execute(asked.order_by(model_events.c.id.desc()).limit(1)).first()
    return None if row is None else _event(row)


def _model(row: Row[Any]) -> Model:
    values = dict(row._mapping)
    return Model(**(values | {"report": orjson.loads(values.get("report", "{}"))}))


def _event(row: Row[Any]) -> ModelEvent:
    values = dict(row._mapping)
    return ModelEvent(**(values | {"event": Event(values["event"]), "verdicts": orjson.loads(values["verdicts"])}))
