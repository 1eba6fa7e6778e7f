"""The MLflow registry as a mirror of our own log: a run and a version per model, the aliases champion and challenger.

What belongs here: writing to MLflow in bounded time and saying when it is away. What does not: who is champion (`store.models`), the rules
(`altforecast.promotion`) and what is written about a model (`model_card`).
"""

from __future__ import annotations

import logging
import sqlite3
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit, urlunsplit

from sqlalchemy import create_engine, make_url
from sqlalchemy.exc import SQLAlchemyError

from altforecast.errors import InputError, StorageError
from altforecast_io.model_card import model_files, model_metrics, model_params
from altforecast_io.setting_values import mask_url
from altforecast_io.settings import Settings, export_to_mlflow
from altforecast_io.store.models import Model

if TYPE_CHECKING:
    from mlflow import MlflowClient  # takes seconds and 185 MB: loaded by the first call only
    from mlflow.entities.model_registry import ModelVersion

PROBE_TIMEOUT_S = 5.0
"""How long a backend may take to show a sign of life."""
PARAMS_AT_ONCE = 100
"""MLflow refuses more in one call."""
VERSION_TAG = "altforecast.version"
ALIASES = ("champion", "challenger")
PACK = "pack"
"""Artifact folder that holds the files of the model."""


class RegistryUnavailable(StorageError):
    """MLflow's backend is down, locked, corrupt or of another version; our own log goes on without it."""

    code = "registry_unavailable"


class Registered(NamedTuple):
    """Where MLflow keeps a model."""

    run_id: str
    version: int
    is_new: bool
    """False: it had been registered before."""


class AliasChange(NamedTuple):
    """One alias that was put right."""

    name: str
    alias: str
    was: str | None
    """Our version that it stood on, None: on nothing."""
    now: str | None
    by_hand: bool
    """True: it no longer stood where we had put it."""


@dataclass(frozen=True)
class Registry:
    """One MLflow backend. Opening costs nothing; the first call loads MLflow (about 4 s) and makes its database (3 to 10 s)."""

    uri: str
    """sqlite:///<path>, postgresql+psycopg2://... or http(s)://<server>"""
    environment: str
    """live | sandbox: experiment and models carry it in their names, so that the two never mix even on one server."""
    artifacts: Path | None = None
    """Where artifacts of a database backend go; a server decides itself."""

    @property
    def experiment(self) -> str:
        """Name of the experiment that holds all runs."""
        return f"altforecast-{self.environment}"

    def model_name(self, horizon: str) -> str:
        """Name of the registered model of a horizon."""
        return f"altforecast-{self.environment}-{horizon}"

    def register(self, model: Model, folder: Path) -> Registered:
        """Keep a trained model: parameters, scores, tables, plots and the files of `folder`; the version is made last.

        Twice is once: the tag altforecast.version tells. A run left over by a killed registration is marked KILLED, its version never
        existed. Raises RegistryUnavailable; StorageError where `folder` is missing or a file in it is damaged.
        """
        if not folder.is_dir():
            raise StorageError(f"{folder}: the files of model {model.version} are missing")
        with self._client() as client:
            name = self.model_name(model.horizon)
            found = _version(client, name, model.version)
            if found is not None:
                return Registered(str(found.run_id), int(found.version), False)
            _check_whole(model, folder)
            experiment = self._experiment(client)
            _end_unfinished(client, experiment, model.version)
            run = client.create_run(experiment, run_name=model.version, tags=_run_tags(model))
            _describe(client, run.info.run_id, model, folder)
            source = f"{run.info.artifact_uri}/{PACK}"
            made = _make_version(client, name, source, run.info.run_id, model)
            client.set_terminated(run.info.run_id)
            return made

    def sync_aliases(self, horizon: str, champion: str | None, challenger: str | None) -> list[AliasChange]:
        """Make the aliases say what our log says; returns what had to change, and whether somebody had moved it by hand.

        champion, challenger: our versions, None: nobody (the baseline answers). A version that MLflow does not have leaves its alias
        empty: no alias is better than a wrong one. Raises RegistryUnavailable.
        """
        if self._is_unborn():
            return []
        wanted = dict(zip(ALIASES, (champion, challenger), strict=True))
        with self._client() as client:
            name = self.model_name(horizon)
            model = _registered(client, name)
            if model is None:
                return []
            changes = [_put_right(client, model, alias, wanted[alias]) for alias in ALIASES]
            return [change for change in changes if change is not None]

    def aliases(self, horizon: str) -> dict[str, str]:
        """Alias -> our version that it stands on in MLflow now, for the aliases that stand on one; raises RegistryUnavailable.

        A database file that nobody has made yet holds none, and is not made for the question.
        """
        if self._is_unborn():
            return {}
        with self._client() as client:
            model = _registered(client, self.model_name(horizon))
            found = {} if model is None else {a: _ours(client, model.name, v) for a, v in model.aliases.items() if a in ALIASES}
            return {alias: version for alias, version in found.items() if version is not None}

    def _is_unborn(self) -> bool:
        """Whether the backend is a file that nothing was ever registered in."""
        if not self.uri.startswith("sqlite"):
            return False
        try:
            Path(make_url(self.uri).database or "").stat()
        except FileNotFoundError:
            return True
        except OSError:
            return False  # the sign of life is asked for next and says what is wrong
        return False

    def _experiment(self, client: MlflowClient) -> str:
        from mlflow.exceptions import MlflowException

        found = client.get_experiment_by_name(self.experiment)
        if found is not None:
            return str(found.experiment_id)
        location = None if self.artifacts is None else self.artifacts.resolve().as_uri()
        try:
            return str(client.create_experiment(self.experiment, artifact_location=location))
        except MlflowException:
            found = client.get_experiment_by_name(self.experiment)  # another process was first
            if found is None:
                raise
            return str(found.experiment_id)

    @contextmanager
    def _client(self) -> Iterator[MlflowClient]:
        """MLflow's client on a backend that answered a moment ago; everything it raises becomes RegistryUnavailable."""
        probe(self.uri)
        export_to_mlflow()
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)  # after the import, which sets levels of its own
        try:
            yield MlflowClient(self.uri, self.uri)
        except (MlflowException, SQLAlchemyError, OSError) as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: Exception) -> RegistryUnavailable:
        return RegistryUnavailable(f"MLFLOW_TRACKING_URI {mask_url(self.uri)}: {_first_line(error)}")


def open_registry(settings: Settings) -> Registry:
    """The registry of the effective settings; touches nothing yet."""
    is_server = settings.mlflow_uri.startswith("http")
    return Registry(settings.mlflow_uri, settings.environment, None if is_server else settings.mlflow_dir / "artifacts")


def probe(uri: str) -> None:
    """Raise RegistryUnavailable within about PROBE_TIMEOUT_S where the backend gives no sign of life.

    MLflow itself would try for minutes (ten attempts at a database, seven at a server).
    """
    check = _probe_server if uri.startswith("http") else _probe_sqlite if uri.startswith("sqlite") else _probe_database
    try:
        check(uri)
    except (OSError, URLError, ValueError, ImportError, sqlite3.Error, SQLAlchemyError) as error:
        raise RegistryUnavailable(f"MLFLOW_TRACKING_URI {mask_url(uri)}: {_first_line(error)}") from error


def _probe_server(uri: str) -> None:
    """Any answer but a server error is a sign of life, also the demand for a password."""
    parts = urlsplit(uri)
    bare = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], path=f"{parts.path.rstrip('/')}/health"))
    try:
        with urllib.request.urlopen(bare, timeout=PROBE_TIMEOUT_S):
            return
    except HTTPError as error:
        if error.code >= 500:
            raise


def _probe_sqlite(uri: str) -> None:
    """The file can be read and nobody holds its write lock; a missing file will be made, its folder now."""
    path = Path(make_url(uri).database or "")
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path, timeout=PROBE_TIMEOUT_S, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("SELECT count(*) FROM sqlite_master")
        connection.execute("ROLLBACK")


def _probe_database(uri: str) -> None:
    engine = create_engine(uri, hide_parameters=True, connect_args={"connect_timeout": int(PROBE_TIMEOUT_S)})
    try:
        with engine.connect():
            return
    finally:
        engine.dispose()


def _first_line(error: object) -> str:
    reason = getattr(error, "orig", None) or getattr(error, "reason", None) or error
    lines = str(reason).strip().splitlines()
    return mask_url(lines[0][:300]) if lines else type(error).__name__


def _run_tags(model: Model) -> dict[str, str]:
    return {
        VERSION_TAG: model.version, "altforecast.horizon": model.horizon, "altforecast.family": model.family,
        "altforecast.data_hash": model.data_hash, "altforecast.code_version": model.code_version,
        "altforecast.dagster_run_id": model.dagster_run_id,
    }  # fmt: skip


def _describe(client: MlflowClient, run_id: str, model: Model, folder: Path) -> None:
    """Everything about the model, before its version exists."""
    from mlflow.entities import Metric, Param

    at = round(model.trained_at.timestamp() * 1000)
    metrics = [Metric(key, value, at, 0) for key, value in model_metrics(model).items()]
    params = [Param(key, value) for key, value in model_params(model).items()]
    client.log_batch(run_id, metrics=metrics, params=params[:PARAMS_AT_ONCE])
    for at_param in range(PARAMS_AT_ONCE, len(params), PARAMS_AT_ONCE):
        client.log_batch(run_id, params=params[at_param : at_param + PARAMS_AT_ONCE])
    for name, text in model_files(model).items():
        client.log_text(run_id, text, name)
    client.log_artifacts(run_id, str(folder), PACK)


def _make_version(client: MlflowClient, name: str, source: str, run_id: str, model: Model) -> Registered:
    """The version; where another process registered the same model meanwhile, the earlier of the two stays."""
    if _registered(client, name) is None:
        _create(lambda: client.create_registered_model(name, description=f"Forecasts of the log return {model.horizon} ahead"))
    words = f"{model.family}, taught until {model.train_until:%Y-%m-%d %H:%M} UTC. Files: download_artifacts, then load_pack."
    made = client.create_model_version(name, source, run_id, tags={VERSION_TAG: model.version}, description=words)
    first = _version(client, name, model.version) or made
    if int(first.version) < int(made.version):
        client.delete_model_version(name, str(made.version))
        return Registered(str(first.run_id), int(first.version), False)
    return Registered(run_id, int(made.version), True)


def _create(make: Callable[[], object]) -> None:
    from mlflow.exceptions import MlflowException

    try:
        make()
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _version(client: MlflowClient, name: str, version: str) -> ModelVersion | None:
    """MLflow's version of one of ours, the earliest where there are two."""
    found = client.search_model_versions(f"name = '{name}' and tags.`{VERSION_TAG}` = '{version}'")
    return min(found, key=lambda v: int(v.version), default=None)


def _check_whole(model: Model, folder: Path) -> None:
    """A version that cannot be loaded would only be found out by whoever needs it."""
    from altforecast_io.model_files import load_pack  # loads LightGBM where the pack has models

    try:
        load_pack(folder)
    except InputError as error:
        raise StorageError(f"{folder}: the files of model {model.version} are damaged: {error}") from error


def _registered(client: MlflowClient, name: str) -> Any:
    from mlflow.exceptions import MlflowException

    try:
        return client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise


def _ours(client: MlflowClient, name: str, version: object) -> str | None:
    tags: Mapping[str, str] = client.get_model_version(name, str(version)).tags
    return tags.get(VERSION_TAG, f"unknown version {version}")


def _put_right(client: MlflowClient, model: Any, alias: str, wanted: str | None) -> AliasChange | None:
    """Move one alias where it should stand, and note in a tag where we put it; None where it stands right."""
    name, tag = model.name, f"altforecast.{alias}"
    target = _version(client, name, wanted) if wanted is not None else None
    number = "" if target is None else str(target.version)
    current, put = str(model.aliases.get(alias, "")), model.tags.get(tag, "")
    if current == number:
        if put != number:
            client.set_registered_model_tag(name, tag, number)
        return None
    was = _ours(client, name, current) if current else None
    if number:
        client.set_registered_model_alias(name, alias, number)
    else:
        client.delete_registered_model_alias(name, alias)
    client.set_registered_model_tag(name, tag, number)
    return AliasChange(name, alias, was, wanted if number else None, current != put)


def _end_unfinished(client: MlflowClient, experiment: str, version: str) -> None:
    query = f"tags.`{VERSION_TAG}` = '{version}' and attributes.status = 'RUNNING'"
    for run in client.search_runs([experiment], query):
        client.set_terminated(run.info.run_id, status="KILLED")
