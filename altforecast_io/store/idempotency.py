"""Operations that may happen once: a key is new or a duplicate.

What belongs here: remembering keys for a while. What does not: how a key is made (the operation knows).
"""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from sqlalchemy import delete, insert, select

from altforecast.errors import InputError
from altforecast_io.store.engine import Store
from altforecast_io.store.schema import idempotency_keys

DAY = timedelta(hours=24)
MAX_KEY_CHARS = 200


def check_and_store(store: Store, key: str, ttl: timedelta = DAY) -> Literal["new", "duplicate"]:
    """`new` for the first caller with this key, `duplicate` for every other one until `ttl` has passed.

    Of callers at the same moment exactly one gets `new`. Expired keys are removed on the way. Raises InputError for an
    empty or overlong key and StorageError.
    """
    if not key or len(key) > MAX_KEY_CHARS:
        raise InputError("key", key, f"must have 1 to {MAX_KEY_CHARS} characters")
    now = store.clock()
    with store.write() as connection:
        store.lock(connection, "idempotency")
        connection.execute(delete(idempotency_keys).where(idempotency_keys.c.expires_at <= now))
        if connection.execute(select(idempotency_keys.c.key).where(idempotency_keys.c.key == key)).first():
            return "duplicate"
        connection.execute(insert(idempotency_keys).values(key=key, created_at=now, expires_at=now + ttl))
        return "new"
