"""Jobs: the one that follows every arrival of bars, and those that fetch, refill and tidy.

What belongs here: which assets and ops run together. What does not: when (`sensors`, `schedules`).
"""

import dagster as dg

from altforecast_pipelines.instance import HEAVY_JOB, HEAVY_TAGS
from altforecast_pipelines.instance import QUIET as QUIET
from altforecast_pipelines.replays import replay_grid
from altforecast_pipelines.transfers import transfer_terms
from altforecast_pipelines.upkeep import fetch_bars, refill_gaps, tidy

EVERYTHING_FROM_BARS = (
    "bars", "bar_gaps", "indicators", "pivots", "divergences", "levels", "divergence_outcomes", "evidence", "regime", "market_report",
)  # fmt: skip

FROM_BOOKS = ("opportunity_events", "opportunities", "opportunity_outcomes", "opportunity_stats", "book_cuts")

AT_BAR_CLOSE = ("forecast_calibrations", "forecasts", "forecast_outcomes", "model_health")

BASELINE_TRAINING = ("features", "training_set", "baselines", "walk_forward_forecasts", "forecast_outcomes")
TRAINING = (*BASELINE_TRAINING, "candidates", "champions")

on_bars = dg.define_asset_job(
    "on_bars",
    selection=dg.AssetSelection.assets(*EVERYTHING_FROM_BARS),
    executor_def=dg.in_process_executor,
    config=QUIET,
    description="Everything that follows from bars, in one process: started by arrivals, imports and backfills.",
)
on_arbitrage = dg.define_asset_job(
    "on_arbitrage",
    selection=dg.AssetSelection.assets(*FROM_BOOKS),
    executor_def=dg.in_process_executor,
    config=QUIET,
    description="Everything that follows from opportunity events and book cuts, in one process: started by landing files.",
)
on_forecasts = dg.define_asset_job(
    "on_forecasts",
    selection=dg.AssetSelection.assets(*AT_BAR_CLOSE),
    executor_def=dg.in_process_executor,
    config=QUIET,
    description="Forecasts of the newest bars, outcomes of older ones, health of the models: started by new bars and new models.",
)
train_models = dg.define_asset_job(
    HEAVY_JOB,
    selection=dg.AssetSelection.assets(*TRAINING),
    tags=HEAVY_TAGS,
    executor_def=dg.in_process_executor,
    config=QUIET,
    description="Features, baselines, candidates, the gate: minutes of work on one core, for the workers of the queue `forecast`.",
)
on_context = dg.define_asset_job(
    "on_context",
    selection=dg.AssetSelection.assets("market_context"),
    executor_def=dg.in_process_executor,
    config=QUIET,
    description="Hourly outside figures.",
)


@dg.job(executor_def=dg.in_process_executor, config=QUIET)
def fetch_exchange_bars() -> None:
    """Fetch the newest closed bars of the tracked series into landing files."""
    fetch_bars()


@dg.job(executor_def=dg.in_process_executor, config=QUIET)
def refill_bar_gaps() -> None:
    """Ask the exchanges again for bars that are missing."""
    refill_gaps()


@dg.job(executor_def=dg.in_process_executor, config=QUIET)
def tidy_up() -> None:
    """Bound what grows: old runs, leftovers of killed writers, provenance logs, old revisions."""
    tidy()


JOBS = (
    on_bars, on_arbitrage, on_forecasts, train_models, on_context, fetch_exchange_bars, refill_bar_gaps, tidy_up, transfer_terms,
    replay_grid,
)  # fmt: skip
