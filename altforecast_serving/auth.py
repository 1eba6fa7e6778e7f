"""Who is calling, and what the caller may do.

What belongs here: reading API keys from requests, scopes, the gate that every /api route passes. What does not: making keys
(`altforecast_io.store.keys`, `routes.keys`).
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from anyio import to_thread
from fastapi import Request
from starlette.requests import HTTPConnection
from starlette.websockets import WebSocket

from altforecast_io.store import keys
from altforecast_io.store.engine import Store
from altforecast_serving.errors import ForbiddenError, RateLimitedError, UnauthorizedError
from altforecast_serving.limits import caller_address
from altforecast_serving.wires import SECRET

if TYPE_CHECKING:
    from altforecast_serving.dependencies import Services

KEY_HEADER = "X-API-Key"
BELIEVED_S = 5.0
"""How long a looked-up key is believed: a key revoked elsewhere works at most this much longer."""
MAX_BELIEVED = 1024
"""Looked-up keys held; beyond it the oldest is asked for again."""


class KeyRing:
    """Looks keys up in the store, and remembers good ones for a few seconds by their hash."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        """clock: seconds that never run backwards."""
        self._store = store
        self._clock = clock
        self._believed: OrderedDict[str, tuple[float, keys.ApiKey]] = OrderedDict()

    async def find(self, secret: str) -> keys.ApiKey:
        """The key with this secret; raises UnauthorizedError for an unknown or revoked one."""
        name = hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()
        since, held = self._believed.get(name, (float("-inf"), None))
        if held is not None and self._clock() - since < BELIEVED_S:
            return held
        found = await to_thread.run_sync(keys.find, self._store, secret)
        if found is None or found.revoked_at is not None:
            self._believed.pop(name, None)
            raise UnauthorizedError("the API key is unknown or revoked")
        self._believed[name] = (self._clock(), found)
        if len(self._believed) > MAX_BELIEVED:
            self._believed.popitem(last=False)
        return found

    def forget(self) -> None:
        """Ask again for every key: something was revoked."""
        self._believed.clear()


def presented_secret(request: HTTPConnection) -> str | None:
    """The key in `X-API-Key` or `Authorization: Bearer`, None where there is none."""
    if secret := request.headers.get(KEY_HEADER):
        return secret
    kind, _, secret = request.headers.get("authorization", "").partition(" ")
    return secret.strip() if kind.lower() == "bearer" and secret.strip() else None


def address_of(request: HTTPConnection, trusted_proxies: tuple[str, ...]) -> str:
    """Address of the caller, through our own proxies."""
    peer = request.client.host if request.client else "unknown"
    return caller_address(peer, request.headers.get("x-forwarded-for", ""), trusted_proxies)


async def admit(request: Request) -> None:
    """The gate of the API: counts the request against the caller's limit, and asks for a key where the settings say so.

    A key that is presented must be good even where none is needed.  Callers without a good key share the bucket of their
    address, so that guessing keys is limited too.
    """
    await _admit(request, request.app.state.services, presented_secret(request))


async def admit_socket(socket: WebSocket, services: Services) -> None:
    """The same gate for a WebSocket, whose key may also come as `?key=`: a browser cannot set headers there."""
    await _admit(socket, services, presented_secret(socket) or socket.scope.get(SECRET))


async def _admit(request: HTTPConnection, services: Services, secret: str | None) -> None:
    address = f"ip:{address_of(request, services.settings.trusted_proxies)}"
    if secret is None:
        _take(services, address)
        if services.settings.api_requires_key:
            raise UnauthorizedError(f"this API needs a key in {KEY_HEADER} or `Authorization: Bearer`")
        return
    try:
        request.state.key = await services.keys.find(secret)
    except UnauthorizedError:
        _take(services, address)
        raise
    _take(services, f"key:{request.state.key.id}")


def _take(services: Services, caller: str) -> None:
    wait_s = services.buckets.take(caller)
    if wait_s > 0:
        services.metrics.limited.inc()
        raise RateLimitedError(wait_s)


def requires(scope: str) -> Callable[[Request], Awaitable[keys.ApiKey]]:
    """Dependency for routes that need a key with a scope (after `admit`)."""

    async def check(request: Request) -> keys.ApiKey:
        key: keys.ApiKey | None = getattr(request.state, "key", None)
        if key is None:
            raise UnauthorizedError(f"this route needs a key with scope {scope} in {KEY_HEADER} or `Authorization: Bearer`")
        if not key.allows(scope):
            raise ForbiddenError(f"the key lacks scope {scope}")
        return key

    return check
