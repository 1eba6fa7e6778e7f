"""Registry of the lake tables that hold forecasts and what became of them.

What belongs here: columns of forecasts, their calibration, outcomes and health. What does not: the feature matrix
(`feature_table`), tables of signals (`tables`) and how rows are computed.
"""

from __future__ import annotations

import polars as pl

from altforecast.forecast_scores import LEVELS
from altforecast.table_schema import BOOL, F64, I64, STR, TS, Column, Table

F32 = pl.Float32()


def level_name(level: float) -> str:
    """Column of a quantile level: `q025` is 2.5 %, `q500` the median."""
    return f"q{round(level * 1000):03d}"


QUANTILES = tuple(level_name(level) for level in LEVELS)
"""Columns of the nine quantiles, lowest first."""

_KNOWN_AT = Column("known_at", TS, "UTC", "first moment at which the row could be known")


def _what() -> tuple[Column, ...]:
    return (
        Column("ts", TS, "UTC", "open of the bar at whose close the forecast was made"),
        Column("symbol", STR, "", "canonical symbol, BASE-QUOTE"),
        Column("exchange", STR, "", "venue slug"),
        Column("timeframe", STR, "", "length of the bars it is made from: 15m or 1h"),
        Column("horizon", STR, "", "how far ahead: 15m 1h 4h 24h"),
        Column("forecaster", STR, "", "champion | challenger | har | climatology"),
    )


_KEY = ("symbol", "exchange", "timeframe", "horizon", "forecaster", "ts")


def _forecast_columns() -> tuple[Column, ...]:
    return (
        *_what(),
        Column("target_ts", TS, "UTC", "moment at which the outcome is known: close of the last bar ahead"),
        Column("price", F64, "quote", "close of the bar, from which the return counts", True),
        Column("sigma", F32, "log return", "standard deviation of the return ahead", True),
        *(Column(level_name(level), F32, "log return", f"{level:.1%} quantile of the return ahead", True) for level in LEVELS),
        Column("p_up", F32, "0-1", "calibrated probability of a rise; only the boosted models say one", True),
        Column("p_base", F32, "0-1", "share of rises before training, for comparison", True),
        Column("model", STR, "", "version of the model or baseline that said it"),
        Column("calibrated_at", TS, "UTC", "open of the bar at which the calibration in use was renewed", True),
        Column("reason", STR, "", "why there are no quantiles; null where there are", True),
        Column("known_at", TS, "UTC", "when the forecast was made"),
    )


FORECASTS = Table(
    "forecasts", "Every forecast as it was made, never rewritten: quantiles of the log return ahead",
    "one forecaster, horizon and bar", _KEY, _KEY, _forecast_columns(), is_hot=True, hot_rows=48,
)  # fmt: skip

WALK_FORWARD_FORECASTS = Table(
    "walk_forward_forecasts", "Forecasts of the past by models that did not know it, made while the newest candidate was tested",
    "one forecaster, horizon and bar", _KEY, _KEY, _forecast_columns(),
)  # fmt: skip

FORECAST_CALIBRATIONS = Table(
    "forecast_calibrations", "Quantiles of past out-of-sample residuals, renewed daily; they turn a standard deviation into a distribution",
    "one part of a model, series and day", ("symbol", "exchange", "timeframe", "horizon", "model", "part", "ts"),
    ("symbol", "exchange", "timeframe", "horizon", "model", "part", "ts"),
    (
        Column("ts", TS, "UTC", "open of the bar at which it was renewed"),
        Column("symbol", STR, "", "canonical symbol, BASE-QUOTE; * is the pool of all series, for those listed since"),
        Column("exchange", STR, "", "venue slug; * is the pool of all series"),
        Column("timeframe", STR, "", "length of the bars: 15m or 1h"),
        Column("horizon", STR, "", "how far ahead: 15m 1h 4h 24h"),
        Column("model", STR, "", "version of the model or baseline"),
        Column("part", STR, "", "climatology | har | ewma | scale | shape"),
        *(
            Column(level_name(level), F64, "see part", f"{level:.1%} quantile of the residuals: log return (climatology), standard "
                   "deviations (har, ewma, scale), or the move of the learned quantile in standard deviations (shape)", True)
            for level in LEVELS
        ),
        Column("n_own", I64, "residuals", "matured residuals of the series itself in the window"),
        Column("n_pooled", I64, "residuals", "matured residuals of all series in the window"),
        Column("window_start", TS, "UTC", "oldest bar that counted"),
        _KNOWN_AT,
    ),
)  # fmt: skip

FORECAST_OUTCOMES = Table(
    "forecast_outcomes", "What followed each forecast that was made before its outcome was known", "one forecaster, horizon and bar",
    (*_KEY, "origin"), (*_KEY, "origin"),
    (
        *_what(),
        Column("origin", STR, "", "live | walk_forward"),
        Column("model", STR, "", "version of the model or baseline that said it"),
        Column("target_ts", TS, "UTC", "moment at which the outcome was known by the clock"),
        Column("outcome", F64, "log return", "what happened"),
        Column("loss", F64, "log return", "mean pinball loss over the nine levels (half the CRPS)"),
        Column("pit", F64, "0-1", "where the outcome fell among the quantiles, interpolated; 0 or 1 outside them"),
        Column("is_in_80", BOOL, "", "inside the 80 % interval"),
        Column("is_in_95", BOOL, "", "inside the 95 % interval"),
        Column("p_up", F32, "0-1", "calibrated probability of a rise, as it was said", True),
        Column("is_up", BOOL, "", "the price rose"),
        _KNOWN_AT,
    ),
)  # fmt: skip

MODEL_HEALTH = Table(
    "model_health", "How well each forecaster did over the days before a midnight, live forecasts only",
    "one forecaster, horizon and day", ("horizon", "forecaster", "ts"), ("horizon", "forecaster", "ts"),
    (
        Column("ts", TS, "UTC", "the midnight up to which outcomes count"),
        Column("horizon", STR, "", "how far ahead: 15m 1h 4h 24h"),
        Column("forecaster", STR, "", "champion | challenger | har | climatology"),
        Column("model", STR, "", "version that made the newest of them"),
        Column("window_days", I64, "days", "how far back outcomes count"),
        Column("n", I64, "forecasts", "outcomes counted, known to every forecaster compared"),
        Column("skill_climatology", F64, "1", "1 - loss / loss of climatology", True),
        Column("skill_har", F64, "1", "1 - loss / loss of HAR-S-FHS", True),
        Column("dm_t", F64, "1", "Diebold-Mariano t against HAR-S-FHS, HAC; below 0 is better", True),
        Column("coverage_80", F64, "0-1", "share inside the 80 % interval", True),
        Column("coverage_95", F64, "0-1", "share inside the 95 % interval", True),
        Column("brier_skill", F64, "1", "Brier skill of P(up) over the base rate", True),
        Column("ece", F64, "0-1", "expected calibration error of P(up)", True),
        Column("verdict", STR, "", "ok | roll_back | too_few"),
        Column("reason", STR, "", "the verdict in words"),
        _KNOWN_AT,
    ),
    by_timeframe=False,
)  # fmt: skip

FORECAST_TABLES = (FORECASTS, WALK_FORWARD_FORECASTS, FORECAST_CALIBRATIONS, FORECAST_OUTCOMES, MODEL_HEALTH)
