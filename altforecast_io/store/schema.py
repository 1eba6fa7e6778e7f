"""Tables of the operational store, once, for SQLite and PostgreSQL alike.

What belongs here: columns, keys and indexes as SQLAlchemy Core tables. What does not: queries (one file per noun) and
the steps that change a live store (`migrations/`).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)

HEAD = "0004"
"""Newest migration; a store at this revision needs no Alembic at start."""
VERSION_TABLE = "altforecast_alembic_version"
"""Our own name: Dagster and MLflow both use `alembic_version`."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)


class UtcMs(TypeDecorator[datetime]):
    """UTC-aware time kept as integer milliseconds; a naive time is refused with ValueError."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:  # noqa: ARG002
        """Milliseconds since 1970 of an aware time."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"the store takes UTC-aware times only, got {value!r}")
        return (value - _EPOCH) // _MS

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Aware time of stored milliseconds."""
        return None if value is None else _EPOCH + value * _MS


Id = BigInteger().with_variant(Integer(), "sqlite")
"""SQLite numbers rows by itself only for a plain INTEGER key."""

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

meta = Table(
    "meta", metadata,
    Column("key", String(64), primary_key=True),
    Column("value", Text, nullable=False),
    comment="facts about the store itself, such as its environment",
)  # fmt: skip

inbox = Table(
    "inbox", metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("kind", String(32), nullable=False),
    Column("metric", String(16), nullable=False),
    Column("exchange", String(32), nullable=False),
    Column("symbol", String(32), nullable=False),
    Column("timeframe", String(4), nullable=False),
    Column("ts", UtcMs, nullable=False),
    Column("open", String(64), nullable=False),
    Column("high", String(64), nullable=False),
    Column("low", String(64), nullable=False),
    Column("close", String(64), nullable=False),
    Column("volume", String(64)),
    Column("content_hash", String(32), nullable=False),
    Column("is_revision", Boolean(create_constraint=False), nullable=False),
    Column("n_duplicates", Integer, nullable=False, server_default=text("0")),
    Column("raw", Text, nullable=False),
    Column("received_at", UtcMs, nullable=False),
    Column("source_ip", String(64)),
    Column("built_at", UtcMs),
    Column("built_run_id", String(64)),
    Column("recurrence", Integer, nullable=False, server_default=text("0")),
    UniqueConstraint("exchange", "symbol", "timeframe", "ts", "content_hash", "recurrence", name="uq_inbox_content"),
    Index("ix_inbox_ts", "ts"),
    Index("ix_inbox_unbuilt", "id", sqlite_where=text("built_at IS NULL"), postgresql_where=text("built_at IS NULL")),
    sqlite_autoincrement=True,
    comment="acknowledged deliveries, one row per change of a bar's content",
)  # fmt: skip

settings = Table(
    "settings", metadata,
    Column("key", String(64), primary_key=True),
    Column("value", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("updated_at", UtcMs, nullable=False),
    Column("updated_by", String(64), nullable=False),
    comment="live settings as JSON, the newest version of each key",
)  # fmt: skip

settings_history = Table(
    "settings_history", metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("key", String(64), nullable=False),
    Column("version", Integer, nullable=False),
    Column("value", Text, nullable=False),
    Column("updated_at", UtcMs, nullable=False),
    Column("updated_by", String(64), nullable=False),
    UniqueConstraint("key", "version", name="uq_settings_history_key_version"),
    sqlite_autoincrement=True,
    comment="every version of every live setting",
)  # fmt: skip

api_keys = Table(
    "api_keys", metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("name", String(64), nullable=False),
    Column("prefix", String(16), nullable=False, unique=True),
    Column("key_hash", String(64), nullable=False),
    Column("scopes", Text, nullable=False),
    Column("created_at", UtcMs, nullable=False),
    Column("revoked_at", UtcMs),
    sqlite_autoincrement=True,
    comment="API keys; only the SHA-256 of a key is kept",
)  # fmt: skip

heartbeats = Table(
    "heartbeats", metadata,
    Column("name", String(64), primary_key=True),
    Column("started_at", UtcMs, nullable=False),
    Column("beat_at", UtcMs, nullable=False),
    Column("detail", Text, nullable=False),
    comment="last sign of life of each process",
)  # fmt: skip

users = Table(
    "users", metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("chat_id", BigInteger, nullable=False, unique=True),
    Column("name", String(128), nullable=False),
    Column("created_at", UtcMs, nullable=False),
    sqlite_autoincrement=True,
    comment="people, by their Telegram chat",
)  # fmt: skip

subs = Table(
    "subs", metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("user_id", Id, ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    Column("topic", String(64), nullable=False),
    Column("filter", String(128), nullable=False, server_default=text("''")),
    Column("created_at", UtcMs, nullable=False),
    UniqueConstraint("user_id", "topic", "filter", name="uq_subs_user_topic_filter"),
    sqlite_autoincrement=True,
    comment="what a person wants to be told about",
)  # fmt: skip

user_settings = Table(
    "user_settings", metadata,
    Column("user_id", Id, ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    Column("key", String(64), primary_key=True),
    Column("value", Text, nullable=False),
    Column("updated_at", UtcMs, nullable=False),
    comment="settings of one person as JSON, such as the time zone",
)  # fmt: skip

idempotency_keys = Table(
    "idempotency_keys", metadata,
    Column("key", String(200), primary_key=True),
    Column("created_at", UtcMs, nullable=False),
    Column("expires_at", UtcMs, nullable=False, index=True),
    comment="operations that may happen once within a time",
)  # fmt: skip

transfer_terms = Table(
    "transfer_terms", metadata,
    Column("exchange", String(32), primary_key=True),
    Column("coin", String(32), primary_key=True),
    Column("network", String(32), primary_key=True),
    Column("fee", String(64)),
    Column("minimum", String(64)),
    Column("is_withdrawal_open", Boolean(create_constraint=False)),
    Column("is_deposit_open", Boolean(create_constraint=False)),
    Column("contract", String(128)),
    Column("fetched_at", UtcMs, nullable=False),
    comment="what it costs to take a coin off a venue over a network, newest answer of the venue",
)  # fmt: skip

outbox = Table(
    "outbox", metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("topic", String(64), nullable=False),
    Column("chat_id", BigInteger, nullable=False),
    Column("text", Text, nullable=False),
    Column("dedup_key", String(200), nullable=False, unique=True),
    Column("created_at", UtcMs, nullable=False),
    Column("not_before", UtcMs, nullable=False),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("sent_at", UtcMs),
    Column("error", Text),
    Index("ix_outbox_unsent", "not_before", "id", sqlite_where=text("sent_at IS NULL"), postgresql_where=text("sent_at IS NULL")),
    sqlite_autoincrement=True,
    comment="messages to people, kept until they are sent or given up",
)  # fmt: skip

models = Table(
    "models", metadata,
    Column("version", String(64), primary_key=True),
    Column("horizon", String(8), nullable=False),
    Column("family", String(16), nullable=False),
    Column("folder", String(200), nullable=False),
    Column("trained_at", UtcMs, nullable=False),
    Column("train_from", UtcMs, nullable=False),
    Column("train_until", UtcMs, nullable=False),
    Column("n_rows", BigInteger, nullable=False),
    Column("data_hash", String(64), nullable=False),
    Column("code_version", String(32), nullable=False),
    Column("dagster_run_id", String(64), nullable=False),
    Column("report", Text, nullable=False),
    Column("mlflow_run_id", String(64)),
    Column("mlflow_version", Integer),
    Column("registered_at", UtcMs),
    Index("ix_models_horizon_trained_at", "horizon", "trained_at"),
    comment="trained models whose files are complete, each with its report as JSON",
)  # fmt: skip

model_events = Table(
    "model_events", metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("horizon", String(8), nullable=False),
    Column("version", String(64)),
    Column("event", String(16), nullable=False),
    Column("actor", String(64), nullable=False),
    Column("reason", Text, nullable=False),
    Column("verdicts", Text, nullable=False, server_default=text("'[]'")),
    Column("at", UtcMs, nullable=False),
    Index("ix_model_events_horizon_id", "horizon", "id"),
    sqlite_autoincrement=True,
    comment="who became champion or challenger, when and why; the newest decides",
)  # fmt: skip
