"""Settings that change while the platform runs: versioned, read without a restart.

What belongs here: the register of live settings, writing, history and a reader that follows. What does not: settings of the
environment (`altforecast_io.settings`) and numbers that define results (`altforecast.params`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any

from sqlalchemy import Row, func, insert, select, update

from altforecast.errors import AltForecastError, InputError, UnknownNameError
from altforecast_io.store.engine import Store
from altforecast_io.store.schema import settings, settings_history


class VersionConflictError(AltForecastError):
    """Somebody else changed the setting since it was read; nothing was written."""

    code = "version_conflict"


@dataclass(frozen=True)
class LiveSetting:
    """One setting: default, meaning with unit, and a check that returns the value or says what is allowed."""

    key: str
    default: Any
    meaning: str
    check: Callable[[Any], str | None]
    """Returns None for a good value, else the reason."""


@dataclass(frozen=True)
class SettingVersion:
    """One version of one setting; version 0 is the default."""

    key: str
    value: Any
    version: int
    updated_at: datetime | None
    updated_by: str


def number_between(low: float, high: float) -> Callable[[Any], str | None]:
    """Check for a number within [low, high]; booleans, NaN and texts are refused."""

    def check(value: Any) -> str | None:
        good = isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
        return None if good else f"must be a number from {low:g} to {high:g}"

    return check


def whole_number_between(low: int, high: int) -> Callable[[Any], str | None]:
    """Check for a whole number within [low, high]; fractions, booleans and texts are refused."""

    def check(value: Any) -> str | None:
        good = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
        return None if good else f"must be a whole number from {low} to {high}"

    return check


LIVE_SETTINGS: Mapping[str, LiveSetting] = MappingProxyType(
    {
        s.key: s
        for s in (
            LiveSetting("streams.grace_s", 120, "how long after its close a bar may be on its way [s]", number_between(1, 86_400)),
            LiveSetting("streams.lookback_bars", 96, "bars per stream that the delivery ledger looks at", whole_number_between(1, 1000)),
        )
    }
)
"""Every live setting; a new one is a line here."""


def get(store: Store, key: str) -> SettingVersion:
    """Newest version of a setting, or its default as version 0. Raises UnknownNameError."""
    default = _default(key)
    with store.read() as connection:
        row = connection.execute(select(settings).where(settings.c.key == key)).one_or_none()
    return default if row is None else _version(row)


def everything(store: Store) -> dict[str, SettingVersion]:
    """Every live setting at its newest version; keys that the code no longer knows are left out."""
    with store.read() as connection:
        stored = {row.key: _version(row) for row in connection.execute(select(settings))}
    return {key: stored.get(key, _default(key)) for key in LIVE_SETTINGS}


def put(store: Store, key: str, value: Any, *, by: str, expected_version: int | None = None) -> SettingVersion:
    """Write a new version; durable on return.

    With `expected_version` (0 for the default) nothing is written when another version is current: VersionConflictError.
    Raises UnknownNameError for an unknown key, InputError for a value that its check refuses, StorageError.
    """
    _check(key, value)
    with store.write() as connection:
        store.lock(connection, "settings")
        current = connection.execute(select(settings.c.version).where(settings.c.key == key)).scalar() or 0
        if expected_version is not None and expected_version != current:
            raise VersionConflictError(f"{key} is at version {current}, not {expected_version}: read it again")
        written = SettingVersion(key, value, current + 1, store.clock(), by[:64])
        values = {
            "value": json.dumps(value),
            "version": written.version,
            "updated_at": written.updated_at,
            "updated_by": written.updated_by,
        }
        if current:
            connection.execute(update(settings).where(settings.c.key == key).values(**values))
        else:
            connection.execute(insert(settings).values(key=key, **values))
        connection.execute(insert(settings_history).values(key=key, **values))
    return written


def history(store: Store, key: str, limit: int = 100) -> list[SettingVersion]:
    """Versions of a setting, newest first, ending with the default. Raises UnknownNameError."""
    default = _default(key)
    query = select(settings_history).where(settings_history.c.key == key).order_by(settings_history.c.version.desc()).limit(limit)
    with store.read() as connection:
        return [*(_version(row) for row in connection.execute(query)), default]


class LiveSettings:
    """The newest values in memory; `refresh` asks the store and is cheap when nothing changed."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._seen = -1
        self._values: Mapping[str, SettingVersion] = {key: _default(key) for key in LIVE_SETTINGS}

    def refresh(self) -> bool:
        """Read new values when there are any; returns whether anything changed. Blocks; raises StorageError."""
        with self._store.read() as connection:
            newest = connection.execute(select(func.max(settings_history.c.id))).scalar() or 0
        if newest == self._seen:
            return False
        self._values, self._seen = everything(self._store), newest
        return True

    def __getitem__(self, key: str) -> Any:
        """Value as of the last refresh (the default before the first). Raises UnknownNameError."""
        _default(key)
        return self._values[key].value


def _default(key: str) -> SettingVersion:
    setting = LIVE_SETTINGS.get(key)
    if setting is None:
        raise UnknownNameError("key", key, "no such live setting", LIVE_SETTINGS)
    return SettingVersion(key, setting.default, 0, None, "default")


def _check(key: str, value: Any) -> None:
    _default(key)
    reason = LIVE_SETTINGS[key].check(value)
    if reason is not None:
        raise InputError(key, value, reason)


def _version(row: Row[Any]) -> SettingVersion:
    return SettingVersion(row.key, json.loads(row.value), row.version, row.updated_at, row.updated_by)
