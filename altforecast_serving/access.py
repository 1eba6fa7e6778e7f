"""The access log: one structured line and one count per request, and the last net under every handler.

What belongs here: a pure ASGI middleware. What does not: what handlers do. The line names the route template and never the
raw path or query, because a path may carry the webhook's secret.
"""

from __future__ import annotations

import time
import traceback

import structlog
from asgi_correlation_id import correlation_id
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from altforecast_serving.errors import error_response
from altforecast_serving.metrics import Metrics

log = structlog.get_logger("altforecast.access")
QUIET_ROUTES = frozenset({"/healthz", "/metrics", "/webhook", "/webhook/{token}"})
"""Routes whose good answers are logged at DEBUG only: polled ones, and the webhook, whose alerts are in the inbox with their ids."""


class AccessLog:
    """Counts, logs, adds security headers, and turns an unexpected exception into the 500 body."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request (other scopes pass through)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 0

        async def noting_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer")]
            await send(message)

        try:
            await self._app(scope, receive, noting_send)
        except Exception:  # the last net: a bug answers with the one body and is logged with its trace
            # The trace as text: a logger's own rendering may print local variables, and with them headers and keys.
            log.error("request_failed", route=route_of(scope), request_id=correlation_id.get(), trace=traceback.format_exc(limit=-8))
            if status:
                raise
            await error_response(500, "internal_error", "internal error; see the log under this request_id")(scope, receive, noting_send)
        finally:
            self._note(scope, status or 499, time.perf_counter() - began)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        route, method = route_of(scope), str(scope["method"])
        self._metrics.count(method, route, status, seconds)
        write = log.warning if status >= 500 else log.debug if route in QUIET_ROUTES and status < 400 else log.info
        write("request", method=method, route=route, status=status, ms=round(seconds * 1000, 2), request_id=correlation_id.get())


class HeadAsGet:
    """Answers HEAD as GET would, without the body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; every other method passes through."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def bodiless(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {"type": "http.response.body", "body": b"", "more_body": message.get("more_body", False)}
            await send(message)

        scope["method"] = "GET"
        try:
            await self._app(scope, receive, bodiless)
        finally:
            scope["method"] = "HEAD"


def route_of(scope: Scope) -> str:
    """Template of the matched route (`/api/bars/{metric}/{timeframe}`), `unmatched` where there is none."""
    path = getattr(scope.get("route"), "path", None)
    return str(path) if path else "unmatched"
