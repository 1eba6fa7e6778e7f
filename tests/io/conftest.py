"""Fixtures of the I/O tests: the operational store on SQLite and on PostgreSQL."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

from altforecast_io.store.engine import Store, open_store

POSTGRES = "postgresql+psycopg2://postgres@127.0.0.1:5432"
NOW = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)


@pytest.fixture(scope="session")
def postgres_database() -> Iterator[str]:
    """URL of a database of this test session's own, dropped at its end."""
    admin = create_engine(f"{POSTGRES}/postgres", isolation_level="AUTOCOMMIT", connect_args={"connect_timeout": 2})
    name = f"altforecast_test_{uuid.uuid4().hex[:12]}"
    try:
        with admin.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
    except OperationalError:
        pytest.skip("no PostgreSQL with trust authentication at 127.0.0.1:5432")
    yield f"{POSTGRES}/{name}"
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty store, once per database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/store/altforecast.sqlite"
    url: str = request.getfixturevalue("postgres_database")
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    engine.dispose()
    return url


class Hand:
    """A clock that stands until it is set."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        """The time it shows."""
        return self.now


@pytest.fixture
def hand() -> Hand:
    """The clock of `store`."""
    return Hand()


@pytest.fixture
def reopen(store_url: str, hand: Callable[[], datetime]) -> Iterator[Callable[[], Store]]:
    """Opens the store of this test, as often as one likes."""
    opened: list[Store] = []

    def open_again() -> Store:
        opened.append(open_store(store_url, "sandbox", hand))
        return opened[-1]

    yield open_again
    for store in opened:
        store.close()


@pytest.fixture
def store(reopen: Callable[[], Store]) -> Store:
    """An open store of the environment sandbox."""
    return reopen()


@pytest.fixture(scope="session")
def empty_mlflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database that has its tables and nothing else, to be copied; making one takes seconds."""
    from altforecast_io.model_registry import Registry

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    path.touch()  # MLflow makes its tables in an empty file; where there is none, asking makes none
    assert Registry(f"sqlite:///{path}", "sandbox").aliases("1h") == {}
    return path
