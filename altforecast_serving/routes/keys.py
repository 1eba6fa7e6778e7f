"""`/api/keys`: API keys, for administrators.

What belongs here: making, listing and revoking over HTTP. What does not: storing them (`altforecast_io.store.keys`); the
first key comes from `altforecast keys create`.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Path
from pydantic import BaseModel, ConfigDict, Field

from altforecast_io.store import keys
from altforecast_serving.auth import requires
from altforecast_serving.dependencies import ServicesDep
from altforecast_serving.errors import documented
from altforecast_serving.lineage import Answer, Envelope, envelope

router = APIRouter(tags=["keys"], dependencies=[Depends(requires("admin"))])


class Scope(StrEnum):
    """What a key may do; `admin` includes `write`, `write` includes `read`."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"


class KeyResponse(BaseModel):
    """A key without its secret."""

    id: int
    name: str
    scopes: list[Scope]
    created_at: datetime
    revoked_at: datetime | None


class NewKeyResponse(KeyResponse):
    """A new key: the secret is shown this once."""

    secret: str


class NewKey(BaseModel):
    """What to make."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=64, pattern=r"^[\w .:@-]+$")
    scopes: list[Scope] = Field(min_length=1, max_length=3)


@router.get("/api/keys", response_model=Envelope[list[KeyResponse]], responses=documented(401, 403, 429, 503))
async def list_keys(services: ServicesDep) -> Any:
    """Every key ever made, without secrets."""
    found = await services.in_thread(lambda: keys.all_keys(services.store))
    return envelope(Answer([asdict(key) for key in found]), services.environment)


@router.post("/api/keys", status_code=201, response_model=Envelope[NewKeyResponse], responses=documented(401, 403, 422, 429, 503))
async def create_key(services: ServicesDep, wanted: Annotated[NewKey, Body()]) -> Any:
    """Make a key; its secret is in this answer and nowhere else."""
    scopes = [scope.value for scope in wanted.scopes]
    made = await services.in_thread(lambda: keys.create(services.store, wanted.name, scopes))
    return envelope(Answer({**asdict(made.key), "secret": made.secret}), services.environment)


@router.delete("/api/keys/{key_id}", response_model=Envelope[KeyResponse], responses=documented(401, 403, 404, 422, 429, 503))
async def revoke_key(services: ServicesDep, key_id: Annotated[int, Path(ge=1, le=2**31)]) -> Any:
    """End a key for good."""
    ended = await services.in_thread(lambda: keys.revoke(services.store, key_id))
    services.keys.forget()
    return envelope(Answer(asdict(ended)), services.environment)
