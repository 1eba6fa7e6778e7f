"""Forecast and model pages, and the fan on the market page, in a real browser over the real app, lake and store."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from altforecast_io.settings import Settings
from tests.e2e.conftest import DESKTOP, Watched, take
from tests.e2e.forecast_world import CHAMPION, MLFLOW_RUN, REJECTED, build
from tests.e2e.test_arbitrage_page import Site

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
NOW = datetime.now(UTC)


def site_of(home: Path, **world: Any) -> Site:
    """A site over a lake filled by `build`, with its options."""
    build(Settings.load(base=home, environment="sandbox", database_url_override=""), NOW, **world)
    return Site(home, None)


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    made = site_of(tmp_path_factory.mktemp("forecasts"))
    yield made.url
    made.stop()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[[Site], Watched]]:
    """Opens a watched desktop page of a site that one test made; checks it, closes it and stops the site at the end."""
    opened: list[tuple[Site, Watched, Any]] = []

    def make(site: Site) -> Watched:
        context = browser.new_context(viewport=DESKTOP)
        opened.append((site, Watched(context.new_page(), site.url), context))
        return opened[-1][1]

    yield make
    for site, _, context in opened:
        context.close()
        site.stop()
    for _, found, _ in opened:
        found.check()


def check_width(page: Page) -> None:
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "the page must not scroll sideways"


def test_forecasts_lists_every_market_and_horizon_and_sorts(watched: Watched, screen: str) -> None:
    page = watched.open("/forecasts")
    assert "SANDBOX" in page.inner_text(".banner")
    assert page.locator("nav a[aria-current]").inner_text() == "Forecasts"
    rows = page.locator("#lines tbody tr")
    expect(rows).to_have_count(16)
    tiles = page.locator("#horizons .tile").all_inner_texts()
    assert ["champion" in tile for tile in tiles] == [False, True, False, False]
    assert all("80.1 / 94.9 %" in tile for tile in tiles)
    page.click("#lines th[data-key='width'] button")
    widths = [float(t[1:-2]) for t in page.locator("#lines tbody td:nth-child(4)").all_inner_texts()[:12]]
    assert widths == sorted(widths, reverse=True)
    assert page.get_attribute("#lines th[data-key='width']", "aria-sort") == "descending"
    assert "YOUNG" in rows.last.inner_text(), "what is not known stands last"
    assert page.locator("#pit svg .bar").count() == 10
    page.select_option("#horizon", "1h")
    page.fill("#find", "eth")
    expect(rows).to_have_count(1)
    check_width(page)
    page.fill("#find", "")
    page.select_option("#horizon", "")
    take(page, f"forecasts-{screen}")


def test_forecast_shows_fan_direction_and_how_it_was_made(watched: Watched, screen: str) -> None:
    page = watched.open("/forecasts/BTC-USDT?exchange=binance")
    answer = httpx.get(f"{watched.base}/api/forecasts/BTC-USDT?exchange=binance").json()["data"]
    take(page, f"forecast-{screen}")
    assert page.locator("#fan svg .band80").count() == 1
    labels = page.evaluate("[...document.querySelectorAll('#fan svg text')].map((t) => t.getBBox().x)")
    assert len(labels) >= 4
    assert min(labels) >= 0, "no price is cut at the left edge"
    expect(page.locator("#horizons tbody tr")).to_have_count(4)
    hour = next(h for h in answer["horizons"] if h["horizon"] == "1h")
    low = next(q["price"] for q in hour["quantiles"] if q["level"] == 0.1)
    shown = page.inner_text("#horizons tr[data-horizon='1h'] td:nth-child(2)")
    assert float(shown.split(" to ")[0].replace(",", "")) == pytest.approx(low, abs=0.01)
    assert page.inner_text("#chosen .direction") == hour["direction"]["word"]
    assert hour["direction"]["why"] in page.inner_text("#chosen")
    page.focus("#horizons tr[data-horizon='24h']")
    page.keyboard.press("Enter")
    expect(page.locator("#chosen-title")).to_contain_text("24h")
    assert "no directional edge" in page.inner_text("#chosen")
    assert "no champion yet" in page.inner_text("#chosen")
    check_width(page)


def test_track_record_pages_and_tells_live_from_walk_forward(watched: Watched, screen: str) -> None:
    page = watched.open("/forecasts/BTC-USDT?exchange=binance")
    assert page.input_value("#origin") == "live"
    assert page.input_value("#forecaster") == "champion"
    rows = page.locator("#record tbody tr")
    expect(rows).to_have_count(50)
    assert set(page.locator("#record tbody td:nth-child(2)").all_inner_texts()) == {"live"}
    newest = rows.first.locator("td").first.inner_text()
    page.click("#older")
    expect(page.locator("#page-words")).to_contain_text("page 2")
    assert rows.first.locator("td").first.inner_text() != newest
    page.click("#newer")
    expect(rows.first.locator("td").first).to_have_text(newest)
    words = page.inner_text("#record-words")
    n = int(re.match(r"[\d,]+", words)[0].replace(",", ""))  # type: ignore[index]
    csv = httpx.get(watched.base + str(page.get_attribute("#csv", "href"))).text.splitlines()
    assert n <= len(csv) - 1 <= n + 2, "the file holds all of them and those whose outcome is not known"
    page.select_option("#origin", "walk_forward")
    expect(page.locator("#record tbody td:nth-child(2)").first).to_have_text("walk forward")
    assert "not live" in page.inner_text("#origin-words")
    check_width(page)


@pytest.mark.parametrize("screen", ["desktop"], indirect=True)
def test_calibration_and_skill_are_drawn_for_both_origins(watched: Watched) -> None:
    for origin in ("live", "walk_forward"):
        page = watched.open(f"/forecasts/ETH-USDT?exchange=binance&horizon=1h&forecaster=champion&origin={origin}")
        assert page.locator("#reliability svg circle").count() >= 3
        assert page.locator("#pit svg .bar").count() == 10
        assert page.locator("#coverage svg .rule").count() == 2
        assert page.locator("#skill svg .line.first").count() == 1
        assert page.locator("#skill svg .line.second").count() == 1
    page.select_option("#forecaster", "har")
    expect(page.locator("#reliability-words")).to_contain_text("No calibrated P(up)")


@pytest.mark.parametrize("screen", ["desktop"], indirect=True)
def test_young_market_says_why_there_is_no_forecast(watched: Watched) -> None:
    page = watched.open("/forecasts/YOUNG-USDT")
    assert "120 are needed" in page.inner_text("#fan")
    assert page.locator("#fan svg").count() == 0
    assert "120 are needed" in page.inner_text("#horizons")
    page = watched.open("/market?metric=YOUNG-USDT&timeframe=1h")
    assert "120 are needed" in page.inner_text("#ahead")


def test_market_draws_the_fan_and_lets_it_go(watched: Watched, screen: str) -> None:
    page = watched.open("/market?metric=BTC&timeframe=1h&limit=100")
    expect(page.locator("#ahead")).to_have_attribute("data-horizons", re.compile("[34]"))
    words = page.inner_text("#ahead")
    assert "24h ahead" in words
    assert "no directional edge" in words
    assert "simulated" in words
    chart = page.locator("#chart").bounding_box()
    assert chart is not None
    price_axis = page.evaluate("document.querySelector('#chart td:last-child').clientWidth")
    page.wait_for_timeout(200)
    drawn = greens(page)
    page.mouse.move(chart["x"] + (chart["width"] - price_axis) * 0.835, chart["y"] + 200)
    expect(page.locator("#ahead")).to_contain_text(re.compile("(15m|1h|4h) ahead"))
    page.mouse.move(0, 0)
    check_width(page)
    page.uncheck("#show-forecast")
    expect(page.locator("#ahead")).to_be_hidden()
    page.wait_for_timeout(200)
    assert drawn > 20 * (greens(page) + 1)


GREENS = """() => [...document.querySelectorAll('#chart canvas')].reduce((sum, canvas) => {
    const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    const isBand = (i) => data[i + 3] > 25 && data[i + 3] < 200 && Math.abs(data[i] - 79) < 9 && Math.abs(data[i + 1] - 209) < 9;
    for (let i = 0; i < data.length; i += 4) if (isBand(i)) sum += 1;
    return sum; }, 0)"""


def greens(page: Page) -> int:
    """Pixels of the chart in the colours of the fan's bands."""
    return int(page.evaluate(GREENS))


def test_models_and_card_show_gates_scores_and_history(watched: Watched, screen: str) -> None:
    page = watched.open("/models")
    assert page.locator("nav a[aria-current]").inner_text() == "Models"
    tiles = page.locator("#horizons .tile").all_inner_texts()
    assert CHAMPION in tiles[1]
    assert "rolled back" in tiles[2]
    assert "skill over HAR-S -0.9 %" in tiles[2]
    assert "is not above 0" in page.inner_text("#events")
    assert page.locator("#models tbody tr").count() == 6
    check_width(page)
    page = watched.open(f"/models/{REJECTED}")
    assert page.locator("#gates .tag.down").all_inner_texts() == ["missed"]
    assert "not in MLflow" in page.inner_text("#mlflow")
    page = watched.open(f"/models/{CHAMPION}")
    assert page.locator("#gates .tag.up").all_inner_texts() == ["met"] * 3
    assert MLFLOW_RUN in page.inner_text("#mlflow")
    assert "make mlflow" in page.inner_text("#mlflow")
    assert page.locator("#quarters svg .line").count() == 2
    assert page.locator("#reliability svg circle").count() == 20
    assert page.locator("#events tbody tr").count() == 2
    assert page.locator("#folds tbody td").all_text_contents() == ["01 Apr 2024", "01 Jul 2024", "01 Oct 2024"]
    check_width(page)
    take(page, f"model-{screen}")


def test_without_a_champion_the_baseline_answers_and_old_forecasts_are_called_stale(
    visit: Callable[[Site], Watched], tmp_path: Path
) -> None:
    found = visit(site_of(tmp_path, has_champion=False, late=timedelta(hours=6)))
    page = found.open("/forecasts/BTC-USDT")
    assert page.input_value("#forecaster") == "har"
    assert "no champion yet" in page.inner_text("#chosen")
    assert page.locator("#horizons .tag.provisional").all_inner_texts() == ["stale"] * 4
    assert "newer bars are there" in page.inner_text("#notice")
    assert page.locator("#fan svg .mark").count() == 1, "only the 24 hours still reach beyond the newest bar"
    page = found.open("/market?metric=BTC&timeframe=15m")
    expect(page.locator("#ahead")).to_contain_text("stale")
    page = found.open("/forecasts")
    assert "nobody" not in page.inner_text("#horizons")
    assert page.locator("#lines .tag.provisional").count() == 12


def test_pages_of_an_empty_lake_say_how_to_fill_it(visit: Callable[[Site], Watched], tmp_path: Path) -> None:
    found = visit(Site(tmp_path, None))
    for path in ("/forecasts", "/forecasts/BTC"):
        page = found.open(path)
        assert "altforecast import" in page.inner_text("#notice")
    assert "No outcome is known yet" in page.inner_text("#pit-words")
    page = found.open("/models")
    assert "nothing is trained yet" in page.inner_text("#notice")
    page = found.open("/market")
    assert "No forecast" in page.inner_text("#ahead")


def test_unknown_market_and_model_are_told_in_words(browser: Browser, dashboard: str) -> None:
    context = browser.new_context(viewport=DESKTOP)
    found = Watched(context.new_page(), dashboard)
    page = found.open("/forecasts/NOPE-USDT")
    assert "NOPE-USDT" in page.inner_text("#notice")
    assert page.locator("#symbol option").count() == 4, "a way on"
    page = found.open("/models/no-such-model")
    assert "no such model" in page.inner_text("#notice")
    assert all("404" in error for error in found.errors)
    assert found.foreign == []
    context.close()
