"""A running stand-in and clients of its streams: raw sockets and the real ccxt.pro classes.

What belongs here: what tests of the streams share. What does not: tests.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import ccxt.pro
from aiohttp import web

from altforecast.symbols import ccxt_symbol
from altforecast_io.exchanges.connection import with_base_url
from altforecast_sandbox.clock import Clock, real_clock
from altforecast_sandbox.faults import Fault
from altforecast_sandbox.market import Market
from altforecast_sandbox.resting import RestingBook
from altforecast_sandbox.services import BOARD, HUB, create_app
from altforecast_sandbox.streams.hub import FlowOptions, Hub

MARKET = Market(7)
Rows = list[tuple[float, float]]


class StandIn:
    """A stand-in that listens on a free port."""

    def __init__(self, app: web.Application, base_url: str) -> None:
        self.app, self.base_url = app, base_url

    @property
    def hub(self) -> Hub:
        """Its order books and connections."""
        return self.app[HUB]

    def url(self, venue: str) -> str:
        """Address of one venue."""
        return f"{self.base_url}/{venue}"

    def fault(self, service: str, kind: str, **more: Any) -> None:
        """Throw a switch."""
        self.app[BOARD].set(Fault(service, kind, **more))

    def book(self, venue: str, symbol: str) -> RestingBook:
        """The true book."""
        return self.hub.books[venue].flow(symbol).book

    def stop_flow(self) -> None:
        """Let every book stand still; connections stay."""
        assert self.hub._task is not None
        self.hub._task.cancel()


@asynccontextmanager
async def stand_in(options: FlowOptions = FlowOptions(book_rate=2.0), clock: Clock = real_clock) -> AsyncIterator[StandIn]:  # noqa: B008
    """A running stand-in of all venues."""
    app = create_app(MARKET, clock, options)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield StandIn(app, f"http://127.0.0.1:{runner.addresses[0][1]}")
    finally:
        await runner.cleanup()


@asynccontextmanager
async def socket_of(base_url: str, path: str) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """A raw WebSocket to a path of the stand-in."""
    async with aiohttp.ClientSession() as session, session.ws_connect(base_url + path, autoping=True) as socket:
        yield socket


@asynccontextmanager
async def ccxt_pro(venue: str, base_url: str, **options: Any) -> AsyncIterator[Any]:
    """The real ccxt.pro class of a venue, pointed at the stand-in, with its markets loaded from there."""
    exchange = getattr(ccxt.pro, venue)({"enableRateLimit": False, "options": {"defaultType": "spot", **options}})
    exchange.urls["api"] = with_base_url(exchange.urls["api"], f"{base_url}/{venue}")
    exchange.urls["api"] = sockets_relocated(exchange.urls["api"])
    exchange.open()
    try:
        await exchange.load_markets()
        yield exchange
    finally:
        await exchange.close()


def sockets_relocated(api: Any) -> Any:
    """Addresses below `ws` keys with the scheme `ws`."""

    def sockets(node: Any) -> Any:
        return {k: sockets(v) for k, v in node.items()} if isinstance(node, dict) else str(node).replace("http://", "ws://", 1)

    return {key: sockets(value) if key == "ws" else value for key, value in api.items()} if isinstance(api, dict) else api


def true_rows(book: RestingBook, n: int = 20) -> tuple[Rows, Rows]:
    """The best levels of a true book as floats, best first."""

    def rows(levels: Any) -> Rows:
        return [(float(book.price(ticks)), float(book.size(lots))) for ticks, lots in levels]

    return rows(book.top_bids(n)), rows(book.top_asks(n))


def shown_rows(shown: Any, n: int = 20) -> tuple[Rows, Rows]:
    """The best levels of a ccxt order book."""
    return [(float(p), float(q)) for p, q, *_ in list(shown["bids"])[:n]], [(float(p), float(q)) for p, q, *_ in list(shown["asks"])[:n]]


async def assert_ccxt_reaches_the_book(venue: str, symbols: list[str], n: int = 20, limit: int | None = None, updates: int = 12) -> None:
    """Watch books with the real ccxt class, let the flow stand still, and compare the best levels with the true books."""
    async with stand_in() as server, ccxt_pro(venue, server.base_url) as exchange:
        await asyncio.gather(*(_watched(exchange, symbol, limit, updates) for symbol in symbols))
        server.stop_flow()
        for symbol in symbols:
            await until(lambda symbol=symbol: _is_equal(exchange, server, venue, symbol, n))  # type: ignore[misc]
            book = exchange.orderbooks[ccxt_symbol(symbol)]
            assert shown_rows(book, n) == true_rows(server.book(venue, symbol), n)


def _is_equal(exchange: Any, server: StandIn, venue: str, symbol: str, n: int) -> bool:
    return shown_rows(exchange.orderbooks[ccxt_symbol(symbol)], n) == true_rows(server.book(venue, symbol), n)


async def _watched(exchange: Any, symbol: str, limit: int | None, updates: int) -> None:
    for _ in range(updates):
        await asyncio.wait_for(exchange.watch_order_book(ccxt_symbol(symbol), limit), 20)


async def until(condition: Callable[[], bool], seconds: float = 3.0) -> bool:
    """Wait until something holds; False when it does not in time."""
    for _ in range(int(seconds * 100)):
        if condition():
            return True
        await asyncio.sleep(0.01)
    return False


async def frames_until(
    socket: aiohttp.ClientWebSocketResponse, wanted: Callable[[Any], bool], most: int = 500, seconds: float = 5.0
) -> list[Any]:
    """Parsed JSON frames up to and including the first wanted one."""
    seen: list[Any] = []
    for _ in range(most):
        message = await asyncio.wait_for(socket.receive(), seconds)
        if message.type is not aiohttp.WSMsgType.TEXT:
            raise AssertionError(f"{message.type} {message.data!r} after {len(seen)} frames")
        try:
            seen.append(json.loads(message.data))
        except ValueError:
            seen.append(message.data)
        if wanted(seen[-1]):
            return seen
    raise AssertionError(f"not among {most} frames")


Step = Callable[[], Awaitable[None]]
