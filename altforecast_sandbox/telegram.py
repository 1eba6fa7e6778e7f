"""The Telegram Bot API as far as a sender needs it: getMe, sendMessage, and what was received.

What belongs here: its wire form and refusals. What does not: the fault switches (`faults`), bots that listen.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import orjson
from aiohttp import web

from altforecast_sandbox.clock import Clock
from altforecast_sandbox.faults import Bodies

NAME = "telegram"
TOKEN = "100200300:sandbox-token-of-no-use"
"""The only token that it takes."""
BLOCKED_FROM = 9_000_000_000
"""Chats with this number or a higher one have blocked the bot."""
MESSAGES_KEPT = 1000
MAX_CHARS = 4096
BODIES = Bodies(
    limited=(429, {"ok": False, "error_code": 429, "description": "Too Many Requests: retry after 1", "parameters": {"retry_after": 1}}),
    refused={"ok": False, "error_code": 500, "description": "Internal Server Error"},
)


class Chats:
    """What was received, newest last; at most MESSAGES_KEPT, the oldest go first."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.messages: deque[dict[str, Any]] = deque(maxlen=MESSAGES_KEPT)
        self._n = 0

    def answer(self, token: str, method: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Status and body of one call."""
        if token != TOKEN:
            return 401, _error(401, "Unauthorized")
        if method == "getMe":
            return 200, {"ok": True, "result": {"id": 100200300, "is_bot": True, "first_name": "Sandbox", "username": "sandbox_bot"}}
        return self._send(body) if method == "sendMessage" else (404, _error(404, "Not Found"))

    def _send(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        chat, text = body.get("chat_id"), body.get("text")
        if not isinstance(chat, int) or isinstance(chat, bool) or chat == 0:
            return 400, _error(400, "Bad Request: chat not found")
        if not isinstance(text, str) or not text.strip():
            return 400, _error(400, "Bad Request: message text is empty")
        if len(text) > MAX_CHARS:
            return 400, _error(400, "Bad Request: message is too long")
        if chat >= BLOCKED_FROM:
            return 403, _error(403, "Forbidden: bot was blocked by the user")
        self._n += 1
        message = {"message_id": self._n, "date": int(self._clock().timestamp()), "chat": {"id": chat, "type": "private"}, "text": text}
        self.messages.append(message)
        return 200, {"ok": True, "result": message}


def _error(code: int, description: str) -> dict[str, Any]:
    return {"ok": False, "error_code": code, "description": description}


def routes(clock: Clock) -> list[web.RouteDef]:
    """`/telegram/bot<token>/<method>` and `/telegram/_messages`, which lists what was received (DELETE forgets it)."""
    chats = Chats(clock)

    async def call(request: web.Request) -> web.Response:
        try:
            body = orjson.loads(await request.read() or b"{}")
        except orjson.JSONDecodeError:
            body = {}
        status, answer = chats.answer(request.match_info["token"], request.match_info["method"], body if isinstance(body, dict) else {})
        return web.json_response(answer, status=status)

    async def show(_: web.Request) -> web.Response:
        return web.json_response(list(chats.messages))

    async def forget(_: web.Request) -> web.Response:
        chats.messages.clear()
        return web.json_response([])

    path = f"/{NAME}/bot{{token}}/{{method}}"
    return [web.post(path, call), web.get(path, call), web.get(f"/{NAME}/_messages", show), web.delete(f"/{NAME}/_messages", forget)]
