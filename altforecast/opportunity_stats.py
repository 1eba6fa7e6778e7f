"""How long opportunities live and how often they could be captured: by pair, venue, hour and type.

What belongs here: groups, medians, shares and their intervals. What does not: what an opportunity or outcome is
(`opportunity_history`) and when statistics are due.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from math import sqrt
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from altforecast.arbitrage import NO_EDGE
from altforecast.arbitrage_tables import CAPTURE_DELAYS_MS, OPPORTUNITY_STATS
from altforecast.bootstrap import cluster_lift

WINDOW = timedelta(days=28)
MIN_DAYS = 5
"""Days with opportunities below which whole days cannot be resampled with any meaning."""
DRAWS = 500
SEED = 20_240_601
Z_95 = 1.959963984540054
MS_PER_DAY = 86_400_000
Floats = NDArray[np.float64]


class Share(NamedTuple):
    """A share with its 95 % interval, 0-1."""

    frac: float
    low: float
    high: float


def wilson(n_hits: int, n: int) -> Share:
    """Wilson's score interval of a share; n must be above 0. Source: Wilson 1927."""
    p, z2 = n_hits / n, Z_95 * Z_95
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z_95 / (1 + z2 / n) * sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return Share(p, max(0.0, centre - half), min(1.0, centre + half))


def day_share(hits: NDArray[np.bool_], days: NDArray[np.int64]) -> Share:
    """Share of hits with the interval of resampled whole days: opportunities of one day come in bursts and are not independent."""
    found = cluster_lift(hits, np.zeros(len(hits), dtype=np.bool_), days, days, DRAWS, SEED)
    return Share(found.lift, found.low, found.high)


def statistics(opportunities: pl.DataFrame, outcomes: pl.DataFrame, as_of: datetime) -> pl.DataFrame:
    """Rows of `opportunity_stats` as of one moment: what closed in the 28 days before, with the outcomes known before.

    opportunities, outcomes: rows of these tables, more than needed does no harm. Nothing in the window gives an empty frame.
    """
    closed = opportunities.filter((pl.col("ts") < as_of) & (pl.col("ts") >= as_of - WINDOW)).sort("id")
    if closed.is_empty():
        return OPPORTUNITY_STATS.empty()
    known = outcomes.filter(pl.col("known_at") < as_of)
    cases = _cases(closed, {delay: known.filter(pl.col("delay_ms") == delay) for delay in CAPTURE_DELAYS_MS})
    rows = [_row(as_of, dimension, key, cases, members) for dimension, key, members in _groups(closed)]
    return OPPORTUNITY_STATS.conform(pl.DataFrame(rows, schema=OPPORTUNITY_STATS.schema))


class _Cases(NamedTuple):
    """What is counted of each opportunity, shape (n,); NaN where not known."""

    lifetime_ms: Floats
    birth_edge_pct: Floats
    birth_profit_usdt: Floats
    day: NDArray[np.int64]
    is_known: dict[int, NDArray[np.bool_]]
    is_captured: dict[int, NDArray[np.bool_]]
    profit_usdt: dict[int, Floats]


def _cases(closed: pl.DataFrame, after: dict[int, pl.DataFrame]) -> _Cases:
    told = {
        d: closed.select("id").join(f.select("id", "outcome", "profit_usdt"), on="id", how="left", maintain_order="left")
        for d, f in after.items()
    }
    return _Cases(
        closed["lifetime_ms"].cast(pl.Float64).to_numpy(),
        closed["birth_edge_pct"].to_numpy(),
        closed["birth_profit_usdt"].to_numpy(),
        closed["opened_at"].dt.epoch("ms").to_numpy() // MS_PER_DAY,
        {d: f["outcome"].is_not_null().to_numpy() for d, f in told.items()},
        {d: (f["outcome"] == "captured").fill_null(False).to_numpy() for d, f in told.items()},
        {d: f["profit_usdt"].to_numpy() for d, f in told.items()},
    )


def _groups(closed: pl.DataFrame) -> Iterator[tuple[str, str, NDArray[np.int64]]]:
    """Dimension, key, and the positions of its opportunities, in order of dimension and key."""
    pair = pl.col("symbol") + " " + pl.col("buy_exchange") + ">" + pl.col("sell_exchange")
    numbered = closed.with_row_index("at")
    keys: dict[str, tuple[pl.Expr, ...]] = {
        "all": (pl.lit("all"),),
        "hour": (pl.col("opened_at").dt.strftime("%H"),),
        "pair": (pair,),
        "type": (pl.col("type"),),
        "venue": (pl.col("buy_exchange"), pl.col("sell_exchange")),
    }
    for dimension, named in keys.items():
        members = pl.concat([numbered.select("at", key=each) for each in named]).unique().sort("key", "at")
        for (key,), group in members.partition_by("key", as_dict=True, maintain_order=True).items():
            yield dimension, str(key), group["at"].to_numpy().astype(np.int64)


def _row(as_of: datetime, dimension: str, key: str, cases: _Cases, at: NDArray[np.int64]) -> dict[str, Any]:
    lifetimes, is_enough = cases.lifetime_ms[at], len(np.unique(cases.day[at])) >= MIN_DAYS
    edges = cases.birth_edge_pct[at]
    # -100 says that the fixed size did not fit, which is no edge; a comparison leaves NaN out as well
    edges = edges[edges > NO_EDGE]
    row: dict[str, Any] = {
        "ts": as_of, "known_at": as_of, "dimension": dimension, "key": key, "n": len(at),
        "median_lifetime_ms": float(np.median(lifetimes)), "p90_lifetime_ms": float(np.quantile(lifetimes, 0.9)),
        "median_birth_edge_pct": float(np.median(edges)) if len(edges) else None,
        "profit_usdt": float(np.nansum(cases.birth_profit_usdt[at])),
        "ci_method": "day_cluster" if is_enough else "wilson",
    }  # fmt: skip
    for delay in CAPTURE_DELAYS_MS:
        row |= _rate(cases, delay, at[cases.is_known[delay][at]], is_enough)
    return row


def _rate(cases: _Cases, delay: int, at: NDArray[np.int64], is_enough: bool) -> dict[str, Any]:
    hits, days, share = cases.is_captured[delay][at], cases.day[at], None
    if len(at):
        share = day_share(hits, days) if is_enough and len(np.unique(days)) >= MIN_DAYS else wilson(int(hits.sum()), len(at))
    return {
        f"n_{delay}ms": len(at),
        f"capture_{delay}ms_frac": share.frac if share else None,
        f"capture_{delay}ms_ci_low": share.low if share else None,
        f"capture_{delay}ms_ci_high": share.high if share else None,
        f"profit_{delay}ms_usdt": float(cases.profit_usdt[delay][at][hits].sum()) if share else None,
    }
