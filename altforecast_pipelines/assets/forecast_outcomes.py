"""The asset `forecast_outcomes`: what followed each forecast.

What belongs here: which forecasts wait for their outcome, and the call. What does not: joining and scoring
(`altforecast.forecast_outcomes`).
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from time import perf_counter
from typing import Any

import dagster as dg
import polars as pl

from altforecast.forecast_params import HORIZONS
from altforecast.forecast_tables import FORECAST_OUTCOMES
from altforecast.types import Timeframe, Window
from altforecast_io.lake import next_month
from altforecast_io.provenance import Input
from altforecast_pipelines.build import Built, summary
from altforecast_pipelines.checks import check_specs, no_future, results, unique_keys
from altforecast_pipelines.features import TIMEFRAMES
from altforecast_pipelines.forecast_assets import whole
from altforecast_pipelines.forecasts import AT_BAR_CLOSE, CATCH_UP, add_rows, newest_of
from altforecast_pipelines.launcher import hold_while_alive
from altforecast_pipelines.partitions import MONTHLY
from altforecast_pipelines.promotions import replace_horizon, walked_model
from altforecast_pipelines.resources import House
from altforecast_pipelines.scope import TRIGGER_TAG
from altforecast_pipelines.table_assets import account, shared_options

NAME = "forecast_outcomes"
CHECKS = (unique_keys(NAME), no_future(NAME))
RECENT = timedelta(days=3)
"""How far back forecasts without an outcome are looked for at each bar close; CATCH_UP once a day, for bars that came late."""
DOC = "Live forecasts and, apart from them, those of the walk forward. Rows are added when the last bar ahead is there."
BAR_COLUMNS = ("symbol", "exchange", "timeframe", "ts", "close", "known_at", "quality")


@dg.asset(  # type: ignore[untyped-decorator]
    deps=["forecasts", "walk_forward_forecasts", "bars"], check_specs=check_specs(NAME, CHECKS), **shared_options(NAME, "forecasts", DOC)
)
def forecast_outcomes(context: dg.AssetExecutionContext, house: dg.ResourceParam[House]) -> Iterator[dg.MaterializeResult[Any]]:
    """Outcomes that became known; those of a new champion's past."""
    hold_while_alive(house.settings.dagster_home, context.run_id)
    began, since = perf_counter(), _since(context, house)
    built = [live(house, timeframe, since, context.run_id) for timeframe in TIMEFRAMES]
    if context.run.tags.get(TRIGGER_TAG) != AT_BAR_CLOSE:
        built += [walked(house, horizon, context.run_id) for horizon in HORIZONS]
    counted = whole(NAME, built, perf_counter() - began)
    yield dg.MaterializeResult(metadata=account(counted), check_results=list(results(house, NAME, counted, CHECKS)))


def _since(context: dg.AssetExecutionContext, house: House) -> datetime | None:
    """By hand: the chosen months. Else None: what is recent."""
    if context.run.tags.get(TRIGGER_TAG):
        return None
    return MONTHLY.time_window_for_partition_key(context.partition_key_range.start).start


def live(house: House, timeframe: Timeframe, since: datetime | None, run_id: str) -> Built:
    """Add the outcomes of live forecasts that are known and not written yet; forecasts made up for too late have none."""
    from altforecast.forecast_outcomes import LIVE, MADE_IN_TIME
    from altforecast.forecast_outcomes import forecast_outcomes as outcomes_of

    lake = house.lake
    newest = newest_of(lake.hot("bars", timeframe)["ts"])
    if newest is None:
        return Built(NAME)
    start = since or newest - (CATCH_UP + RECENT if _is_first_of_day(house, timeframe) else RECENT)
    end = newest + timeframe.duration
    said = lake.read("forecasts", timeframe, start).filter((pl.col("target_ts") <= end) & pl.col("q500").is_not_null() & MADE_IN_TIME)
    key = [c for c in FORECAST_OUTCOMES.key if c != "origin"]
    known = lake.read(NAME, timeframe, start, columns=FORECAST_OUTCOMES.key).filter(pl.col("origin") == LIVE)
    waiting = said.join(known.select(key), on=key, how="anti")
    if waiting.is_empty():
        return Built(NAME)
    rows = outcomes_of(waiting, lake.read("bars", timeframe, start, columns=BAR_COLUMNS), LIVE)
    files = [*lake.files("forecasts", timeframe, start), *lake.files("bars", timeframe, start)]
    inputs = [Input("lake", f.name, f.provenance().data_version) for f in files]
    return add_rows(house, NAME, rows, house.provenance(NAME, run_id), inputs)


def _is_first_of_day(house: House, timeframe: Timeframe) -> bool:
    files = house.lake.files(NAME, timeframe)
    return not files or files[-1].provenance().written_at.date() < house.clock().date()


def walked(house: House, horizon: str, run_id: str) -> Built:
    """Outcomes of the walk forward, in place of those of the one before it; nothing where they are there."""
    from altforecast.forecast_outcomes import WALK_FORWARD
    from altforecast.forecast_outcomes import forecast_outcomes as outcomes_of

    timeframe, lake = HORIZONS[horizon][0], house.lake
    files = lake.files("walk_forward_forecasts", timeframe)
    if not files or not (model := walked_model(house, "walk_forward_forecasts", horizon)):
        return Built(NAME)
    if walked_model(house, NAME, horizon, WALK_FORWARD) == model:
        return Built(NAME)
    began, window = perf_counter(), Window(files[0].start, next_month(files[-1].start))
    said = lake.read("walk_forward_forecasts", timeframe, window.start, window.end).filter(pl.col("horizon") == horizon)
    bars = lake.read("bars", timeframe, window.start, next_month(window.end), columns=BAR_COLUMNS)
    rows = outcomes_of(said, bars, WALK_FORWARD)
    record = house.provenance(NAME, run_id)
    written = replace_horizon(house, NAME, horizon, rows, pl.col("origin") == WALK_FORWARD, record)
    return summary(NAME, [rows], written, perf_counter() - began)
