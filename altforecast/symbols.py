"""Every outside spelling of a symbol, metric, timeframe or venue, mapped to the one spelling we use.

What belongs here: names and their aliases. What does not: talking to the venues that use them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from altforecast.errors import InputError, UnknownNameError
from altforecast.types import Metric, Series, Timeframe

CRYPTOCAP = "cryptocap"
"""Exchange slug of the TradingView index series (market caps and dominances)."""

VENUES = (
    "binance", "okx", "bybit", "gate", "kucoin", "bitget", "mexc", "htx",
    "kraken", "coinbase", "bitfinex", "cryptocom", "bingx", "bitstamp",
)  # fmt: skip
RESERVE_VENUES = ("gemini", "upbit", "whitebit", "bitmart")
VENUE_ALIASES: Mapping[str, str] = MappingProxyType(
    {
        "gateio": "gate", "gate.io": "gate", "huobi": "htx", "okex": "okx", "crypto.com": "cryptocom",
        "binance_us": "binanceus", "binance.us": "binanceus", "coinbaseadvanced": "coinbase", "kucoin_spot": "kucoin",
    }
)  # fmt: skip

_TIMEFRAME_SPELLINGS: Mapping[str, Timeframe] = MappingProxyType(
    {
        "1": Timeframe.M1, "1m": Timeframe.M1, "1min": Timeframe.M1,
        "5": Timeframe.M5, "5m": Timeframe.M5, "5min": Timeframe.M5,
        "15": Timeframe.M15, "15m": Timeframe.M15, "15min": Timeframe.M15,
        "60": Timeframe.H1, "60m": Timeframe.H1, "60min": Timeframe.H1, "1h": Timeframe.H1, "1H": Timeframe.H1,
        "1hour": Timeframe.H1, "hour": Timeframe.H1,
        "240": Timeframe.H4, "240m": Timeframe.H4, "4h": Timeframe.H4, "4H": Timeframe.H4, "4hour": Timeframe.H4,
        "D": Timeframe.D1, "d": Timeframe.D1, "1D": Timeframe.D1, "1d": Timeframe.D1, "24h": Timeframe.D1,
        "24H": Timeframe.D1, "1440": Timeframe.D1, "1day": Timeframe.D1, "day": Timeframe.D1,
    }
)  # fmt: skip

QUOTES = (
    "USDT", "USDC", "FDUSD", "TUSD", "BUSD", "USD", "EUR", "GBP", "TRY", "BRL", "JPY", "KRW", "DAI", "BTC", "ETH", "BNB",
)  # fmt: skip

_METRIC_SERIES: Mapping[Metric, Series] = MappingProxyType(
    {
        Metric.BTC: Series("binance", "BTC-USDT"),
        Metric.ETHBTC: Series("binance", "ETH-BTC"),
        Metric.USDT_D: Series(CRYPTOCAP, "USDT.D"),
        Metric.BTC_D: Series(CRYPTOCAP, "BTC.D"),
        Metric.TOTAL2: Series(CRYPTOCAP, "TOTAL2"),
        Metric.TOTAL3: Series(CRYPTOCAP, "TOTAL3"),
    }
)
METRIC_TIMEFRAMES = (Timeframe.M15, Timeframe.H1, Timeframe.H4, Timeframe.D1)
DEFAULT_TV_BTC_SYMBOL = "BINANCE:BTCUSDT"
_CANONICAL = re.compile(r"^[A-Z0-9]{1,20}-[A-Z0-9]{2,6}(-PERP)?$")


def parse_timeframe(text: object) -> Timeframe:
    """Timeframe for any accepted spelling (`15`, `240`, `1D`, `24h` ...); case matters only for `1M` (a month, refused).

    Raises UnknownNameError naming the value and the allowed timeframes.
    """
    spelling = str(text).strip()
    found = _TIMEFRAME_SPELLINGS.get(spelling)
    if found is None and spelling != "1M":
        found = _TIMEFRAME_SPELLINGS.get(spelling.lower())
    if found is None:
        raise UnknownNameError("timeframe", text, "unknown timeframe", [t.value for t in Timeframe])
    return found


def parse_venue(text: str) -> str:
    """Venue slug for any accepted spelling; unknown names come back lower-cased (bars of other venues may be imported)."""
    slug = text.strip().lower().replace(" ", "")
    if not re.fullmatch(r"[a-z0-9_.]{2,32}", slug):
        raise InputError("exchange", text, "not a venue name")
    return VENUE_ALIASES.get(slug, slug)


def parse_symbol(text: str) -> str:
    """Canonical BASE-QUOTE (or BASE-QUOTE-PERP) of `BTCUSDT`, `BTC/USDT`, `BTC_USDT`, `BTC/USDT:USDT`, `btc-usdt`.

    Raises InputError where no known quote currency ends the name.
    """
    raw = text.strip().upper()
    if _CANONICAL.match(raw):
        return raw
    is_perp = ":" in raw or raw.endswith((".P", "-PERP", "_PERP", "PERP"))
    raw = re.sub(r"(:[A-Z0-9]+|\.P|[-_]?PERP)$", "", raw)
    parts = re.split(r"[/_-]", raw)
    if len(parts) == 2 and all(parts):
        pair = f"{parts[0]}-{parts[1]}"
    else:
        quote = next((q for q in QUOTES if raw.endswith(q) and len(raw) > len(q)), None)
        if quote is None or len(parts) != 1:
            raise InputError("symbol", text, "not a BASE-QUOTE symbol")
        pair = f"{raw[: -len(quote)]}-{quote}"
    symbol = f"{pair}-PERP" if is_perp else pair
    if not _CANONICAL.match(symbol):
        raise InputError("symbol", text, "not a BASE-QUOTE symbol")
    return symbol


def ccxt_symbol(symbol: str) -> str:
    """ccxt spelling of a canonical symbol: `BTC/USDT`, or `BTC/USDT:USDT` for a linear perpetual."""
    base, quote, *perp = symbol.split("-")
    return f"{base}/{quote}:{quote}" if perp else f"{base}/{quote}"


def parse_metric(text: str) -> Metric:
    """Metric by name, case-insensitive; raises UnknownNameError with the six allowed names."""
    try:
        return Metric(text.strip().upper())
    except ValueError:
        raise UnknownNameError("metric", text, "unknown metric", [m.value for m in Metric]) from None


def metric_series(metric: Metric, tv_btc_symbol: str = DEFAULT_TV_BTC_SYMBOL) -> Series:
    """Exchange and symbol whose bars carry a metric; `tv_btc_symbol` overrides the source of BTC."""
    if metric is Metric.BTC:
        exchange, _, ticker = tv_btc_symbol.partition(":")
        return Series(parse_venue(exchange), parse_symbol(ticker))
    return _METRIC_SERIES[metric]


def series_metric(series: Series, tv_btc_symbol: str = DEFAULT_TV_BTC_SYMBOL) -> Metric | None:
    """The metric that a series carries, or None."""
    return next((m for m in Metric if metric_series(m, tv_btc_symbol) == series), None)


def parse_tradingview_symbol(text: str, tv_btc_symbol: str = DEFAULT_TV_BTC_SYMBOL) -> tuple[Metric, Series]:
    """Metric and series of a TradingView symbol (`CRYPTOCAP:USDT.D`, `BINANCE:BTCUSDT`) or a bare ticker or metric name.

    Delayed feeds (`_DL`, `_DLY` exchange suffix) are accepted. Raises UnknownNameError for anything else.
    """
    raw = re.sub(r"_DLY?(?=:|$)", "", text.strip().upper())
    exchange, _, ticker = raw.rpartition(":")
    for metric in Metric:
        series = metric_series(metric, tv_btc_symbol)
        names = {metric.value, series.symbol, series.symbol.replace("-", "")}
        if ticker in names and exchange in ("", series.exchange.upper()):
            return metric, series
    series_of_all = [metric_series(m, tv_btc_symbol) for m in Metric]
    known = [f"{s.exchange.upper()}:{s.symbol.replace('-', '')}" for s in series_of_all]
    raise UnknownNameError("symbol", text, "no metric is read from this symbol", known)
