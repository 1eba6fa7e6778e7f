"""HTTP around the streams: REST requests that only order books need, and the truth about planted opportunities.

What belongs here: routes. What does not: what they answer (the venues' modules, `planting`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from aiohttp import web

from altforecast.errors import InputError
from altforecast_sandbox.exchanges.desk import Refusal
from altforecast_sandbox.plants import spatial, triangular
from altforecast_sandbox.streams.hub import Hub
from altforecast_sandbox.streams.registry import STREAMS
from altforecast_sandbox.streams.wire import OWN_ADDRESS, Respond


def book_routes(hub: Hub) -> list[web.RouteDef]:
    """The REST requests of every venue's streaming side, under `/<venue>`."""
    routes = []
    for venue, service in STREAMS.items():
        books = hub.books[venue]
        for pattern, respond in service.requests(books, books.now_ms).items():
            method, _, path = pattern.partition(" ")
            routes.append(web.route(method, f"/{venue}{path}", _handler(venue, respond)))
    return routes


def _handler(venue: str, respond: Respond) -> Any:
    async def handle(request: web.Request) -> web.Response:
        own = {OWN_ADDRESS: f"{request.scheme}://{request.host}/{venue}"}
        asked: Mapping[str, str] = {**request.query, **request.match_info, **own}
        try:
            return web.json_response(respond(asked))
        except Refusal as refusal:
            return web.json_response(refusal.body, status=refusal.status)

    return handle


def truth_routes(hub: Hub) -> list[web.RouteDef]:
    """`GET /_truth`: what was planted so far; `POST /_truth`: plant one opportunity.

    Body: `start_ms` and `end_ms` (or `in_ms` from now and `lifetime_ms`), `edge_bps`, `money_usdt`, and either `symbol`, `buy`
    and `sell` or `venue`.
    """

    async def show(_: web.Request) -> web.Response:
        counts = {"unseen": hub.planter.n_unseen, **hub.counts}
        return web.json_response({"plants": hub.planter.rows(), "counts": counts, "connections": len(hub.connections)})

    async def add(request: web.Request) -> web.Response:
        try:
            hub.planter.add(_plant(orjson.loads(await request.read()), hub.now_ms()))
        except (TypeError, KeyError, AttributeError, orjson.JSONDecodeError, InputError) as error:
            return web.json_response({"error": "invalid_input", "detail": str(error)}, status=422)
        return web.json_response({"planned": True})

    return [web.get("/_truth", show), web.post("/_truth", add)]


def _plant(body: dict[str, Any], now_ms: int) -> Any:
    start = body.pop("start_ms", None) or now_ms + body.pop("in_ms", 0)
    end = body.pop("end_ms", None) or start + body.pop("lifetime_ms", 5_000)
    return (spatial if "symbol" in body else triangular)(start, end, **body)
