"""Settings: every old name works, wrong values end the start with one clear line."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest
from pydantic import AliasChoices

from altforecast.errors import SettingsError
from altforecast_io.settings import Settings
from altforecast_io.settings_report import settings_report


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for info in Settings.model_fields.values():
        assert isinstance(info.validation_alias, AliasChoices)
        for name in info.validation_alias.choices:
            monkeypatch.delenv(str(name), raising=False)


@pytest.mark.parametrize(
    ("name", "value", "field", "expected"),
    [
        ("DATABASE_PATH", "data.db", "database_url", "sqlite:///data.db"),
        ("DB_PATH", "bot.sqlite", "database_url", "sqlite:///bot.sqlite"),
        ("DB_DSN", "postgresql://u@h/d", "database_url", "postgresql://u@h/d"),
        ("DATABASE_URL", "postgres://u@h/d", "database_url", "postgresql://u@h/d"),
        ("EXCHANGE", "gateio", "exchange", "gate"),
        ("TIMEFRAME", "240", "timeframe", "4h"),
        ("SYMBOL", "BTC/USDT", "symbol", "BTC-USDT"),
        ("PERF_BUDGET_DECIDE_P99", "0.25", "decision_budget_ms", 250),
        ("PERF_BUDGET_ORDER_P99", "2", "order_budget_ms", 2000),
        ("LOG_LEVEL", "debug", "log_level", "DEBUG"),
        ("DATA_DIR", "elsewhere", "base", Path("elsewhere")),
    ],
)
def test_load_accepts_old_names(monkeypatch: pytest.MonkeyPatch, name: str, value: str, field: str, expected: object) -> None:
    monkeypatch.setenv(name, value)
    assert getattr(Settings.load(), field) == expected


@pytest.mark.skipif(find_spec("catboost") is not None, reason="the extra catboost is installed")
def test_load_challenger_without_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHALLENGER_FAMILY", "catboost")
    with pytest.raises(SettingsError) as caught:
        Settings.load()
    assert str(caught.value).endswith("CHALLENGER_FAMILY=catboost needs the extra catboost, which is not installed: make setup-catboost")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", ["none", "lightgbm"])
def test_load_challenger_family(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("CHALLENGER_FAMILY", value)
    if value == "none":
        assert Settings.load().challenger_family == "none"
    else:
        with pytest.raises(SettingsError, match=r"CHALLENGER_FAMILY.*'none' or 'catboost'"):
            Settings.load()


def test_load_telegram_secret_alias(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELEGRAM_SECRET_TOKEN", "abc")
    secret = Settings.load().telegram_webhook_secret
    assert secret is not None
    assert secret.get_secret_value() == "abc"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("PORT", "abc", ("PORT", "'abc'", "integer")),
        ("PORT", "70000", ("PORT", "'70000'", "65535")),
        ("MODE", "foo", ("MODE", "'foo'", "'paper', 'live' or 'backtest'")),
        ("TIMEFRAME", "2h", ("TIMEFRAME", "'2h'", "15m")),
        ("DATABASE_URL", "mysql://u:hunter2@h/x", ("DATABASE_URL", "postgresql://")),
        ("TZ", "Mars/Olympus", ("TZ", "Mars/Olympus", "IANA")),
        ("PUMPPORTAL_WS_URL", "wss://pumpportal.fun/data-api/real-time", ("PUMPPORTAL_WS_URL", "documentation page", "/api/data")),
        ("WEBHOOK_ALLOWED_IPS", "52.89.214.238,tradingview", ("WEBHOOK_ALLOWED_IPS", "'tradingview'", "address")),
        ("EXCHANGE", "foo", ("EXCHANGE", "'foo'", "binance", "gate")),
        ("EXCHANGE_BASE_URLS", "junk", ("EXCHANGE_BASE_URLS", "'junk'", "venue=http")),
        ("REDIS_URL", "foo", ("REDIS_URL", "'foo'", "redis://")),
        ("PUBLIC_BASE_URL", "ftp://x", ("PUBLIC_BASE_URL", "ftp://x", "https://")),
        ("PERF_BUDGET_DECISION_P99_MS", "abc", ("PERF_BUDGET_DECISION_P99_MS", "'abc'", "integer")),
        ("TV_BTC_SYMBOL", "BTCUSDT", ("TV_BTC_SYMBOL", "EXCHANGE:TICKER")),
        ("ALTFORECAST_HOEM", "x", ("ALTFORECAST_HOEM", "unknown", "ALTFORECAST_HOME")),
    ],
)
def test_load_refuses_with_one_line(monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: tuple[str, ...]) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        Settings.load()
    text = str(caught.value)
    assert "\n" not in text
    assert "hunter2" not in text
    for word in words:
        assert word in text


def test_load_names_the_value_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIMEFRAME", "7h")
    with pytest.raises(SettingsError) as caught:
        Settings.load()
    assert str(caught.value).count("'7h'") == 1


def test_load_refuses_contradicting_budgets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERF_BUDGET_DECISION_P99_MS", "700")
    monkeypatch.setenv("PERF_BUDGET_DECIDE_P99", "0.5")
    with pytest.raises(SettingsError, match="contradict"):
        Settings.load()


def test_load_refuses_contradicting_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "a.sqlite")
    monkeypatch.setenv("DB_PATH", "b.sqlite")
    with pytest.raises(SettingsError, match="DATABASE_URL and DB_PATH contradict"):
        Settings.load()


def test_load_refuses_live_trading_in_the_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODE", "live")
    monkeypatch.setenv("ALTFORECAST_ENVIRONMENT", "sandbox")
    with pytest.raises(SettingsError, match="sandbox"):
        Settings.load()


def test_home_of_the_sandbox_is_its_own_folder() -> None:
    live, sandbox = Settings.load(), Settings.load(environment="sandbox")
    assert live.lake_dir != sandbox.lake_dir
    assert live.database_url != sandbox.database_url
    assert live.dagster_home != sandbox.dagster_home


def test_settings_report_masks_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_WEBHOOK_TOKEN", "correct horse")
    monkeypatch.setenv("DATABASE_URL", "postgresql://me:battery@host/db")
    rows = settings_report(Settings.load())
    text = repr(rows)
    assert "correct horse" not in text
    assert "battery" not in text
    assert {r.name: r for r in rows}["SECRET_WEBHOOK_TOKEN"].value == "***"


def test_settings_report_covers_every_variable_of_the_example(repository: Path) -> None:
    listed = set(re.findall(r"^# ([A-Z0-9_]+)=", (repository / ".env.example").read_text(), re.MULTILINE))
    assert listed == {r.name for r in settings_report(Settings.load())}
