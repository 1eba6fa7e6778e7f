"""Registry of asset modules: group -> modules, one file per noun.

What belongs here: which modules hold assets. What does not: anything else.
"""

from types import ModuleType

from altforecast_pipelines.assets import (
    bar_gaps,
    bars,
    baselines,
    book_cuts,
    candidates,
    champions,
    divergences,
    evidence,
    features,
    forecast_calibrations,
    forecast_outcomes,
    forecasts,
    indicators,
    levels,
    market_context,
    model_health,
    opportunities,
    opportunity_events,
    opportunity_outcomes,
    opportunity_stats,
    outcomes,
    pivots,
    regime,
    reports,
    training_set,
    walk_forward_forecasts,
)

GROUPS: dict[str, tuple[ModuleType, ...]] = {
    "bars": (bars, bar_gaps),
    "signals": (indicators, pivots, divergences, levels),
    "evidence": (outcomes, evidence),
    "market": (regime, reports, market_context),
    "forecasts": (features, forecast_calibrations, forecasts, forecast_outcomes, model_health, walk_forward_forecasts),
    "models": (training_set, baselines, candidates, champions),
    "arbitrage": (opportunity_events, opportunities, opportunity_outcomes, opportunity_stats, book_cuts),
}
