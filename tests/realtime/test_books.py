"""Which venues are followed and why others are not, and the book half inside the real process."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from altforecast.symbols import RESERVE_VENUES, VENUES
from altforecast_io.exchanges.sessions.registry import SESSION_VENUES, open_session
from altforecast_io.landing import landing_files, read_landing
from altforecast_io.settings import Settings
from realtime.feed_plan import Planned, plan_feeds
from tests.realtime.conftest import Realtime

STAND_IN = "http://127.0.0.1:9"


def planned(has_ccxt: bool = True, **settings: Any) -> dict[str, Planned]:
    """The plan of these settings by venue."""
    made = Settings(_env_file=None, **settings)  # type: ignore[call-arg]
    return {p.venue: p for p in plan_feeds(made, SESSION_VENUES, lambda venue: has_ccxt)}


def test_plan_feeds_live_follows_real_venues_natively() -> None:
    plan = planned(environment="live")
    assert set(plan) == set(VENUES)
    assert {p.feed for p in plan.values()} == {"native"}
    assert {p.base_url for p in plan.values()} == {None}
    assert "BTC-USD" in plan["kraken"].symbols
    assert "BTC-USD" not in plan["binance"].symbols


def test_plan_feeds_sandbox_never_asks_a_real_venue() -> None:
    plan = planned(environment="sandbox", exchange_base_urls_text=f"okx={STAND_IN}/okx")
    assert {p.venue for p in plan.values() if p.feed != "off"} == {"okx"}
    assert plan["okx"].base_url == f"{STAND_IN}/okx"
    assert "no stand-in" in plan["kraken"].note


def test_plan_feeds_obeys_book_feeds() -> None:
    plan = planned(environment="live", book_feeds_text="all=ccxt,okx=native", book_venues=("okx", "kraken", "gemini"))
    assert {v: p.feed for v, p in plan.items()} == {"okx": "native", "kraken": "ccxt", "gemini": "ccxt"}


def test_plan_feeds_reserves_go_over_ccxt_or_say_why_not() -> None:
    plan = planned(environment="live", book_venues=RESERVE_VENUES, book_feeds_text="gemini=native")
    assert {p.feed for p in plan.values()} == {"ccxt"}
    assert plan["gemini"].note == "no native session: ccxt feed"
    assert planned(has_ccxt=False, environment="live", book_venues=("bitmart",))["bitmart"].note == "this version of ccxt does not know it"


def test_plan_feeds_reserves_with_a_session_are_native_on_request() -> None:
    plan = planned(environment="live", book_venues=("whitebit", "upbit"), book_feeds_text="all=native")
    assert {v: p.feed for v, p in plan.items()} == {"whitebit": "native", "upbit": "native"}
    for venue, found in plan.items():
        assert set(open_session(venue, found.symbols).books) == set(found.symbols)


def test_plan_feeds_without_common_symbols_is_off() -> None:
    assert planned(environment="live", book_venues=("binance",), book_symbols=("BTC-USD",))["binance"].feed == "off"
    assert planned(environment="live", book_venues=()) == {}


def health(realtime: Realtime) -> dict[str, Any]:
    """The components of /health."""
    with urllib.request.urlopen(f"{realtime.url}/health", timeout=10) as answer:
        found: dict[str, Any] = json.load(answer)["components"]
        return found


@pytest.mark.slow
def test_process_with_unreachable_venues_serves_and_stops_clean(realtime: Realtime) -> None:
    process = realtime.start(BOOK_VENUES="kraken,okx", EXCHANGE_BASE_URLS="kraken=http://127.0.0.1:1,okx=http://127.0.0.1:1")
    books = health(realtime)["books"]
    assert (books["ok"], books["venues"], books["venues_live"]) == (False, 2, 0)
    began = time.monotonic()
    assert realtime.stop() == 0
    assert time.monotonic() - began < 10
    assert process.poll() == 0
    assert "realtime_stopped" in realtime.everything_written()


@pytest.mark.slow
def test_process_in_a_sandbox_without_stand_ins_has_every_venue_off(realtime: Realtime) -> None:
    realtime.start(ALTFORECAST_ENVIRONMENT="sandbox", BOOK_VENUES="kraken,okx")
    books = health(realtime)["books"]
    assert (books["ok"], books["venues"], books["books_live"]) == (True, 0, 0)
    assert realtime.stop() == 0


@pytest.mark.slow
def test_process_stopped_closes_what_is_open_with_the_reason_shutdown(realtime: Realtime) -> None:
    """Sandbox, plant, ledger, landing: each row is there, and the end of the feeds is not taken for the reason."""
    with stand_ins() as there:
        urls = ",".join(f"{venue}={there['venues'][venue]}" for venue in ("okx", "bybit"))
        cheap = {"WITHDRAW_COST_USDT": "0", "SLIPPAGE_BPS": "0", "TARGET_SIZE_USDT": "500"}
        realtime.start(
            ALTFORECAST_ENVIRONMENT="sandbox", BOOK_VENUES="okx,bybit", BOOK_SYMBOLS="BTC-USDT", EXCHANGE_BASE_URLS=urls, **cheap
        )
        until(lambda: health(realtime)["books"]["books_live"] == 2)
        plant = {"symbol": "BTC-USDT", "buy": "okx", "sell": "bybit", "edge_bps": 50, "money_usdt": 9000, "lifetime_ms": 60_000}
        post(there["truth"], plant)
        until(lambda: health(realtime)["arbitrage"]["open"] == 1)
        assert realtime.stop() == 0
    lake = realtime.home / "sandbox" / "lake"
    rows = read_landing(landing_files(lake, "opportunity_events"), "opportunity_events").sort("ts")
    assert rows["event"][0] == "opened"
    last = rows.filter(rows["event"] == "closed").to_dicts()
    assert [(row["reason"], row["buy_exchange"], row["sell_exchange"]) for row in last] == [("shutdown", "okx", "bybit")]


@contextmanager
def stand_ins() -> Iterator[dict[str, Any]]:
    """The sandbox servers without plants of their own."""
    command = [sys.executable, "-m", "altforecast_sandbox", "--port", "0", "--plants-per-hour", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())
    finally:
        process.terminate()
        process.wait(20)


def post(url: str, body: dict[str, Any]) -> None:
    """POST as JSON."""
    urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), method="POST"), timeout=10).close()


def until(holds: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "did not come to hold"
        time.sleep(0.05)
