"""The digest of opportunities: collects from the feed, puts one message per person and interval into the outbox.

What belongs here: collecting, intervals, who is told. What does not: the text (`altforecast.digests`), sending (`delivery`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import orjson
import structlog

from altforecast.digests import Found, Thresholds, better_of, digest_text, found_in, worth_telling
from altforecast.errors import StorageError
from altforecast_io.bus import OPPORTUNITIES_FEED, Bus, Message, Policy
from altforecast_io.clock import Clock, utc_now
from altforecast_io.settings import Settings
from altforecast_io.store import outbox, users
from altforecast_io.store.engine import Store

TOPIC = "arbitrage"
"""Topic of the subscriptions."""
KEPT = 5000
"""Opportunities of one interval that are remembered; beyond it the one with the least profit is forgotten."""
log = structlog.get_logger(__name__)


class Collector:
    """The best moment of each opportunity of the present interval."""

    def __init__(self) -> None:
        self._found: dict[str, Found] = {}

    def add(self, row: dict[str, Any]) -> None:
        """One feed row; raises KeyError, TypeError or ValueError for a row of another form."""
        new = found_in(row)
        self._found[new.id] = better_of(self._found.get(new.id), _with_lifetime(new, row))
        if len(self._found) > KEPT:
            del self._found[min(self._found, key=lambda name: self._found[name].profit_usdt)]

    def give_back(self, found: list[Found]) -> None:
        """What was taken and could not be told counts for the present interval."""
        for one in found:
            self._found[one.id] = better_of(self._found.get(one.id), one)

    def take(self) -> list[Found]:
        """What was collected; the next interval begins."""
        found, self._found = list(self._found.values()), {}
        return found


def _with_lifetime(found: Found, row: dict[str, Any]) -> Found:
    if row.get("event") != "closed":
        return found
    closed, opened = (datetime.fromisoformat(row[name]) for name in ("ts", "opened_at"))
    return replace(found, lifetime_ms=max(1, round((closed - opened).total_seconds() * 1000)))


def chats(store: Store, admin_chat_id: int | None) -> list[int]:
    """Who is told: subscribers of the topic and the operator, each once."""
    subscribed = users.chats_of(store, TOPIC)
    return list(dict.fromkeys((*subscribed, *([admin_chat_id] if admin_chat_id is not None else []))))


def is_on(settings: Settings) -> str:
    """Empty where digests are sent, else why not."""
    if not settings.digest_enable:
        return "DIGEST_ENABLE is off"
    return "" if settings.telegram_bot_token is not None else "TELEGRAM_BOT_TOKEN is not set"


def post_digest(store: Store, found: list[Found], settings: Settings, now: datetime) -> int:
    """Put the interval's message into the outbox of everybody; the number of messages. Twice for one interval is once."""
    at_least = Thresholds(settings.digest_min_edge_pct, settings.digest_min_profit_usdt)
    text = digest_text(worth_telling(found, at_least), settings.digest_interval_sec, settings.environment)
    if not text:
        return 0
    interval = int(now.timestamp()) // settings.digest_interval_sec
    told = (outbox.post(store, TOPIC, chat, text, f"{TOPIC}:{settings.digest_interval_sec}:{interval}:{chat}") for chat in
            chats(store, settings.admin_chat_id))  # fmt: skip
    return sum(told)


async def run_digest(
    bus: Bus,
    store: Store,
    settings: Settings,
    is_good: Callable[[], None] = lambda: None,
    *,
    clock: Clock = utc_now,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Collect and post for ever; returns at once where digests are off (`is_on`). A row of another form becomes a dead letter.

    `is_good` is called after each interval (see supervise). Where the store refuses, what was collected is told with the next one.
    """
    if is_on(settings):
        log.info("digest_off", reason=is_on(settings))
        return
    collector = Collector()
    async with bus.follow(OPPORTUNITIES_FEED, Policy.DROP_OLDEST, reader="digest") as messages:
        collecting = asyncio.create_task(_collect(bus, messages, collector), name="digest:collect")
        try:
            while not collecting.done():
                now = clock().astimezone(UTC).timestamp()
                await sleep(settings.digest_interval_sec - now % settings.digest_interval_sec)
                found, now_at = collector.take(), clock()
                try:
                    await asyncio.to_thread(post_digest, store, found, settings, now_at)
                except StorageError as error:
                    log.warning("digest_waits", error=str(error))
                    collector.give_back(found)
                else:
                    is_good()
            collecting.result()
        finally:
            collecting.cancel()
            await asyncio.wait([collecting])


async def _collect(bus: Bus, messages: AsyncIterator[Message], collector: Collector) -> None:
    async for message in messages:
        try:
            collector.add(orjson.loads(message.payload))
        except (ValueError, KeyError, TypeError) as error:
            await bus.bury(OPPORTUNITIES_FEED, message.payload, f"digest: {type(error).__name__}")
