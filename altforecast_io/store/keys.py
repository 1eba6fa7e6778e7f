"""API keys: who may use the routes that write.

What belongs here: making, finding and revoking keys; only hashes are stored. What does not: reading headers and rate limits
(serving).
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, insert, select, update

from altforecast.errors import InputError, UnknownNameError
from altforecast_io.store.engine import Store
from altforecast_io.store.schema import api_keys

SCOPES = ("read", "write", "admin")
"""What a key may do; `admin` includes `write`, `write` includes `read`."""
_INCLUDES = {"read": {"read"}, "write": {"read", "write"}, "admin": {"read", "write", "admin"}}
_START = "afk_"
_PREFIX_CHARS = 8


@dataclass(frozen=True)
class ApiKey:
    """A key as it may be shown: without the secret."""

    id: int
    name: str
    scopes: tuple[str, ...]
    created_at: datetime
    revoked_at: datetime | None

    def allows(self, scope: str) -> bool:
        """Whether the key is not revoked and one of its scopes is, or includes, `scope`."""
        return self.revoked_at is None and any(scope in _INCLUDES[s] for s in self.scopes)


@dataclass(frozen=True)
class CreatedKey:
    """A new key and its secret, which is shown once and never again."""

    key: ApiKey
    secret: str


def create(store: Store, name: str, scopes: Sequence[str], token: Callable[[int], str] = secrets.token_hex) -> CreatedKey:
    """Make a key of 256 random bits (`token(n)` gives n bytes as hex); raises InputError for a bad name or scope."""
    if not 1 <= len(name.strip()) <= 64:
        raise InputError("name", name, "must have 1 to 64 characters")
    unknown = [s for s in scopes if s not in SCOPES]
    if unknown or not scopes:
        raise UnknownNameError("scope", unknown[0] if unknown else "", "unknown scope", SCOPES)
    secret = f"{_START}{token(_PREFIX_CHARS // 2)}_{token(32)}"
    values = {
        "name": name.strip(), "prefix": _prefix(secret), "key_hash": _hash(secret),
        "scopes": " ".join(s for s in SCOPES if s in scopes), "created_at": store.clock(),
    }  # fmt: skip
    with store.write() as connection:
        row = connection.execute(insert(api_keys).values(**values).returning(api_keys)).one()
    return CreatedKey(_key(row), secret)


def find(store: Store, presented: str) -> ApiKey | None:
    """The key with this secret, also when it is revoked (ask `allows`); None for an unknown one."""
    if not presented.startswith(_START) or not presented.isascii() or len(presented) > 200:
        return None
    with store.read() as connection:
        row = connection.execute(select(api_keys).where(api_keys.c.prefix == _prefix(presented))).one_or_none()
    # A fast hash is enough: the secret has 256 random bits, there is nothing to guess.
    if row is None or not hmac.compare_digest(row.key_hash, _hash(presented)):
        return None
    return _key(row)


def all_keys(store: Store) -> list[ApiKey]:
    """Every key ever made, oldest first."""
    with store.read() as connection:
        return [_key(row) for row in connection.execute(select(api_keys).order_by(api_keys.c.id))]


def revoke(store: Store, key_id: int) -> ApiKey:
    """End a key at once and for good; revoking twice keeps the first time. Raises UnknownNameError."""
    change = update(api_keys).where(api_keys.c.id == key_id, api_keys.c.revoked_at.is_(None))
    with store.write() as connection:
        connection.execute(change.values(revoked_at=store.clock()))
        row = connection.execute(select(api_keys).where(api_keys.c.id == key_id)).one_or_none()
    if row is None:
        raise UnknownNameError("key_id", key_id, "no such key", [str(k.id) for k in all_keys(store)])
    return _key(row)


def _prefix(secret: str) -> str:
    return secret[: len(_START) + _PREFIX_CHARS]


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


def _key(row: Row[Any]) -> ApiKey:
    return ApiKey(row.id, row.name, tuple(row.scopes.split()), row.created_at, row.revoked_at)
