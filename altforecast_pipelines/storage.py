"""Dagster's SQLite storages with one engine per process and batched event writes.

What belongs here: storage classes named in `dagster.yaml`. What does not: what is stored (Dagster's own schema, unchanged)
and PostgreSQL (dagster-postgres needs none of this).

Stock storages build an SQLAlchemy engine for each statement, sync each event to disk on its own and keep a database per
run: about 13 ms an event, so a run over 180 months and 11 assets spends 50 s in its event log. These classes keep the
engine (and its compiled statements), use WAL with `synchronous=NORMAL` (a power cut may lose the newest events, never
the file) and write the events of one asset in one transaction. Figures: docs/operations/dagster.md.
"""

import fcntl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import sqlalchemy as sa
from dagster import DagsterEventType, EventLogEntry
from dagster._core.storage.event_log import ConsolidatedSqliteEventLogStorage
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable
from dagster._core.storage.runs.sqlite import SqliteRunStorage
from dagster._core.storage.schedules.sqlite import SqliteScheduleStorage
from dagster._serdes import ConfigurableClassData

BUSY_TIMEOUT_S = 30
POOL_SIZE = 4
"""Open connections kept per database and process; more are opened on demand and closed after use (at most 20)."""
BATCHED = {
    DagsterEventType.ASSET_MATERIALIZATION_PLANNED,
    DagsterEventType.ASSET_MATERIALIZATION,
    DagsterEventType.ASSET_OBSERVATION,
}


def sqlite_engine(conn_string: str) -> sa.Engine:
    """Engine with a small pool; each connection waits up to BUSY_TIMEOUT_S for a lock and does not sync each commit."""
    engine = sa.create_engine(
        conn_string, poolclass=sa.QueuePool, pool_size=POOL_SIZE, max_overflow=16, connect_args={"timeout": BUSY_TIMEOUT_S}
    )
    sa.event.listen(engine, "connect", _set_pragmas)
    return engine


def _set_pragmas(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()


@contextmanager
def making(base_dir: str) -> Iterator[None]:
    """One process at a time creates the databases: several start at once on a fresh home, and Dagster's own check is a race."""
    folder = Path(base_dir)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "making.lock").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class BatchedSqliteEventLogStorage(ConsolidatedSqliteEventLogStorage):
    """All runs in one SQLite file; events that Dagster hands over as a batch become one transaction."""

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData, config_value: Mapping[str, Any]) -> Self:
        """Built by Dagster from `dagster.yaml`."""
        with making(config_value["base_dir"]):
            return cls(inst_data=inst_data, **config_value)

    @cached_property
    def _engine(self) -> sa.Engine:
        return sqlite_engine(self._conn_string)

    @contextmanager
    def _connect(self) -> Iterator[sa.Connection]:
        with self._engine.connect() as connection, connection.begin():
            yield connection

    @cached_property
    def _tables(self) -> frozenset[str]:
        return frozenset(sa.inspect(self._engine).get_table_names())

    def has_table(self, table_name: str) -> bool:
        """Whether the table exists; the schema does not change while a process runs."""
        return table_name in self._tables

    def _has_asset_key_col_on_connection(self, conn: sa.Connection, column_name: str) -> bool:  # noqa: ARG002 - Dagster's signature
        return column_name in self._asset_key_columns

    @cached_property
    def _asset_key_columns(self) -> frozenset[str]:
        return frozenset(column["name"] for column in sa.inspect(self._engine).get_columns("asset_keys"))

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Store events in order in one transaction; kinds with side tables of their own go one by one."""
        if any(event.dagster_event_type not in BATCHED for event in events):
            super().store_event_batch(events)
            return
        with self._connect() as connection:
            # The write lock comes first: ids are given by us, and two writers must not read the same highest one.
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            first = (connection.execute(sa.select(sa.func.max(SqlEventLogStorageTable.c.id))).scalar() or 0) + 1
            ids = range(first, first + len(events))
            rows = [{"id": i, **self._event_to_row(event)} for i, event in zip(ids, events, strict=True)]
            connection.execute(SqlEventLogStorageTable.insert(), rows)
            self._store_asset_event_tags(connection, events, list(ids))
            newest = {event.get_dagster_event().asset_key: (i, event) for i, event in zip(ids, events, strict=True)}
            for i, event in newest.values():
                self._store_asset_event(connection, event, i)

    def dispose(self) -> None:
        """Close the watcher and the connections."""
        super().dispose()  # type: ignore[no-untyped-call]
        self._engine.dispose()


class PooledSqliteRunStorage(SqliteRunStorage):
    """Stock run storage on one engine."""

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:
        """Built by Dagster from `dagster.yaml`."""
        with making(config_value["base_dir"]):
            return cls.from_local(inst_data=inst_data, **config_value)

    @cached_property
    def _engine(self) -> sa.Engine:
        return sqlite_engine(self._conn_string)

    @contextmanager
    def connect(self) -> Iterator[sa.Connection]:
        """One transaction."""
        with self._engine.connect() as connection, connection.begin():
            yield connection


class PooledSqliteScheduleStorage(SqliteScheduleStorage):
    """Stock schedule storage on one engine."""

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:
        """Built by Dagster from `dagster.yaml`."""
        with making(config_value["base_dir"]):
            return cls.from_local(inst_data=inst_data, **config_value)  # type: ignore[return-value]

    @cached_property
    def _engine(self) -> sa.Engine:
        return sqlite_engine(self._conn_string)

    @contextmanager
    def connect(self) -> Iterator[sa.Connection]:
        """One transaction."""
        with self._engine.connect() as connection, connection.begin():
            yield connection
