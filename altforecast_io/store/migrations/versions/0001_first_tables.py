"""First tables: inbox, settings, keys, heartbeats, users, subscriptions, idempotency.

What belongs here: the steps from the revision before to this one. What does not: a way back; migrations go forward only.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply the step."""
    _create_meta()
    _create_inbox()
    _create_settings()
    _create_access()
    _create_users()
    _create_idempotency()


def _create_meta() -> None:
    op.create_table(
        "meta",
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_meta"),
        comment="facts about the store itself, such as its environment",
    )


def _create_inbox() -> None:
    op.create_table(
        "inbox",
        sa.Column("id", ID, nullable=False, autoincrement=True),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("metric", sa.String(16), nullable=False),
        sa.Column("exchange", sa.String(32), nullable=False),
        sa.Column("symbol", sa.String(32), nullable=False),
        sa.Column("timeframe", sa.String(4), nullable=False),
        sa.Column("ts", sa.BigInteger(), nullable=False),
        *(sa.Column(name, sa.String(64), nullable=False) for name in ("open", "high", "low", "close")),
        sa.Column("volume", sa.String(64)),
        sa.Column("content_hash", sa.String(32), nullable=False),
        sa.Column("is_revision", sa.Boolean(create_constraint=False), nullable=False),
        sa.Column("n_duplicates", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("raw", sa.Text(), nullable=False),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.Column("source_ip", sa.String(64)),
        sa.Column("built_at", sa.BigInteger()),
        sa.Column("built_run_id", sa.String(64)),
        sa.PrimaryKeyConstraint("id", name="pk_inbox"),
        sa.UniqueConstraint("exchange", "symbol", "timeframe", "ts", "content_hash", name="uq_inbox_content"),
        sqlite_autoincrement=True,
        comment="acknowledged deliveries, one row per different content of a bar",
    )
    unbuilt = sa.text("built_at IS NULL")
    op.create_index("ix_inbox_ts", "inbox", ["ts"])
    op.create_index("ix_inbox_unbuilt", "inbox", ["id"], sqlite_where=unbuilt, postgresql_where=unbuilt)


def _create_settings() -> None:
    op.create_table(
        "settings",
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_by", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_settings"),
        comment="live settings as JSON, the newest version of each key",
    )
    op.create_table(
        "settings_history",
        sa.Column("id", ID, nullable=False, autoincrement=True),
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_by", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_settings_history"),
        sa.UniqueConstraint("key", "version", name="uq_settings_history_key_version"),
        sqlite_autoincrement=True,
        comment="every version of every live setting",
    )


def _create_access() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", ID, nullable=False, autoincrement=True),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("prefix", sa.String(16), nullable=False),
        sa.Column("key_hash", sa.String(64), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("revoked_at", sa.BigInteger()),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
        sa.UniqueConstraint("prefix", name="uq_api_keys_prefix"),
        sqlite_autoincrement=True,
        comment="API keys; only the SHA-256 of a key is kept",
    )
    op.create_table(
        "heartbeats",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("beat_at", sa.BigInteger(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_heartbeats"),
        comment="last sign of life of each process",
    )


def _create_users() -> None:
    op.create_table(
        "users",
        sa.Column("id", ID, nullable=False, autoincrement=True),
        sa.Column("chat_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_users"),
        sa.UniqueConstraint("chat_id", name="uq_users_chat_id"),
        sqlite_autoincrement=True,
        comment="people, by their Telegram chat",
    )
    op.create_table(
        "subs",
        sa.Column("id", ID, nullable=False, autoincrement=True),
        sa.Column("user_id", ID, nullable=False),
        sa.Column("topic", sa.String(64), nullable=False),
        sa.Column("filter", sa.String(128), nullable=False, server_default=sa.text("''")),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_subs"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_subs_user_id", ondelete="CASCADE"),
        sa.UniqueConstraint("user_id", "topic", "filter", name="uq_subs_user_topic_filter"),
        sqlite_autoincrement=True,
        comment="what a person wants to be told about",
    )
    op.create_table(
        "user_settings",
        sa.Column("user_id", ID, nullable=False),
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "key", name="pk_user_settings"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_user_settings_user_id", ondelete="CASCADE"),
        comment="settings of one person as JSON, such as the time zone",
    )


def _create_idempotency() -> None:
    op.create_table(
        "idempotency_keys",
        sa.Column("key", sa.String(200), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_idempotency_keys"),
        comment="operations that may happen once within a time",
    )
    op.create_index("ix_idempotency_keys_expires_at", "idempotency_keys", ["expires_at"])
