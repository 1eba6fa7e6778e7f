"""Digest and delivery against the Telegram stand-in: once per interval, nothing lost, nothing said of the token."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web
from sqlalchemy import select

from altforecast.errors import InputError
from altforecast_io.bus import DEAD_LETTERS, OPPORTUNITIES_FEED, MemoryBus
from altforecast_io.settings import Settings
from altforecast_io.store import outbox, schema, users
from altforecast_io.store.engine import Store, open_store
from altforecast_io.telegram import MAX_CHARS, Telegram, TelegramError, TokenError
from altforecast_sandbox import telegram as stand_in
from altforecast_sandbox.clock import real_clock
from altforecast_sandbox.faults import Fault, Switchboard
from realtime.delivery import Delivery, drain_outbox, send_due
from realtime.digest import Collector, is_on, post_digest, run_digest
from tests.realtime.conftest import REPOSITORY

pytestmark = pytest.mark.anyio
NOW = datetime(2026, 11, 21, 12, 0, 1, tzinfo=UTC)
ADMIN = 42


def row(name: str = "a", **changes: Any) -> dict[str, Any]:
    values = {
        "id": name, "event": "opened", "type": "spatial", "symbol": "BTC-USDT", "buy_exchange": "okx", "sell_exchange": "kraken",
        "net_edge_pct": 0.4, "expected_profit_usdt": 12.0, "optimal_profit_usdt": 40.0, "risk_flags": "", "ts": "2026-11-21T12:00:02Z",
        "opened_at": "2026-11-21T12:00:00Z",
    }  # fmt: skip
    return values | changes


class Bot:
    """The stand-in Bot API with its switches."""

    def __init__(self, url: str, board: Switchboard) -> None:
        self.url, self.board = url, board

    async def texts(self) -> list[tuple[int, str]]:
        """What was received."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.url}/_messages") as answer:
            return [(m["chat"]["id"], m["text"]) for m in await answer.json()]


@pytest.fixture
async def bot() -> AsyncIterator[Bot]:
    board = Switchboard({stand_in.NAME: stand_in.BODIES})
    app = web.Application(middlewares=[board.middleware()])
    app.add_routes(stand_in.routes(real_clock))
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield Bot(f"http://127.0.0.1:{runner.addresses[0][1]}/telegram", board)
    await runner.cleanup()


@pytest.fixture
def hand() -> list[datetime]:
    """The store's clock: the last entry is now."""
    return [NOW]


@pytest.fixture
def store(tmp_path: Path, hand: list[datetime]) -> Any:
    opened = open_store(f"sqlite:///{tmp_path}/store.sqlite", "live", clock=lambda: hand[-1])
    yield opened
    opened.close()


@pytest.fixture
def make_settings(tmp_path: Path) -> Callable[..., Settings]:
    def make(**changes: Any) -> Settings:
        values = {"base": tmp_path, "telegram_bot_token": stand_in.TOKEN, "admin_chat_id": ADMIN, "digest_interval_sec": 300}
        return Settings.load(**(values | changes))

    return make


def rows_of(store: Store) -> list[Any]:
    with store.read() as connection:
        return list(connection.execute(select(schema.outbox).order_by(schema.outbox.c.id)))


def collected(*rows: dict[str, Any]) -> list[Any]:
    collector = Collector()
    for one in rows:
        collector.add(one)
    return collector.take()


def test_collector_keeps_the_best_moment_and_the_lifetime() -> None:
    (found,) = collected(row(), row(optimal_profit_usdt=90.0, event="updated"), row(event="closed", optimal_profit_usdt=1.0))
    assert (found.profit_usdt, found.lifetime_ms) == (90.0, 2000)


def test_post_digest_tells_everybody_once_per_interval(store: Store, make_settings: Callable[..., Settings]) -> None:
    person = users.ensure(store, 7, "reader")
    users.subscribe(store, person.id, "arbitrage")
    users.subscribe(store, person.id, "arbitrage", "BTC")
    assert post_digest(store, collected(row()), make_settings(), NOW) == 2
    assert post_digest(store, collected(row("b")), make_settings(), NOW + timedelta(seconds=9)) == 0
    assert post_digest(store, collected(row("c")), make_settings(), NOW + timedelta(seconds=300)) == 2
    assert [r.chat_id for r in rows_of(store)] == [7, ADMIN, 7, ADMIN]


def test_post_digest_below_the_thresholds_says_nothing(store: Store, make_settings: Callable[..., Settings]) -> None:
    assert (
        post_digest(store, collected(row(net_edge_pct=0.1), row("b", expected_profit_usdt=1, optimal_profit_usdt=2)), make_settings(), NOW)
        == 0
    )
    assert rows_of(store) == []


def test_is_on_needs_a_token_and_the_switch(make_settings: Callable[..., Settings]) -> None:
    assert is_on(make_settings()) == ""
    assert "TELEGRAM_BOT_TOKEN" in is_on(make_settings(telegram_bot_token=None))
    assert "DIGEST_ENABLE" in is_on(make_settings(digest_enable=False))


async def test_run_digest_without_a_token_ends_at_once(store: Store, make_settings: Callable[..., Settings]) -> None:
    async with asyncio.timeout(5):
        await run_digest(MemoryBus(), store, make_settings(telegram_bot_token=None))
        await drain_outbox(store, make_settings(telegram_bot_token=None))
    health = Delivery(make_settings(telegram_bot_token=None)).health()["delivery"]
    assert health == {"ok": True, "digest": "TELEGRAM_BOT_TOKEN is not set", "detail": "off: TELEGRAM_BOT_TOKEN is not set"}


async def test_run_digest_from_the_feed_to_the_chat(bot: Bot, store: Store, make_settings: Callable[..., Settings]) -> None:
    bus, settings = MemoryBus(), make_settings(telegram_api_url=bot.url)
    intervals = 0

    async def sleep(_: float) -> None:
        nonlocal intervals
        intervals += 1
        if intervals == 1:
            for i in range(3):
                await bus.append(OPPORTUNITIES_FEED, orjson.dumps(row(f"o{i}", optimal_profit_usdt=10.0 + i)))
            await bus.append(OPPORTUNITIES_FEED, b"no JSON")
            await asyncio.sleep(0.1)
        if intervals == 3:
            await asyncio.Event().wait()

    running = asyncio.create_task(run_digest(bus, store, settings, clock=lambda: NOW, sleep=sleep))
    async with asyncio.timeout(10):
        while intervals < 3:
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.wait([running])
    async with Telegram(bot.url, stand_in.TOKEN) as telegram:
        assert await telegram.me() == "sandbox_bot"
        await send_due(store, telegram)
        await send_due(store, telegram)
    ((chat, text),) = await bot.texts()
    assert chat == ADMIN
    assert [line.split(", ")[1] for line in text.splitlines()[1:]] == ["12 USDT"] * 3
    assert b"digest: JSONDecodeError" in (await bus.recent(DEAD_LETTERS, 5))[0].payload


async def test_send_due_waits_as_long_as_telegram_asks(bot: Bot, store: Store, hand: list[datetime]) -> None:
    for i in range(3):
        outbox.post(store, "t", ADMIN, f"text {i}", f"key {i}")
    bot.board.set(Fault("telegram", "rate_limit", times=1))
    async with Telegram(bot.url, stand_in.TOKEN) as telegram:
        assert await send_due(store, telegram) == 1.0
        assert await bot.texts() == []
        hand.append(NOW + timedelta(seconds=2))
        await send_due(store, telegram)
    assert sorted(text for _, text in await bot.texts()) == ["text 0", "text 1", "text 2"]
    assert [r.attempts for r in rows_of(store)] == [1, 0, 0]


async def test_send_due_gives_up_a_blocked_chat_and_keeps_it(bot: Bot, store: Store, make_settings: Callable[..., Settings]) -> None:
    outbox.post(store, "t", stand_in.BLOCKED_FROM, "text", "a")
    outbox.post(store, "t", ADMIN, "text", "b")
    async with Telegram(bot.url, stand_in.TOKEN) as telegram:
        await send_due(store, telegram)
        await send_due(store, telegram)
    blocked, sent = rows_of(store)
    assert (blocked.sent_at, blocked.attempts) == (None, 1)
    assert "blocked" in blocked.error
    assert sent.sent_at == NOW
    assert outbox.waiting(store) == outbox.Waiting(0, 1, None)
    state = Delivery(make_settings())
    state.look(store)
    assert state.health()["delivery"] == {"ok": True, "digest": "on", "n_waiting": 0, "n_given_up": 1, "oldest_at": None}


@pytest.mark.parametrize("kind", ["server_error", "html", "truncated", "disconnect"])
async def test_send_due_tries_again_after_a_bad_answer(bot: Bot, store: Store, hand: list[datetime], kind: str) -> None:
    outbox.post(store, "t", ADMIN, "text", "a")
    bot.board.set(Fault("telegram", kind, times=1))
    async with Telegram(bot.url, stand_in.TOKEN) as telegram:
        await send_due(store, telegram)
        assert rows_of(store)[0].sent_at is None
        hand.append(NOW + timedelta(minutes=1))
        await send_due(store, telegram)
    assert rows_of(store)[0].sent_at is not None


async def test_send_due_ends_after_a_bounded_number_of_attempts(store: Store, hand: list[datetime]) -> None:
    outbox.post(store, "t", ADMIN, "text", "a")
    async with Telegram("http://127.0.0.1:1", stand_in.TOKEN) as telegram:
        for _ in range(outbox.MAX_ATTEMPTS + 5):
            await send_due(store, telegram)
            hand.append(hand[-1] + timedelta(hours=1))
    assert rows_of(store)[0].attempts == outbox.MAX_ATTEMPTS
    assert outbox.waiting(store).n_given_up == 1


async def test_send_due_with_a_bad_token_keeps_everything(bot: Bot, store: Store) -> None:
    outbox.post(store, "t", ADMIN, "text", "a")
    async with Telegram(bot.url, "1:wrong") as telegram:
        assert await send_due(store, telegram) > 10
        with pytest.raises(TokenError):
            await telegram.me()
    assert outbox.waiting(store).n_waiting == 1
    assert rows_of(store)[0].attempts == 0


async def test_telegram_errors_never_name_the_token(bot: Bot, capsys: pytest.CaptureFixture[str]) -> None:
    for url in (bot.url, "http://127.0.0.1:1", "http://nobody.invalid"):
        async with Telegram(url, "77:secret-of-the-bot") as telegram:
            with pytest.raises(TelegramError) as error:
                await telegram.send(ADMIN, "text")
        assert "secret-of-the-bot" not in str(error.value) + repr(error.value.__cause__) + repr(telegram)
    assert "secret-of-the-bot" not in "".join(capsys.readouterr())


async def test_send_cuts_a_text_that_is_too_long(bot: Bot) -> None:
    async with Telegram(bot.url, stand_in.TOKEN) as telegram:
        await telegram.send(ADMIN, "x" * 10_000)
    ((_, text),) = await bot.texts()
    assert len(text) == MAX_CHARS


def test_post_refuses_nothing_to_say_and_bounds_what_waits(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="text"):
        outbox.post(store, "t", ADMIN, "  ", "a")
    with pytest.raises(InputError, match="dedup_key"):
        outbox.post(store, "t", ADMIN, "text", "")
    monkeypatch.setattr(outbox, "MAX_WAITING", 2)
    assert [outbox.post(store, "t", ADMIN, "text", f"k{i}") for i in range(4)] == [True, True, False, False]


def test_prune_removes_what_is_over_and_old(store: Store, hand: list[datetime]) -> None:
    for key in ("sent", "given up", "waiting"):
        outbox.post(store, "t", ADMIN, "text", key)
    outbox.mark_sent(store, 1)
    outbox.mark_failed(store, 2, "blocked", 0.0, is_final=True)
    assert outbox.prune(store) == 0
    hand.append(NOW + outbox.KEPT + timedelta(seconds=1))
    assert outbox.prune(store) == 2
    assert [r.dedup_key for r in rows_of(store)] == ["waiting"]


DRAIN = """
import asyncio, sys
from altforecast_io.settings import Settings
from altforecast_io.store.engine import open_store
from realtime.delivery import drain_outbox
url, database = sys.argv[1:]
settings = Settings.load(telegram_bot_token={token!r}, telegram_api_url=url)
asyncio.run(drain_outbox(open_store(database, "live"), settings))
"""


async def test_drain_outbox_killed_in_the_middle_loses_nothing(bot: Bot, tmp_path: Path) -> None:
    """Two processes are killed while sending, a third sends the rest; what was being sent may come twice, nothing is missing."""
    database = f"sqlite:///{tmp_path}/killed.sqlite"
    store = open_store(database, "live")
    names = [f"text {i:03d}" for i in range(60)]
    for name in names:
        outbox.post(store, "t", ADMIN, name, name)
    script = textwrap.dedent(DRAIN).format(token=stand_in.TOKEN)
    for wanted in (10, 25, 60):
        process = subprocess.Popen([sys.executable, "-c", script, bot.url, database], cwd=REPOSITORY, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 40
        while len(await bot.texts()) < wanted or (wanted == 60 and outbox.waiting(store).n_waiting):
            assert process.poll() is None
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        await asyncio.to_thread(process.wait)
    texts = [text for _, text in await bot.texts()]
    assert sorted(set(texts)) == names
    assert len(texts) <= len(names) + 2
    store.close()
