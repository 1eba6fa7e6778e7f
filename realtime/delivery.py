"""The one drain of the outbox: sends what waits, in order, and notes what became of it.

What belongs here: when and how often a message is tried. What does not: the call (`altforecast_io.telegram`), the queue
(`altforecast_io.store.outbox`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from prometheus_client import Counter

from altforecast_io.settings import Settings
from altforecast_io.store import outbox
from altforecast_io.store.engine import Store
from altforecast_io.store.outbox import Letter
from altforecast_io.telegram import Telegram, TelegramError, TokenError
from realtime.digest import is_on

POLL_S = 1.0
FIRST_RETRY_S, LONGEST_RETRY_S = 5.0, 900.0
TOKEN_WAIT_S = 60.0
"""How long nothing is sent after Telegram refused the token."""
LOOK_EVERY = 10
"""Rounds between two looks at how the outbox stands."""
PRUNE_EVERY = 3600
"""Rounds between two removals of old messages."""
LETTERS = Counter("outbox_letters_total", "Attempts to send a message, by outcome", ["outcome"])
log = structlog.get_logger(__name__)


async def drain_outbox(
    store: Store,
    settings: Settings,
    is_good: Callable[[], None] = lambda: None,
    *,
    state: Delivery | None = None,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Send what is due for ever; returns at once without a token. Raises StorageError where the store refuses.

    A message is marked as sent after Telegram took it: a process that dies in between sends it again, none is lost.
    """
    token = settings.telegram_bot_token
    if token is None:
        log.info("delivery_off", reason="TELEGRAM_BOT_TOKEN is not set")
        return
    async with Telegram(settings.telegram_api_url, token.get_secret_value()) as telegram:
        rounds = 0
        while True:
            if rounds % PRUNE_EVERY == 0:
                await asyncio.to_thread(outbox.prune, store)
            rounds += 1
            wait_s = await send_due(store, telegram)
            if state is not None and rounds % LOOK_EVERY == 1:
                await asyncio.to_thread(state.look, store)
            is_good()
            await sleep(wait_s)


async def send_due(store: Store, telegram: Telegram) -> float:
    """Send every message that is due; seconds to wait before the next look."""
    for letter in await asyncio.to_thread(outbox.due, store):
        try:
            await telegram.send(letter.chat_id, letter.text)
        except TokenError as error:
            LETTERS.labels("token_refused").inc()
            log.error("telegram_token_refused", error=str(error), retry_in_s=TOKEN_WAIT_S)
            return TOKEN_WAIT_S
        except TelegramError as error:
            await _note_failure(store, letter, error)
            if error.retry_after_s is not None:
                # Telegram's limit is the bot's, not the chat's: the others wait too.
                return error.retry_after_s
        else:
            await asyncio.to_thread(outbox.mark_sent, store, letter.id)
            LETTERS.labels("sent").inc()
    return POLL_S


async def _note_failure(store: Store, letter: Letter, error: TelegramError) -> None:
    wait_s = error.retry_after_s if error.retry_after_s is not None else min(FIRST_RETRY_S * 2.0**letter.attempts, LONGEST_RETRY_S)
    is_over = await asyncio.to_thread(outbox.mark_failed, store, letter.id, str(error), wait_s, is_final=error.is_final)
    LETTERS.labels("given_up" if is_over else "failed").inc()
    log.warning("letter_failed", id=letter.id, topic=letter.topic, error=str(error), is_given_up=is_over)


class Delivery:
    """How the outbox stands, as the health matrix shows it: looked at by the drain, so that asking costs nothing."""

    def __init__(self, settings: Settings) -> None:
        self._why_off = "" if settings.telegram_bot_token is not None else "off: TELEGRAM_BOT_TOKEN is not set"
        self._digest = is_on(settings)
        self._found: dict[str, Any] = {}

    def look(self, store: Store) -> None:
        """Look at the outbox; blocks on the store. Raises StorageError."""
        found = outbox.waiting(store)
        self._found = {"n_waiting": found.n_waiting, "n_given_up": found.n_given_up, "oldest_at": found.oldest_at}

    def health(self) -> dict[str, dict[str, Any]]:
        """Component `delivery`: why it or the digest is off, and what waits. What waits is no fault of this process."""
        detail = {"detail": self._why_off} if self._why_off else {}
        return {"delivery": {"ok": True, "digest": self._digest or "on", **detail, **self._found}}
