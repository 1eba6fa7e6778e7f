"""What followed each forecast whose outcome is known: the return, its loss and its place among the quantiles.

What belongs here: joining forecasts with the bars they were about. What does not: making forecasts (`forecasting`), what many outcomes
say about a model (`model_health`) and the scores themselves (`forecast_scores`). Method: docs/methods/forecasts.md.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from altforecast.errors import InputError
from altforecast.forecast_scores import LEVELS, pinball_loss
from altforecast.forecast_tables import FORECAST_OUTCOMES, QUANTILES
from altforecast.types import Quality, Timeframe

Floats = NDArray[np.float64]

LIVE, WALK_FORWARD = "live", "walk_forward"
ORIGINS = (LIVE, WALK_FORWARD)
MADE_IN_TIME = pl.col("known_at") < pl.col("target_ts")
"""Of rows of `forecasts`: said before the outcome was known. Only those are live."""
_LOW80, _HIGH80, _LOW95, _HIGH95 = (LEVELS.index(level) for level in (0.10, 0.90, 0.025, 0.975))


def forecast_outcomes(forecasts: pl.DataFrame, bars: pl.DataFrame, origin: str) -> pl.DataFrame:
    """Rows of the table `forecast_outcomes` for every forecast whose last bar ahead is there and usable, sorted as the table says.

    forecasts: rows of `forecasts` or `walk_forward_forecasts`; those without quantiles or price have no outcome. bars: columns symbol,
    exchange, timeframe, ts, close, known_at and quality of the bars ahead; a bar without a positive finite close, or printed while its
    feed was down, is no outcome. Of live forecasts only those made before their outcome was known count: what is made up for after a
    stop, or of bars whose outcome taught a new model, proves nothing. Empty frames give an empty frame. Raises InputError for an
    unknown origin.
    """
    if origin not in ORIGINS:
        raise InputError("origin", origin, "unknown origin of forecasts", ORIGINS)
    said = forecasts.filter(pl.all_horizontal(*(pl.col(c).is_not_null() for c in ("price", *QUANTILES))))
    said = said.filter(MADE_IN_TIME) if origin == LIVE else said
    frames = [_of_bar_length(said, bars, timeframe) for timeframe in said["timeframe"].unique().to_list()]
    if not any(frame.height for frame in frames):
        return FORECAST_OUTCOMES.empty()
    return FORECAST_OUTCOMES.conform(_scored(pl.concat(frames)).with_columns(pl.lit(origin).alias("origin")).select(_columns()))


def _columns() -> list[str]:
    return FORECAST_OUTCOMES.schema.names()


def _of_bar_length(said: pl.DataFrame, bars: pl.DataFrame, timeframe: str) -> pl.DataFrame:
    """Forecasts beside the close of their last bar ahead, which opens one bar before the outcome is known."""
    usable = pl.col("close").is_finite() & (pl.col("close") > 0) & (pl.col("quality") != Quality.FEED_DOWN.value)
    ahead = bars.filter((pl.col("timeframe") == timeframe) & usable.fill_null(False)).select(
        "symbol", "exchange", "timeframe", pl.col("ts").dt.offset_by(f"{Timeframe(timeframe).ms}ms").alias("target_ts"),
        pl.col("close").alias("_close"), pl.col("known_at").alias("_told"),
    )  # fmt: skip
    mine = said.filter(pl.col("timeframe") == timeframe)
    return mine.join(ahead, on=["symbol", "exchange", "timeframe", "target_ts"], how="inner")


def _scored(rows: pl.DataFrame) -> pl.DataFrame:
    outcome = np.log(rows["_close"].to_numpy()) - np.log(rows["price"].to_numpy())
    quantiles = rows.select(QUANTILES).to_numpy().astype(np.float64)
    return rows.with_columns(
        pl.Series("outcome", outcome), pl.Series("loss", pinball_loss(outcome, quantiles)), pl.Series("pit", pit(outcome, quantiles)),
        pl.Series("is_in_80", _inside(outcome, quantiles, _LOW80, _HIGH80)),
        pl.Series("is_in_95", _inside(outcome, quantiles, _LOW95, _HIGH95)),
        pl.Series("is_up", outcome > 0),
        pl.max_horizontal("target_ts", "_told", "known_at").alias("known_at"),
    )  # fmt: skip


def _inside(outcome: Floats, quantiles: Floats, low: int, high: int) -> NDArray[np.bool_]:
    return np.asarray((outcome >= quantiles[:, low]) & (outcome <= quantiles[:, high]))


def pit(outcome: Floats, quantiles: Floats) -> Floats:
    """Probability integral transform: the level at which the outcome fell, interpolated between the nine quantiles [0-1].

    outcome: shape (n,). quantiles: shape (n, levels), ascending. 0 below the lowest and 1 above the highest quantile; of equal quantiles
    the highest level counts. NaN in a row gives NaN.
    """
    levels = np.asarray(LEVELS)
    above = (outcome[:, None] >= quantiles).sum(axis=1)
    left = np.clip(above - 1, 0, len(levels) - 2)
    rows = np.arange(len(outcome))
    low, high = quantiles[rows, left], quantiles[rows, left + 1]
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(high > low, (outcome - low) / (high - low), above - 1.0 - left)
    inside = levels[left] + np.clip(share, 0.0, 1.0) * (levels[left + 1] - levels[left])
    found = np.where(above == 0, 0.0, np.where(outcome > quantiles[:, -1], 1.0, inside))
    return np.where(np.isnan(outcome) | np.isnan(quantiles).any(axis=1), np.nan, found)
