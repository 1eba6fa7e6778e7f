"""The asset `opportunity_outcomes`.

What belongs here: which events a month needs, and the call. What does not: what an outcome is (`altforecast.opportunity_history`).
"""

from datetime import timedelta

import polars as pl

from altforecast.arbitrage_tables import CAPTURE_DELAYS_MS
from altforecast_io.lake import Scope
from altforecast_pipelines.arbitrage import derived_asset, scopes
from altforecast_pipelines.assets.opportunities import events_of
from altforecast_pipelines.build import MarketStep
from altforecast_pipelines.checks import no_future, unique_keys
from altforecast_pipelines.resources import House


def compute(house: House, scope: Scope) -> pl.DataFrame:
    """Outcomes that became known in the scope."""
    from altforecast.opportunity_history import outcomes

    return outcomes(events_of(house, scope, pl.col("capture_delays_ms") != ""))


STEP = MarketStep("opportunity_outcomes", {"opportunity_events": ((), timedelta(days=31))}, scopes, compute)
opportunity_outcomes = derived_asset(
    STEP,
    checks=(unique_keys("opportunity_outcomes"), no_future("opportunity_outcomes")),
    doc=f"Delays of {', '.join(map(str, CAPTURE_DELAYS_MS))} ms; the trade is valued on the books as they stood then.",
)
