"""Trained models, and the log of which of them is in use.

What belongs here: the steps from the revision before to this one. What does not: a way back; migrations go forward only.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply the step."""
    _create_models()
    _create_model_events()


def _create_models() -> None:
    op.create_table(
        "models",
        sa.Column("version", sa.String(64), nullable=False),
        sa.Column("horizon", sa.String(8), nullable=False),
        sa.Column("family", sa.String(16), nullable=False),
        sa.Column("folder", sa.String(200), nullable=False),
        sa.Column("trained_at", sa.BigInteger(), nullable=False),
        sa.Column("train_from", sa.BigInteger(), nullable=False),
        sa.Column("train_until", sa.BigInteger(), nullable=False),
        sa.Column("n_rows", sa.BigInteger(), nullable=False),
        sa.Column("data_hash", sa.String(64), nullable=False),
        sa.Column("code_version", sa.String(32), nullable=False),
        sa.Column("dagster_run_id", sa.String(64), nullable=False),
        sa.Column("report", sa.Text(), nullable=False),
        sa.Column("mlflow_run_id", sa.String(64)),
        sa.Column("mlflow_version", sa.Integer()),
        sa.Column("registered_at", sa.BigInteger()),
        sa.PrimaryKeyConstraint("version", name="pk_models"),
        comment="trained models whose files are complete, each with its report as JSON",
    )
    op.create_index("ix_models_horizon_trained_at", "models", ["horizon", "trained_at"])


def _create_model_events() -> None:
    op.create_table(
        "model_events",
        sa.Column("id", ID, nullable=False, autoincrement=True),
        sa.Column("horizon", sa.String(8), nullable=False),
        sa.Column("version", sa.String(64)),
        sa.Column("event", sa.String(16), nullable=False),
        sa.Column("actor", sa.String(64), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("verdicts", sa.Text(), nullable=False, server_default=sa.text("'[]'")),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_model_events"),
        sqlite_autoincrement=True,
        comment="who became champion or challenger, when and why; the newest decides",
    )
    op.create_index("ix_model_events_horizon_id", "model_events", ["horizon", "id"])
