"""How well each forecaster did over the days before a midnight, from live forecasts alone.

What belongs here: the rows of the table `model_health`. What does not: the rule that takes a champion away (`promotion`) and taking it
away (pipelines). Method: docs/methods/forecasts.md.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from altforecast.forecast_outcomes import LIVE
from altforecast.forecast_params import HORIZONS
from altforecast.forecast_scores import brier_skill, expected_calibration_error, skill
from altforecast.forecast_tables import MODEL_HEALTH
from altforecast.forecast_tests import diebold_mariano, dm_lag
from altforecast.promotion import judge_health

WINDOW_DAYS = 30
MIN_TESTED = 30
"""Moments that a Diebold-Mariano test needs beyond its lag; with fewer there is none."""
REFERENCES = ("har", "climatology")
_BAR = ("symbol", "exchange", "ts")


def model_health(outcomes: pl.DataFrame, midnight: datetime, window_days: int = WINDOW_DAYS) -> pl.DataFrame:
    """One row per horizon and forecaster that had outcomes in the days before a midnight.

    outcomes: rows of `forecast_outcomes`, optionally with the column `p_base` of the forecasts; only live ones known before midnight
    and not earlier than window_days before it count. Of the champion and the challenger only what their newest version said counts, so that
    a model does not answer for the one before it; the baselines are the same method at each training, so all their versions count.
    Compared are bars that the forecaster, HAR-S and climatology all spoke of; without any the numbers are null. Empty without outcomes.
    """
    start = midnight - timedelta(days=window_days)
    counted = outcomes.filter((pl.col("origin") == LIVE) & (pl.col("known_at") >= start) & (pl.col("known_at") < midnight))
    rows = []
    for (horizon, forecaster), mine in sorted(counted.group_by("horizon", "forecaster"), key=lambda item: str(item[0])):
        others = counted.filter(pl.col("horizon") == horizon)
        newest = mine.sort("ts", "known_at")["model"][-1]
        spoke = mine if forecaster in REFERENCES else mine.filter(pl.col("model") == newest)
        scores = _scores(spoke, others, str(horizon))
        health = judge_health(str(horizon), scores["n"], scores.pop("n_days"), scores.get("skill_har"), scores.get("coverage_80"))
        rows.append({
            "ts": midnight, "horizon": horizon, "forecaster": forecaster, "model": newest, "window_days": window_days, **scores,
            "verdict": health.verdict, "reason": health.reason, "known_at": midnight,
        })  # fmt: skip
    return MODEL_HEALTH.conform(pl.DataFrame(rows, schema=MODEL_HEALTH.schema)) if rows else MODEL_HEALTH.empty()


def _scores(mine: pl.DataFrame, others: pl.DataFrame, horizon: str) -> dict[str, Any]:
    both = mine
    for name in REFERENCES:
        reference = others.filter(pl.col("forecaster") == name).select(*_BAR, pl.col("loss").alias(f"loss_{name}"))
        both = both.join(reference, on=_BAR, how="inner")
    if both.is_empty():
        return {"n": 0, "n_days": 0}
    loss, har = both["loss"].to_numpy(), both["loss_har"].to_numpy()
    return {
        "n": both.height, "n_days": both["ts"].dt.date().n_unique(),
        "skill_climatology": _known(skill(loss, both["loss_climatology"].to_numpy())),
        "skill_har": _known(skill(loss, har)),
        "dm_t": _tested(loss, har, both["ts"].dt.epoch("ms").to_numpy(), horizon),
        "coverage_80": both["is_in_80"].mean(), "coverage_95": both["is_in_95"].mean(),
        **_probability(both),
    }  # fmt: skip


def _tested(loss: np.ndarray[Any, Any], har: np.ndarray[Any, Any], when: np.ndarray[Any, Any], horizon: str) -> float | None:
    timeframe, bars = HORIZONS[horizon]
    lag = dm_lag(bars, 86_400_000 / timeframe.ms)
    return _known(diebold_mariano(loss, har, when, lag).t) if len(np.unique(when)) >= lag + MIN_TESTED else None


def _probability(both: pl.DataFrame) -> dict[str, Any]:
    """Of the forecasts that named a probability; the base rate they named is the reference, each weighed by its rows."""
    said = both.filter(pl.col("p_up").is_not_null())
    if said.is_empty():
        return {}
    up, p_up = said["is_up"].to_numpy(), said["p_up"].to_numpy().astype(np.float64)
    base = said["p_base"].mean() if "p_base" in said.columns else None
    worth = brier_skill(up, p_up, float(base)) if isinstance(base, float) else float("nan")
    return {"brier_skill": _known(worth), "ece": _known(expected_calibration_error(up, p_up))}


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
