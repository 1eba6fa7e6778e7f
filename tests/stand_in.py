"""The sandbox's services on a free port, in a thread of their own, for tests that talk to outside services.

What belongs here: starting, stopping and spoiling the stand-ins. What does not: the stand-ins (`altforecast_sandbox`).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web

from altforecast_io.settings import Settings
from altforecast_sandbox.market import Market
from altforecast_sandbox.services import create_app, venue_urls

NOON = datetime(2026, 3, 1, 12, 7, 30, tzinfo=UTC)
"""The frozen present of stand-ins and clients."""


@dataclass
class StandIn:
    """A running set of stand-ins: its address and what it was asked."""

    url: str
    market: Market
    loop: asyncio.AbstractEventLoop
    board: Any
    now: datetime = NOON
    requests: list[str] = field(default_factory=list)

    def clock(self) -> datetime:
        """The stand-ins' present, also used as our own."""
        return self.now

    def fault(self, service: str, kind: str, **more: Any) -> None:
        """Throw one fault switch."""
        from altforecast_sandbox.faults import Fault

        self.board.set(Fault(service, kind, **more))

    def settings(self, home: Path, **overrides: Any) -> Settings:
        """Settings whose every outside address is a stand-in."""
        given = {
            "base": home, "environment": "sandbox", "context_btc_dominance_url": f"{self.url}/coingecko/api/v3/global",
            "context_fear_greed_url": f"{self.url}/alternative_me/fng/?limit=1", "context_dxy_url": f"{self.url}/dxy",
            "exchange_base_urls_text": ",".join(f"{venue}={url}" for venue, url in venue_urls(self.url).items()),
        }  # fmt: skip
        return Settings.load(**{**given, **overrides})


@contextmanager
def running(market: Market, extra: dict[str, Any] | None = None) -> Iterator[StandIn]:
    """Serve the market until the block ends; `extra` adds GET paths with handlers."""
    loop = asyncio.new_event_loop()
    stand_in = StandIn("", market, loop, None)
    app = create_app(market, clock=lambda: stand_in.now)
    stand_in.board = next(cell.cell_contents for cell in app.middlewares[0].__closure__ or () if hasattr(cell.cell_contents, "take"))

    @web.middleware
    async def remember(request: web.Request, handler: Any) -> web.StreamResponse:
        stand_in.requests.append(request.path_qs)
        return await handler(request)

    async def dxy(_: web.Request) -> web.Response:
        return web.Response(body=orjson.dumps({"value": 104.25}), content_type="application/json")

    app.middlewares.insert(0, remember)
    app.add_routes([web.get("/dxy", dxy), *(web.get(path, handler) for path, handler in (extra or {}).items())])
    runner = web.AppRunner(app)
    thread = threading.Thread(target=loop.run_forever, name="stand-in", daemon=True)
    thread.start()
    try:
        stand_in.url = asyncio.run_coroutine_threadsafe(_start(runner), loop).result(30)
        yield stand_in
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


async def _start(runner: web.AppRunner) -> str:
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
    return f"http://127.0.0.1:{port}"
