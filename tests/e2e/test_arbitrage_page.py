"""The arbitrage page in a real browser, over the real app and a bus that is written to as realtime does."""

from __future__ import annotations

import asyncio
import random
import socket
import threading
from collections.abc import Coroutine, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from playwright.sync_api import Browser, expect

from altforecast.symbols import VENUES
from altforecast_io.bus import MemoryBus
from altforecast_io.settings import Settings
from altforecast_serving.app import create_app
from tests.e2e.conftest import DESKTOP, Watched, take
from tests.serving.live_rows import cut, iso, opportunity, put_cut, put_venues, venue, write

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
SYMBOLS = ("BTC-USDT", "ETH-USDT", "SOL-USDT")
CURVE = "[[250,0.62],[500,0.55],[1000,0.47],[3000,0.31],[10000,0.12],[30000,-0.06]]"


class Site:
    """The app in a thread, with or without a realtime process beside it."""

    def __init__(self, home: Path, bus: MemoryBus | None) -> None:
        self.bus = bus
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        settings = Settings.load(base=home, environment="sandbox", database_url_override="", ws_publish_hz=4, timezone="UTC")
        app = create_app(settings, bus=bus)
        self.server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="on", timeout_graceful_shutdown=1))
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        while not self.server.started:
            assert self.thread.is_alive()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(self.server.serve([self.listener]))

    def do(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run something in the app's loop, as a realtime process in it does."""
        asyncio.run_coroutine_threadsafe(work, self.loop).result(20)

    def stop(self) -> None:
        """End it."""
        self.server.should_exit = True
        self.thread.join(20)
        self.listener.close()


def rows() -> list[dict[str, Any]]:
    rng, now = random.Random(7), datetime.now(UTC)
    flags = ["", "transfer_cost_unknown", "thin,converted_quote", "edge_too_good,asset_unmatched,withdrawal_closed"]
    found = []
    for i in range(9):
        buy, sell = rng.sample(VENUES, 2)
        edge = round(rng.uniform(0.1, 0.8), 3)
        found.append(opportunity(
            f"o{i}", ts=iso(now), opened_at=iso(now - timedelta(seconds=rng.uniform(0.2, 90))),
            symbol=SYMBOLS[i % 3], sell_symbol=SYMBOLS[i % 3],
            buy_exchange=buy, sell_exchange=sell, net_edge_pct=edge, peak_edge_pct=edge + 0.1, expected_profit_usdt=edge * 30,
            edge_curve=CURVE,
            optimal_profit_usdt=edge * 80, optimal_qty=0.05, risk_flags=flags[i % 4], capture_chance=None if i % 3 else 0.4 + i / 20,
        ))  # fmt: skip
    return found


async def fill(bus: MemoryBus) -> None:
    now = iso(datetime.now(UTC))
    fault = {"reason": "sequence", "symbol": "ETH-USDT", "detail": "gap of 3", "at": now}
    states = [venue(name, messages_per_s=12.5 + i, lag_ms=8.0 * i) for i, name in enumerate(VENUES)]
    states[3] |= {"state": "backoff", "n_live": 0, "last_fault": fault, "reconnects": {"sequence": 4, "stale": 1}}
    states[6] |= {"state": "suspect", "n_live": 1, "last_fault": fault}
    await put_venues(bus, *states)
    await put_cut(bus, cut(SYMBOLS, VENUES) | {"ts": now})
    await write(bus, *rows())


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site with opportunities, venues and spreads."""
    bus = MemoryBus()
    made = Site(tmp_path_factory.mktemp("arbitrage"), bus)
    made.do(fill(bus))
    yield made
    made.stop()


@pytest.fixture(scope="module")
def dashboard(site: Site) -> str:
    return site.url


def test_page_shows_opportunities_curve_venues_and_spreads(watched: Watched, screen: str) -> None:
    page = watched.open("/arbitrage")
    expect(page.locator("body")).to_have_attribute("data-feed", "live")
    assert "SANDBOX" in page.inner_text(".banner")
    assert page.locator("nav a[aria-current]").inner_text() == "Arbitrage"
    expect(page.locator("#open tbody tr[data-id]")).to_have_count(9)
    edges = [float(t.split()[0]) for t in page.locator("#open tbody td:nth-child(3)").all_inner_texts()]
    assert edges == sorted(edges, reverse=True)
    assert page.locator("#open .tag.risk").count() > 4
    assert page.locator("#curve svg .point").count() == 6
    assert page.locator("#venues .venue").count() == 14
    assert page.locator("#venues .venue[data-state='backoff']").count() == 1
    assert page.locator("#spreads tbody tr").count() == 14
    assert page.locator("#spreads tbody td.self").count() == 14
    page.select_option("#symbol", "SOL-USDT")
    page.wait_for_function("document.getElementById('symbol').value === 'SOL-USDT'")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "the page must not scroll sideways"
    take(page, f"arbitrage-{screen}")


def test_page_moves_and_lists_what_closed(watched: Watched, site: Site) -> None:
    page = watched.open("/arbitrage")
    expect(page.locator("body")).to_have_attribute("data-feed", "live")
    assert site.bus is not None
    now = datetime.now(UTC)
    best = opportunity(
        "best", net_edge_pct=4.25, edge_curve=CURVE, opened_at=iso(now), ts=iso(now), symbol="DOGE-USDT", sell_symbol="DOGE-USDT"
    )
    site.do(write(site.bus, best))
    expect(page.locator("#open tbody tr").first).to_contain_text("4.25 %")
    page.locator("#open tbody tr").first.click()
    expect(page.locator("#curve .lead")).to_contain_text("DOGE-USDT, okx → kraken")
    site.do(write(site.bus, best | {"event": "closed", "reason": "edge_gone", "ts": iso(now + timedelta(milliseconds=1500))}))
    expect(page.locator("#closed tbody tr").first).to_contain_text("1.5 s")
    expect(page.locator("#open tbody tr[data-id='best']")).to_have_count(0)


def test_page_without_a_realtime_process_says_so(browser: Browser, tmp_path: Path) -> None:
    alone = Site(tmp_path, None)
    try:
        context = browser.new_context(viewport=DESKTOP)
        found = Watched(context.new_page(), alone.url)
        page = found.open("/arbitrage")
        assert "no realtime process feeds this API" in page.inner_text("#notice")
        expect(page.locator("body")).to_have_attribute("data-feed", "silent")
        assert "not known" in page.inner_text("#open tbody")
        assert "no realtime process" in page.inner_text("#venues")
        take(page, "arbitrage-alone")
        found.check()
        context.close()
    finally:
        alone.stop()


def test_page_with_nothing_open_and_no_venue(browser: Browser, tmp_path: Path) -> None:
    quiet = Site(tmp_path, MemoryBus())
    try:
        context = browser.new_context(viewport=DESKTOP)
        found = Watched(context.new_page(), quiet.url)
        page = found.open("/arbitrage")
        expect(page.locator("#open tbody")).to_contain_text("None open now")
        expect(page.locator("#venues")).to_contain_text("no venue is configured")
        expect(page.locator("#closed tbody")).to_contain_text("None closed yet")
        found.check()
        context.close()
    finally:
        quiet.stop()


def test_page_notices_a_server_that_goes_away(browser: Browser, tmp_path: Path) -> None:
    gone = Site(tmp_path, MemoryBus())
    context = browser.new_context(viewport=DESKTOP)
    try:
        page = Watched(context.new_page(), gone.url).open("/arbitrage")
        expect(page.locator("body")).to_have_attribute("data-feed", "live")
    finally:
        gone.stop()
    expect(page.locator("body")).to_have_attribute("data-feed", "lost", timeout=15_000)
    expect(page.locator("#notice")).to_contain_text("does not answer")
    context.close()
