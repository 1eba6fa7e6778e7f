"""Runs the migrations on the connection that `engine` hands over.

What belongs here: Alembic's set-up. What does not: the steps themselves (`versions/`); they go forward only.
"""

from __future__ import annotations

from alembic import context

from altforecast_io.store import schema

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=schema.metadata,
    version_table=schema.VERSION_TABLE,
    transactional_ddl=True,
)
context.run_migrations()
