"""Opening the operational store, on both databases: migrations, environment, transactions, errors.

What belongs here: `altforecast_io.store.engine` and `schema`. What does not: queries of one noun.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, event, insert, inspect, make_url, select, text
from sqlalchemy.exc import StatementError

from altforecast.errors import EnvironmentMismatchError, SettingsError, StorageError
from altforecast_io.store import schema
from altforecast_io.store.engine import MIGRATIONS, Store, open_store


def facts(store: Store) -> dict[str, str]:
    with store.read() as connection:
        return {row.key: row.value for row in connection.execute(select(schema.meta))}


def test_open_store_makes_all_tables_as_declared(store: Store) -> None:
    with store.read() as connection:
        options = {"version_table": schema.VERSION_TABLE, "compare_type": True, "compare_server_default": True}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), schema.metadata) == []
        assert set(schema.metadata.tables) <= set(inspect(connection).get_table_names())


def test_open_store_uses_its_own_version_table(store: Store) -> None:
    with store.read() as connection:
        assert not inspect(connection).has_table("alembic_version")
        assert connection.execute(text(f"SELECT version_num FROM {schema.VERSION_TABLE}")).scalar() == schema.HEAD


def test_head_is_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_heads() == [schema.HEAD]


def test_migrations_go_forward_only() -> None:
    texts = [path.read_text() for path in (MIGRATIONS / "versions").glob("0*.py")]
    assert texts
    assert not any("def downgrade" in body for body in texts)


def test_open_store_twice_keeps_data(reopen: Callable[[], Store]) -> None:
    with reopen().write() as connection:
        connection.execute(insert(schema.meta).values(key="colour", value="blue"))
    assert facts(reopen()) == {"environment": "sandbox", "colour": "blue"}


def test_open_store_from_many_threads_at_once(store_url: str) -> None:
    failures: list[BaseException] = []

    def open_one() -> None:
        try:
            open_store(store_url, "sandbox").close()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=open_one) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    store = open_store(store_url, "sandbox")
    assert facts(store) == {"environment": "sandbox"}
    store.close()


def test_open_store_other_environment_refused(store: Store, store_url: str) -> None:
    with pytest.raises(EnvironmentMismatchError, match="belongs to environment sandbox"):
        open_store(store_url, "live")
    assert facts(store) == {"environment": "sandbox"}


def _store_at_first_revision(store_url: str) -> None:
    """A store as the first revision made it, with a bar delivered, another deleted."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    if store_url.startswith("sqlite"):
        Path(make_url(store_url).database or "").parent.mkdir()
    engine = create_engine(store_url)
    values = "'k', 'btc', 'binance', 'BTC-USDT', '1h', 0, '1', '1', '1', '1', '{}', false, '', 0"
    columns = "kind, metric, exchange, symbol, timeframe, ts, open, high, low, close, content_hash, is_revision, raw, received_at"
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        for content in ("a", "b"):
            connection.execute(text(f"INSERT INTO inbox ({columns}) VALUES ({values.format(content)})"))
        connection.execute(text("DELETE FROM inbox WHERE content_hash = 'b'"))
    engine.dispose()


def test_open_store_of_the_first_revision_keeps_rows_and_goes_on_with_ids(store_url: str) -> None:
    _store_at_first_revision(store_url)
    store = open_store(store_url, "sandbox")
    with store.write() as connection:
        row = connection.execute(select(schema.inbox)).mappings().one()
        again = {**row, "recurrence": 1}
        del again["id"]
        new_id = connection.execute(insert(schema.inbox).values(again).returning(schema.inbox.c.id)).scalar()
    assert (row["id"], row["content_hash"], row["recurrence"], new_id) == (1, "a", 0, 3)
    with pytest.raises(StorageError, match=r"(?i)unique"), store.write() as connection:
        connection.execute(insert(schema.inbox).values(again))
    store.close()


def test_open_store_newer_than_code_refused(store: Store, store_url: str) -> None:
    with store.write() as connection:
        connection.execute(text(f"UPDATE {schema.VERSION_TABLE} SET version_num = '9999'"))
    with pytest.raises(StorageError, match="newer"):
        open_store(store_url, "sandbox")


def test_write_is_all_or_nothing(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), store.write() as connection:  # noqa: PT012 - the transaction is the subject
        connection.execute(insert(schema.meta), [{"key": "half", "value": "done"}]).close()
        connection.execute(insert(schema.meta), [{"key": str(1 // 0), "value": ""}])
    assert "half" not in facts(store)


def test_naive_time_refused(store: Store) -> None:
    row = {"name": "x", "started_at": datetime(2026, 1, 1), "beat_at": datetime(2026, 1, 1, tzinfo=UTC), "detail": "{}"}  # noqa: DTZ001
    with pytest.raises(StorageError), store.write() as connection:
        connection.execute(insert(schema.heartbeats).values(**row))


def test_utc_ms_refuses_naive_time_with_its_value() -> None:
    with pytest.raises(ValueError, match="2026"):
        schema.UtcMs().process_bind_param(datetime(2026, 1, 1), None)  # type: ignore[arg-type]  # noqa: DTZ001


def test_errors_never_show_values(store: Store) -> None:
    with pytest.raises(StorageError) as caught, store.write() as connection:
        connection.execute(insert(schema.meta).values(key="environment", value="my-secret-value"))
    assert "my-secret-value" not in f"{caught.value} {caught.value.__cause__}"
    assert not isinstance(caught.value.__cause__, StatementError) or caught.value.__cause__.hide_parameters


@pytest.mark.parametrize("url", ["", "mysql://x", "sqlite://", "sqlite:///:memory:", "not a url"])
def test_open_store_bad_url(url: str) -> None:
    with pytest.raises(SettingsError, match="DATABASE_URL"):
        open_store(url, "sandbox")


def test_open_store_nobody_answers() -> None:
    with pytest.raises(StorageError, match="operational store"):
        open_store("postgresql://nobody:hidden-password@127.0.0.1:1/none", "sandbox")


def test_open_store_folder_is_read_only_for_us(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises((StorageError, OSError)):
        open_store(f"sqlite:///{blocked}/x.sqlite", "sandbox")


def test_sqlite_is_durable_and_shared(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/s.sqlite", "sandbox")
    with store.read() as connection:
        found = {name: connection.execute(text(f"PRAGMA {name}")).scalar() for name in ("journal_mode", "synchronous", "busy_timeout")}
    assert found == {"journal_mode": "wal", "synchronous": 2, "busy_timeout": 10_000}
    store.close()


def test_sqlite_full_disk_keeps_old_data(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/s.sqlite", "sandbox")

    @event.listens_for(store.engine, "connect")
    def _small(connection: object, _record: object) -> None:
        connection.execute("PRAGMA max_page_count = 40")  # type: ignore[attr-defined]

    store.engine.dispose()
    with pytest.raises(StorageError, match="full"), store.write() as connection:
        connection.execute(insert(schema.meta).values(key="big", value=os.urandom(400_000).hex()))
    assert facts(store) == {"environment": "sandbox"}
    store.close()
