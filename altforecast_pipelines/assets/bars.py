"""The asset `bars`: arrivals of the inbox and of landing files, merged into the lake.

What belongs here: the asset and its blocking checks. What does not: merging (`altforecast.bars`) and marking (`intake`).
"""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from altforecast_pipelines import due
from altforecast_pipelines.checks import check_specs, no_future, ordered_prices, results, unique_keys
from altforecast_pipelines.intake import take_in
from altforecast_pipelines.launcher import hold_while_alive
from altforecast_pipelines.resources import House
from altforecast_pipelines.table_assets import account, plan_of, shared_options

CHECKS = (unique_keys("bars"), ordered_prices(), no_future("bars"))
DOC = (
    "Rows come from TradingView alerts (inbox), exchange backfills and imports (landing files). The better delivery of a bar wins; "
    "the value it replaces is kept in `bar_revisions`. Only the months that bars arrived for are written. "
    "The checks block: bad bars stop the run before any signal is computed from them."
)


@dg.asset(check_specs=check_specs("bars", CHECKS), **shared_options("bars", "bars", DOC))  # type: ignore[untyped-decorator]
def bars(context: dg.AssetExecutionContext, house: dg.ResourceParam[House]) -> Iterator[dg.MaterializeResult[Any]]:
    """Take in what arrived and write the months it belongs to."""
    hold_while_alive(house.settings.dagster_home, context.run_id)
    plan = plan_of(context, house)
    built = take_in(house, plan, house.provenance("bars", context.run_id))
    due.begin(house, context.run_id, plan)
    yield dg.MaterializeResult(metadata=account(built), check_results=list(results(house, "bars", built, CHECKS)))
