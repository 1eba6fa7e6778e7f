"""The asset `opportunities`.

What belongs here: which events a month needs, and the call. What does not: what a life is (`altforecast.opportunity_history`).
"""

from datetime import timedelta

import polars as pl

from altforecast_io.lake import Scope
from altforecast_pipelines.arbitrage import derived_asset, scopes
from altforecast_pipelines.build import MarketStep
from altforecast_pipelines.checks import no_future, unique_keys
from altforecast_pipelines.resources import House


def compute(house: House, scope: Scope) -> pl.DataFrame:
    """Opportunities that closed in the scope, with all their events however early they began."""
    from altforecast.opportunity_history import opportunities as closed_opportunities

    return closed_opportunities(events_of(house, scope, pl.col("event") == "closed"))


def events_of(house: House, scope: Scope, telling: pl.Expr) -> pl.DataFrame:
    """All events, up to the end of the scope, of the opportunities that have a telling event inside it."""
    told = house.lake.read("opportunity_events", None, scope.window.start, scope.window.end).filter(telling)
    first = told["opened_at"].min()
    return house.lake.read("opportunity_events", None, first, scope.window.end).join(told.select("id").unique(), on="id", how="semi")  # type: ignore[arg-type]


STEP = MarketStep("opportunities", {"opportunity_events": ((), timedelta(days=31))}, scopes, compute)
opportunities = derived_asset(
    STEP,
    checks=(unique_keys("opportunities"), no_future("opportunities")),
    doc="One that is still open has no row. Its month is that of its close, so a month never changes because of a later one.",
)
