"""What trading on the direction score would have earned after costs, and whether that is more than luck after many tries.

What belongs here: the obvious strategies on a score and their deflated Sharpe ratio and probability of overfitting. What does not: the
statistics (`sharpe`), whether the score is right (`forecast_summary`) and event-accurate backtests.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from altforecast.errors import InputError
from altforecast.sharpe import backtest_overfitting, deflated_sharpe, sharpe_ratio
from altforecast.walk_forward import PastForecasts

Floats = NDArray[np.float64]
COST_BPS = 7.0
"""Per side: 5 bps fee and 2 bps slippage, so 14 bps for a round trip."""
CONVICTIONS = (1.0, 0.5, 0.2, 0.1, 0.05)
"""Share of the forecasts with the strongest score that is traded."""
DSR_GATE, PBO_GATE = 0.95, 0.2
"""A claim needs a deflated Sharpe ratio above and a probability of overfitting below."""
_MEMORY_DAYS = 90
_BLOCKS = 16
_DAYS_PER_YEAR = 365.0
_DAY_MS = 86_400_000


def strategy_table(past: PastForecasts, n_tried: int, cost_bps: float = COST_BPS) -> dict[str, Any]:
    """Daily returns of ten strategies on the direction score as values for JSON.

    Each holds 1 / series of the capital in every series whose score is among the strongest (against all scores of the 90 days before),
    long or short by its sign or long only, from one forecast to the next one a horizon later; a side costs cost_bps of what is traded.
    The strategy with the best Sharpe ratio after costs is judged: deflated by n_tried x 10 tries, and by the probability that the best
    one in half of the days is below the median in the other half (16 blocks). Raises InputError without scores, for n_tried < 1 and
    with fewer than 32 days.
    """
    if past.score is None:
        raise InputError("past", "no score", "there is no direction to trade")
    if n_tried < 1:
        raise InputError("n_tried", n_tried, "must be at least 1")
    rows = np.flatnonzero((past.ts // (_DAY_MS // past.bars_per_day)) % past.horizon == 0)
    score, outcome = past.score[rows], np.nan_to_num(past.outcome[rows])
    floors = _floors(past, rows)
    day = past.ts[rows] // _DAY_MS
    names, gross, net = [], [], []
    for name, held in _positions(score, floors):
        earned = (held * outcome).sum(axis=1)
        before = np.vstack([np.zeros((1, held.shape[1])), held[:-1]])
        names.append(name)
        gross.append(_daily(earned, day))
        net.append(_daily(earned - cost_bps / 1e4 * np.abs(held - before).sum(axis=1), day))
    return _judged(names, np.column_stack(gross), np.column_stack(net), n_tried, cost_bps)


def _floors(past: PastForecasts, rows: NDArray[np.int64]) -> Floats:
    """Size a score must reach for each conviction, shape (rows, convictions): quantiles of the 90 days before, renewed daily."""
    size = np.abs(past.score) if past.score is not None else np.empty(0)
    window = _MEMORY_DAYS * past.bars_per_day
    found = np.full((len(rows), len(CONVICTIONS)), np.inf)
    last = -1
    for number, row in enumerate(rows.tolist()):
        day = int(past.ts[row] // _DAY_MS)
        if day == last:
            found[number] = found[number - 1]
            continue
        last, known = day, size[max(row - window, 0) : row]
        known = known[~np.isnan(known)]
        if len(known):
            found[number] = np.quantile(known, 1.0 - np.array(CONVICTIONS))
    return found


def _positions(score: Floats, floors: Floats) -> Iterator[tuple[str, Floats]]:
    """(name, share of the capital held in each series) for every strategy; shapes (rows, series)."""
    sign = np.nan_to_num(np.sign(score))
    for column, share in enumerate(CONVICTIONS):
        strong = np.nan_to_num(np.abs(score), nan=-1.0) >= floors[:, [column]]
        held = np.where(strong, sign, 0.0) / score.shape[1]
        yield f"strongest {share:.0%}, both sides", held
        yield f"strongest {share:.0%}, long only", np.maximum(held, 0.0)


def _daily(earned: Floats, day: NDArray[np.int64]) -> Floats:
    return np.asarray(np.bincount(day - day[0], weights=earned), dtype=np.float64)


def _judged(names: list[str], gross: Floats, net: Floats, n_tried: int, cost_bps: float) -> dict[str, Any]:
    sharpes = np.array([sharpe_ratio(net[:, column]) for column in range(len(names))])
    best = int(np.nanargmax(sharpes)) if not np.isnan(sharpes).all() else 0
    known = sharpes[~np.isnan(sharpes)]
    n_tries = n_tried * len(names)
    dsr = deflated_sharpe(net[:, best], known, n_tries) if len(known) else float("nan")
    pbo = backtest_overfitting(net, _BLOCKS).pbo
    year = _DAYS_PER_YEAR**0.5
    rows = [
        {
            "name": name, "gross_bps_per_day": float(gross[:, i].mean() * 1e4), "net_bps_per_day": float(net[:, i].mean() * 1e4),
            "gross_sharpe_year": sharpe_ratio(gross[:, i]) * year, "net_sharpe_year": float(sharpes[i]) * year,
        } for i, name in enumerate(names)
    ]  # fmt: skip
    is_edge = bool(dsr > DSR_GATE and pbo < PBO_GATE and net[:, best].mean() > 0)
    return {
        "cost_bps_per_side": cost_bps, "n_days": len(net), "n_tries": n_tries, "best": names[best], "deflated_sharpe": dsr, "pbo": pbo,
        "is_edge": is_edge, "strategies": rows,
    }  # fmt: skip
