"""`/api/settings` and `/config/validate`: settings that change while running, and those of the environment.

What belongs here: reading and writing through the API. What does not: what settings there are (`altforecast_io`).
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Path
from pydantic import BaseModel, ConfigDict, Field

from altforecast_io.settings_report import settings_report
from altforecast_io.store import settings as live
from altforecast_io.store.keys import ApiKey
from altforecast_serving.auth import requires
from altforecast_serving.dependencies import ServicesDep
from altforecast_serving.errors import documented
from altforecast_serving.lineage import Answer, Envelope, envelope

router = APIRouter(tags=["settings"])


class LiveSettingResponse(BaseModel):
    """One live setting at one version."""

    key: str
    value: Any
    default: Any
    meaning: str
    version: int = Field(description="0 is the default")
    updated_at: datetime | None
    updated_by: str


class NewValue(BaseModel):
    """A new value of a live setting."""

    model_config = ConfigDict(extra="forbid")

    value: Any
    expected_version: int | None = Field(None, ge=0, le=2**31, description="refuse (409) when another version is current")


class SettingRowResponse(BaseModel):
    """One variable of the environment, secrets masked."""

    name: str
    aliases: list[str]
    value: str
    default: str
    source: str
    meaning: str
    ok: bool
    message: str


class ConfigReport(BaseModel):
    """The effective settings of this process."""

    ok: bool
    environment: str
    settings: list[SettingRowResponse]


def _shown(version: live.SettingVersion) -> dict[str, Any]:
    known = live.LIVE_SETTINGS[version.key]
    return {**asdict(version), "default": known.default, "meaning": known.meaning}


@router.get("/api/settings", response_model=Envelope[list[LiveSettingResponse]], responses=documented(401, 429, 503))
async def list_settings(services: ServicesDep) -> Any:
    """Every live setting at its newest version."""
    found = await services.in_thread(lambda: live.everything(services.store))
    return envelope(Answer([_shown(v) for v in found.values()]), services.environment)


@router.put("/api/settings/{key}", response_model=Envelope[LiveSettingResponse], responses=documented(401, 403, 404, 409, 422, 429, 503))
async def write_setting(
    services: ServicesDep,
    key: Annotated[str, Path(max_length=64)],
    new: Annotated[NewValue, Body()],
    caller: Annotated[ApiKey, Depends(requires("admin"))],
) -> Any:
    """Write a new version; it takes effect without a restart."""
    by = f"key:{caller.name}"
    written = await services.in_thread(lambda: live.put(services.store, key, new.value, by=by, expected_version=new.expected_version))
    return envelope(Answer(_shown(written)), services.environment)


@router.get("/config/validate", response_model=ConfigReport, responses=documented(401, 429))
async def validate_config(services: ServicesDep) -> Any:
    """The same report as `altforecast config`."""
    rows = [asdict(row) for row in settings_report(services.settings)]
    return {"ok": all(row["ok"] for row in rows), "environment": services.environment, "settings": rows}
