"""`altforecast doctor` names the Telegram bot: the token is tried against the stand-in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from altforecast_cli.doctor import Check, telegram_check
from altforecast_sandbox.market import Market
from altforecast_sandbox.telegram import TOKEN
from tests.stand_in import StandIn, running


@pytest.fixture(scope="module")
def outside() -> Iterator[StandIn]:
    with running(Market(7)) as stand_in:
        yield stand_in


def found(outside: StandIn, home: Path, **given: object) -> Check:
    return telegram_check(outside.settings(home, **{"telegram_api_url": f"{outside.url}/telegram", "admin_chat_id": 5, **given}))


def test_telegram_check_says_the_name_of_the_bot(outside: StandIn, tmp_path: Path) -> None:
    assert found(outside, tmp_path, telegram_bot_token=TOKEN) == Check("telegram", "ok", "bot @sandbox_bot")


def test_telegram_check_without_a_chat_warns(outside: StandIn, tmp_path: Path) -> None:
    check = found(outside, tmp_path, telegram_bot_token=TOKEN, admin_chat_id=None)
    assert (check.state, "ADMIN_CHAT_ID" in check.advice) == ("warn", True)


def test_telegram_check_wrong_token_fails_and_is_not_shown(outside: StandIn, tmp_path: Path) -> None:
    check = found(outside, tmp_path, telegram_bot_token="77:not-this-one")
    assert check.state == "fail"
    assert "TELEGRAM_BOT_TOKEN" in check.advice
    assert "not-this-one" not in repr(check)


def test_telegram_check_unreachable_warns(outside: StandIn, tmp_path: Path) -> None:
    check = found(outside, tmp_path, telegram_bot_token=TOKEN, telegram_api_url="http://127.0.0.1:1")
    assert check.state == "warn"
    assert TOKEN not in repr(check)


def test_telegram_check_without_token_asks_nobody(outside: StandIn, tmp_path: Path) -> None:
    before = len(outside.requests)
    assert found(outside, tmp_path, telegram_bot_token=None).state == "ok"
    assert len(outside.requests) == before
