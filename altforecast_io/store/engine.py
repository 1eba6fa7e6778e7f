"""Opening the operational store: one engine, one set of rules for both databases.

What belongs here: connection settings, transactions, running migrations, the environment guard and the translation of
database errors. What does not: queries (one file per noun) and table definitions (`schema`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, insert, inspect, make_url, select, text
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from altforecast.errors import EnvironmentMismatchError, SettingsError, StorageError
from altforecast_io.clock import Clock, utc_now
from altforecast_io.store import schema

BUSY_TIMEOUT_S = 10.0
"""How long a write waits for another process's write before it fails."""
MIGRATIONS = Path(__file__).parent / "migrations"
_SQLITE_PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "temp_store=MEMORY")
_LOCK_NAMES = ("migrate", "inbox", "idempotency", "settings", "users", "heartbeats", "transfers", "outbox")
_LOCKS = {name: 0x616C7400 + i for i, name in enumerate(_LOCK_NAMES)}


@dataclass(frozen=True)
class Store:
    """An open operational store; safe to share between threads, not between forked processes."""

    engine: Engine
    environment: str
    clock: Clock

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        return self.engine.dialect.name

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One consistent snapshot for reading; raises StorageError where the database fails."""
        with _translated(), self.engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction: all of it is durable when the block ends, or none of it.

        SQLite takes its write lock at once, so a transaction that reads first cannot fail half way on a lock.
        Raises StorageError where the database refuses (full, locked for 10 s, gone).
        """
        with _translated(), self.engine.connect() as raw:
            connection = raw.execution_options(altforecast_immediate=True)
            with connection.begin():
                yield connection

    def lock(self, connection: Connection, name: str) -> None:
        """Wait for the named lock until the transaction ends (on SQLite the write lock already is one)."""
        if self.dialect == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:id)"), {"id": _LOCKS[name]})

    def close(self) -> None:
        """Give all connections back."""
        self.engine.dispose()


def open_store(database_url: str, environment: str = "live", clock: Clock = utc_now) -> Store:
    """Open (creating and migrating where needed) the store at `database_url`, and check whose it is.

    `sqlite:///<path>` makes missing folders; `postgresql://` (or `postgres://`) uses psycopg2. The first opening writes
    `environment` into the store; a later one with another value raises EnvironmentMismatchError. Raises SettingsError for
    a URL that cannot be used and StorageError where the database does not answer or is newer than this code.
    """
    store = Store(_engine(_parse_url(database_url)), environment, clock)
    try:
        _migrate(store)
        _check_environment(store)
    except BaseException:
        store.close()
        raise
    return store


def _parse_url(database_url: str) -> URL:
    try:
        url = make_url(database_url)
    except ArgumentError:
        raise SettingsError("DATABASE_URL: not a database URL; allowed: sqlite:///<path>, postgresql://...") from None
    if url.drivername in ("postgres", "postgresql", "postgresql+psycopg2"):
        return url.set(drivername="postgresql+psycopg2")
    if url.drivername in ("sqlite", "sqlite+pysqlite"):
        if not url.database or url.database == ":memory:":
            raise SettingsError("DATABASE_URL: an SQLite store needs a file, sqlite:///<path>")
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
        return url
    raise SettingsError(f"DATABASE_URL: {url.drivername} is not supported; allowed: sqlite, postgresql")


def _engine(url: URL) -> Engine:
    # Parameters hold raw deliveries and key hashes: they never belong in an error text.
    if url.get_backend_name() == "sqlite":
        engine = create_engine(url, hide_parameters=True, connect_args={"timeout": BUSY_TIMEOUT_S})
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    arguments = {"connect_timeout": int(BUSY_TIMEOUT_S), "options": "-c timezone=UTC -c lock_timeout=10s"}
    try:
        return create_engine(url, hide_parameters=True, pool_pre_ping=True, connect_args=arguments)
    except NoSuchModuleError as error:
        raise SettingsError(f"DATABASE_URL: {error}") from None


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # The driver must not open transactions by itself: it would begin them without the write lock.
    connection.isolation_level = None
    for pragma in _SQLITE_PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    immediate = connection.get_execution_options().get("altforecast_immediate")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        raise StorageError(f"operational store: {_first_line(error.orig)}") from error
    except SQLAlchemyError as error:
        raise StorageError(f"operational store: {_first_line(error)}") from error


def _first_line(error: object) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table(schema.VERSION_TABLE):
        return None
    found: str | None = connection.execute(text(f"SELECT version_num FROM {schema.VERSION_TABLE}")).scalar()
    return found


def _migrate(store: Store) -> None:
    with store.read() as connection:
        if _revision(connection) == schema.HEAD:
            return
    with store.write() as connection:
        # Two processes may start at once: the second waits here and then finds the work done.
        store.lock(connection, "migrate")
        if _revision(connection) != schema.HEAD:
            _upgrade(connection)


def _upgrade(connection: Connection) -> None:
    # Alembic costs time and memory, and is needed only where there is something to do.
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    logging.getLogger("alembic").setLevel(logging.WARNING)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise StorageError(
            f"operational store: cannot be brought to revision {schema.HEAD} ({error}); is it newer than this code?"
        ) from error


def _check_environment(store: Store) -> None:
    wanted = store.environment
    with store.read() as connection:
        found = connection.execute(select(schema.meta.c.value).where(schema.meta.c.key == "environment")).scalar()
    if found is None:
        with store.write() as connection:
            store.lock(connection, "migrate")
            found = connection.execute(select(schema.meta.c.value).where(schema.meta.c.key == "environment")).scalar()
            if found is None:
                connection.execute(insert(schema.meta).values(key="environment", value=wanted))
                found = wanted
    if found != wanted:
        raise EnvironmentMismatchError(f"the operational store belongs to environment {found}, settings say {wanted}")
