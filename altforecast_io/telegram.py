"""The Telegram Bot API as far as we send: one message to one chat.

What belongs here: the call, its limits and what its refusals mean. What does not: what is said, and trying again (the outbox).
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

import aiohttp
import orjson
from aiolimiter import AsyncLimiter

from altforecast.errors import AltForecastError
from altforecast_io.http import CALLS

MAX_CHARS = 4096
"""Longest text that Telegram takes; longer ones are cut."""
PER_SECOND = 25
"""Telegram allows about 30 messages a second over all chats."""
TIMEOUT = aiohttp.ClientTimeout(total=15.0, sock_connect=5.0)
_SERVICE = "telegram"


class TelegramError(AltForecastError):
    """A message was not sent. Never contains the token."""

    code = "telegram_failed"

    def __init__(self, detail: str, *, is_final: bool = False, retry_after_s: float | None = None) -> None:
        """is_final: trying again cannot help (blocked, no such chat, bad text)."""
        self.is_final, self.retry_after_s = is_final, retry_after_s
        super().__init__(detail)


class TokenError(TelegramError):
    """The token is wrong: nothing can be sent at all until a person sets another one."""


class Telegram:
    """One bot; use as `async with Telegram(url, token) as telegram`. Belongs to one event loop."""

    def __init__(self, api_url: str, token: str) -> None:
        self._address = f"{api_url.rstrip('/')}/bot{token}"
        self._limiter = AsyncLimiter(PER_SECOND, 1.0)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=TIMEOUT, trust_env=True)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._session is not None:
            await self._session.close()

    async def send(self, chat_id: int, text: str) -> int:
        """Send a plain text (cut to MAX_CHARS) and give its message id. Raises TelegramError, and TokenError for a bad token."""
        shown = text if len(text) <= MAX_CHARS else text[: MAX_CHARS - 1] + "…"
        answer = await self._call("sendMessage", {"chat_id": chat_id, "text": shown, "disable_web_page_preview": True})
        return int(answer["message_id"])

    async def me(self) -> str:
        """Name of the bot. Raises as `send`."""
        return str((await self._call("getMe", {}))["username"])

    async def _call(self, method: str, body: dict[str, Any]) -> dict[str, Any]:
        if self._session is None:
            raise RuntimeError("use `async with Telegram(...) as telegram`")
        async with self._limiter:
            try:
                async with self._session.post(f"{self._address}/{method}", json=body, allow_redirects=False) as response:
                    status, content = response.status, await response.content.read(65_536)
            except (TimeoutError, aiohttp.ClientError, OSError) as error:
                # `from None`: the library's message may hold the address with its token
                CALLS.labels(_SERVICE, "transient").inc()
                raise TelegramError(f"Telegram could not be reached: {type(error).__name__}") from None
        return _result(status, content)


def _result(status: int, content: bytes) -> dict[str, Any]:
    try:
        answer = orjson.loads(content)
        is_ok = status == 200 and answer["ok"] is True
        result = answer["result"] if is_ok else {}
    except (orjson.JSONDecodeError, KeyError, TypeError):
        CALLS.labels(_SERVICE, "transient").inc()
        raise TelegramError(f"Telegram answered HTTP {status} without sense") from None
    if is_ok:
        CALLS.labels(_SERVICE, "ok").inc()
        return dict(result)
    error = _refusal(status, answer)
    CALLS.labels(_SERVICE, "auth" if isinstance(error, TokenError) else "bad_request" if error.is_final else "transient").inc()
    raise error


def _refusal(status: int, answer: Any) -> TelegramError:
    """What a refusal means: 401 and 404 are the token's, 429 says when to come back, 400 and 403 are the chat's and final."""
    told = str(answer.get("description", ""))[:200] if isinstance(answer, dict) else ""
    detail = f"Telegram answered {status}: {told}"
    if status in (401, 404):
        return TokenError(detail)
    if status == 429:
        parameters = answer.get("parameters") if isinstance(answer, dict) else None
        wait = parameters.get("retry_after") if isinstance(parameters, dict) else None
        return TelegramError(detail, retry_after_s=float(wait) if isinstance(wait, int | float) else None)
    return TelegramError(detail, is_final=status in (400, 403))
