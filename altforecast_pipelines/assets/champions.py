"""The asset `champions`: the gate decides about new candidates, and MLflow is told.

What belongs here: the asset and its check. What does not: the gate (`altforecast.promotion`) and the steps (`promotions`).
"""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from altforecast import CODE_VERSION
from altforecast.forecast_params import HORIZONS
from altforecast_pipelines.launcher import hold_while_alive
from altforecast_pipelines.lessons import joined
from altforecast_pipelines.promotions import decide, tell_mlflow
from altforecast_pipelines.resources import House
from altforecast_pipelines.training import families, prune, training_turn

DOC = (
    "The gate promotes, keeps as challenger or rejects, and says why; the log of models decides who answers, MLflow mirrors it. With "
    "MLflow down nothing else changes: what it lacks is registered by the next training, without a new fit."
)
CHECK = dg.AssetCheckSpec("mlflow_is_told", asset="champions", description="MLflow holds every model and the aliases of the log")


@dg.asset(deps=["candidates"], group_name="models", description=DOC, code_version=CODE_VERSION, kinds={"mlflow"}, check_specs=[CHECK])
def champions(context: dg.AssetExecutionContext, house: dg.ResourceParam[House]) -> Iterator[dg.MaterializeResult[Any]]:
    """Decide, tell, tidy."""
    hold_while_alive(house.settings.dagster_home, context.run_id)
    with training_turn(house, context.log.info):
        steps = [decide(house, horizon, family) for horizon in HORIZONS for family in families(house)]
        faults = [fault for horizon in HORIZONS for fault in tell_mlflow(house, horizon, context.log.info)]
        pruned = [version for horizon in HORIZONS for version in prune(house, horizon)]
    for step in steps:
        context.log.info(f"{step.horizon}: {step.decided} {step.reason}" if step.decided else f"{step.horizon}: nothing to decide")
    for fault in faults:
        context.log.warning(f"{fault}; it stays unregistered until the next training, forecasts do not need MLflow")
    first = {"first": faults[0][:500]} if faults else {}
    told = dg.AssetCheckResult(
        passed=not faults, asset_key="champions", check_name=CHECK.name, severity=dg.AssetCheckSeverity.WARN,
        metadata={"rows_broken": len(faults), "files": len(steps), **first},
    )  # fmt: skip
    reasons = joined((step.horizon, step.reason or "none") for step in steps)
    yield dg.MaterializeResult(
        metadata={"champions": {s.horizon: s.champion for s in steps}, "decisions": reasons, "files_removed": len(pruned)},
        check_results=[told],
    )
