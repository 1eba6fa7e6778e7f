"""The error tree that every floor raises and the API maps to one body.

What belongs here: error classes with a stable code. What does not: HTTP status handling (altforecast_serving.errors).
"""

from __future__ import annotations

from collections.abc import Iterable


class AltForecastError(Exception):
    """Base of all errors that we raise on purpose; `code` is the stable machine-readable name."""

    code = "error"


class InputError(AltForecastError):
    """Bad input from outside: names the field, the value and, where finite, what is allowed."""

    code = "invalid_input"

    def __init__(self, field: str, value: object, reason: str, allowed: Iterable[str] = ()) -> None:
        self.field = field
        self.value = value
        self.reason = reason
        self.allowed = tuple(allowed)
        shown = repr(value)
        shown = shown if len(shown) <= 120 else shown[:117] + "..."
        hint = f"; allowed: {', '.join(self.allowed)}" if self.allowed else ""
        super().__init__(f"{field}: {reason}, got {shown}{hint}")


class UnknownNameError(InputError):
    """A name (metric, symbol, timeframe, table, venue) that does not exist; lists those that do."""

    code = "unknown_name"


class SettingsError(AltForecastError):
    """A wrong or contradictory setting: one line with variable, value and what is allowed."""

    code = "invalid_settings"


class SchemaError(AltForecastError):
    """A frame does not match the table it is to be written to."""

    code = "schema_mismatch"


class EnvironmentMismatchError(AltForecastError):
    """Sandbox data met a live store or lake, or the reverse; nothing was read or written."""

    code = "environment_mismatch"


class StorageError(AltForecastError):
    """Disk or database refused a write (full, read-only, gone); what was there before is intact."""

    code = "storage_failed"


class BusyError(AltForecastError):
    """A bound was reached (queue full, rate limit); the caller may try again later."""

    code = "busy"
