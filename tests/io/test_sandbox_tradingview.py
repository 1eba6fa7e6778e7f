"""TradingView as a sender: what it posts, when it posts again, and its mistakes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from aiohttp import web

from altforecast.symbols import METRIC_TIMEFRAMES
from altforecast.types import Metric, Timeframe
from altforecast_io.sources.tradingview import parse_alert
from altforecast_sandbox.alerts import Style, closed_alerts, metric_alerts, render_alert
from altforecast_sandbox.market import Market
from altforecast_sandbox.tradingview import AlertSender, Mistakes

pytestmark = pytest.mark.anyio
MIDNIGHT = datetime(2026, 11, 21, tzinfo=UTC)
QUARTER = timedelta(minutes=15)
SECRET = "sandbox-secret"


@pytest.fixture(scope="module")
def market() -> Market:
    return Market(7)


@dataclass
class Receiver:
    """A webhook that answers what it is told to, and keeps what came."""

    url: str = ""
    answers: list[int] = field(default_factory=list)
    delay_s: float = 0.0
    posts: list[tuple[str, bytes]] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.Response:
        self.posts.append((request.headers["Content-Type"], await request.read()))
        await asyncio.sleep(self.delay_s)
        return web.Response(status=self.answers.pop(0) if self.answers else 200)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    found = Receiver()
    app = web.Application()
    app.add_routes([web.post("/webhook", found.handle)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}/webhook"
    yield found
    await runner.cleanup()


Make = Callable[..., AlertSender]


@pytest.fixture
def make(market: Market, receiver: Receiver) -> Make:
    def build(**more: Any) -> AlertSender:
        options: dict[str, Any] = {"clock": lambda: MIDNIGHT, "resend_delay_s": 0.01} | more
        return AlertSender(receiver.url, SECRET, market, **options)

    return build


def test_closed_alerts_are_six_metrics_by_four_timeframes_at_midnight(market: Market) -> None:
    found = closed_alerts(market, MIDNIGHT - QUARTER, MIDNIGHT)
    assert {(a.metric, a.timeframe) for a in found} == {(m, t) for m in Metric for t in METRIC_TIMEFRAMES}
    assert all(a.closes_at == MIDNIGHT for a in found)
    quarter = closed_alerts(market, MIDNIGHT, MIDNIGHT + QUARTER)
    assert {a.timeframe for a in quarter} == {Timeframe.M15}


def test_closed_alerts_windows_meet_without_double(market: Market) -> None:
    edges = [MIDNIGHT + timedelta(minutes=7 * k, seconds=k) for k in range(20)]
    parts = [a for left, right in pairwise(edges) for a in closed_alerts(market, left, right)]
    assert sorted(parts, key=str) == sorted(closed_alerts(market, edges[0], edges[-1]), key=str)


def test_closed_alerts_are_silent_in_an_outage(market: Market) -> None:
    outages = [i for i in market.incidents(MIDNIGHT - timedelta(days=900), MIDNIGHT) if (i.kind, i.scope) == ("outage", "binance")]
    outage = next(i for i in outages if i.n_minutes > 45)
    inside = outage.start + timedelta(minutes=30)
    names = {a.metric for a in closed_alerts(market, inside - QUARTER, inside) if a.timeframe is Timeframe.M15}
    assert names == {Metric.TOTAL2, Metric.TOTAL3, Metric.BTC_D, Metric.USDT_D}


def test_render_alert_pine_is_payload_version_1(market: Market) -> None:
    alert = metric_alerts(market, Metric.USDT_D, Timeframe.H4, MIDNIGHT - QUARTER, MIDNIGHT)[0]
    rendered = render_alert(alert, SECRET)
    body = json.loads(rendered.body)
    assert list(body) == ["v", "token", "symbol", "tf", "t", "tc", "o", "h", "l", "c", "vol", "src"]
    assert (body["v"], body["symbol"], body["tf"], body["vol"], body["src"]) == (1, "CRYPTOCAP:USDT.D", "240", None, "pine6")
    assert body["tc"] - body["t"] == 4 * 3_600_000
    assert Decimal(body["c"]) == alert.close
    assert rendered.content_type.startswith("application/json")


@pytest.mark.parametrize("style", [Style.PINE, Style.PLACEHOLDER])
def test_render_alert_is_read_back_the_same(market: Market, style: Style) -> None:
    for alert in closed_alerts(market, MIDNIGHT - QUARTER, MIDNIGHT):
        rendered = render_alert(alert, SECRET, style)
        read = parse_alert(rendered.body, secret=SECRET, path_token=None, now=MIDNIGHT, tv_btc_symbol="BINANCE:BTCUSDT")
        assert (read.metric, read.timeframe, read.ts) == (alert.metric, alert.timeframe, alert.ts)
        assert (read.open, read.high, read.low, read.close) == (alert.open, alert.high, alert.low, alert.close)
        assert read.volume == alert.volume


def test_render_alert_text_with_undefined_volume_is_no_json(market: Market) -> None:
    alert = metric_alerts(market, Metric.TOTAL2, Timeframe.D1, MIDNIGHT - QUARTER, MIDNIGHT)[0]
    rendered = render_alert(alert, SECRET, Style.TEXT)
    assert rendered.content_type.startswith("text/plain")
    assert b'"volume": NaN' in rendered.body
    assert b'"interval": "D"' in rendered.body


def test_alerts_carry_the_bars_of_the_market(market: Market) -> None:
    bars = market.bars("BTC-USDT", "1h", MIDNIGHT, MIDNIGHT + timedelta(hours=5))
    alerts = metric_alerts(market, Metric.BTC, Timeframe.H1, MIDNIGHT, MIDNIGHT + timedelta(hours=5))
    assert [float(a.close) for a in alerts] == bars["close"].to_list()
    assert [a.ts for a in alerts] == bars["ts"].to_list()


async def test_send_closed_posts_every_alert(make: Make, receiver: Receiver) -> None:
    async with make() as sender:
        deliveries = await sender.send_closed(MIDNIGHT - QUARTER, MIDNIGHT)
    assert len(deliveries) == len(receiver.posts) == 24
    assert all(d.is_accepted and d.statuses == (200,) for d in deliveries)
    assert sender.counts == {"sent": 24, "accepted": 24}


RESENDS = [
    ([503, 500, 200], (503, 500, 200)),
    ([503] * 9, (503,) * 4),
    ([504, 200], (504,)),
    ([401, 200], (401,)),
    ([422], (422,)),
    ([302], (302,)),
]


@pytest.mark.parametrize(("answers", "statuses"), RESENDS)
async def test_send_again_on_5xx_but_504(
    make: Make, receiver: Receiver, market: Market, answers: list[int], statuses: tuple[int, ...]
) -> None:
    receiver.answers = list(answers)
    alert = closed_alerts(market, MIDNIGHT - QUARTER, MIDNIGHT)[0]
    async with make() as sender:
        delivery = await sender.send(alert)
    assert delivery.statuses == statuses
    assert len({body for _, body in receiver.posts}) == 1
    assert sender.counts["resent"] == len(statuses) - 1


async def test_send_waits_between_attempts(make: Make, receiver: Receiver, market: Market) -> None:
    receiver.answers = [503, 200]
    loop = asyncio.get_running_loop()
    async with make(resend_delay_s=0.25) as sender:
        began = loop.time()
        await sender.send(closed_alerts(market, MIDNIGHT - QUARTER, MIDNIGHT)[0])
    assert loop.time() - began >= 0.25


async def test_send_gives_up_at_the_deadline_without_resend(make: Make, receiver: Receiver, market: Market) -> None:
    receiver.delay_s = 0.5
    async with make(deadline_s=0.1) as sender:
        delivery = await sender.send(closed_alerts(market, MIDNIGHT - QUARTER, MIDNIGHT)[0])
    assert delivery.statuses == (0,)
    assert not delivery.is_accepted


async def test_send_to_nobody_is_refused_not_raised(market: Market) -> None:
    async with AlertSender("http://127.0.0.1:9/webhook", SECRET, market, lambda: MIDNIGHT) as sender:
        delivery = await sender.send(closed_alerts(market, MIDNIGHT - QUARTER, MIDNIGHT)[0])
    assert delivery.statuses == (0,)


async def test_mistakes_duplicate_is_byte_identical(make: Make, receiver: Receiver) -> None:
    async with make(mistakes=Mistakes(duplicate_every=1)) as sender:
        await sender.send_closed(MIDNIGHT, MIDNIGHT + QUARTER)
    bodies = [body for _, body in receiver.posts]
    assert len(bodies) == 12
    assert all(bodies.count(body) == 2 for body in bodies)


async def test_mistakes_interval_1_drop_and_text(make: Make, receiver: Receiver) -> None:
    async with make(mistakes=Mistakes(interval_1_every=1)) as sender:
        await sender.send_closed(MIDNIGHT - QUARTER, MIDNIGHT)
    assert {json.loads(body)["tf"] for _, body in receiver.posts} == {"1"}
    receiver.posts.clear()
    async with make(mistakes=Mistakes(text_every=1)) as sender:
        await sender.send_closed(MIDNIGHT - QUARTER, MIDNIGHT)
    assert sum(kind.startswith("text/plain") for kind, _ in receiver.posts) == 16
    receiver.posts.clear()
    async with make(mistakes=Mistakes(drop_every=2)) as sender:
        await sender.send_closed(MIDNIGHT - QUARTER, MIDNIGHT)
    assert len(receiver.posts) == 12
    assert sender.counts["dropped"] == 12


async def test_mistakes_late_comes_with_the_next_batch(make: Make, receiver: Receiver) -> None:
    async with make(mistakes=Mistakes(late_every=3)) as sender:
        await sender.send_closed(MIDNIGHT - QUARTER, MIDNIGHT)
        assert len(receiver.posts) == 16
        await sender.send_closed(MIDNIGHT, MIDNIGHT + QUARTER)
    assert len(receiver.posts) == 24 + 6 - sender.counts["late"] + 8
    assert len({body for _, body in receiver.posts}) == len(receiver.posts)


async def test_mistakes_shuffled_delivers_newest_first(make: Make, receiver: Receiver) -> None:
    async with make(mistakes=Mistakes(is_shuffled=True)) as sender:
        await sender.send_closed(MIDNIGHT, MIDNIGHT + 3 * QUARTER)
    opens = [json.loads(body)["t"] for _, body in receiver.posts]
    assert opens == sorted(opens, reverse=True)
    assert len(set(opens)) == 3


async def test_run_follows_the_clock_until_stopped(make: Make, receiver: Receiver) -> None:
    moments = iter([MIDNIGHT - QUARTER, MIDNIGHT - timedelta(seconds=1), MIDNIGHT])
    last = [MIDNIGHT]

    def clock() -> datetime:
        last[0] = next(moments, MIDNIGHT)
        return last[0]

    stop = asyncio.Event()
    async with make(clock=clock) as sender:
        task = asyncio.create_task(sender.run(stop))
        async with asyncio.timeout(10):
            while len(receiver.posts) < 24:
                await asyncio.sleep(0.05)
        stop.set()
        await task
    assert len(receiver.posts) == 24
