"""The asset `candidates`: boosted models of every horizon with the report of their walk forward.

What belongs here: the asset. What does not: fitting (`altforecast.forecast_training`) and keeping (`altforecast_pipelines.training`).
"""

from typing import Any

import dagster as dg

from altforecast import CODE_VERSION
from altforecast_pipelines.launcher import hold_while_alive
from altforecast_pipelines.lessons import account, teach_all
from altforecast_pipelines.resources import House
from altforecast_pipelines.training import families

DOC = (
    "Weekly, and once when there is none. One fit at a time on one core; the run's log tells fold by fold what happens. A candidate "
    "answers nobody before the gate has let it in (`champions`). CHALLENGER_FAMILY=catboost trains a second family beside LightGBM."
)


@dg.asset(deps=["training_set", "baselines"], group_name="models", description=DOC, code_version=CODE_VERSION, kinds={"lightgbm"})
def candidates(context: dg.AssetExecutionContext, house: dg.ResourceParam[House]) -> dg.MaterializeResult[Any]:
    """Train one candidate per horizon and family."""
    hold_while_alive(house.settings.dagster_home, context.run_id)
    return account(context, [lesson for family in families(house) for lesson in teach_all(house, context, family)])
