"""Terms of coin transfers, and messages that wait to be sent.

What belongs here: the steps from the revision before to this one. What does not: a way back; migrations go forward only.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply the step."""
    _create_transfer_terms()
    _create_outbox()


def _create_transfer_terms() -> None:
    op.create_table(
        "transfer_terms",
        sa.Column("exchange", sa.String(32), nullable=False),
        sa.Column("coin", sa.String(32), nullable=False),
        sa.Column("network", sa.String(32), nullable=False),
        sa.Column("fee", sa.String(64)),
        sa.Column("minimum", sa.String(64)),
        sa.Column("is_withdrawal_open", sa.Boolean(create_constraint=False)),
        sa.Column("is_deposit_open", sa.Boolean(create_constraint=False)),
        sa.Column("contract", sa.String(128)),
        sa.Column("fetched_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("exchange", "coin", "network", name="pk_transfer_terms"),
        comment="what it costs to take a coin off a venue over a network, newest answer of the venue",
    )


def _create_outbox() -> None:
    op.create_table(
        "outbox",
        sa.Column("id", ID, nullable=False, autoincrement=True),
        sa.Column("topic", sa.String(64), nullable=False),
        sa.Column("chat_id", sa.BigInteger(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("dedup_key", sa.String(200), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("not_before", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("sent_at", sa.BigInteger()),
        sa.Column("error", sa.Text()),
        sa.PrimaryKeyConstraint("id", name="pk_outbox"),
        sa.UniqueConstraint("dedup_key", name="uq_outbox_dedup_key"),
        sqlite_autoincrement=True,
        comment="messages to people, kept until they are sent or given up",
    )
    unsent = sa.text("sent_at IS NULL")
    op.create_index("ix_outbox_unsent", "outbox", ["not_before", "id"], sqlite_where=unsent, postgresql_where=unsent)
