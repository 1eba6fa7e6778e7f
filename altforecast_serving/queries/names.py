"""Which series a caller means by a metric, a symbol or an outside spelling of one.

What belongs here: resolving names against what the lake holds. What does not: spellings themselves (`altforecast.symbols`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from altforecast.errors import InputError, UnknownNameError
from altforecast.symbols import CRYPTOCAP, VENUES, metric_series, parse_symbol, parse_tradingview_symbol, parse_venue
from altforecast.types import Metric, Series, Timeframe

Known = Mapping[Series, Iterable[Timeframe]]
MAX_LISTED = 60
"""Names listed in an error; a lake may hold thousands."""
_PREFERENCE = {venue: rank for rank, venue in enumerate((CRYPTOCAP, *VENUES))}


def resolve_series(text: str, exchange: str | None, known: Known, tv_btc_symbol: str) -> Series:
    """The series meant by a metric name, a TradingView symbol or any spelling of a symbol that the lake holds.

    A metric means its own series unless `exchange` names another; of several exchanges with the same symbol the first in
    our order of preference is taken.  Raises UnknownNameError that lists what there is.
    """
    venue = parse_venue(exchange) if exchange else None
    symbol = _symbol(text, tv_btc_symbol)
    if isinstance(symbol, Series):
        if venue in (None, symbol.exchange):
            return symbol
        symbol = symbol.symbol
    found = [s for s in known if s.symbol == symbol and venue in (None, s.exchange)]
    if not found:
        raise UnknownNameError("metric" if venue is None else "metric and exchange", _shown(text, venue), "unknown", allowed_names(known))
    return min(found, key=lambda s: (_PREFERENCE.get(s.exchange, len(_PREFERENCE)), s.exchange))


def _symbol(text: str, tv_btc_symbol: str) -> Series | str:
    upper = text.strip().upper()
    metric = next((m for m in Metric if m.value == upper), None)
    if metric is not None:
        return metric_series(metric, tv_btc_symbol)
    if ":" in upper and "/" not in upper:
        try:
            return parse_tradingview_symbol(upper, tv_btc_symbol)[1]
        except UnknownNameError:
            return upper
    try:
        return parse_symbol(upper)
    except InputError:
        return upper


def _shown(text: str, venue: str | None) -> str:
    return text if venue is None else f"{text} on {venue}"


def allowed_names(known: Known) -> list[str]:
    """Names that an unknown one is told: the six metrics, then the symbols of the lake, at most MAX_LISTED."""
    metrics = [m.value for m in Metric]
    symbols = sorted({s.symbol for s in known} - set(metrics))
    more = len(symbols) - MAX_LISTED
    return [*metrics, *symbols[:MAX_LISTED], *([f"and {more} more (see /api/symbols)"] if more > 0 else [])]


def metric_names(tv_btc_symbol: str) -> dict[Series, str]:
    """Metric name per series that carries one."""
    return {metric_series(metric, tv_btc_symbol): metric.value for metric in Metric}
