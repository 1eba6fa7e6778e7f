"""Can each outside service be reached now: short questions for `altforecast doctor`.

What belongs here: one cheap call per service. What does not: judging what to do about it (the command).
"""

from __future__ import annotations

import asyncio
import random

from altforecast.errors import AltForecastError
from altforecast_io.clock import Clock, utc_now
from altforecast_io.exchanges.connection import VenueClient, load_ccxt, make_exchange
from altforecast_io.exchanges.venues import venue_of
from altforecast_io.http import HttpClient
from altforecast_io.market_context import Fetch, fetches
from altforecast_io.settings import Settings

TIMEOUT_S = 8.0
Finding = tuple[str, bool, str]
"""Name of the service, whether it answered well, and what it said or why not."""


def reachability(settings: Settings, clock: Clock = utc_now) -> list[Finding]:
    """One finding per service that the settings use: context suppliers and venues, all asked at once, 8 s at most.

    A venue's finding tells how far its clock is from ours. Services that are switched off are not asked. Never raises for a
    service that fails. Must not be called inside an event loop.
    """
    load_ccxt()  # before the questions: the seconds of its import would count as theirs
    return asyncio.run(_ask_all(settings, clock))


async def _ask_all(settings: Settings, clock: Clock) -> list[Finding]:
    fetched = [settings.bars_exchange, settings.exchange] if settings.fetch_exchange_bars else [settings.exchange]
    is_asked = settings.environment == "live"
    venues = dict.fromkeys([*fetched, *(v for v in settings.book_venues if is_asked or v in settings.exchange_base_urls)])
    async with HttpClient(clock=clock) as http:
        suppliers = [_supplier(name, fetch, http, clock) for name, fetch in fetches(settings).items()]
        return list(await asyncio.gather(*suppliers, *(_venue(name, settings, clock) for name in venues)))


async def _supplier(name: str, fetch: Fetch, http: HttpClient, clock: Clock) -> Finding:
    try:
        async with asyncio.timeout(TIMEOUT_S):
            readings = await fetch(http, clock(), 1)
    except TimeoutError:
        return name, False, f"no answer within {TIMEOUT_S:.0f} s"
    except AltForecastError as error:
        return name, False, str(error)
    return name, True, ", ".join(f"{r.name} {r.value:g}" for r in readings)


async def _venue(name: str, settings: Settings, clock: Clock) -> Finding:
    client = None
    try:
        venue = venue_of(name)
        client = VenueClient(venue, make_exchange(venue, settings), clock, random.Random(), attempts=1)
        async with asyncio.timeout(TIMEOUT_S):
            if not venue.has_time:
                await client.load_markets()
                return name, True, f"{len(client.exchange.markets)} markets; it tells no time"
            offset_ms = await client.sync_clock()
    except TimeoutError:
        return name, False, f"no answer within {TIMEOUT_S:.0f} s"
    except AltForecastError as error:
        return name, False, str(error)
    finally:
        if client is not None:
            await client.exchange.close()
    return name, True, f"its clock is {abs(offset_ms)} ms {'ahead of' if offset_ms >= 0 else 'behind'} ours"
