"""A bar may get a content again that it had before: `inbox.recurrence` joins the unique key.

What belongs here: the steps from the revision before to this one. What does not: a way back; migrations go forward only.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

KEY = ["exchange", "symbol", "timeframe", "ts", "content_hash", "recurrence"]
COMMENT = "acknowledged deliveries, one row per change of a bar's content"


def upgrade() -> None:
    """Apply the step."""
    recurrence = sa.Column("recurrence", sa.Integer(), nullable=False, server_default=sa.text("0"))
    if op.get_bind().dialect.name == "sqlite":
        _rebuild(recurrence)
        return
    op.add_column("inbox", recurrence)
    op.drop_constraint("uq_inbox_content", "inbox", type_="unique")
    op.create_unique_constraint("uq_inbox_content", "inbox", KEY)
    op.create_table_comment("inbox", COMMENT)


def _rebuild(recurrence: sa.Column[int]) -> None:
    """SQLite cannot change a constraint: the table is copied, and its ids go on where they were even if rows were deleted."""
    connection = op.get_bind()
    last_id = connection.execute(sa.text("SELECT seq FROM sqlite_sequence WHERE name = 'inbox'")).scalar()
    with op.batch_alter_table("inbox", recreate="always", table_kwargs={"sqlite_autoincrement": True}) as batch:
        batch.add_column(recurrence)
        batch.drop_constraint("uq_inbox_content", type_="unique")
        batch.create_unique_constraint("uq_inbox_content", KEY)
    if last_id is not None:
        connection.execute(sa.text("DELETE FROM sqlite_sequence WHERE name = 'inbox'"))
        connection.execute(sa.text("INSERT INTO sqlite_sequence (name, seq) VALUES ('inbox', :last_id)"), {"last_id": last_id})
