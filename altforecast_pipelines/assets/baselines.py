"""The asset `baselines`: climatology and HAR-S of every horizon, always there.

What belongs here: the asset. What does not: fitting (`altforecast.forecast_training`) and keeping (`altforecast_pipelines.training`).
"""

from typing import Any

import dagster as dg

from altforecast import CODE_VERSION
from altforecast.forecast_packs import BASELINE
from altforecast.forecast_params import HORIZONS
from altforecast_pipelines.launcher import hold_while_alive
from altforecast_pipelines.lessons import account, teach_all
from altforecast_pipelines.resources import House
from altforecast_pipelines.training import prune, training_turn

DOC = (
    "Trained daily and as soon as there are enough bars; no machine-learning library is needed to make or to use them. The newest one "
    "whose files are whole answers wherever there is no champion."
)


@dg.asset(deps=["training_set"], group_name="models", description=DOC, code_version=CODE_VERSION, kinds={"numpy"})
def baselines(context: dg.AssetExecutionContext, house: dg.ResourceParam[House]) -> dg.MaterializeResult[Any]:
    """Train what is due; bars that taught already teach nothing again. Files of old models go."""
    hold_while_alive(house.settings.dagster_home, context.run_id)
    found = teach_all(house, context, BASELINE)
    with training_turn(house, context.log.info):  # here too: without boosted models no later step would ever clear away old ones
        for version in [version for horizon in HORIZONS for version in prune(house, horizon)]:
            context.log.info(f"removed the files of {version}, which nobody uses")
    return account(context, found)
