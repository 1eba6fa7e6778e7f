"""`altforecast tv-send`: post alerts to the webhook as TradingView does.

What belongs here: choosing bars of the simulated market and showing what became of their alerts. What does not: the sender
itself (`altforecast_sandbox.tradingview`).
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from altforecast.errors import InputError
from altforecast.symbols import METRIC_TIMEFRAMES, parse_timeframe, parse_tradingview_symbol
from altforecast_io.clock import utc_now
from altforecast_io.settings import Settings
from altforecast_io.sources.tradingview import SANDBOX_TOKEN

if TYPE_CHECKING:
    from altforecast_sandbox.alerts import Alert
    from altforecast_sandbox.tradingview import Delivery

MAX_ALERTS = 1000


def tv_send(
    url: Annotated[str, typer.Option(help="webhook to post to; default: the one of these settings")] = "",
    secret: Annotated[str, typer.Option(help="secret in each body; default: SECRET_WEBHOOK_TOKEN")] = "",
    symbol: Annotated[str, typer.Option(help="TradingView symbol or metric")] = "BINANCE:BTCUSDT",
    tf: Annotated[str, typer.Option(help="timeframe, any spelling: 15, 60, 240, 1D")] = "60",
    count: Annotated[int, typer.Option(min=1, max=MAX_ALERTS, help="how many closed bars, oldest first")] = 1,
    late: Annotated[int, typer.Option(min=0, help="leave out this many newest bars")] = 0,
    duplicate: Annotated[bool, typer.Option(help="deliver each alert twice, byte for byte")] = False,
    plain: Annotated[bool, typer.Option(help="placeholders without quotes, as a hand-made alert has them")] = False,
    seed: Annotated[int, typer.Option(help="seed of the simulated market")] = 7,
    force: Annotated[bool, typer.Option(help="post simulated prices to a live system")] = False,
) -> None:
    """Post alerts of simulated closed bars like TradingView: 3 s deadline, resends on 5xx. Exit code 1 when one was refused."""
    settings = Settings.load()
    if settings.environment == "live" and not force:
        reason = "tv-send posts simulated prices; set ALTFORECAST_ENVIRONMENT=sandbox, or add --force to do it all the same"
        raise InputError("environment", "live", reason)
    alerts = _alerts(symbol, tf, count, late, seed)
    target = url or f"http://127.0.0.1:{settings.port}/webhook"
    deliveries = asyncio.run(_deliver(alerts, target, secret or _secret(settings), duplicate, plain, seed))
    _show(deliveries)
    raise typer.Exit(0 if all(d.is_accepted for d in deliveries) else 1)


def _secret(settings: Settings) -> str:
    return settings.secret_webhook_token.get_secret_value() if settings.secret_webhook_token else SANDBOX_TOKEN


def _alerts(symbol: str, tf: str, count: int, late: int, seed: int) -> list[Alert]:
    """The chosen closed bars, oldest first; bars that the simulated source lacks are left out."""
    from altforecast_sandbox.alerts import metric_alerts
    from altforecast_sandbox.market import Market

    metric, _ = parse_tradingview_symbol(symbol)
    timeframe = parse_timeframe(tf)
    if timeframe not in METRIC_TIMEFRAMES:
        raise InputError("tf", tf, "metrics have no such timeframe", [t.value for t in METRIC_TIMEFRAMES])
    until = utc_now() - timeframe.duration * late
    # Some bars are missing in the simulated feed as in a real one: look back a little further.
    found = metric_alerts(Market(seed), metric, timeframe, until - timeframe.duration * (count + 50), until)
    return found[-count:]


async def _deliver(alerts: list[Alert], url: str, secret: str, duplicate: bool, plain: bool, seed: int) -> list[Delivery]:
    from altforecast_sandbox.alerts import Style
    from altforecast_sandbox.market import Market
    from altforecast_sandbox.tradingview import AlertSender, Mistakes

    style = Style.TEXT if plain else Style.PINE
    async with AlertSender(url, secret, Market(seed), style=style, mistakes=Mistakes(duplicate_every=int(duplicate))) as sender:
        return [await sender.send(alert) for alert in alerts]


def _show(deliveries: list[Delivery]) -> None:
    out = Table("metric", "tf", "bar (UTC)", "close", "sent after [s]", "answers")
    for delivery in deliveries:
        alert = delivery.alert
        delay = (utc_now() - alert.closes_at) // timedelta(seconds=1)
        answers = " ".join(str(s) if s else "none" for s in delivery.statuses)
        out.add_row(alert.metric.value, alert.timeframe.value, f"{alert.ts:%Y-%m-%d %H:%M}", str(alert.close), str(delay), answers)
    Console().print(out)
