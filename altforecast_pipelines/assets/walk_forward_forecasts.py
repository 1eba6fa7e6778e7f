"""The asset `walk_forward_forecasts`: the past as the champion, or without one the baseline, would have forecast it without knowing it.

What belongs here: the asset and its checks. What does not: walking (`altforecast.walk_forward`) and where the rows wait (`training`).
"""

from collections.abc import Iterator
from time import perf_counter
from typing import Any

import dagster as dg

from altforecast.forecast_params import HORIZONS
from altforecast_pipelines.build import summary
from altforecast_pipelines.checks import check_specs, no_future, results, unique_keys
from altforecast_pipelines.forecast_assets import known_after_close, quantiles_ascend
from altforecast_pipelines.promotions import write_walk
from altforecast_pipelines.resources import House
from altforecast_pipelines.table_assets import account, shared_options
from altforecast_pipelines.training import WALK_FORWARD_DAYS

NAME = "walk_forward_forecasts"
CHECKS = (unique_keys(NAME), no_future(NAME), known_after_close(NAME), quantiles_ascend(NAME))
DOC = f"The newest {WALK_FORWARD_DAYS} days of each champion's test, replaced when another model is promoted; before that a baseline's."


@dg.asset(deps=["baselines", "champions"], check_specs=check_specs(NAME, CHECKS), **shared_options(NAME, "forecasts", DOC, fresh=False))  # type: ignore[untyped-decorator]
def walk_forward_forecasts(context: dg.AssetExecutionContext, house: dg.ResourceParam[House]) -> Iterator[dg.MaterializeResult[Any]]:
    """Replace the rows of horizons that have a new champion, or none and no rows of late."""
    began = perf_counter()
    done = [write_walk(house, horizon, house.provenance(NAME, context.run_id)) for horizon in HORIZONS]
    written, rows = [part for parts, _ in done for part in parts], [frame for _, frames in done for frame in frames]
    built = summary(NAME, rows, written, perf_counter() - began)
    yield dg.MaterializeResult(metadata=account(built), check_results=list(results(house, NAME, built, CHECKS)))
