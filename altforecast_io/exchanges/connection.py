"""One open venue: the ccxt class, its address, its clock and our retries around every read.

What belongs here: opening, calling, classifying ccxt errors. What does not: what is read (`ohlcv`, `markets`) and
orders, which are never repeated blindly.
"""

from __future__ import annotations

import random
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import stamina
from cachetools import TTLCache
from prometheus_client import Counter

from altforecast.errors import SettingsError, UnknownNameError
from altforecast.symbols import ccxt_symbol
from altforecast_io.clock import Clock, utc_now
from altforecast_io.exchanges.venues import Venue, venue_of
from altforecast_io.http import Backoff, Failure, ServiceError, parse_retry_after, retry_wait, sanitise
from altforecast_io.settings import Settings

CALLS = Counter("exchange_calls_total", "Reads from exchanges, every attempt counted", ["venue", "method", "outcome"])
ATTEMPTS = 5
WAIT_INITIAL_S = 0.5
WAIT_MAX_S = 30.0
RETRY_TIMEOUT_S = 120.0
TIMEOUT_MS = 15_000
_MARKETS: TTLCache[tuple[str, str], Any] = TTLCache(maxsize=4, ttl=3600)
"""Market lists of the venues used last: megabytes each, so few, and fresh within the hour."""
_URL = re.compile(r"https?://\S+")
_LONG = 200


def load_ccxt() -> Any:
    """The ccxt package, imported at its first use: it takes seconds, 100 MB, and only fetching needs it."""
    import ccxt.async_support

    return ccxt.async_support


def _strict(base: Any) -> Any:
    """The ccxt class, made to refuse answers that are no JSON, to carry Retry-After and to tell the venue's time."""

    class Strict(base):  # type: ignore[misc]
        now_ms: Any = staticmethod(lambda: round(utc_now().timestamp() * 1000))
        is_json = True

        def parse_json(self, http_response: Any) -> Any:
            parsed = super().parse_json(http_response)
            self.is_json = parsed is not None
            return parsed

        def handle_errors(self, code: Any, reason: Any, url: Any, method: Any, headers: Any, body: Any, *rest: Any) -> Any:
            try:
                result = super().handle_errors(code, reason, url, method, headers, body, *rest)
                self.handle_http_status_code(code, reason, url, method, body)
            except load_ccxt().BaseError as error:
                error.retry_after = {str(k).lower(): v for k, v in (headers or {}).items()}.get("retry-after")
                raise
            if not self.is_json:
                # ccxt would pass the text on and read prices out of its characters
                raise load_ccxt().BadResponse(f"{self.id} answered {str(body)[:1]!r}... instead of JSON")
            return result

        def milliseconds(self) -> int:
            return int(self.now_ms())

        def seconds(self) -> int:
            return int(self.now_ms()) // 1000

        def microseconds(self) -> int:
            return int(self.now_ms()) * 1000

    Strict.__name__ = base.__name__
    return Strict


def with_base_url(api: Any, base_url: str) -> Any:
    """ccxt's nested address book with scheme and host of every leaf replaced by `base_url`, each leaf's path kept."""
    if isinstance(api, Mapping):
        return {key: with_base_url(leaf, base_url) for key, leaf in api.items()}
    return base_url.rstrip("/") + urlsplit(str(api)).path


def classify(error: Exception) -> Failure:
    """Failure class of a ccxt error on a read; anything that ccxt does not know is our own bug."""
    ccxt = load_ccxt()
    if isinstance(error, ccxt.AuthenticationError | ccxt.RestrictedLocation):
        return Failure.AUTH
    if isinstance(error, ccxt.OperationFailed):
        return Failure.TRANSIENT
    # a connection lost in the middle of a body comes as a bare ExchangeError around aiohttp's own
    is_broken_off = type(error) is ccxt.ExchangeError and error.__cause__ is not None
    return Failure.TRANSIENT if is_broken_off else Failure.BAD_REQUEST


class VenueClient:
    """Reads from one venue through one ccxt instance, so that its rate limiter holds for all callers."""

    def __init__(self, venue: Venue, exchange: Any, clock: Clock, rng: random.Random, attempts: int = ATTEMPTS) -> None:
        self.venue, self.exchange, self._clock, self._rng, self._attempts = venue, exchange, clock, rng, attempts
        self.offset_ms = 0
        """Venue time minus ours [ms]."""
        exchange.now_ms = self.now_ms

    def now_ms(self) -> int:
        """The venue's time [ms since 1970]; ours where it tells none."""
        return int(self._clock().timestamp() * 1000) + self.offset_ms

    async def sync_clock(self) -> int:
        """Ask the venue for its time and return the offset to ours [ms], corrected by half the round trip."""
        if self.venue.has_time and self.exchange.has.get("fetchTime"):
            before = self._clock()
            server_ms = await self._retried("fetch_time")
            middle_ms = (before.timestamp() + self._clock().timestamp()) * 500
            self.offset_ms = round(server_ms - middle_ms)
        return self.offset_ms

    async def load_markets(self) -> None:
        """Load the venue's spot markets, or take them from the list of the last hour."""
        key = (self.venue.slug, str(self.exchange.urls["api"]))
        if key in _MARKETS:
            self.exchange.set_markets(_MARKETS[key])
            return
        await self._retried("load_markets")
        _MARKETS[key] = self.exchange.markets

    def market(self, symbol: str) -> str:
        """ccxt's name of a canonical symbol; raises UnknownNameError with the venue's symbols of the same base."""
        name = ccxt_symbol(symbol)
        if name not in self.exchange.markets:
            base = symbol.split("-")[0]
            near = sorted(f"{m['base']}-{m['quote']}" for m in self.exchange.markets.values() if m["base"] == base and m["spot"])
            raise UnknownNameError("symbol", symbol, f"not traded on {self.venue.slug}", near[:20])
        return name

    async def call(self, method: str, *args: Any) -> Any:
        """One idempotent read with retries; a refused time stamp resynchronises the clock and is tried once more.

        Raises ServiceError with one of the four failure classes.
        """
        try:
            return await self._retried(method, *args)
        except ServiceError as error:
            if not _is_stale_clock(error):
                raise
        await self.sync_clock()
        return await self._retried(method, *args)

    async def _retried(self, method: str, *args: Any) -> Any:
        backoff = Backoff(WAIT_INITIAL_S, WAIT_MAX_S, self._rng, _retry_wait)
        async for attempt in stamina.retry_context(on=backoff, attempts=self._attempts, timeout=RETRY_TIMEOUT_S):
            with attempt:
                return await self._once(method, *args)
        raise AssertionError("stamina always returns or raises")

    async def _once(self, method: str, *args: Any) -> Any:
        try:
            answer = await getattr(self.exchange, method)(*args)
            CALLS.labels(self.venue.slug, method, "ok").inc()
            return answer
        except Exception as error:
            if not isinstance(error, load_ccxt().BaseError):
                raise
            CALLS.labels(self.venue.slug, method, classify(error).value).inc()
            text = _URL.sub(lambda m: sanitise(m.group()), str(error))[:_LONG]
            asked = parse_retry_after(getattr(error, "retry_after", None), self._clock())
            # `from None`: ccxt's message repeats the whole address and answer
            raise ServiceError(self.venue.slug, classify(error), f"{type(error).__name__}: {text}", retry_after_s=asked) from None


def _retry_wait(error: Exception) -> float | bool:
    return False if _is_stale_clock(error) else retry_wait(error)


def _is_stale_clock(error: Exception) -> bool:
    return isinstance(error, ServiceError) and error.detail.startswith("InvalidNonce:")


def make_exchange(venue: Venue, settings: Settings) -> Any:
    """An unconnected ccxt instance of a venue, pointed at the stand-in where the settings name one.

    Raises SettingsError in the sandbox without a stand-in: sandbox data never come from a real venue.
    """
    base_url = settings.exchange_base_urls.get(venue.slug)
    if base_url is None and settings.environment == "sandbox":
        raise SettingsError(
            f"EXCHANGE_BASE_URLS: the sandbox needs an address for {venue.slug}, such as {venue.slug}=http://127.0.0.1:PORT"
        )
    kind = getattr(load_ccxt(), venue.ccxt_id, None)
    if kind is None:
        raise UnknownNameError("exchange", venue.slug, "this version of ccxt does not know it")
    options = {"defaultType": "spot", **venue.market_options}
    exchange = _strict(kind)({"enableRateLimit": True, "timeout": TIMEOUT_MS, "options": options})
    exchange.aiohttp_trust_env = True
    if base_url:
        exchange.urls["api"] = with_base_url(exchange.urls["api"], base_url)
    return exchange


@asynccontextmanager
async def open_venue(name: str, settings: Settings, clock: Clock = utc_now, rng: random.Random | None = None) -> AsyncIterator[VenueClient]:
    """A venue ready for reads: clock compared, markets loaded; closed on leaving. Raises ServiceError when it cannot be reached."""
    venue = venue_of(name)
    client = VenueClient(venue, make_exchange(venue, settings), clock, rng or random.Random())
    try:
        await client.sync_clock()
        await client.load_markets()
        yield client
    finally:
        await client.exchange.close()
