"""$DAGSTER_HOME/dagster.yaml, rendered from the repository's `dagster.yaml` and the settings.

What belongs here: which storage and which run launcher an environment uses. What does not: starting Dagster.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from altforecast.errors import SettingsError
from altforecast_io.lake import write_atomically
from altforecast_io.settings import Settings

TEMPLATE = Path(__file__).resolve().parent.parent / "dagster.yaml"
HEADER = "# Written by AltForecast from the repository's dagster.yaml and the settings at every start. Edit those, not this.\n"
POLLING_S = 0.05
RESULTS_KEPT_S = 86_400
STORAGES = ("run_storage", "event_log_storage", "schedule_storage")


def write_dagster_home(settings: Settings) -> Path:
    """Make the folder and its dagster.yaml (replaced atomically); returns the folder. Raises StorageError, SettingsError."""
    home = settings.dagster_home
    home.mkdir(parents=True, exist_ok=True)
    write_atomically(home / "dagster.yaml", dagster_yaml(settings).encode())
    return home


def dagster_yaml(settings: Settings) -> str:
    """Text of dagster.yaml for these settings. Secrets in URLs are written out: the folder belongs to the operator alone."""
    import yaml  # type: ignore[import-untyped]  # comes with Dagster; only its processes need this file

    config = yaml.safe_load(TEMPLATE.read_text())
    for storage in STORAGES:
        config[storage]["config"]["base_dir"] = str(settings.dagster_home)
    if settings.dagster_postgres_url:
        _check_postgres(settings)
        config = {k: v for k, v in config.items() if k not in STORAGES}
        # SQLAlchemy 2.1 takes psycopg 3 where no driver is named; Dagster brings psycopg2.
        url = settings.dagster_postgres_url.replace("postgresql://", "postgresql+psycopg2://", 1)
        config["storage"] = {"postgres": {"postgres_url": url}}
    config["run_launcher"] = run_launcher(settings)
    return HEADER + str(yaml.safe_dump(config, sort_keys=False))


def _check_postgres(settings: Settings) -> None:
    if settings.dagster_postgres_url == settings.database_url:
        raise SettingsError("DAGSTER_POSTGRES_URL: Dagster needs a database of its own, got the one of DATABASE_URL")


def run_launcher(settings: Settings) -> dict[str, Any]:
    """Warm workers behind the broker of the settings, or behind a queue in a SQLite file where there is none."""
    config = celery_config(settings)
    options = {k: v for k, v in config.items() if k != "task_default_queue"}
    return {
        "module": "altforecast_pipelines.launcher",
        "class": "WarmRunLauncher",
        "config": {**options, "default_queue": config["task_default_queue"], "only_express": not settings.celery_broker_url},
    }


def celery_config(settings: Settings) -> dict[str, Any]:
    """Arguments of the Celery app, the same for the launcher and for workers.

    A task is acknowledged when its run is over, so a real broker hands the run of a killed worker to another one. Without a
    broker the queue is `queue.sqlite` in DAGSTER_HOME, which workers on this machine look at every POLLING_S.
    """
    home = settings.dagster_home
    options: dict[str, Any] = {}
    broker, backend = f"sqla+sqlite:///{home / 'queue.sqlite'}", f"db+sqlite:///{home / 'celery-results.sqlite'}"
    if settings.celery_broker_url:
        broker, backend = settings.celery_broker_url, "rpc://"
        options = {"max_retries": 3, "interval_start": 0, "interval_step": 0.2, "interval_max": 0.5}
    source = {
        "worker_prefetch_multiplier": 1,
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "result_expires": RESULTS_KEPT_S,
        "broker_connection_retry_on_startup": True,
        "broker_transport_options": options,
    }
    return {"broker": broker, "backend": backend, "task_default_queue": "dagster", "config_source": source}
