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

from altforecast.arbitrage_tables import CAPTURE_DELAYS_MS, OPPORTUNITY_STATS
from altforecast.bootstrap import cluster_lift

WINDOW = timedelta(days=28)
MIN_DAYS = 5
"""Days with opportunities below which whole days cannot be resampled with any meaning."""
DRAWS = 500
SEED = 20_240_601
Z_95 = 1.959963984540054
MS_PER_DAY = 86_400_000


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
    closed = opportunities.filter((pl.col("ts") < as_of) & (pl.col("ts") >= as_of - WINDOW))
    if closed.is_empty():
        return OPPORTUNITY_STATS.empty()
    known = outcomes.filter(pl.col("known_at") < as_of).join(closed.select("id"), on="id", how="semi")
    rows = [
        _row(as_of, dimension, str(key), members, known.join(members.select("id"), on="id", how="semi"))
        for dimension, groups in _dimensions(closed)
        for (key,), members in sorted(groups.partition_by("key", as_dict=True).items())
    ]
    return OPPORTUNITY_STATS.conform(pl.DataFrame(rows, schema=OPPORTUNITY_STATS.schema))


def _dimensions(closed: pl.DataFrame) -> Iterator[tuple[str, pl.DataFrame]]:
    pair = pl.col("symbol") + " " + pl.col("buy_exchange") + ">" + pl.col("sell_exchange")
    yield "all", closed.with_columns(key=pl.lit("all"))
    yield "pair", closed.with_columns(key=pair)
    sides = pl.concat([closed.with_columns(key=pl.col(side)) for side in ("buy_exchange", "sell_exchange")])
    yield "venue", sides.unique(["id", "key"], maintain_order=True)
    yield "hour", closed.with_columns(key=pl.col("opened_at").dt.strftime("%H"))
    yield "type", closed.with_columns(key=pl.col("type"))


def _row(as_of: datetime, dimension: str, key: str, members: pl.DataFrame, known: pl.DataFrame) -> dict[str, Any]:
    lifetimes, is_enough = members["lifetime_ms"], members["opened_at"].dt.date().n_unique() >= MIN_DAYS
    row: dict[str, Any] = {
        "ts": as_of, "known_at": as_of, "dimension": dimension, "key": key, "n": members.height,
        "median_lifetime_ms": lifetimes.median(), "p90_lifetime_ms": lifetimes.quantile(0.9, "linear"),
        "median_birth_edge_pct": members["birth_edge_pct"].median(), "profit_usdt": members["birth_profit_usdt"].sum(),
        "ci_method": "day_cluster" if is_enough else "wilson",
    }  # fmt: skip
    for delay in CAPTURE_DELAYS_MS:
        row |= _rate(known.filter(pl.col("delay_ms") == delay), delay, is_enough)
    return row


def _rate(after: pl.DataFrame, delay: int, is_enough: bool) -> dict[str, Any]:
    hits = (after["outcome"] == "captured").to_numpy()
    days = after["opened_at"].dt.epoch("ms").to_numpy() // MS_PER_DAY
    share = None
    if after.height:
        share = day_share(hits, days) if is_enough and len(np.unique(days)) >= MIN_DAYS else wilson(int(hits.sum()), after.height)
    profit = after.filter(pl.col("outcome") == "captured")["profit_usdt"].sum() if after.height else None
    return {
        f"n_{delay}ms": after.height,
        f"capture_{delay}ms_frac": share.frac if share else None,
        f"capture_{delay}ms_ci_low": share.low if share else None,
        f"capture_{delay}ms_ci_high": share.high if share else None,
        f"profit_{delay}ms_usdt": profit,
    }
