"""Registry of asset modules: group -> modules, one file per noun.

What belongs here: which modules hold assets. What does not: anything else.
"""

from types import ModuleType

from altforecast_pipelines.assets import (
    bar_gaps,
    bars,
    book_cuts,
    divergences,
    evidence,
    indicators,
    levels,
    market_context,
    opportunities,
    opportunity_events,
    opportunity_outcomes,
    opportunity_stats,
    outcomes,
    pivots,
    regime,
    reports,
)

GROUPS: dict[str, tuple[ModuleType, ...]] = {
    "bars": (bars, bar_gaps),
    "signals": (indicators, pivots, divergences, levels),
    "evidence": (outcomes, evidence),
    "market": (regime, reports, market_context),
    "arbitrage": (opportunity_events, opportunities, opportunity_outcomes, opportunity_stats, book_cuts),
}
