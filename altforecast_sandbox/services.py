"""All stand-in services in one web application.

What belongs here: which services exist and under which address. What does not: what they answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from aiohttp import web

from altforecast.symbols import VENUES
from altforecast_sandbox import alternative_me, coingecko, telegram
from altforecast_sandbox.clock import Clock, real_clock
from altforecast_sandbox.exchanges import (
    binance,
    bingx,
    bitfinex,
    bitget,
    bitstamp,
    bybit,
    coinbase,
    cryptocom,
    gate,
    htx,
    kraken,
    kucoin,
    mexc,
    okx,
)
from altforecast_sandbox.exchanges.desk import Desk, mount
from altforecast_sandbox.faults import Switchboard
from altforecast_sandbox.market import Market
from altforecast_sandbox.streams.hub import FlowOptions, Hub
from altforecast_sandbox.streams.routes import book_routes, truth_routes

_MODULES = (binance, okx, bybit, gate, kucoin, bitget, mexc, htx, kraken, coinbase, bitfinex, cryptocom, bingx, bitstamp)
EXCHANGES = tuple(module.SERVICE for module in _MODULES)

BOARD = web.AppKey("board", Switchboard)
"""Where an application keeps its fault switches."""
HUB = web.AppKey("hub", Hub)
"""Where an application keeps its order books and their connections."""


def venue_urls(base_url: str) -> dict[str, str]:
    """Address of each venue's stand-in: put it in place of scheme and host in the leaves of ccxt's `urls["api"]`, path unchanged."""
    return {venue: f"{base_url.rstrip('/')}/{venue}" for venue in VENUES}


def service_urls(base_url: str) -> dict[str, Any]:
    """Address of every stand-in: `venues` by name, `coingecko` and `alternative_me` in place of scheme and host, `faults`, `truth`."""
    base = base_url.rstrip("/")
    others = {name: f"{base}/{name}" for name in (coingecko.NAME, alternative_me.NAME, telegram.NAME)}
    return {"venues": venue_urls(base)} | others | {"faults": f"{base}/_faults", "truth": f"{base}/_truth"}


def create_app(market: Market, clock: Clock = real_clock, options: FlowOptions = FlowOptions()) -> web.Application:  # noqa: B008
    """The application with all services under their prefixes, `/_faults`, `/_truth` and `/_health`."""
    bodies = {service.name: service.bodies for service in EXCHANGES}
    board = Switchboard(
        bodies | {coingecko.NAME: coingecko.BODIES, alternative_me.NAME: alternative_me.BODIES, telegram.NAME: telegram.BODIES}
    )
    hub = Hub(market, clock, board, options)
    app = web.Application(middlewares=[board.middleware(), hub.middleware()])
    app[BOARD], app[HUB] = board, hub
    hub.attach(app)
    for service in EXCHANGES:
        desk = Desk(service.name, market, _skewed(clock, board, service.name), options.extra_symbols)
        app.add_routes(mount(service, desk))
    app.add_routes(coingecko.routes(market, _skewed(clock, board, coingecko.NAME)))
    app.add_routes(alternative_me.routes(market, _skewed(clock, board, alternative_me.NAME)))
    app.add_routes([*book_routes(hub), *truth_routes(hub)])
    app.add_routes(telegram.routes(clock))
    app.add_routes([*board.routes(), web.get("/_health", _health({"seed": market.seed}))])
    return app


def _skewed(clock: Clock, board: Switchboard, service: str) -> Clock:
    return lambda: clock() + timedelta(seconds=board.skew_s(service))


def _health(about: Mapping[str, object]) -> Any:
    async def show(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok", **about})

    return show
