"""The asset `forecast_calibrations`: residual quantiles of each day that forecasts are due for.

What belongs here: the asset. What does not: what is due (`altforecast_pipelines.forecasts`) and quantiles (`altforecast.forecasting`).
"""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from altforecast_pipelines.checks import check_specs, no_future, results, unique_keys
from altforecast_pipelines.forecast_assets import begin, said
from altforecast_pipelines.launcher import hold_while_alive
from altforecast_pipelines.resources import House
from altforecast_pipelines.table_assets import account, shared_options

NAME = "forecast_calibrations"
CHECKS = (unique_keys(NAME), no_future(NAME))
DOC = "Renewed at the first bar of a UTC day for every model that speaks; rows are never rewritten. On other bars nothing is written."


@dg.asset(deps=["bars"], check_specs=check_specs(NAME, CHECKS), **shared_options(NAME, "forecasts", DOC, fresh=False))  # type: ignore[untyped-decorator]
def forecast_calibrations(context: dg.AssetExecutionContext, house: dg.ResourceParam[House]) -> Iterator[dg.MaterializeResult[Any]]:
    """Renew what the due bars lack."""
    hold_while_alive(house.settings.dagster_home, context.run_id)
    built = said(house, NAME, begin(house, context.run_id), context.run_id, lambda refresh: refresh.renewed())
    yield dg.MaterializeResult(metadata=account(built), check_results=list(results(house, NAME, built, CHECKS)))
