"""One error tree, one body: `{"error", "detail", "request_id"}`.

What belongs here: mapping errors to status and body. What does not: raising them (the floor where they happen).
"""

from __future__ import annotations

import math
import re
from http import HTTPStatus
from typing import Any

import orjson
from asgi_correlation_id import correlation_id
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

from altforecast.errors import AltForecastError, BusyError, InputError, StorageError, UnknownNameError
from altforecast_io.store.settings import VersionConflictError

_QUOTED = re.compile(r"'([^']*)'")
MAX_DETAIL_CHARS = 2000
"""Longer details are cut: an error body never grows with its input."""


class ErrorBody(BaseModel):
    """Body of every answer that is not a success."""

    error: str = Field(description="stable machine-readable name", examples=["unknown_name"])
    detail: str = Field(description="one line for people: field, reason, value, what is allowed")
    request_id: str = Field(description="the same id as in the logs and in the X-Request-ID header")
    field: str | None = Field(None, description="which input was wrong, where there is one")
    value: str | None = Field(None, description="its value, cut to 200 characters")
    allowed: list[str] | None = Field(None, description="what is allowed, where that is finite")


class UnauthorizedError(AltForecastError):
    """No key, or a key that is unknown, expired or revoked."""

    code = "unauthorized"


class ForbiddenError(AltForecastError):
    """A good key without the scope that the route asks for."""

    code = "forbidden"


class RateLimitedError(BusyError):
    """The bucket of this key or address is empty; `retry_after_s` says for how long."""

    code = "rate_limited"

    def __init__(self, retry_after_s: float) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(f"too many requests; try again in {max(1, math.ceil(retry_after_s))} s")


_STATUS: tuple[tuple[type[AltForecastError], int], ...] = (
    (VersionConflictError, 409),
    (UnauthorizedError, 401),
    (ForbiddenError, 403),
    (RateLimitedError, 429),
    (UnknownNameError, 404),
    (InputError, 422),
    (BusyError, 503),
    (StorageError, 503),
)


def status_of(error: AltForecastError) -> int:
    """HTTP status of one of our errors; a timeframe or horizon is a value (422), every other unknown name is a missing thing
    (404)."""
    if isinstance(error, UnknownNameError) and error.field in ("timeframe", "horizon"):
        return 422
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def error_response(status: int, code: str, detail: str, headers: dict[str, str] | None = None, **more: object) -> Response:
    """The one error body as a response; `more`: the fields of a bad input."""
    body = {"error": code, "detail": detail[:MAX_DETAIL_CHARS], "request_id": correlation_id.get() or "", **more}
    return Response(orjson.dumps(body), status, {"Cache-Control": "no-store", **(headers or {})}, "application/json")


async def _on_own_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, AltForecastError)
    headers = {"WWW-Authenticate": "Bearer"} if isinstance(error, UnauthorizedError) else {}
    if isinstance(error, RateLimitedError):
        headers["Retry-After"] = str(max(1, round(error.retry_after_s + 0.5)))
    status = status_of(error)
    more: dict[str, object] = {}
    if isinstance(error, InputError):
        more = {"field": error.field, "value": str(error.value)[:200], "allowed": list(error.allowed)}
    return error_response(status, error.code, str(error) if status != 500 else "internal error", headers, **more)


async def _on_http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
    return error_response(error.status_code, code, str(error.detail), dict(error.headers or {}))


async def _on_bad_request(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    problems = error.errors()
    return error_response(422, "invalid_input", "; ".join(_line(e) for e in problems), {}, **_fields(problems[0]))


def _fields(problem: dict[str, Any]) -> dict[str, object]:
    """field, value and allowed of one problem; allowed is empty where it is not finite."""
    place, *rest = [str(p) for p in problem.get("loc", ())] or [""]
    # As in the detail: headers and bodies are not repeated.
    value = str(problem["input"])[:200] if place in ("query", "path") and "input" in problem else None
    expected = str(problem.get("ctx", {}).get("expected", "")) if problem.get("type") in ("enum", "literal_error") else ""
    return {"field": ".".join(rest) or place, "value": value, "allowed": _QUOTED.findall(expected)}


def _line(problem: dict[str, Any]) -> str:
    place, *rest = [str(p) for p in problem.get("loc", ())] or [""]
    field = ".".join(rest) or place
    # A header may be an API key and a body may carry a secret: neither is repeated in an answer.
    shown = f", got {repr(problem['input'])[:120]}" if place in ("query", "path") and "input" in problem else ""
    return f"{field}: {problem.get('msg', 'invalid')}{shown}"


def install_error_handlers(app: FastAPI) -> None:
    """Give the app the one error body; unexpected exceptions are handled by the access log, which records their trace."""
    app.add_exception_handler(AltForecastError, _on_own_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(RequestValidationError, _on_bad_request)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """`responses=` entry that documents the one error body for these statuses."""
    return {status: {"model": ErrorBody, "description": HTTPStatus(status).phrase} for status in statuses}
