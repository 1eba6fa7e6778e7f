"""`POST /webhook`: TradingView alerts, acknowledged once they are durable.

What belongs here: reading the body within its bounds, who may send, status and body of the answer. What does not: what an
alert says (`sources.tradingview`) and how it is stored (`store.inbox`).
"""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import Any

import orjson
import structlog
from asgi_correlation_id import correlation_id
from fastapi import APIRouter, Request
from prometheus_client import Counter, Histogram
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from altforecast.errors import AltForecastError, BusyError, InputError, StorageError
from altforecast_io.settings import Settings
from altforecast_io.sources.tradingview import SANDBOX_TOKEN, Alert, BodyTooLargeError, TokenError, parse_alert
from altforecast_serving.errors import MAX_DETAIL_CHARS, ForbiddenError, documented
from altforecast_serving.limits import caller_address, is_inside

READ_SECONDS = 10.0
"""A body that takes longer is given up; TradingView itself gives up after 3 s."""
RETRY_AFTER_S = 5
"""TradingView sends again 5 s after a 5xx answer, three times at most."""
_STATUS: tuple[tuple[type[AltForecastError], int], ...] = (
    (BodyTooLargeError, 413),
    (TokenError, 401),
    (ForbiddenError, 403),
    (InputError, 422),
    (BusyError, 503),
    (StorageError, 503),
)
ALERTS = Counter("webhook_alerts_total", "TradingView alerts by outcome", ("status",), registry=None)
SECONDS = Histogram(
    "webhook_ack_seconds", "Time from the request to the durable acknowledgement [s]", registry=None,
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 3.0),
)  # fmt: skip
COLLECTORS = (ALERTS, SECONDS)
"""To be registered by the app, in its own registry."""

log = structlog.get_logger(__name__)
router = APIRouter(tags=["webhook"])
_EXAMPLE = {
    "v": 1, "token": "<your secret>", "symbol": "CRYPTOCAP:USDT.D", "tf": "240", "t": 1767225600000, "tc": 1767240000000,
    "o": "4.61", "h": "4.70", "l": "4.58", "c": "4.66", "vol": None, "src": "pine6",
}  # fmt: skip
_ANSWER = {
    "type": "object",
    "required": ["status", "id", "request_id"],
    "properties": {
        "status": {"enum": ["stored", "duplicate", "revision"]},
        "id": {"type": "integer", "description": "row of the inbox"},
        "request_id": {"type": "string"},
    },
}
_DOCUMENTED: dict[str, Any] = {
    "summary": "Take a TradingView alert",
    "responses": {
        200: {"description": "Durable: stored, a duplicate, or a revision", "content": {"application/json": {"schema": _ANSWER}}},
        **documented(401, 403, 408, 413, 422, 503),
    },
    "openapi_extra": {
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": {"type": "object"}, "example": _EXAMPLE},
                "text/plain": {"schema": {"type": "string"}, "example": "symbol=CRYPTOCAP:USDT.D tf=240 t=... o=... h=... l=... c=..."},
            },
        }
    },
}


@router.post("/webhook", **_DOCUMENTED)
async def take_alert(request: Request) -> Response:
    """Store one alert whose secret is in its body; 200 means that it is on disk. A resend is answered `duplicate`."""
    return await _answered(request, None)


@router.post("/webhook/{token}", **_DOCUMENTED)
async def take_alert_by_path(request: Request, token: str) -> Response:
    """As `/webhook`, with the secret in the path, for alerts whose text cannot hold it."""
    return await _answered(request, token)


async def _answered(request: Request, path_token: str | None) -> Response:
    began = time.perf_counter()
    try:
        alert, address = await _read_alert(request, path_token)
        receipt = await request.app.state.inbox.submit(alert, address)
    except AltForecastError as error:
        return _refusal(error)
    ALERTS.labels(receipt.status).inc()
    SECONDS.observe(time.perf_counter() - began)
    return _json({"status": receipt.status, "id": receipt.id, "request_id": correlation_id.get() or ""}, 200)


async def _read_alert(request: Request, path_token: str | None) -> tuple[Alert, str]:
    state = request.app.state
    settings: Settings = state.settings
    address = _allowed_address(request, settings)
    body = await _read_body(request, settings.webhook_max_bytes)
    alert = parse_alert(
        body,
        secret=_secret(settings),
        path_token=path_token,
        now=state.clock(),
        tv_btc_symbol=settings.tv_btc_symbol,
        max_bytes=settings.webhook_max_bytes,
        early=timedelta(milliseconds=settings.webhook_early_ms),
    )
    return alert, address


async def _read_body(request: Request, limit: int) -> bytes:
    """The body, without ever holding more than `limit` bytes and one chunk."""
    announced = request.headers.get("content-length", "0")
    if not announced.isdecimal() or int(announced[:20]) > limit:
        raise BodyTooLargeError("body", f"{announced[:20]} bytes", f"longer than {limit} bytes")
    body = bytearray()
    try:
        async with asyncio.timeout(READ_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    raise BodyTooLargeError("body", f"more than {limit} bytes", f"longer than {limit} bytes")
    except (TimeoutError, ClientDisconnect):
        raise _UnfinishedBodyError("body", f"{len(body)} bytes", f"was not finished within {READ_SECONDS:g} s") from None
    return bytes(body)


class _UnfinishedBodyError(InputError):
    """The sender stopped in the middle of the body."""

    code = "unfinished_body"


def _secret(settings: Settings) -> str:
    if settings.secret_webhook_token is not None:
        return settings.secret_webhook_token.get_secret_value()
    if settings.environment == "sandbox":
        return SANDBOX_TOKEN
    raise TokenError("SECRET_WEBHOOK_TOKEN is not set: no alert can be accepted")


def _allowed_address(request: Request, settings: Settings) -> str:
    peer = request.client.host if request.client else ""
    address = caller_address(peer, request.headers.get("x-forwarded-for", ""), settings.trusted_proxies)[:64]
    if settings.webhook_allowed_ips and not is_inside(address, settings.webhook_allowed_ips):
        raise ForbiddenError("this address may not send alerts (WEBHOOK_ALLOWED_IPS)")
    return address


def _refusal(error: AltForecastError) -> Response:
    status = 408 if isinstance(error, _UnfinishedBodyError) else next((s for kind, s in _STATUS if isinstance(error, kind)), None)
    if status is None:
        raise error
    body: dict[str, Any] = {"error": error.code, "detail": _printable(error)[:MAX_DETAIL_CHARS], "request_id": correlation_id.get() or ""}
    if isinstance(error, InputError):
        value = None if error.value is None else _printable(error.value)[:200]
        body |= {"field": error.field, "value": value, "allowed": list(error.allowed)}
    ALERTS.labels(error.code).inc()
    # Neither value nor body is logged: a mistyped alert may carry its secret anywhere.
    log.warning("alert_refused", status=status, code=error.code, field=getattr(error, "field", None))
    return _json(body, status)


def _json(body: dict[str, Any], status: int) -> Response:
    headers = {"Cache-Control": "no-store"} | ({"Retry-After": str(RETRY_AFTER_S)} if status == 503 else {})
    return Response(orjson.dumps(body), status, headers, "application/json")


def _printable(value: object) -> str:
    return str(value).encode("utf-8", "backslashreplace").decode()
