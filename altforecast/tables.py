"""Registry of the lake's tables: the only schema source.

What belongs here: column names, types, units, keys, grain and meaning. What does not: how tables are stored
(`altforecast_io.lake`) or computed (the module of the same name). Convention: `ts` is the open of the bar whose close
made a row known; `known_at` is the first moment at which the row could be known; both are UTC milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from altforecast.arbitrage_tables import ARBITRAGE_TABLES
from altforecast.derivatives_tables import DERIVATIVES_TABLES, FUNDING_RATES
from altforecast.errors import UnknownNameError
from altforecast.feature_table import FEATURES
from altforecast.forecast_tables import FORECAST_TABLES
from altforecast.table_schema import BOOL, F64, I64, STR, TS, Column, Table

__all__ = ["BOOL", "F64", "FUNDING_RATES", "I64", "STR", "TABLES", "TS", "Column", "Table", "table"]


def _series() -> tuple[Column, ...]:
    return (
        Column("ts", TS, "UTC", "open of the bar whose close made the row known"),
        Column("symbol", STR, "", "canonical symbol, BASE-QUOTE or index name"),
        Column("exchange", STR, "", "venue slug, `cryptocap` for index series"),
        Column("timeframe", STR, "", "bar length: 1m 5m 15m 1h 4h 1d"),
    )


def _price(name: str, meaning: str, nullable: bool = False) -> Column:
    return Column(name, F64, "quote", meaning, nullable)


KNOWN_AT = Column("known_at", TS, "UTC", "first moment at which the row could be known")
SERIES_KEY = ("symbol", "exchange", "timeframe", "ts")
SERIES_SORT = ("symbol", "exchange", "timeframe", "ts")

BARS = Table(
    "bars", "Closed price bars, one per series and open time", "one closed bar", SERIES_KEY, SERIES_SORT,
    (
        *_series(),
        _price("open", "first price"), _price("high", "highest price"), _price("low", "lowest price"), _price("close", "last price"),
        Column("volume", F64, "base", "traded volume; null where the source has none", True),
        Column("quality", STR, "", "observed | backfilled | quiet | feed_down"),
        Column("source", STR, "", "who delivered it: tradingview | ccxt | import"),
        Column("received_at", TS, "UTC", "when this value reached us"),
        KNOWN_AT,
    ),
    is_hot=True,
)  # fmt: skip

BAR_REVISIONS = Table(
    "bar_revisions", "Values of bars that a later, different delivery replaced", "one replaced value of one bar",
    (*SERIES_KEY, "superseded_at"), (*SERIES_SORT, "superseded_at"),
    (
        *_series(),
        _price("open", "replaced first price"), _price("high", "replaced highest price"),
        _price("low", "replaced lowest price"), _price("close", "replaced last price"),
        Column("volume", F64, "base", "replaced volume", True),
        Column("source", STR, "", "who had delivered the replaced value"),
        Column("received_at", TS, "UTC", "when the replaced value had reached us"),
        Column("superseded_at", TS, "UTC", "when the newer value reached us"),
        Column("superseded_by", STR, "", "source of the newer value"),
    ),
)  # fmt: skip

BAR_GAPS = Table(
    "bar_gaps", "Holes in bar series and what is known of their cause", "one run of missing bars", SERIES_KEY, SERIES_SORT,
    (
        *_series(),
        Column("end_ts", TS, "UTC", "open of the first bar after the hole"),
        Column("n_bars", I64, "bars", "missing bars"),
        Column("kind", STR, "", "quiet | feed_down | unknown"),
        Column("evidence", STR, "", "what the verdict rests on"),
        KNOWN_AT,
    ),
)  # fmt: skip

QUARANTINE = Table(
    "quarantine", "Rows that an import refused, kept as they came", "one refused row or file",
    ("import_id", "file", "row"), ("import_id", "file", "row"),
    (
        Column("ts", TS, "UTC", "when it was refused"),
        Column("import_id", STR, "", "which import run"),
        Column("file", STR, "", "file name"),
        Column("row", I64, "", "row number in the file from 0; -1 for the whole file"),
        Column("reason", STR, "", "stable name of the reason"),
        Column("detail", STR, "", "field and value"),
        Column("raw", STR, "", "the row as JSON"),
    ),
    by_timeframe=False,
)  # fmt: skip

INDICATORS = Table(
    "indicators", "Classic indicators at each bar's close", "one bar", SERIES_KEY, SERIES_SORT,
    (
        *_series(),
        _price("ema_20", "exponential mean of 20 closes", True), _price("ema_50", "exponential mean of 50 closes", True),
        Column("rsi_14", F64, "points 0-100", "Wilder's relative strength index", True),
        _price("macd", "EMA 12 - EMA 26", True), _price("macd_signal", "EMA 9 of macd", True), _price("macd_hist", "macd - macd_signal", True),
        _price("atr_14", "Wilder's average true range", True),
        _price("bb_upper", "Bollinger middle + 2 sd", True), _price("bb_middle", "mean of 20 closes", True), _price("bb_lower", "middle - 2 sd", True),
        Column("adx_14", F64, "points 0-100", "Wilder's trend strength", True),
        Column("obv", F64, "base", "on-balance volume since the series' first bar; null without volume", True),
        KNOWN_AT,
    ),
    is_hot=True,
)  # fmt: skip

PIVOTS = Table(
    "pivots", "Confirmed swing lows and highs", "one pivot", (*SERIES_KEY, "side"), (*SERIES_SORT, "side"),
    (
        *_series(),
        Column("pivot_ts", TS, "UTC", "open of the bar that is the extreme"),
        Column("side", STR, "", "low | high"),
        _price("price", "low or high of the pivot bar"),
        Column("rsi_14", F64, "points 0-100", "RSI at the pivot bar", True),
        _price("macd", "MACD at the pivot bar", True),
        Column("obv", F64, "base", "on-balance volume at the pivot bar", True),
        _price("atr_14", "ATR at the bar that confirmed the pivot", True),
        KNOWN_AT,
    ),
)  # fmt: skip

DIVERGENCES = Table(
    "divergences", "Life-cycle log of divergences: one row when an event opens and one when it ends",
    "one status change of one event", ("id", "status"), (*SERIES_SORT, "id", "status"),
    (
        *_series(),
        Column("id", STR, "", "hash of symbol, exchange, timeframe, oscillator, kind, p1 and p2"),
        Column("oscillator", STR, "", "rsi | macd | volume"),
        Column("kind", STR, "", "regular_bullish | hidden_bullish | regular_bearish | hidden_bearish"),
        Column("status", STR, "", "active | confirmed | invalidated | expired | superseded"),
        Column("p1_ts", TS, "UTC", "open of the first pivot bar"), Column("p2_ts", TS, "UTC", "open of the second pivot bar"),
        _price("p1_price", "price at p1"), _price("p2_price", "price at p2"),
        Column("p1_osc", F64, "", "oscillator at p1"), Column("p2_osc", F64, "", "oscillator at p2"),
        _price("confirm_price", "a close beyond it confirms"), _price("invalidate_price", "a close beyond it invalidates"),
        Column("is_line_of_sight", BOOL, "", "no oscillator value between crosses the p1-p2 segment"),
        Column("active_at", TS, "UTC", "known_at of the active row of this event"),
        KNOWN_AT,
    ),
)  # fmt: skip

DIVERGENCE_OUTCOMES = Table(
    "divergence_outcomes", "What followed each divergence and each control pivot", "one matured event",
    ("id",), (*SERIES_SORT, "id"),
    (
        *_series(),
        Column("id", STR, "", "divergence id, or a pivot id for controls"),
        Column("oscillator", STR, "", "rsi | macd | volume | control"),
        Column("kind", STR, "", "divergence kind, or low | high for controls"),
        Column("event_ts", TS, "UTC", "open of the bar at whose close the event became known"),
        Column("is_hit", BOOL, "", "the favourable barrier was reached first"),
        Column("return_atr", F64, "ATR", "signed favourable move at exit"),
        KNOWN_AT,
    ),
)  # fmt: skip

EVIDENCE = Table(
    "evidence", "Measured worth of each kind of signal against its control", "one signal kind, timeframe and as-of time",
    ("ts", "timeframe", "signal", "oscillator", "kind"), ("timeframe", "signal", "oscillator", "kind", "ts"),
    (
        Column("ts", TS, "UTC", "outcomes known before this moment are counted"),
        Column("timeframe", STR, "", "bar length"),
        Column("signal", STR, "", "divergence | level"),
        Column("oscillator", STR, "", "rsi | macd | volume; empty for levels"),
        Column("kind", STR, "", "divergence kind; bounce for levels"),
        Column("n", I64, "events", "matured events"), Column("n_control", I64, "events", "matured control events"),
        Column("hit_frac", F64, "0-1", "share of hits", True), Column("base_frac", F64, "0-1", "share of hits of the control", True),
        Column("lift_pp", F64, "percentage points", "hit - base", True),
        Column("ci_low_pp", F64, "percentage points", "lower end of the week-cluster bootstrap interval of lift", True),
        Column("ci_high_pp", F64, "percentage points", "upper end of it", True),
        Column("p_value", F64, "0-1", "two-sided bootstrap p of lift = 0", True),
        Column("is_significant", BOOL, "", "p survives Holm correction over all rows of this as-of time and timeframe"),
        Column("verdict", STR, "", "plain words for people"),
        KNOWN_AT,
    ),
    by_timeframe=False,
)  # fmt: skip

LEVELS = Table(
    "levels", "Event log of support and resistance levels, with the level's state after each event; `carried` rows repeat every "
    "live level at the first bar of a month so that each month stands alone",
    "one event of one level", (*SERIES_SORT, "id", "event"), (*SERIES_SORT, "id", "event"),
    (
        *_series(),
        Column("id", STR, "", "hash of symbol, exchange, timeframe and opening pivot"),
        Column("event", STR, "", "opened | joined | touched | broken | evicted | carried"),
        _price("price", "weighted mean of the pivots that formed it"), _price("band", "half width: 0.25 ATR at this bar"),
        Column("side", STR, "", "support | resistance, as of this bar's close"),
        Column("n_pivots", I64, "pivots", "pivots merged into it"), Column("n_touches", I64, "touches", "touches, the opening pivot included"),
        Column("n_breaks", I64, "breaks", "closes beyond it by 0.75 ATR"),
        Column("strength", F64, "", "n_touches decayed by age since the last touch"),
        Column("distance_atr", F64, "ATR", "close - price in ATR"),
        Column("first_touch_ts", TS, "UTC", "open of the first pivot bar"), Column("last_touch_ts", TS, "UTC", "open of the last touching bar"),
        Column("n_bars_since_touch", I64, "bars", "bars since the last touch"),
        KNOWN_AT,
    ),
)  # fmt: skip

REGIME = Table(
    "regime", "Risk-ON / Risk-OFF state with its five contributions, hourly", "one hour", ("ts",), ("ts",),
    (
        Column("ts", TS, "UTC", "open of the hour at whose close the row became known"),
        Column("score", F64, "", "weighted sum of z-scores; null when too few inputs", True),
        Column("state", STR, "", "risk_on | neutral | risk_off, after hysteresis"),
        Column("pending_state", STR, "", "state that the score asks for"),
        Column("pending_bars", I64, "bars", "bars in a row for which it has asked"),
        *(Column(f"z_{m}", F64, "sd", f"24 h change of {m} over its 30-day sd", True) for m in ("total3", "total2", "btc_d", "usdt_d", "ethbtc")),
        *(Column(f"contribution_{m}", F64, "", f"weight x z of {m}", True) for m in ("total3", "total2", "btc_d", "usdt_d", "ethbtc")),
        Column("n_inputs", I64, "", "metrics that were fresh"), Column("is_degraded", BOOL, "", "an input was missing or stale"),
        Column("missing", STR, "", "names of missing or stale inputs, comma separated"),
        KNOWN_AT,
    ),
    by_timeframe=False, is_hot=False,
)  # fmt: skip

MARKET_REPORT = Table(
    "market_report", "Report lines with arrows, hourly", "one metric and hour", ("ts", "metric"), ("ts", "metric"),
    (
        Column("ts", TS, "UTC", "open of the hour at whose close the row became known"),
        Column("metric", STR, "", "BTC | USDT.D | BTC.D | TOTAL2 | TOTAL3 | ETHBTC"),
        *(Column(f"arrow_{t}", STR, "", f"up | down | flat | unknown over {t}") for t in ("15m", "1h", "4h", "24h")),
        *(Column(f"change_{t}_pct", F64, "%", f"change over {t}", True) for t in ("15m", "1h", "4h", "24h")),
        *(Column(f"z_{t}", F64, "sd", f"change over {t} in 30-day sd", True) for t in ("15m", "1h", "4h", "24h")),
        Column("line", STR, "", "the line as people read it"),
        Column("regime", STR, "", "regime state at the same hour"),
        Column("is_degraded", BOOL, "", "an arrow is unknown"),
        KNOWN_AT,
    ),
    by_timeframe=False,
)  # fmt: skip

MARKET_CONTEXT = Table(
    "market_context", "Dominance and sentiment from outside suppliers", "one reading", ("name", "source", "ts"), ("name", "source", "ts"),
    (
        Column("ts", TS, "UTC", "time the supplier gives for the value"),
        Column("name", STR, "", "btc_dominance_pct | total_market_cap_usd | fear_greed"),
        Column("value", F64, "see name", "the reading"),
        Column("label", STR, "", "the supplier's own words, as received", True),
        Column("source", STR, "", "coingecko | alternative_me"),
        KNOWN_AT,
    ),
    by_timeframe=False,
)  # fmt: skip

TABLES: Mapping[str, Table] = MappingProxyType(
    {
        t.name: t
        for t in (
            BARS, BAR_REVISIONS, BAR_GAPS, QUARANTINE, INDICATORS, PIVOTS, DIVERGENCES, DIVERGENCE_OUTCOMES, EVIDENCE,
            LEVELS, REGIME, MARKET_REPORT, MARKET_CONTEXT, *ARBITRAGE_TABLES, *DERIVATIVES_TABLES, FEATURES, *FORECAST_TABLES,
        )
    }
)  # fmt: skip


def table(name: str) -> Table:
    """Table by name; raises UnknownNameError that lists all names."""
    try:
        return TABLES[name]
    except KeyError:
        raise UnknownNameError("table", name, "unknown table", TABLES) from None
