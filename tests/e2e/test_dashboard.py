"""The demo as a newcomer sees it: one command, then pages in a real browser."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.conftest import Watched, take

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(420)]
REPOSITORY = Path(__file__).resolve().parents[2]
CHART_SHA256 = "756b0ba9f58930226d6b8b9d47ad310448ab85d799ea1f7c2c02304777c10b52"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`altforecast demo` on a new folder, with the API process only; stopped at the end, with everything it started."""
    home, port = tmp_path_factory.mktemp("demo"), free_port()
    environment = {**os.environ, "ALTFORECAST_HOME": str(home), "TZ": "UTC"}
    words = [sys.executable, "-m", "altforecast_cli", "demo", "--port", str(port), "--dagster-port", str(free_port()), "--only", "realtime"]
    with (home / "demo.log").open("w") as log:
        process = subprocess.Popen(words, env=environment, cwd=REPOSITORY, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    base = f"http://127.0.0.1:{port}"
    try:
        _wait(base, process, home / "demo.log")
        yield base
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            pytest.fail("the demo did not stop within 30 s of SIGTERM")


def _wait(base: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        if process.poll() is not None:
            pytest.fail(f"the demo ended with code {process.returncode}:\n{log.read_text()[-3000:]}")
        try:
            answer = httpx.get(f"{base}/api/bars/BTC/15m?limit=400", timeout=5).json()
            if any(bar["quality"] == "provisional" for bar in answer["data"]):
                return
        except (httpx.HTTPError, ValueError, KeyError):
            pass
        time.sleep(0.5)
    pytest.fail(f"no alert was readable within 300 s:\n{log.read_text()[-3000:]}")


def test_overview_shows_report_regime_signals_and_streams(watched: Watched, screen: str) -> None:
    page = watched.open("/")
    assert "SANDBOX" in page.inner_text(".banner")
    assert page.locator("#report tbody tr").count() == 6
    assert page.locator("#report .arrow.up, #report .arrow.down, #report .arrow.flat").count() > 0
    assert page.inner_text(".regime-state") in {"Risk-ON", "Risk-OFF", "Neutral"}
    assert page.locator("#streams tbody .dot").count() == 24
    assert re.search(r"\d", page.inner_text("#tiles"))
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "the page must not scroll sideways"
    take(page, f"overview-{screen}")


def test_market_draws_candles_with_signals(watched: Watched, screen: str) -> None:
    page = watched.open("/market?metric=BTC&timeframe=15m&limit=300")
    assert page.locator("#chart canvas").count() > 2
    assert page.inner_text("#quote").startswith("BTC")
    assert page.locator("#levels tbody tr").count() >= 2
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.wait_for_timeout(400)
    take(page, f"market-{screen}")


def test_market_selects_work(watched: Watched) -> None:
    page = watched.open("/market?metric=BTC&timeframe=1h&limit=100")
    before = page.get_attribute("body", "data-loaded")
    page.select_option("#metric", label="TOTAL3")
    page.wait_for_selector(f"body:not([data-loaded='{before}'])")
    assert page.inner_text("#quote").startswith("TOTAL3")
    before = page.get_attribute("body", "data-loaded")
    page.select_option("#timeframe", "4h")
    page.wait_for_selector(f"body:not([data-loaded='{before}'])")
    before = page.get_attribute("body", "data-loaded")
    page.select_option("#limit", "200")
    page.wait_for_selector(f"body:not([data-loaded='{before}'])")
    assert "metric=TOTAL3&timeframe=4h&limit=200" in page.url
    page.click("#view-table")
    assert page.locator("#bars tbody tr").count() == 200
    assert page.locator("#chart-panel").is_hidden()


def test_table_view_agrees_with_the_api(watched: Watched) -> None:
    page = watched.open("/market?metric=ETHBTC&timeframe=1h&limit=100")
    page.click("#view-table")
    bars = httpx.get(f"{watched.base}/api/bars/ETHBTC/1h?limit=100").json()["data"]
    newest = max(bars, key=lambda b: b["ts"])
    shown = page.locator("#bars tbody tr").first.locator("td").nth(4).inner_text()
    assert float(shown.replace(",", "")) == pytest.approx(newest["close"], abs=1e-7)


def test_api_documentation_page_needs_no_foreign_host(watched: Watched) -> None:
    page = watched.page
    page.goto(watched.base + "/docs")
    page.wait_for_load_state("networkidle")
    assert "/api/bars" in page.inner_text("body")


def test_chart_library_is_the_known_file(dashboard: str) -> None:
    body = httpx.get(f"{dashboard}/static/lightweight-charts.js").content
    assert hashlib.sha256(body).hexdigest() == CHART_SHA256


def test_every_answer_names_the_sandbox(dashboard: str) -> None:
    for path in ("/api/stats", "/api/bars/BTC/1h", "/api/regime", "/api/report", "/api/divergences", "/api/streams", "/api/symbols"):
        assert httpx.get(dashboard + path).json()["environment"] == "sandbox", path
