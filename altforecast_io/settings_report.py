"""The effective settings as a report with secrets masked, for `altforecast config` and `GET /config/validate`.

What belongs here: describing settings. What does not: reading them (`settings`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import AliasChoices, SecretStr

from altforecast_io.setting_values import mask_url
from altforecast_io.settings import Settings


@dataclass(frozen=True)
class SettingRow:
    """One variable: its name, old names, shown value, where it came from and what it means."""

    name: str
    aliases: tuple[str, ...]
    value: str
    default: str
    source: str
    meaning: str
    ok: bool = True
    message: str = ""


def settings_report(settings: Settings, environ: Mapping[str, str] | None = None) -> list[SettingRow]:
    """One row per variable in declaration order; secrets appear as *** (set) or empty (not set)."""
    known = os.environ if environ is None else environ
    return [_row(settings, field, known) for field in Settings.model_fields]


def _row(settings: Settings, field: str, environ: Mapping[str, str]) -> SettingRow:
    info = Settings.model_fields[field]
    spellings = [str(c) for c in info.validation_alias.choices] if isinstance(info.validation_alias, AliasChoices) else [field]
    given = next((s for s in spellings if environ.get(s)), None)
    value = getattr(settings, field)
    changed = value != info.default
    source = f"environment ({given})" if given else (".env or start" if changed else "default")
    message = _advice(settings, field)
    return SettingRow(
        spellings[0], tuple(spellings[1:]), _shown(value), _shown(info.default), source, info.description or "", not message, message
    )


def _shown(value: Any) -> str:
    if value is None or value == "":
        return ""
    if isinstance(value, SecretStr):
        return "***" if value.get_secret_value() else ""
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return mask_url(str(value))


def _advice(settings: Settings, field: str) -> str:
    if field == "secret_webhook_token" and settings.secret_webhook_token is None and settings.environment == "live":
        return "not set: TradingView alerts are refused until it is"
    if field == "enable_trading" and settings.enable_trading and settings.mode == "live" and settings.admin_chat_id is None:
        return "live orders also need ADMIN_CHAT_ID"
    return ""
