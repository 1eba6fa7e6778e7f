"""Starts every stand-in in one process: `python -m altforecast_sandbox --seed 7 --port 0`.

What belongs here: arguments, start and stop. What does not: the services (`services`).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from datetime import datetime
from pathlib import Path

from aiohttp import web

from altforecast_sandbox.base_path import read_points
from altforecast_sandbox.clock import Clock, ScaledClock, parse_moment, real_clock
from altforecast_sandbox.market import Market
from altforecast_sandbox.services import create_app, service_urls
from altforecast_sandbox.streams.hub import FlowOptions


def parse_arguments(words: list[str]) -> argparse.Namespace:
    """Command line of the sandbox."""
    parser = argparse.ArgumentParser(prog="altforecast_sandbox", description="Stand-ins of exchanges, CoinGecko and alternative.me.")
    parser.add_argument("--seed", type=int, default=7, help="the market (same seed, same bars)")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free port and prints it")
    parser.add_argument("--start", type=parse_moment, help="simulated time at the start, ISO 8601 (default: now)")
    parser.add_argument("--speed", type=float, default=1.0, help="simulated seconds per second")
    parser.add_argument("--book-rate", type=float, default=0.2, help="factor on each venue's own rate of order book updates")
    parser.add_argument("--extra-symbols", type=int, default=0, help="synthetic pairs S001-USDT ... on every venue, order books alone")
    parser.add_argument("--plants-per-hour", type=float, default=60.0, help="planted arbitrage opportunities (see /_truth)")
    parser.add_argument("--base-path", type=Path, help="CSV of ts_ms,mid: a recorded Bitcoin price that the order books follow")
    return parser.parse_args(words)


def options_of(arguments: argparse.Namespace) -> FlowOptions:
    """How the order books behave; raises InputError for an unreadable base path, OSError for a missing one."""
    points = None if arguments.base_path is None else read_points(arguments.base_path.read_text().splitlines())
    return FlowOptions(arguments.book_rate, arguments.extra_symbols, arguments.plants_per_hour, points)


def clock_of(start: datetime | None, speed: float) -> Clock:
    """The clock that the arguments ask for."""
    if start is None and speed == 1.0:
        return real_clock
    now = real_clock()
    return ScaledClock(start or now, now, speed)


async def serve(words: list[str]) -> None:
    """Runs until SIGTERM or SIGINT; prints one JSON line with every address once all are ready."""
    arguments = parse_arguments(words)
    app = create_app(Market(arguments.seed), clock_of(arguments.start, arguments.speed), options_of(arguments))
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, arguments.host, arguments.port)
    await site.start()
    base_url = f"http://{arguments.host}:{runner.addresses[0][1]}"
    print(json.dumps({"ready": True, "seed": arguments.seed, "base_url": base_url} | service_urls(base_url)), flush=True)
    await _until_stopped()
    await runner.cleanup()


async def _until_stopped() -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1:]))
