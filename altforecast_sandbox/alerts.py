"""What TradingView says when a bar closes: the alert of one metric and timeframe, and its body on the wire.

What belongs here: building and rendering alerts, pure. What does not: posting them (`tradingview`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from altforecast.symbols import CRYPTOCAP, METRIC_TIMEFRAMES, metric_series
from altforecast.types import Metric, Timeframe
from altforecast_sandbox.caps import index_digits
from altforecast_sandbox.coins import PAIRS
from altforecast_sandbox.market import Market

_INTERVALS = {Timeframe.M1: "1", Timeframe.M5: "5", Timeframe.M15: "15", Timeframe.H1: "60", Timeframe.H4: "240", Timeframe.D1: "1D"}
_DECIMALS = 10
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SHORTEST_MS = min(timeframe.ms for timeframe in METRIC_TIMEFRAMES)


class Style(StrEnum):
    """Forms in which the same bar arrives."""

    PINE = "pine"
    """Our Pine script: payload version 1."""
    PLACEHOLDER = "placeholder"
    """A hand-made message with `{{close}}` and so on: no version, ISO time, Pine v5 spelling of a day."""
    TEXT = "text"
    """Placeholders left unquoted where a number is undefined: no longer JSON, so it arrives as text/plain."""


@dataclass(frozen=True)
class Alert:
    """One closed bar of a metric; prices in its quote unit, volume None where the source has none."""

    metric: Metric
    timeframe: Timeframe
    ts: datetime
    """Open of the bar."""
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal | None

    @property
    def closes_at(self) -> datetime:
        """When the alert fires."""
        return self.ts + self.timeframe.duration


@dataclass(frozen=True)
class Rendered:
    """A body as it goes over the wire."""

    body: bytes
    content_type: str


def closed_alerts(market: Market, after: datetime, until: datetime) -> list[Alert]:
    """Alerts of every bar (6 metrics x 4 timeframes) that closes in (after, until], by close; bars the source lacks give none."""
    found: list[Alert] = []
    if _ms(after) // _SHORTEST_MS == _ms(until) // _SHORTEST_MS:
        return found
    for timeframe in METRIC_TIMEFRAMES:
        for metric in Metric:
            found += metric_alerts(market, metric, timeframe, after, until)
    return sorted(found, key=lambda a: (a.closes_at, a.metric.value, a.timeframe.ms))


def metric_alerts(market: Market, metric: Metric, timeframe: Timeframe, after: datetime, until: datetime) -> list[Alert]:
    """Alerts of one metric and timeframe whose bars close in (after, until], ascending."""
    start, end = (moment - timeframe.duration + timedelta(milliseconds=1) for moment in (after, until))
    series = metric_series(metric)
    if series.exchange == CRYPTOCAP:
        bars, places = market.index_bars(metric, timeframe, start, end), index_digits(metric)
    else:
        bars, places = market.bars(series.symbol, timeframe, start, end), PAIRS[series.symbol].price_digits
    return [_alert(metric, timeframe, row, places) for row in bars.iter_rows(named=True)]


def render_alert(alert: Alert, secret: str, style: Style = Style.PINE, interval: str | None = None) -> Rendered:
    """Body and content type of an alert; `interval` replaces the true one (plain price alerts always say `1`)."""
    series = metric_series(alert.metric)
    symbol = f"{series.exchange.upper()}:{series.symbol.replace('-', '')}"
    if style is Style.PINE:
        text = _pine(alert, symbol, secret, interval or _INTERVALS[alert.timeframe])
    else:
        text = _placeholder(alert, symbol, secret, interval or _INTERVALS[alert.timeframe].replace("1D", "D"), style is Style.PLACEHOLDER)
    content = "text/plain" if style is Style.TEXT and alert.volume is None else "application/json"
    return Rendered(text.encode(), f"{content}; charset=utf-8")


def _pine(alert: Alert, symbol: str, secret: str, interval: str) -> str:
    volume = None if alert.volume is None else _plain(alert.volume)
    prices = {name: _plain(value) for name, value in zip("ohlc", (alert.open, alert.high, alert.low, alert.close), strict=True)}
    head = {"v": 1, "token": secret, "symbol": symbol, "tf": interval, "t": _ms(alert.ts), "tc": _ms(alert.closes_at)}
    return json.dumps(head | prices | {"vol": volume, "src": "pine6"}, separators=(",", ":"))


def _placeholder(alert: Alert, symbol: str, secret: str, interval: str, is_quoted: bool) -> str:
    exchange, ticker = symbol.split(":")
    volume = "NaN" if alert.volume is None else _plain(alert.volume)
    words = {
        "token": secret,
        "exchange": exchange,
        "ticker": ticker,
        "interval": interval,
        "time": alert.ts.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "open": _plain(alert.open),
        "high": _plain(alert.high),
        "low": _plain(alert.low),
        "close": _plain(alert.close),
    }
    quoted = ", ".join(f'"{name}": "{word}"' for name, word in words.items())
    return f'{{{quoted}, "volume": "{volume}"}}' if is_quoted else f'{{{quoted}, "volume": {volume}}}'


def _plain(value: Decimal) -> str:
    """As Pine's `str.tostring(x, "#.##########")`: at most ten decimals, no trailing zeros, no exponent."""
    text = f"{value:.{_DECIMALS}f}"
    return text.rstrip("0").rstrip(".")


def _ms(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(milliseconds=1)


def _alert(metric: Metric, timeframe: Timeframe, row: dict[str, object], places: int) -> Alert:
    open_, high, low, close = (Decimal(f"{row[name]:.{places}f}") for name in ("open", "high", "low", "close"))
    volume = None if row["volume"] is None else Decimal(str(row["volume"]))
    ts = row["ts"]
    assert isinstance(ts, datetime)
    return Alert(metric, timeframe, ts, open_, high, low, close, volume)
