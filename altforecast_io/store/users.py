"""People: who they are, what they subscribed to and how they like it.

What belongs here: tables users, subs and user_settings. What does not: commands of the bot and delivery of messages.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from altforecast.errors import InputError
from altforecast_io.store.engine import Store
from altforecast_io.store.schema import subs, user_settings, users


@dataclass(frozen=True)
class User:
    """One person, known by the Telegram chat."""

    id: int
    chat_id: int
    name: str
    created_at: datetime


@dataclass(frozen=True)
class Subscription:
    """What one person wants to be told about; `filter` narrows the topic, empty for all of it."""

    user_id: int
    topic: str
    filter: str


def ensure(store: Store, chat_id: int, name: str) -> User:
    """The person of a chat, made on first sight; a new name replaces the old one."""
    with store.write() as connection:
        store.lock(connection, "users")
        if not connection.execute(update(users).where(users.c.chat_id == chat_id).values(name=name[:128])).rowcount:
            connection.execute(insert(users).values(chat_id=chat_id, name=name[:128], created_at=store.clock()))
        row = connection.execute(select(users).where(users.c.chat_id == chat_id)).one()
    return User(row.id, row.chat_id, row.name, row.created_at)


def subscribe(store: Store, user_id: int, topic: str, filter: str = "") -> bool:  # noqa: A002 - the column's name
    """Add a subscription; False when it was there already. Raises InputError for an empty or overlong topic."""
    if not 1 <= len(topic) <= 64 or len(filter) > 128:
        raise InputError("topic", topic, "must have 1 to 64 characters, the filter at most 128")
    with store.write() as connection:
        store.lock(connection, "users")
        if connection.execute(_subscription(user_id, topic, filter)).first():
            return False
        connection.execute(insert(subs).values(user_id=user_id, topic=topic, filter=filter, created_at=store.clock()))
        return True


def unsubscribe(store: Store, user_id: int, topic: str, filter: str = "") -> bool:  # noqa: A002 - the column's name
    """Remove a subscription; False when there was none."""
    mine = (subs.c.user_id == user_id, subs.c.topic == topic, subs.c.filter == filter)
    with store.write() as connection:
        return connection.execute(delete(subs).where(*mine)).rowcount > 0


def subscriptions(store: Store, topic: str) -> list[Subscription]:
    """Everybody's subscriptions to a topic, oldest first."""
    query = select(subs.c.user_id, subs.c.topic, subs.c.filter).where(subs.c.topic == topic).order_by(subs.c.id)
    with store.read() as connection:
        return [Subscription(*row) for row in connection.execute(query)]


def chats_of(store: Store, topic: str) -> list[int]:
    """Telegram chats of everybody who subscribed to a topic, each once, the oldest subscription first."""
    query = select(users.c.chat_id).join(subs, subs.c.user_id == users.c.id).where(subs.c.topic == topic).order_by(subs.c.id)
    with store.read() as connection:
        return list(dict.fromkeys(connection.execute(query).scalars()))


def settings_of(store: Store, user_id: int) -> dict[str, Any]:
    """All settings of one person; empty where none were made."""
    with store.read() as connection:
        rows = connection.execute(select(user_settings.c.key, user_settings.c.value).where(user_settings.c.user_id == user_id))
        return {key: json.loads(value) for key, value in rows}


def set_setting(store: Store, user_id: int, key: str, value: Any) -> None:
    """Write one setting of one person; `value` must be JSON."""
    with store.write() as connection:
        store.lock(connection, "users")
        _replace(connection, user_id, key, {"value": json.dumps(value), "updated_at": store.clock()})


def _replace(connection: Connection, user_id: int, key: str, values: dict[str, Any]) -> None:
    mine = (user_settings.c.user_id == user_id, user_settings.c.key == key)
    if not connection.execute(update(user_settings).where(*mine).values(**values)).rowcount:
        connection.execute(insert(user_settings).values(user_id=user_id, key=key, **values))


def _subscription(user_id: int, topic: str, filter: str) -> Any:  # noqa: A002 - the column's name
    return select(subs.c.id).where(subs.c.user_id == user_id, subs.c.topic == topic, subs.c.filter == filter)
