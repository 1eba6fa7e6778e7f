"""The asset `opportunity_stats`: lifetimes and capture rates as of every midnight.

What belongs here: which midnights are due, and the call. What does not: groups and intervals (`altforecast.opportunity_stats`).
"""

from datetime import datetime, timedelta

import polars as pl

from altforecast import CODE_VERSION
from altforecast.arbitrage_tables import CAPTURE_DELAYS_MS, OPPORTUNITY_STATS
from altforecast.types import Window
from altforecast_io.lake import Scope, next_month
from altforecast_pipelines.arbitrage import derived_asset
from altforecast_pipelines.build import MarketStep
from altforecast_pipelines.checks import no_future, unique_keys
from altforecast_pipelines.resources import House
from altforecast_pipelines.scope import Plan

DAY = timedelta(days=1)
MONTHS_AFTER = 1
"""What closed in a month is counted for 28 days after it."""


def due(house: House, plan: Plan) -> list[Scope]:
    """Every month of the plan on its own, and the one after it, as far as the clock has come."""
    found = []
    for part in plan.derived:
        month, last = part.window.start, min(next_month(part.window.end), next_month(house.clock()))
        while month < last:
            found.append(Scope(Window(month, next_month(month))))
            month = next_month(month)
    return found


def compute(house: House, scope: Scope) -> pl.DataFrame:
    """Statistics of all midnights of the scope that have passed; rows whose numbers of cases still hold are handed back."""
    from altforecast.opportunity_stats import WINDOW, statistics

    window, lake = scope.window, house.lake
    closed = lake.read("opportunities", None, window.start - WINDOW, window.end)
    known = lake.read("opportunity_outcomes", None, window.start - WINDOW, window.end)
    standing = _standing(house, scope)
    frames = [OPPORTUNITY_STATS.empty()]
    midnight = window.start
    while midnight < min(window.end, house.clock()):
        counts = _counts(closed, known, midnight, WINDOW)
        old = standing.filter(pl.col("ts") == midnight)
        is_same = old.filter(pl.col("dimension") == "all").select(counts.columns).equals(counts)
        frames.append(old if is_same else statistics(closed, known, midnight))
        midnight += DAY
    return pl.concat(frames)


def _standing(house: House, scope: Scope) -> pl.DataFrame:
    """Rows of an earlier run of the same code."""
    part = house.lake.part("opportunity_stats", "", scope.window.start)
    if not part.path.exists() or part.provenance().code_version != CODE_VERSION:
        return OPPORTUNITY_STATS.empty()
    return house.lake.read("opportunity_stats", None, scope.window.start, scope.window.end)


def _counts(closed: pl.DataFrame, known: pl.DataFrame, as_of: datetime, span: timedelta) -> pl.DataFrame:
    """What the row of all opportunities would count: any arrival changes it."""
    inside = closed.filter((pl.col("ts") < as_of) & (pl.col("ts") >= as_of - span))
    told = known.filter(pl.col("known_at") < as_of).join(inside.select("id"), on="id", how="semi")
    after = {f"n_{d}ms": told.filter(pl.col("delay_ms") == d).height for d in CAPTURE_DELAYS_MS}
    return pl.DataFrame({"n": inside.height} | after, schema={name: pl.Int64() for name in ("n", *after)})


STEP = MarketStep(
    "opportunity_stats",
    {"opportunities": ((), timedelta(days=31)), "opportunity_outcomes": ((), timedelta(days=31))},
    due,
    compute,
)
opportunity_stats = derived_asset(
    STEP,
    checks=(unique_keys("opportunity_stats"), no_future("opportunity_stats")),
    doc="A row at a midnight counts only what was known by then. A trade that could not be made counts as not captured.",
)
