"""Fault switches of the stand-in servers: what a real service does on its bad days.

What belongs here: the switches, their HTTP control and their effect on answers. What does not: incidents of the market itself.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import orjson
from aiohttp import web

from altforecast.errors import InputError, UnknownNameError
from altforecast_sandbox.stream_faults import STREAM_KINDS, StreamFaults
from altforecast_sandbox.switches import EVERY_SERVICE, Fault

__all__ = ["EVERY_SERVICE", "KINDS", "Bodies", "Fault", "Switchboard"]

KINDS = (
    "latency", "rate_limit", "server_error", "error_body", "truncated", "html", "empty", "nulls", "duplicate",
    "out_of_order", "disconnect", "clock_skew",
)  # fmt: skip
_DEFAULTS = {"latency": 1.0, "rate_limit": 2.0, "server_error": 503.0, "clock_skew": 30.0}
_REWRITES = ("empty", "nulls", "duplicate", "out_of_order")
_MAX_FAULTS = 100
_MAX_LATENCY_S = 120.0
_TIME_FIELDS = frozenset({"t", "id", "start", "timestamp"})
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Bodies:
    """What a service says when it limits or refuses: status and JSON body of each."""

    limited: tuple[int, Any]
    refused: Any
    """Sent with status 200 by the switch `error_body`."""


class Switchboard:
    """The faults of all services, and how often each struck; at most 100 switches at a time."""

    def __init__(self, bodies: Mapping[str, Bodies]) -> None:
        self._bodies = bodies
        self._faults: list[Fault] = []
        self.counts: Counter[str] = Counter()
        self.stream = StreamFaults(self.counts)
        """The switches of the venues' streams."""

    def set(self, fault: Fault) -> None:
        """Adds a switch; raises InputError naming the wrong field."""
        if fault.kind not in KINDS + STREAM_KINDS:
            raise UnknownNameError("kind", fault.kind, "unknown fault", KINDS + STREAM_KINDS)
        if fault.service != EVERY_SERVICE and fault.service not in self._bodies:
            raise UnknownNameError("service", fault.service, "unknown service", self._bodies)
        if fault.times is not None and fault.times < 1:
            raise InputError("times", fault.times, "must be at least 1")
        if len(self._faults) + len(self.stream.faults) >= _MAX_FAULTS:
            raise InputError("fault", fault.kind, f"there are {_MAX_FAULTS} switches already; clear them first")
        if fault.kind in STREAM_KINDS:
            self.stream.add(fault)
            return
        fault.value = fault.value or _DEFAULTS.get(fault.kind, 0.0)
        self._faults.append(fault)

    def clear(self) -> None:
        """Removes every switch; counts stay."""
        self._faults.clear()
        self.stream.faults.clear()

    def state(self) -> dict[str, Any]:
        """Switches and counts, as JSON."""
        return {"faults": [asdict(f) for f in (*self._faults, *self.stream.faults)], "counts": dict(self.counts)}

    def skew_s(self, service: str) -> float:
        """How far a service's clock is ahead [s]."""
        return sum(f.value for f in self._faults if f.kind == "clock_skew" and f.service in (service, EVERY_SERVICE))

    def take(self, service: str, path: str) -> list[Fault]:
        """The faults that strike this request; counted, and used up."""
        struck = [f for f in self._faults if f.service in (service, EVERY_SERVICE) and f.path in path]
        for fault in struck:
            self.counts[f"{service}.{fault.kind}"] += 1
            if fault.times is not None:
                fault.times -= 1
        self._faults = [f for f in self._faults if f.times is None or f.times > 0]
        return struck

    def middleware(self) -> Any:
        """The aiohttp middleware that applies the switches; the service is the first path segment."""

        @web.middleware
        async def apply(request: web.Request, handler: Handler) -> web.StreamResponse:
            service = request.path.split("/")[1]
            if service not in self._bodies:
                return await handler(request)
            struck = self.take(service, request.path)
            for fault in struck:
                early = await _early(fault, self._bodies[service], request)
                if early is not None:
                    return early
            response = await handler(request)
            return _rewritten(response, [f.kind for f in struck]) if struck else response

        return apply

    def routes(self) -> list[web.RouteDef]:
        """`GET`, `POST` (one switch as JSON) and `DELETE` of `/_faults`."""

        async def show(_: web.Request) -> web.Response:
            return web.json_response(self.state())

        async def add(request: web.Request) -> web.Response:
            try:
                self.set(Fault(**orjson.loads(await request.read())))
            except (TypeError, orjson.JSONDecodeError, InputError) as error:
                return web.json_response({"error": "invalid_input", "detail": str(error)}, status=422)
            return web.json_response(self.state())

        async def remove(_: web.Request) -> web.Response:
            self.clear()
            return web.json_response(self.state())

        return [web.get("/_faults", show), web.post("/_faults", add), web.delete("/_faults", remove)]


async def _early(fault: Fault, bodies: Bodies, request: web.Request) -> web.StreamResponse | None:
    """Faults that answer, or wait, before the handler does."""
    if fault.kind == "latency":
        await asyncio.sleep(min(fault.value, _MAX_LATENCY_S))
    if fault.kind == "rate_limit":
        status, body = bodies.limited
        return web.json_response(body, status=status, headers={"Retry-After": str(int(fault.value))})
    if fault.kind == "server_error":
        return web.Response(status=int(fault.value), text="upstream connect error or disconnect/reset before headers")
    if fault.kind == "error_body":
        return web.json_response(bodies.refused)
    if fault.kind == "html":
        return web.Response(text="<!DOCTYPE html><html><body><h1>Just a moment...</h1></body></html>", content_type="text/html")
    if fault.kind == "disconnect" and request.transport is not None:
        request.transport.close()
    return None


def _rewritten(response: web.StreamResponse, kinds: list[str]) -> web.StreamResponse:
    """The handler's JSON answer as the data faults leave it."""
    if not isinstance(response, web.Response) or not isinstance(response.body, bytes):
        return response
    body = response.body
    if any(kind in _REWRITES for kind in kinds):
        document = orjson.loads(body)
        for kind in kinds:
            document = _spoil(document, kind)
        body = orjson.dumps(document)
    if "truncated" in kinds:
        body = body[: len(body) // 2]
    return web.Response(body=body, status=response.status, content_type="application/json")


def _spoil(document: Any, kind: str) -> Any:
    """The document with its longest list of rows emptied, nulled, doubled or reversed."""
    rows = max(_row_lists(document), key=len, default=None)
    if rows is None:
        return _hollow(document, kind)
    if kind == "empty":
        rows.clear()
    elif kind == "nulls":
        rows[:] = [_nulled(row) for row in rows]
    elif kind == "duplicate":
        rows.append(rows[-1])
    elif kind == "out_of_order" and len(rows) > 1:
        rows[:] = rows[1::2] + rows[0::2]
    return document


def _row_lists(node: Any) -> list[list[Any]]:
    found: list[list[Any]] = []
    if isinstance(node, list) and node and isinstance(node[0], list | dict):
        found.append(node)
    elif isinstance(node, dict):
        for value in node.values():
            found.extend(_row_lists(value))
    return found


def _hollow(node: Any, kind: str) -> Any:
    """A document without rows, its innermost objects emptied or their values nulled; other kinds change nothing."""
    if kind not in ("empty", "nulls") or not isinstance(node, dict):
        return node
    inner = {key: value for key, value in node.items() if isinstance(value, dict)}
    if inner:
        return {key: _hollow(value, kind) if key in inner else value for key, value in node.items()}
    return {} if kind == "empty" else dict.fromkeys(node)


def _nulled(row: Any) -> Any:
    """A row without its values; its time stays."""
    if isinstance(row, list):
        return [value if i == 0 else None for i, value in enumerate(row)]
    return {key: value if key in _TIME_FIELDS else None for key, value in row.items()}
