"""The asset `forecasts`: what every forecaster says of the newest bars.

What belongs here: the asset and its checks. What does not: what is due (`altforecast_pipelines.forecasts`) and the numbers
(`altforecast.forecasting`).
"""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from altforecast_pipelines.checks import check_specs, no_future, results, unique_keys
from altforecast_pipelines.forecast_assets import begin, known_after_close, quantiles_ascend, said, usable_models
from altforecast_pipelines.resources import House
from altforecast_pipelines.table_assets import account, shared_options

NAME = "forecasts"
CHECKS = (unique_keys(NAME), no_future(NAME), known_after_close(NAME), quantiles_ascend(NAME))
USABLE = "models_are_usable"
DOC = (
    "Made at each bar close for every priced series, from model files and the day's calibration; MLflow is not asked. Rows are never "
    "rewritten: the same bars again write nothing. After a stop the bars of the last 14 days are made up for. A model that cannot be "
    "loaded has rows that say why, and HAR-S answers."
)


@dg.asset(  # type: ignore[untyped-decorator]
    deps=["bars", "forecast_calibrations"],
    check_specs=[*check_specs(NAME, CHECKS), dg.AssetCheckSpec(USABLE, asset=NAME, description="every model in use could speak")],
    **shared_options(NAME, "forecasts", DOC),
)
def forecasts(context: dg.AssetExecutionContext, house: dg.ResourceParam[House]) -> Iterator[dg.MaterializeResult[Any]]:
    """Say what is due."""
    refreshes = begin(house, context.run_id)
    built = said(house, NAME, refreshes, context.run_id, lambda refresh: refresh.forecasts(house.clock()))
    checked = [*results(house, NAME, built, CHECKS), usable_models(NAME, USABLE, refreshes, context.log.warning)]
    house.refreshes.clear()
    yield dg.MaterializeResult(metadata=account(built), check_results=checked)
