"""Messages to people that wait to be sent: at least once, a bounded number of times, never lost in between.

What belongs here: table outbox. What does not: what is said (`altforecast.digests`) and sending it (`realtime.delivery`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, delete, func, insert, select, update

from altforecast.errors import InputError
from altforecast_io.store.engine import Store
from altforecast_io.store.schema import outbox

MAX_ATTEMPTS = 20
"""After so many failures a message is given up; it stays in the table with its error."""
MAX_WAITING = 10_000
"""Unsent messages; a further one is refused, so that a bot that cannot send does not fill the disk."""
KEPT = timedelta(days=7)
"""Sent and given-up messages are removed after this."""
_NEVER = timedelta(days=36_500)


@dataclass(frozen=True)
class Letter:
    """One message that is due."""

    id: int
    topic: str
    chat_id: int
    text: str
    attempts: int
    created_at: datetime


@dataclass(frozen=True)
class Waiting:
    """How the outbox stands."""

    n_waiting: int
    """Unsent, to be tried (again)."""
    n_given_up: int
    oldest_at: datetime | None
    """When the oldest waiting one was made."""


def post(store: Store, topic: str, chat_id: int, text: str, dedup_key: str, not_before: datetime | None = None) -> bool:
    """Put a message into the outbox; False where one with this key is or was there, or MAX_WAITING are waiting.

    Of callers with the same key at the same moment exactly one gets True. Raises InputError for an empty text or an empty or
    overlong key, StorageError.
    """
    if not text.strip():
        raise InputError("text", text, "must not be empty")
    if not 1 <= len(dedup_key) <= 200:
        raise InputError("dedup_key", dedup_key, "must have 1 to 200 characters")
    now = store.clock()
    with store.write() as connection:
        store.lock(connection, "outbox")
        if connection.execute(select(outbox.c.id).where(outbox.c.dedup_key == dedup_key)).first():
            return False
        if connection.execute(select(func.count()).select_from(outbox).where(_is_waiting(now))).scalar_one() >= MAX_WAITING:
            return False
        values = {"topic": topic[:64], "chat_id": chat_id, "text": text, "dedup_key": dedup_key, "created_at": now}
        connection.execute(insert(outbox).values(**values, not_before=not_before or now))
    return True


def due(store: Store, limit: int = 50) -> list[Letter]:
    """Unsent messages whose time has come, oldest first."""
    query = (
        select(outbox.c.id, outbox.c.topic, outbox.c.chat_id, outbox.c.text, outbox.c.attempts, outbox.c.created_at)
        .where(outbox.c.sent_at.is_(None), outbox.c.not_before <= store.clock())
        .order_by(outbox.c.not_before, outbox.c.id)
        .limit(limit)
    )
    with store.read() as connection:
        return [Letter(*row) for row in connection.execute(query)]


def mark_sent(store: Store, letter_id: int) -> None:
    """It is with the person."""
    with store.write() as connection:
        connection.execute(update(outbox).where(outbox.c.id == letter_id).values(sent_at=store.clock(), error=None))


def mark_failed(store: Store, letter_id: int, error: str, retry_after_s: float, *, is_final: bool = False) -> bool:
    """Note a failure and when to try again; True where it was given up (final, or MAX_ATTEMPTS reached)."""
    with store.write() as connection:
        row = connection.execute(select(outbox.c.attempts).where(outbox.c.id == letter_id)).one()
        attempts = int(row.attempts) + 1
        is_over = is_final or attempts >= MAX_ATTEMPTS
        wait = _NEVER if is_over else timedelta(seconds=retry_after_s)
        values = {"attempts": attempts, "error": error[:500], "not_before": store.clock() + wait}
        connection.execute(update(outbox).where(outbox.c.id == letter_id).values(**values))
    return is_over


def waiting(store: Store) -> Waiting:
    """How many wait, how many were given up."""
    now = store.clock()
    with store.read() as connection:
        n, oldest = connection.execute(select(func.count(), func.min(outbox.c.created_at)).where(_is_waiting(now))).one()
        all_unsent = connection.execute(select(func.count()).select_from(outbox).where(outbox.c.sent_at.is_(None))).scalar_one()
    return Waiting(int(n), int(all_unsent) - int(n), oldest)


def prune(store: Store) -> int:
    """Remove sent and given-up messages older than KEPT; the number removed."""
    now = store.clock()
    is_over = outbox.c.sent_at.is_not(None) | (outbox.c.not_before > now + _NEVER / 2)
    with store.write() as connection:
        return connection.execute(delete(outbox).where(is_over, outbox.c.created_at < now - KEPT)).rowcount


def _is_waiting(now: datetime) -> ColumnElement[bool]:
    return outbox.c.sent_at.is_(None) & (outbox.c.not_before < now + _NEVER / 2)
