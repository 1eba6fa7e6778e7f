"""`altforecast tv-send` against a running process.

What belongs here: the command. What does not: the sender and its mistakes (the sandbox's own tests).
"""

from __future__ import annotations

import pytest
import typer
from typer.testing import CliRunner, Result

from altforecast.errors import InputError
from altforecast_cli.tv_send import tv_send
from altforecast_io.store import inbox
from altforecast_io.store.engine import open_store
from tests.realtime.conftest import SECRET, Realtime


def send(*words: str) -> Result:
    app = typer.Typer()
    app.command()(tv_send)
    return CliRunner().invoke(app, list(words))


@pytest.mark.slow
def test_tv_send_alerts_arrive_once(realtime: Realtime, monkeypatch: pytest.MonkeyPatch) -> None:
    realtime.start(ALTFORECAST_ENVIRONMENT="sandbox")
    monkeypatch.setenv("ALTFORECAST_ENVIRONMENT", "sandbox")
    monkeypatch.setenv("SECRET_WEBHOOK_TOKEN", SECRET)
    url = f"{realtime.url}/webhook"
    assert send("--url", url, "--symbol", "USDT.D", "--tf", "240", "--count", "3", "--duplicate").exit_code == 0
    refused = send("--url", url, "--secret", "wrong")
    assert (refused.exit_code, "401" in refused.output) == (1, True)
    assert realtime.stop() == 0
    store = open_store(f"sqlite:///{realtime.home}/sandbox/store/altforecast.sqlite", "sandbox")
    rows = inbox.tail(store)
    store.close()
    assert [(r.series.symbol, r.timeframe.value, r.n_duplicates) for r in rows] == [("USDT.D", "4h", 1)] * 3


def test_tv_send_live_needs_force(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALTFORECAST_ENVIRONMENT", "live")
    result = send("--url", "http://127.0.0.1:9/webhook")
    assert isinstance(result.exception, InputError)
    assert "--force" in str(result.exception)


@pytest.mark.parametrize("words", [("--tf", "5"), ("--symbol", "NASDAQ:AAPL")])
def test_tv_send_unknown_names(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALTFORECAST_ENVIRONMENT", "sandbox")
    assert isinstance(send(*words).exception, InputError)
