"""A real browser, and checks that hold for every page."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

FLAGS = [
    "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
DESKTOP, PHONE = {"width": 1366, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium; skipped where there is none. Not for the session: its event loop would be in the way of async tests."""
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("no chromium here: `make chromium` installs it")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield launched
        launched.close()


class Watched:
    """A page together with everything that went wrong on it."""

    def __init__(self, page: Page, base: str) -> None:
        self.page, self.base = page, base
        self.errors: list[str] = []
        self.foreign: list[str] = []
        page.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda e: self.errors.append(str(e)))
        page.on("request", self._requested)

    def _requested(self, request: object) -> None:
        url = urlsplit(str(getattr(request, "url", "")))
        if url.scheme in ("http", "https", "ws", "wss") and url.netloc != urlsplit(self.base).netloc:
            self.foreign.append(url.geturl())

    def open(self, path: str) -> Page:
        """Load a page of the dashboard and wait until its data are drawn."""
        self.page.goto(self.base + path)
        self.page.wait_for_selector("body[data-loaded]", timeout=20_000)
        return self.page

    def check(self) -> None:
        """Fail on any console error, script error or request to another host."""
        assert self.errors == []
        assert self.foreign == []


@pytest.fixture(params=["desktop", "phone"])
def screen(request: pytest.FixtureRequest) -> str:
    """Both sizes that people use."""
    return str(request.param)


@pytest.fixture
def watched(browser: Browser, dashboard: str, screen: str) -> Iterator[Watched]:
    """A watched page of the right size; every test ends with the checks."""
    context = browser.new_context(viewport=DESKTOP if screen == "desktop" else PHONE, device_scale_factor=1)
    found = Watched(context.new_page(), dashboard)
    yield found
    found.check()
    context.close()


def take(page: Page, name: str) -> None:
    """Save a screenshot where ALTFORECAST_SCREENSHOTS asks for them (the README's pictures)."""
    folder = os.environ.get("ALTFORECAST_SCREENSHOTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=name.endswith("phone"))
