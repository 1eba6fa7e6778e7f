"""The asset `features`.

What belongs here: which months are due, and the call. What does not: inputs and look-back (`altforecast_pipelines.features`).
"""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from altforecast_pipelines import features as matrix
from altforecast_pipelines.build import MarketStep, build
from altforecast_pipelines.checks import check_specs, no_future, results, unique_keys
from altforecast_pipelines.launcher import hold_while_alive
from altforecast_pipelines.resources import House
from altforecast_pipelines.scope import TRIGGER_TAG, Plan
from altforecast_pipelines.table_assets import account, plan_of, shared_options

CHECKS = (unique_keys("features"), no_future("features"))
DOC = (
    "Renewed before each training, month by month, where what it rests on has changed since. Forecasts at a bar close compute the newest "
    "rows with the same function and do not wait for this table."
)

DEPS = [name for name in matrix.READS if name != "funding_rates"]
"""Settled funding comes by imports and has no asset."""


@dg.asset(deps=DEPS, check_specs=check_specs("features", CHECKS), **shared_options("features", "forecasts", DOC, fresh=False))  # type: ignore[untyped-decorator]
def features(context: dg.AssetExecutionContext, house: dg.ResourceParam[House]) -> Iterator[dg.MaterializeResult[Any]]:
    """Started by the pipelines: months that no longer match what they rest on. By hand: the chosen months."""
    hold_while_alive(house.settings.dagster_home, context.run_id)
    if context.run.tags.get(TRIGGER_TAG):
        step, plan = MarketStep("features", matrix.READS, lambda _, __: matrix.stale(house), matrix.feature_rows), Plan()
    else:
        step, plan = MarketStep("features", matrix.READS, matrix.due, matrix.feature_rows), plan_of(context, house)
    built = build(step, house, plan, context.run_id)
    yield dg.MaterializeResult(metadata=account(built), check_results=list(results(house, "features", built, CHECKS)))
