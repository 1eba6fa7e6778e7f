"""Registry of the lake table `features`: every column of the feature matrix with its unit and meaning.

What belongs here: names, units and meanings of features. What does not: how they are computed (`forecast_features`,
`signal_features`) and which of them a model uses (its manifest says so).
"""

from __future__ import annotations

import polars as pl

from altforecast.table_schema import STR, TS, Column, Table

F32 = pl.Float32()
LN, SD, RATIO, SHARE, COUNT, BARS = "ln variance", "sd per bar", "ln ratio", "0-1", "count", "bars"
"""Units: `ln variance` is the natural logarithm of a squared log return, `sd per bar` the standard deviation of a bar's log return over
the last day, `ln ratio` a difference of logarithms."""


def _f(name: str, unit: str, meaning: str) -> Column:
    return Column(name, F32, unit, meaning, True)


_VOLATILITY = (
    *(_f(f"logvar_{n}", LN, f"mean variance of the last {said}")
      for n, said in (("bar", "bar"), ("few", "4 bars"), ("day", "day"), ("week", "week"), ("month", "30 days"))),
    _f("logvar_few_day", RATIO, "variance of 4 bars over the day's"),
    _f("logvar_bar_day", RATIO, "variance of the bar over the day's"),
    _f("logvar_day_week", RATIO, "variance of the day over the week's"),
    _f("logvar_week_month", RATIO, "variance of the week over the month's"),
    *(_f(f"logvar_{n}_day", RATIO, f"variance of {n} bars over the day's") for n in (2, 8)),
    _f("logvar_3days_week", RATIO, "variance of 3 days over the week's"),
    _f("logvar_day_before", RATIO, "variance of the day before the last over the week's"),
    *(_f(f"logvar_lag_{n}", RATIO, f"variance of the bar {n} before over the day's") for n in (1, 2, 3)),
    _f("logvar_lag_same_time", RATIO, "variance of the bar a day before the next one over the day's"),
    _f("logvar_lag_same_week_time", RATIO, "variance of the bar a week before the next one over the day's"),
    _f("logvar_same_time_week", RATIO, "mean ln variance of the bars 1 to 7 days before the next one, over the week's variance"),
    *(_f(f"vol_of_vol_{n}", LN, f"standard deviation of the bars' ln variance over the last {n}") for n in ("day", "week")),
)  # fmt: skip
_RETURN = {"1": "bar", "2": "2 bars", "4": "4 bars", "8": "8 bars", "day": "day", "3days": "3 days", "week": "week", "month": "30 days"}
_RETURNS = (
    *(_f(name, "sd of the span", meaning) for n, said in _RETURN.items()
      for name, meaning in ((f"return_{n}", f"log return of the last {said}"), (f"abs_return_{n}", f"size of that of the last {said}"))
      if name != "abs_return_2"),
    *(_f(name, unit, meaning) for n in ("day", "week") for name, unit, meaning in (
        (f"downside_{n}", SHARE, f"share of falls in the squared returns of the last {n}"),
        (f"close_to_range_{n}", RATIO, f"variance of closes over variance inside the bars, last {n}"))),
)  # fmt: skip
_POSITION = (
    _f("close_in_bar", "-1 to 1", "close between the bar's low and high; 0 in a bar without range"),
    *(_f(name, unit, meaning) for n in ("day", "week") for name, unit, meaning in (
        (f"position_{n}", SHARE, f"close between the {n}'s low and high"),
        (f"range_{n}", RATIO, f"the {n}'s high over low as a log, against the week's volatility"))),
    _f("rsi", SHARE, "mean rise over mean rise and fall of 14 bars"),
    _f("trend_12_26", SD, "mean ln close of 12 bars less that of 26"), _f("trend_week", SD, "ln close less its mean of a week"),
)  # fmt: skip
_VOLUME = (
    _f("volume_bar_day", RATIO, "turnover of the bar over the day's mean"),
    _f("volume_few_day", RATIO, "turnover of 4 bars over the day's mean"),
    _f("volume_day_week", RATIO, "turnover of the day over the week's mean"),
    _f("volume_week_month", RATIO, "turnover of the week over the month's"),
    _f("volume_same_time", RATIO, "turnover of the bar a day before the next one over the day's mean"),
    _f("illiquidity", RATIO, "absolute return per turnover, day over month"),
)  # fmt: skip
_MARKET = (
    *(_f(f"market_logvar_{n}", LN, f"mean over the series of logvar_{n}") for n in ("bar", "few", "day")),
    *(_f(f"logvar_{n}_to_market", RATIO, f"logvar_{n} less market_logvar_{n}") for n in ("bar", "day")),
    _f("market_dispersion", RATIO, "spread of the series' returns in this bar over the market's volatility"),
    _f("market_return", "sd per bar of the market", "mean return of the series in this bar"),
    _f("return_to_market", SD, "return less the market's"),
    _f("breadth", SHARE, "share of series that rose in this bar"),
    _f("market_volume_bar", RATIO, "mean over the series of volume_bar_day"), _f("market_volume_few", RATIO, "the same, mean of 4 bars"),
)  # fmt: skip
_LEADER = (
    *(_f(f"leader_logvar_{n}", LN, f"logvar_{n} of the first BTC series") for n in ("bar", "few", "day", "week", "month")),
    *(_f(f"leader_return_{n}", "sd of the span", f"return_{n} of the first BTC series") for n in ("1", "day")),
    _f("leader_correlation", "-1 to 1", "correlation of returns with BTC over a week"),
)
_CALENDAR = (
    _f("time_of_day", "h", "open of the bar, UTC"), _f("weekday", "0-6", "0 is Monday, UTC"),
    _f("time_of_week", "h", "hours since Monday, UTC"),
)  # fmt: skip
_DIVERGENCE = tuple(
    _f(name, unit, meaning) for side in ("bullish", "bearish") for name, unit, meaning in (
        (f"divergence_active_{side}", COUNT, f"{side} divergences open now, of all oscillators, opened within a week"),
        (f"divergence_confirmed_{side}_day", COUNT, f"{side} divergences confirmed within a day"),
        (f"divergence_bars_{side}", BARS, f"bars since the newest {side} divergence became known; missing beyond a week"))
)  # fmt: skip
_LEVEL = tuple(
    _f(name, unit, meaning) for side in ("above", "below") for name, unit, meaning in (
        (f"level_{side}_distance", "ATR", f"distance to the nearest level {side} the close (a level at the close counts as below)"),
        (f"level_{side}_strength", "touches", "its touches, halved per 500 bars since the last one"),
        (f"level_{side}_touches", COUNT, "its touches"))
)  # fmt: skip
_INDICATOR = (
    _f("adx", SHARE, "Wilder's trend strength over 100"), _f("macd_hist", "ATR", "MACD less its signal"),
    _f("ema_20_distance", "ATR", "close less the exponential mean of 20"),
    _f("ema_50_distance", "ATR", "close less the exponential mean of 50"),
)  # fmt: skip
_REGIME = (
    _f("regime_score", "weighted sd", "score of Risk-ON / Risk-OFF"), _f("regime_state", "-1 0 1", "-1 Risk-OFF, 0 neutral, 1 Risk-ON"),
    _f("regime_bars", BARS, "bars since the state changed, at most 30 days"),
    *(_f(f"regime_z_{m}", "sd", f"24 h change of {m} over its 30-day sd") for m in ("total3", "total2", "btc_d", "usdt_d", "ethbtc")),
)  # fmt: skip
_CONTEXT = (
    _f("fear_greed", "0-100", "Fear & Greed index"), _f("fear_greed_change_week", "points", "its change over a week"),
    *(_f(f"btc_dominance_change_{n}", "percentage points", f"change of BTC dominance over a {n}") for n in ("day", "week")),
    *(_f(f"total_market_cap_change_{n}", "log return", f"change of the total market cap over a {n}") for n in ("day", "week")),
)  # fmt: skip
_FUNDING = (
    _f("funding_rate", "bps per 8 h", "newest settled funding of the series' perpetual"),
    _f("funding_mean_day", "bps per 8 h", "mean of the settlements of a day"),
    _f("funding_mean_week", "bps per 8 h", "mean of a week's"),
    _f("funding_z", "sd", "newest settlement less the mean of 30 days, over their standard deviation"),
    _f("market_funding", "bps per 8 h", "mean of funding_rate over the series that have one"),
)

BAR_COLUMNS = (*_VOLATILITY, *_RETURNS, *_POSITION, *_VOLUME, *_MARKET, *_LEADER, *_CALENDAR)
"""Features that bars alone give."""
SIGNAL_COLUMNS = (*_DIVERGENCE, *_LEVEL, *_INDICATOR, *_REGIME, *_CONTEXT, *_FUNDING)
"""Features that other tables give; all missing where those are."""

_KEY = ("symbol", "exchange", "timeframe", "ts")
FEATURES = Table(
    "features", "Point-in-time feature matrix of the forecasts, without a scale of price or volume; missing stays missing", "one bar",
    _KEY, _KEY,
    (
        Column("ts", TS, "UTC", "open of the bar at whose close the row could be known"),
        Column("symbol", STR, "", "canonical symbol, BASE-QUOTE"),
        Column("exchange", STR, "", "venue slug"),
        Column("timeframe", STR, "", "length of the bars: 15m or 1h"),
        *BAR_COLUMNS, *SIGNAL_COLUMNS,
        Column("known_at", TS, "UTC", "latest known_at of all bars up to this one, of every series"),
    ),
)  # fmt: skip
FEATURE_NAMES = tuple(column.name for column in (*BAR_COLUMNS, *SIGNAL_COLUMNS))
"""Names of the features in the order of the matrix."""
