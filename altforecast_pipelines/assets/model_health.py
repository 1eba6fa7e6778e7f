"""The asset `model_health`: how every forecaster did, as of each midnight, and the roll-back that follows from it.

What belongs here: which midnights are due, and the call. What does not: scores (`altforecast.model_health`), the rule
(`altforecast.promotion`).
"""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from time import perf_counter
from typing import Any

import dagster as dg
import polars as pl

from altforecast.forecast_params import HORIZONS
from altforecast.forecast_tables import FORECAST_OUTCOMES, MODEL_HEALTH
from altforecast_io.provenance import Input
from altforecast_io.store import models
from altforecast_pipelines.build import Built
from altforecast_pipelines.checks import Check, check_specs, no_future, results, unique_keys
from altforecast_pipelines.forecasters import CHAMPION
from altforecast_pipelines.forecasts import add_rows, newest_of
from altforecast_pipelines.resources import House
from altforecast_pipelines.table_assets import account, shared_options

NAME = "model_health"
MAX_MIDNIGHTS = 30
"""Midnights made up for after a stop; older ones stay without a row."""
MIN_COUNTED = 500
"""Outcomes below which coverage is not looked at by the check."""
HEALTH = "health"
DOC = (
    "Live forecasts of the 30 days before each midnight (UTC). A champion whose verdict is `roll_back` is taken away at once by the log of "
    "models (actor `health`), and HAR-S answers from the next bar on."
)


def _plausible_coverage() -> Check:
    off = ((pl.col("coverage_80") - 0.8).abs() > 0.1) & (pl.col("n") >= MIN_COUNTED)
    columns = ("ts", "horizon", "forecaster", "model", "n", "coverage_80")
    return Check("coverage_is_plausible", "70 to 90 % of outcomes lie in the 80 % interval", lambda rows, _: rows.filter(off), columns)


CHECKS = (unique_keys(NAME), no_future(NAME), _plausible_coverage())


@dg.asset(
    deps=["forecast_outcomes", "forecasts"], check_specs=check_specs(NAME, CHECKS), **shared_options(NAME, "forecasts", DOC, fresh=False)
)  # type: ignore[untyped-decorator]
def model_health(context: dg.AssetExecutionContext, house: dg.ResourceParam[House]) -> Iterator[dg.MaterializeResult[Any]]:
    """Judge the midnights that have passed, then act on the newest."""
    built = judge(house, context.run_id)
    gone = roll_back(house, context.log.warning)
    metadata = {**account(built), **({"rolled_back": ", ".join(gone)} if gone else {})}
    yield dg.MaterializeResult(metadata=metadata, check_results=list(results(house, NAME, built, CHECKS)))


def due(house: House) -> list[datetime]:
    """Midnights without rows since the newest that has some (the last one only, where there is none yet)."""
    last = house.clock().replace(hour=0, minute=0, second=0, microsecond=0)
    files = house.lake.files(NAME)
    newest = newest_of(house.lake.read(NAME, None, files[-1].start)["ts"]) if files else None
    first = max((newest or last - timedelta(days=1)) + timedelta(days=1), last - timedelta(days=MAX_MIDNIGHTS - 1))
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]


def judge(house: House, run_id: str) -> Built:
    """Rows of the midnights that are due; none, and nothing read, where none is."""
    from altforecast.model_health import WINDOW_DAYS
    from altforecast.model_health import model_health as health_at

    began, midnights = perf_counter(), due(house)
    if not midnights:
        return Built(NAME)
    start = midnights[0] - timedelta(days=WINDOW_DAYS + 2)
    outcomes = with_base_rates(house, house.lake.read("forecast_outcomes", None, start), start)
    rows = pl.concat([MODEL_HEALTH.empty(), *(health_at(outcomes, midnight) for midnight in midnights)])
    files = house.lake.files("forecast_outcomes", None, start)
    inputs = [Input("lake", f.name, f.provenance().data_version) for f in files]
    built = add_rows(house, NAME, rows, house.provenance(NAME, run_id), inputs)
    return Built(NAME, built.n_rows, built.parts, perf_counter() - began, built.preview, built.rows_by_month)


def with_base_rates(house: House, outcomes: pl.DataFrame, start: datetime) -> pl.DataFrame:
    """Live outcomes with `p_base` of their forecasts, where a model named one."""
    key = [c for c in FORECAST_OUTCOMES.key if c != "origin"]
    mine = outcomes.filter(pl.col("origin") == "live")
    said = house.lake.read("forecasts", None, start, columns=[*key, "p_base"]).filter(pl.col("p_base").is_not_null())
    return mine.join(said, on=key, how="left")


def roll_back(house: House, warn: Callable[[str], None]) -> list[str]:
    """Take away champions that the newest midnight condemns; those that became champion after it are not meant. Their versions."""
    files = house.lake.files(NAME)
    if not files:
        return []
    rows = house.lake.read(NAME, None, files[-1].start)
    condemned = rows.filter((pl.col("ts") == pl.col("ts").max()) & (pl.col("verdict") == "roll_back") & (pl.col("forecaster") == CHAMPION))
    return [row["model"] for row in condemned.iter_rows(named=True) if row["horizon"] in HORIZONS and _take_away(house, row, warn)]


def _take_away(house: House, row: dict[str, Any], warn: Callable[[str], None]) -> bool:
    from altforecast_io import model_decisions

    live = models.champion(house.store, row["horizon"])
    if live is None or live.version != row["model"] or _chosen_since(house, row):
        return False
    model_decisions.roll_back(house.store, house.settings.models_dir, row["horizon"], HEALTH, row["reason"])
    warn(f"{row['horizon']}: champion {live.version} rolled back, HAR-S answers: {row['reason']}")
    return True


def _chosen_since(house: House, row: dict[str, Any]) -> bool:
    """Whether somebody made it champion after the midnight that condemns it."""
    events = models.newest_events(house.store, row["horizon"])
    made = [e.at for e in events if e.event in (models.Event.PROMOTED, models.Event.FORCED) and e.version == row["model"]]
    return bool(made) and made[0] is not None and made[0] >= row["ts"]
