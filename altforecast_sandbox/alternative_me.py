"""alternative.me's `GET /fng/` (Fear & Greed) over the sandbox market.

What belongs here: its wire form, in which every number is a string. What does not: how the value is found (`sentiment`).
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from aiohttp import web

from altforecast_sandbox.clock import Clock
from altforecast_sandbox.faults import Bodies
from altforecast_sandbox.market import Market
from altforecast_sandbox.sentiment import fear_greed_label

NAME = "alternative_me"
FIRST_VALUE = date(2018, 2, 1)
BODIES = Bodies(
    limited=(429, {"name": "Fear and Greed Index", "data": [], "metadata": {"error": "Too many requests."}}),
    refused={"name": "Fear and Greed Index", "data": [], "metadata": {"error": "Service is not available."}},
)


def routes(market: Market, clock: Clock) -> list[web.RouteDef]:
    """The alternative.me route under its prefix."""

    async def show(request: web.Request) -> web.Response:
        text = request.query.get("limit", "1")
        if not text.isdigit():
            return web.json_response({"name": "Fear and Greed Index", "data": [], "metadata": {"error": "limit must be a number."}})
        return web.json_response(fear_greed_body(market, clock(), int(text)))

    return [web.get(f"/{NAME}/fng/", show)]


def fear_greed_body(market: Market, now: datetime, limit: int) -> dict[str, Any]:
    """The newest `limit` daily values (0: all), newest first; `time_until_update` is on the newest only."""
    today = now.astimezone(UTC).date()
    known = (today - FIRST_VALUE).days + 1
    rows = [_row(market, today - timedelta(days=k)) for k in range(known if limit == 0 else min(limit, known))]
    midnight = datetime.combine(today + timedelta(days=1), time(), tzinfo=UTC)
    rows[0]["time_until_update"] = str(int((midnight - now).total_seconds()))
    return {"name": "Fear and Greed Index", "data": rows, "metadata": {"error": None}}


def _row(market: Market, day: date) -> dict[str, str]:
    value = market.fear_greed(day)
    stamp = int(datetime.combine(day, time(), tzinfo=UTC).timestamp())
    return {"value": str(value), "value_classification": fear_greed_label(value), "timestamp": str(stamp)}
