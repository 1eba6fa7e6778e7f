"""The one client of every outgoing HTTP call: timeouts, limits, retries, cache, failure classes, sanitised logs.

What belongs here: how we call. What does not: whom we call and what the answers mean (`sources`), exchange calls that
ccxt makes (`exchanges`).
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Any, Self
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import aiohttp
import orjson
import stamina
import structlog
from aiolimiter import AsyncLimiter
from cachetools import TLRUCache
from prometheus_client import Counter

from altforecast.errors import AltForecastError
from altforecast_io.clock import Clock, utc_now

CALLS = Counter("outgoing_http_total", "Outgoing HTTP calls, every attempt counted", ["service", "outcome"])
LOG = structlog.get_logger(__name__)
CACHE_ENTRIES = 256
"""Answers kept; the least recently used goes first."""
MAX_BODY_BYTES = 16 * 1024 * 1024
"""A longer body is refused as transient."""
_SECRET_KEYS = re.compile(r"(key|token|secret|sign|pass|auth)", re.IGNORECASE)
_SECRET_PATH = re.compile(r"/bot[^/]+|(?<=/)[A-Za-z0-9_-]{32,}(?=/|$)")


class Failure(StrEnum):
    """What a failed call means for the caller."""

    TRANSIENT = "transient"
    """Timeout, broken answer, 429, 5xx: try again soon."""
    QUOTA = "quota"
    """The plan's allowance is used up: do not call for hours."""
    AUTH = "auth"
    """Key, plan or country is refused: tell a person."""
    BAD_REQUEST = "bad_request"
    """Our mistake: never repeat it."""


class ServiceError(AltForecastError):
    """A call to an outside service failed for good (retries, where allowed, are over). Never contains a secret."""

    code = "service_failed"

    def __init__(
        self, service: str, failure: Failure, detail: str, *, status: int | None = None, retry_after_s: float | None = None
    ) -> None:
        self.service, self.failure, self.detail, self.status, self.retry_after_s = service, failure, detail, status, retry_after_s
        super().__init__(f"{service}: {detail} ({failure})")


@dataclass(frozen=True)
class Service:
    """One outside service (and key): its address, limits and patience."""

    name: str
    base_url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeout_s: float = 10.0
    connect_timeout_s: float = 5.0
    attempts: int = 4
    wait_initial_s: float = 0.5
    wait_max_s: float = 20.0
    """Cap of one wait; a `Retry-After` beyond it ends the retries and is passed on in the error."""
    retry_timeout_s: float = 60.0
    """Cap of all attempts together."""
    max_calls: float = 30
    per_s: float = 60.0
    """At most `max_calls` in `per_s`."""
    classify: Callable[[int, bytes], Failure | None] | None = None
    """The service's own reading of status and body, asked first; None means the general rule."""


def classify(status: int) -> Failure | None:
    """Failure class of an HTTP status, None for 2xx. 402 is quota; 401, 403, 451 auth; 408, 425, 429, 5xx transient."""
    if 200 <= status < 300:
        return None
    if status == 402:
        return Failure.QUOTA
    if status in (401, 403, 407, 451):
        return Failure.AUTH
    if status in (408, 425, 429) or status >= 500:
        return Failure.TRANSIENT
    return Failure.BAD_REQUEST


def sanitise(url: str) -> str:
    """The URL fit for logs: no user and password, secret-looking query values and path parts replaced by ***."""
    parts = urlsplit(url)
    query = [(k, "***" if _SECRET_KEYS.search(k) else v) for k, v in parse_qsl(parts.query, keep_blank_values=True)]
    path = _SECRET_PATH.sub(lambda m: "/bot***" if m.group().startswith("/bot") else "***", parts.path)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], path, urlencode(query, safe="*"), ""))


def parse_retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds to wait from a `Retry-After` header (seconds or HTTP date); None where absent or unreadable, never negative."""
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        when = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, ((when if when.tzinfo else when.replace(tzinfo=UTC)) - now).total_seconds())


class Backoff:
    """Stamina hook: repeats transient errors only, with full jitter up to a cap, or after exactly what the service asked.

    One object serves one call. initial_s doubles with every failure up to max_s.
    """

    def __init__(self, initial_s: float, max_s: float, rng: random.Random, retries: Callable[[Exception], float | bool]) -> None:
        self._initial_s, self._max_s, self._rng, self._retries, self._n = initial_s, max_s, rng, retries, 0

    def __call__(self, error: Exception) -> bool | float:
        """False ends the call; a number is the wait [s]."""
        wanted = self._retries(error)
        if wanted is False:
            return False
        ceiling = min(self._max_s, self._initial_s * 2**self._n)
        self._n += 1
        if wanted is True:
            return self._rng.uniform(0.0, ceiling)
        return float(wanted) if wanted <= self._max_s else False


def retry_wait(error: Exception) -> float | bool:
    """What `Backoff` is told of an error: False for one that may not be repeated, True for one that may, or the wait asked for [s]."""
    if not isinstance(error, ServiceError) or error.failure is not Failure.TRANSIENT:
        return False
    return True if error.retry_after_s is None else error.retry_after_s


class HttpClient:
    """Async client; use as `async with HttpClient() as http`. Belongs to one event loop.

    Only GET exists, because only idempotent reads may be repeated. rng and monotonic are for tests.
    """

    def __init__(
        self, *, clock: Clock = utc_now, monotonic: Callable[[], float] = time.monotonic, rng: random.Random | None = None
    ) -> None:
        self._clock, self._rng = clock, rng or random.Random()
        self._session: aiohttp.ClientSession | None = None
        self._limiters: dict[str, AsyncLimiter] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._cache: TLRUCache[str, tuple[float, Any]] = TLRUCache(
            CACHE_ENTRIES, ttu=lambda _key, entry, now: now + entry[0], timer=monotonic
        )

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=20, limit_per_host=8)
        self._session = aiohttp.ClientSession(connector=connector, headers={"User-Agent": "altforecast"}, trust_env=True)
        return self

    async def __aexit__(self, *_exc: object) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def get_json(self, service: Service, path: str = "", params: Mapping[str, str] | None = None, *, ttl_s: float = 0.0) -> Any:
        """Parsed JSON of one GET. ttl_s > 0: equal calls within that time share one answer; failures are never kept.

        Raises ServiceError with one of four failure classes. Waiting calls of a cached service queue behind one fetch.
        """
        url = f"{service.base_url.rstrip('/')}/{path.lstrip('/')}" if path else service.base_url
        if ttl_s <= 0:
            return await self._fetch(service, url, params)
        key = f"{service.name} {url} {sorted((params or {}).items())}"
        async with self._locks.setdefault(service.name, asyncio.Lock()):
            hit = self._cache.get(key)
            if hit is None:
                hit = self._cache[key] = (ttl_s, await self._fetch(service, url, params))
            return hit[1]

    async def _fetch(self, service: Service, url: str, params: Mapping[str, str] | None) -> Any:
        backoff = Backoff(service.wait_initial_s, service.wait_max_s, self._rng, retry_wait)
        retries = stamina.retry_context(on=backoff, attempts=service.attempts, timeout=service.retry_timeout_s)
        async for attempt in retries:
            with attempt:
                return await self._counted(service, url, params)
        raise AssertionError("stamina always returns or raises")

    async def _counted(self, service: Service, url: str, params: Mapping[str, str] | None) -> Any:
        try:
            answer = await self._once(service, url, params)
        except ServiceError as error:
            CALLS.labels(service.name, error.failure.value).inc()
            raise
        CALLS.labels(service.name, "ok").inc()
        return answer

    async def _once(self, service: Service, url: str, params: Mapping[str, str] | None) -> Any:
        if self._session is None:
            raise RuntimeError("use `async with HttpClient() as http`")
        limiter = self._limiters.setdefault(service.name, AsyncLimiter(service.max_calls, service.per_s))
        timeout = aiohttp.ClientTimeout(total=service.timeout_s, sock_connect=service.connect_timeout_s)
        log = LOG.bind(service=service.name, url=sanitise(url))
        async with limiter:
            try:
                async with self._session.get(url, params=params, headers=service.headers, timeout=timeout, allow_redirects=False) as answer:
                    body = await _read(answer)
            except (TimeoutError, aiohttp.ClientError, OSError) as error:
                # `from None`: the library's message may hold the URL with its secrets
                log.warning("http_failed", error=type(error).__name__)
                raise ServiceError(service.name, Failure.TRANSIENT, _reason(error)) from None
        log.debug("http_answered", status=answer.status, n_bytes=len(body))
        return self._parse(service, answer, body)

    def _parse(self, service: Service, answer: aiohttp.ClientResponse, body: bytes) -> Any:
        failure = (service.classify(answer.status, body) if service.classify else None) or classify(answer.status)
        if failure is not None:
            wait = parse_retry_after(answer.headers.get("Retry-After"), self._clock())
            raise ServiceError(service.name, failure, f"answered HTTP {answer.status}", status=answer.status, retry_after_s=wait)
        if len(body) > MAX_BODY_BYTES:
            raise ServiceError(service.name, Failure.TRANSIENT, f"answer is longer than {MAX_BODY_BYTES} bytes", status=answer.status)
        try:
            return orjson.loads(body)
        except json.JSONDecodeError:
            kind = "HTML" if body.lstrip()[:1] == b"<" else "broken JSON"
            raise ServiceError(service.name, Failure.TRANSIENT, f"answered {kind} instead of JSON", status=answer.status) from None


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    chunks, size = [], 0
    async for chunk in answer.content.iter_chunked(65536):
        chunks.append(chunk)
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            break
    return b"".join(chunks)


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "did not answer in time"
    if isinstance(error, aiohttp.ClientConnectorError):
        return "could not be reached"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "broke off in the middle of its answer"
    return f"connection failed: {type(error).__name__}"
