"""What past forecasts of one horizon were worth: skill, coverage, direction and calibration, with their uncertainty.

What belongs here: the tables of the evaluation as plain values. What does not: the single scores (`forecast_scores`), the goals they
are held against (`forecast_gates`) and making the forecasts (`walk_forward`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from altforecast.errors import InputError
from altforecast.forecast_features import FeatureMatrix
from altforecast.forecast_scores import (
    LEVELS,
    brier_skill,
    coverage,
    coverage_by,
    deciles,
    expected_calibration_error,
    pinball_loss,
    rank_ic,
    reliability,
    skill,
)
from altforecast.forecast_targets import quarter_names
from altforecast.forecast_tests import (
    block_bootstrap_interval,
    bootstrap_skill_interval,
    diebold_mariano,
    dm_lag,
    independence_of_breaches,
    mean_test,
)
from altforecast.walk_forward import PastForecasts

Floats = NDArray[np.float64]
Table = dict[str, Any]
REFERENCE = "har_reference"
"""Per series the better of the pooled and the own HAR-S over the test span, chosen with hindsight: the strictest reference."""
BOOTSTRAP_DRAWS = 500
CONVICTION = 0.10
"""Share of forecasts with the strongest direction score that are looked at apart."""
_LOW80, _HIGH80, _LOW95, _HIGH95 = (LEVELS.index(level) for level in (0.10, 0.90, 0.025, 0.975))
_DAY_MS = 86_400_000


@dataclass(frozen=True)
class _Flat:
    """Forecasts of all series one below the other: rows that every forecaster answered and whose outcome is known."""

    when: NDArray[np.int64]
    column: NDArray[np.int64]
    outcome: Floats
    quantiles: Mapping[str, Floats]
    loss: dict[str, Floats]
    picked: NDArray[np.bool_]


def summarise(past: PastForecasts, best: str, seed: int = 1) -> Table:
    """All tables of one horizon as values for JSON. best: the forecaster whose coverage and groups are reported.

    Raises InputError for an unknown forecaster or when no row is answered by all. seed: of the bootstrap.
    """
    if best not in past.quantiles:
        raise InputError("best", best, "no such forecaster", sorted(past.quantiles))
    flat = _flatten(past)
    lag = dm_lag(past.horizon, past.bars_per_day)
    out: Table = {
        "n": len(flat.outcome), "n_moments": len(np.unique(flat.when)), "n_outcomes": int((~np.isnan(past.outcome)).sum()),
        "first": int(flat.when.min()), "last": int(flat.when.max()), "best": best,
        "forecasters": {name: _forecaster(flat, name, lag, seed) for name in flat.loss if name != REFERENCE},
        "symbols": _by(flat, best, np.array([f"{s} {e}" for s, e in past.series])[flat.column]),
        "quarters": _by(flat, best, quarter_names(flat.when)),
        "deciles": _by(flat, best, deciles(past.sigma[_sigma_of(past, best)][flat.picked])),
        "breaches": _breaches(flat, best, past),
        "coverage_days": _coverage_over_time(flat, best), "losses": _daily_losses(flat),
    }  # fmt: skip
    if past.score is not None and past.p_up is not None and past.p_base is not None:
        out["direction"] = _direction(flat, past.score[flat.picked], past.p_up[flat.picked], past.p_base[flat.picked], lag, seed)
    return out


def strongest_feature(matrix: FeatureMatrix, outcome: Floats, ts: NDArray[np.int64], moments: int = 400) -> tuple[str, float] | None:
    """The feature whose mean cross-sectional rank correlation with the outcome is furthest from 0, and that correlation.

    outcome: shape (time, series), of the rows of the matrix. Looks at evenly spread moments; None where too few series are known.
    """
    rows = np.unique(np.linspace(0, len(ts) - 1, moments).astype(np.int64))
    when = np.repeat(ts[rows], outcome.shape[1])
    found = {}
    for column, name in enumerate(matrix.names):
        score = matrix.values[rows, :, column].astype(np.float64).ravel()
        correlations = rank_ic(score, outcome[rows].ravel(), when)[1]
        if len(correlations) >= moments // 4:
            found[name] = float(correlations.mean())
    return max(found.items(), key=lambda item: abs(item[1])) if found else None


def _sigma_of(past: PastForecasts, best: str) -> str:
    return next(name for name in (best, "scale", "har") if name in past.sigma)


def _flatten(past: PastForecasts) -> _Flat:
    picked = ~np.isnan(past.outcome)
    for values in past.quantiles.values():
        picked &= ~np.isnan(values).any(axis=2)
    if not picked.any():
        raise InputError("past", 0, "no forecast with an outcome that every forecaster made")
    row, column = np.nonzero(picked)
    outcome, quantiles = past.outcome[picked], {name: values[picked] for name, values in past.quantiles.items()}
    loss = {name: pinball_loss(outcome, values) for name, values in quantiles.items()}
    n = np.bincount(column)
    sums = {name: np.bincount(column, weights=loss[name]) for name in ("har_own", "har_pooled")}
    is_own_better = (sums["har_own"] < sums["har_pooled"]) & (n > 0)
    loss[REFERENCE] = np.where(is_own_better[column], loss["har_own"], loss["har_pooled"])
    return _Flat(past.ts[row], column, outcome, quantiles, loss, picked)


def _forecaster(flat: _Flat, name: str, lag: int, seed: int) -> Table:
    week, rng = flat.when // (7 * _DAY_MS), np.random.default_rng(seed)
    test = diebold_mariano(flat.loss[name], flat.loss[REFERENCE], flat.when, lag)
    q = flat.quantiles[name]
    return {
        "loss": float(flat.loss[name].mean()),
        "skill_climatology": skill(flat.loss[name], flat.loss["climatology"]),
        "skill_har": skill(flat.loss[name], flat.loss[REFERENCE]),
        "skill_har_interval": list(bootstrap_skill_interval(flat.loss[name], flat.loss[REFERENCE], week, rng, BOOTSTRAP_DRAWS)),
        "dm_t": test.t, "dm_p": test.p_value,
        "coverage80": coverage(flat.outcome, q[:, _LOW80], q[:, _HIGH80]),
        "coverage95": coverage(flat.outcome, q[:, _LOW95], q[:, _HIGH95]),
    }  # fmt: skip


def _by(flat: _Flat, best: str, group: NDArray[Any]) -> list[Table]:
    q, found = flat.quantiles[best], []
    inner = coverage_by(flat.outcome, q[:, _LOW80], q[:, _HIGH80], group)
    outer = coverage_by(flat.outcome, q[:, _LOW95], q[:, _HIGH95], group)
    for value, (covered, n) in inner.items():
        rows = group == value
        loss, reference = flat.loss[best][rows], flat.loss[REFERENCE][rows]
        found.append({
            "group": value, "n": n, "coverage80": covered, "coverage95": outer[value][0],
            "skill_climatology": skill(loss, flat.loss["climatology"][rows]), "skill_har": skill(loss, reference),
        })  # fmt: skip
    return found


def _breaches(flat: _Flat, best: str, past: PastForecasts) -> Table:
    """Christoffersen's test per series on non-overlapping 95 % intervals: how many reject independence at 5 %."""
    q = flat.quantiles[best]
    breach = (flat.outcome < q[:, _LOW95]) | (flat.outcome > q[:, _HIGH95])
    p_values = []
    for column in np.unique(flat.column):
        mine = flat.column == column
        apart = (flat.when[mine] - past.ts[0]) // (_DAY_MS // past.bars_per_day) % past.horizon == 0
        p_values.append(independence_of_breaches(breach[mine][apart])[1])
    return {"series": len(p_values), "dependent": int(sum(p < 0.05 for p in p_values))}


def _coverage_over_time(flat: _Flat, best: str) -> list[list[float]]:
    """[first day of the week as ms, coverage of the 80 % interval, its count] for each week."""
    q = flat.quantiles[best]
    week = flat.when // (7 * _DAY_MS)
    found = coverage_by(flat.outcome, q[:, _LOW80], q[:, _HIGH80], week)
    return [[float(int(str(key)) * 7 * _DAY_MS), covered, n] for key, (covered, n) in found.items()]


def _daily_losses(flat: _Flat) -> dict[str, list[float]]:
    """Sums of pinball losses by UTC day of the forecast: `day` [first ms], `n` rows, and one list per forecaster and the reference.

    Rows are the same for all, so that two models of different trainings can be compared day by day.
    """
    days, group = np.unique(flat.when // _DAY_MS, return_inverse=True)
    sums = {name: np.bincount(group, weights=loss).tolist() for name, loss in flat.loss.items()}
    return {"day": (days * _DAY_MS).tolist(), "n": np.bincount(group).tolist(), **sums}


def _direction(flat: _Flat, score: Floats, p_up: Floats, p_base: Floats, lag: int, seed: int) -> Table:
    """Sign of the score against the sign of the outcome; rows without movement are left out."""
    moved = ~np.isnan(score) & ~np.isnan(p_up) & (flat.outcome != 0.0)
    up, outcome, when = flat.outcome[moved] > 0, flat.outcome[moved], flat.when[moved]
    score, p_up, p_base = score[moved], p_up[moved], p_base[moved]
    right = ((score > 0) == up).astype(np.float64)
    strong = np.abs(score) >= np.quantile(np.abs(score), 1.0 - CONVICTION)
    rng, day = np.random.default_rng(seed), when // _DAY_MS
    moments, ic = rank_ic(score, outcome, when)
    ic_test = mean_test(ic, lag) if len(moments) > lag else None
    gain = np.sign(score[strong]) * outcome[strong]
    return {
        "n": int(moved.sum()), "accuracy": float(right.mean()),
        "accuracy_interval": list(block_bootstrap_interval(right, day, rng, BOOTSTRAP_DRAWS)),
        "majority": float(max(up.mean(), 1.0 - up.mean())),
        "top_accuracy": float(right[strong].mean()),
        "top_interval": list(block_bootstrap_interval(right[strong], day[strong], rng, BOOTSTRAP_DRAWS)),
        "top_gain_bps": float(gain.mean() * 1e4),
        "rank_ic": ic_test.mean if ic_test else None, "rank_ic_t": ic_test.t if ic_test else None,
        "brier_skill": _brier_skill(up, p_up, p_base), "ece": expected_calibration_error(up, p_up),
        "p_up_range": [float(v) for v in np.quantile(p_up, [0.01, 0.99])],
        "reliability": [[b.n, b.mean_probability, b.happened_frac] for b in reliability(up, p_up)],
    }  # fmt: skip


def _brier_skill(up: NDArray[np.bool_], p_up: Floats, p_base: Floats) -> float:
    """Against the base rate known before each quarter; groups of one base rate are weighed by their reference loss."""
    losses = np.array([[len(rows), np.mean((base - up[rows]) ** 2), brier_skill(up[rows], p_up[rows], float(base))]
                       for base in np.unique(p_base) for rows in [np.flatnonzero(p_base == base)]])  # fmt: skip
    weight = losses[:, 0] * losses[:, 1]
    return float((losses[:, 2] * weight).sum() / weight.sum())
