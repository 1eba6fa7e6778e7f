"""CoinGecko's `GET /api/v3/global` over the sandbox market.

What belongs here: CoinGecko's wire form. What does not: TradingView's index series, whose universe is narrower.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from aiohttp import web

from altforecast_sandbox.clock import Clock
from altforecast_sandbox.coins import COINS
from altforecast_sandbox.faults import Bodies
from altforecast_sandbox.market import Market

NAME = "coingecko"
WIDER_UNIVERSE = 1.045
"""CoinGecko counts more coins than the top 125, so its total is larger and its dominances smaller."""
_REFRESH_S = 60
BODIES = Bodies(
    limited=(429, {"status": {"error_code": 429, "error_message": "You've exceeded the Rate Limit. Please visit the pricing page."}}),
    refused={"status": {"error_code": 10005, "error_message": "This request is limited to PRO API subscribers."}},
)


def routes(market: Market, clock: Clock) -> list[web.RouteDef]:
    """The CoinGecko routes under its prefix."""

    async def ping(_: web.Request) -> web.Response:
        return web.json_response({"gecko_says": "(V3) To the Moon!"})

    async def show(_: web.Request) -> web.Response:
        return web.json_response(global_body(market, clock))

    return [web.get(f"/{NAME}/api/v3/ping", ping), web.get(f"/{NAME}/api/v3/global", show)]


def global_body(market: Market, clock: Clock) -> dict[str, Any]:
    """The answer at this moment; values move once a minute, as behind the real service's cache."""
    now = clock().replace(second=0, microsecond=0)
    caps, before = market.caps(now), market.caps(now - timedelta(days=1))
    total = caps["total"] * WIDER_UNIVERSE
    named = [c.code.lower() for c in COINS] + ["usdt"]
    change = (caps["total"] / before["total"] - 1) * 100
    turnover = sum(c.turnover_usdt for c in COINS) * 9
    return {
        "data": {
            "active_cryptocurrencies": 17241,
            "upcoming_icos": 0,
            "ongoing_icos": 49,
            "ended_icos": 3376,
            "markets": 1402,
            "total_market_cap": {"usd": total, "btc": total / caps["btc"] * COINS[0].supply},
            "total_volume": {"usd": turnover},
            "market_cap_percentage": {name: caps[name] / total * 100 for name in sorted(named, key=lambda n: -caps[n])},
            "market_cap_change_percentage_24h_usd": change,
            "updated_at": int(now.timestamp()) // _REFRESH_S * _REFRESH_S,
        }
    }
