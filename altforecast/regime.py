"""Risk-ON / Risk-OFF: score, hysteresis, explanation.

What belongs here: how metric closes become the table `regime`, and its words. What does not: report lines and arrows (`reports`).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

import numpy as np
import polars as pl

from altforecast.changes import Floats, Ints, closes_on, grid_of, hours_between, read_change
from altforecast.params import REGIME, RegimeParams
from altforecast.tables import REGIME as REGIME_TABLE
from altforecast.tables import TS
from altforecast.types import Metric, RegimeState, Timeframe

INPUTS = (Metric.TOTAL3, Metric.TOTAL2, Metric.BTC_D, Metric.USDT_D, Metric.ETHBTC)
"""Metrics of the score, in the order in which contributions are added."""
STATE_WORDS: Mapping[str, str] = {"risk_on": "Risk-ON", "neutral": "Neutral", "risk_off": "Risk-OFF"}


class _Standing(NamedTuple):
    """State between two hours."""

    state: RegimeState
    pending: RegimeState
    bars: int


def column_of(metric: Metric) -> str:
    """Ending of a metric's columns in table `regime`: `btc_d` for BTC.D."""
    return metric.value.lower().replace(".", "_")


def input_weights(params: RegimeParams = REGIME) -> dict[Metric, float]:
    """Weight of each input in the score, by metric."""
    return {m: float(getattr(params, f"weight_{column_of(m)}")) for m in INPUTS}


def classify_regime(
    metric_bars: pl.DataFrame,
    start: datetime,
    carry: pl.DataFrame | None = None,
    params: RegimeParams = REGIME,
    end: datetime | None = None,
) -> pl.DataFrame:
    """Table `regime`: one row per hour from `start` to the newest bar, or to `end` (excluded) where it is given.

    metric_bars: columns ts (open, on full hours), metric, close [own unit]: hourly closes in long form, in any order, reaching back
    warmup_days before start; metrics other than the five inputs only extend the span. carry: rows of table `regime` before start;
    the newest gives the state to go on from; None starts at neutral. z of a metric: change_hours change of its log close over the sd
    of such changes in the last sd_days. score: sum of weight x z over the inputs that are fresh, weights scaled so that their sizes
    add up to those of all five; null where less than min_weight_frac of the weight is fresh. Contributions add up to the score.
    Runs over consecutive windows, each with its end and with the carry of the last, equal one run. Empty bars: empty table.
    Raises InputError for a naive start or end and for bars off the hour. Method: docs/methods/regime.md.
    """
    hours = hours_between(start, end, metric_bars, carry is not None and not carry.is_empty())
    if not len(hours):
        return REGIME_TABLE.empty()
    z = _z_scores(metric_bars, hours, params)
    contributions, score = _contributions(z, params)
    standings = _walk(score, _standing(carry, start), params)
    is_missing = np.column_stack([np.isnan(z[m]) for m in INPUTS])
    names = [",".join(m.value for m, gone in zip(INPUTS, row, strict=True) if gone) for row in is_missing.tolist()]
    frame = pl.DataFrame(
        {
            "ts": pl.Series(hours).cast(TS),
            "score": score,
            "state": [s.state.value for s in standings],
            "pending_state": [s.pending.value for s in standings],
            "pending_bars": [s.bars for s in standings],
            **{f"z_{column_of(m)}": z[m] for m in INPUTS},
            **{f"contribution_{column_of(m)}": contributions[m] for m in INPUTS},
            "n_inputs": (~is_missing).sum(axis=1).astype(np.int64),
            "is_degraded": is_missing.any(axis=1),
            "missing": names,
        }
    ).with_columns(pl.col(pl.Float64).fill_nan(None), known_at=(pl.col("ts") + timedelta(hours=1)).cast(TS))
    return REGIME_TABLE.conform(frame)


def explain_regime(row: Mapping[str, object]) -> list[str]:
    """One sentence per input of a `regime` row (as a mapping), the largest contribution first, missing ones last."""
    found = [(row[f"contribution_{column_of(m)}"], row[f"z_{column_of(m)}"], m) for m in INPUTS]
    present = [(float(str(c)), float(str(z)), m) for c, z, m in found if c is not None]
    said = [_sentence(c, z, m) for c, z, m in sorted(present, key=lambda item: -abs(item[0]))]
    gone = [m.value for c, z, m in found if z is None]
    if gone:
        said.append(f"Missing or stale: {', '.join(gone)}; the weight goes to the other inputs.")
    if row["score"] is None:
        said.append("Too few inputs for a score; the state goes to neutral until there are enough.")
    return said


def _sentence(contribution: float, z: float, metric: Metric) -> str:
    way = "up" if z > 0 else "down" if z < 0 else "unchanged"
    effect = "speaks for Risk-ON" if contribution > 0 else "speaks for Risk-OFF" if contribution < 0 else "says nothing"
    return f"{metric.value} is {way} {abs(z):.2f} standard deviations over 24 h and {effect} ({contribution:+.2f})."


def _z_scores(metric_bars: pl.DataFrame, hours: Ints, params: RegimeParams) -> dict[Metric, Floats]:
    grid = grid_of(metric_bars, Timeframe.H1.ms)
    at = (hours - grid.origin_ms) // grid.step_ms
    sd_bars, now = params.sd_days * 24, np.zeros(len(hours))
    return {
        m: read_change(
            closes_on(grid, metric_bars, m), at, now, params.change_hours, sd_bars, params.stale_bars, params.min_history_frac
        ).z
        for m in INPUTS
    }  # fmt: skip


def _contributions(z: Mapping[Metric, Floats], params: RegimeParams) -> tuple[dict[Metric, Floats], Floats]:
    """Weight x z of each input, scaled to the weight at hand, and their sum; NaN where there is no score."""
    weights = input_weights(params)
    whole = sum(abs(w) for w in weights.values())
    fresh = sum(abs(w) * ~np.isnan(z[m]) for m, w in weights.items()) / whole
    scale = np.where(fresh >= params.min_weight_frac - 1e-9, 1.0 / np.maximum(fresh, 1e-9), np.nan)
    contributions = {m: w * z[m] * scale for m, w in weights.items()}
    score = np.where(np.isnan(scale), np.nan, 0.0)
    for m in INPUTS:
        score = score + np.where(np.isnan(contributions[m]), 0.0, contributions[m])
    return contributions, score


def _standing(carry: pl.DataFrame | None, start: datetime) -> _Standing:
    before = carry.filter(pl.col("ts") < start).sort("ts").tail(1) if carry is not None else REGIME_TABLE.empty()
    if before.is_empty():
        return _Standing(RegimeState.NEUTRAL, RegimeState.NEUTRAL, 0)
    row = before.row(0, named=True)
    return _Standing(RegimeState(row["state"]), RegimeState(row["pending_state"]), row["pending_bars"])


def _walk(score: Floats, standing: _Standing, params: RegimeParams) -> list[_Standing]:
    standings = []
    for value in score.tolist():
        standing = _next_standing(standing, _asked_state(standing.state, value, params), params.confirm_bars)
        standings.append(standing)
    return standings


def _asked_state(state: RegimeState, score: float, params: RegimeParams) -> RegimeState:
    """State that the score asks for; no score asks for neutral, because an unknown market is no reason for a claim."""
    if score > params.enter_score or (state is RegimeState.RISK_ON and score >= params.leave_score):
        return RegimeState.RISK_ON
    if score < -params.enter_score or (state is RegimeState.RISK_OFF and score <= -params.leave_score):
        return RegimeState.RISK_OFF
    return RegimeState.NEUTRAL


def _next_standing(now: _Standing, asked: RegimeState, confirm_bars: int) -> _Standing:
    """A state must be asked for confirm_bars hours in a row; hours that ask for different other states count for neutral."""
    if asked is now.state:
        return _Standing(now.state, now.state, 0)
    target = asked if now.bars == 0 or asked is now.pending or now.state is RegimeState.NEUTRAL else RegimeState.NEUTRAL
    is_other = now.state is RegimeState.NEUTRAL and asked is not now.pending
    bars = 1 if is_other else now.bars + 1
    return _Standing(target, target, 0) if bars >= confirm_bars else _Standing(now.state, target, bars)
