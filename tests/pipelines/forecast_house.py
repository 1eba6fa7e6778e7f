"""A house with enough simulated bars to forecast from, and the jobs of forecasts run as the daemon would.

What belongs here: bars in the lake, runs, ticks. What does not: expected values.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import orjson
import polars as pl
from dagster._core.storage.tags import PARENT_RUN_ID_TAG, ROOT_RUN_ID_TAG

from altforecast.forecast_packs import BASELINE
from altforecast.tables import BARS
from altforecast.types import Timeframe, Window
from altforecast_io.lake import Scope, month_start, next_month
from altforecast_io.settings import Settings
from altforecast_io.store import models
from altforecast_pipelines.definitions import build_definitions
from altforecast_pipelines.forecasts import AT_BAR_CLOSE
from altforecast_pipelines.ingest import open_instance
from altforecast_pipelines.jobs import BASELINE_TRAINING, QUIET
from altforecast_pipelines.lessons import HORIZONS_TAG
from altforecast_pipelines.partitions import range_tags
from altforecast_pipelines.resources import House
from altforecast_pipelines.scope import TRIGGER_TAG
from tests.domain.forecast_panel import START_MS, panel

FIRST = datetime.fromtimestamp(START_MS / 1000, UTC)
DAYS = 63
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
TRAINED = FIRST + 60 * DAY
"""Most tests train on the bars before this moment."""


def hourly(n_days: int = DAYS, **options: object) -> pl.DataFrame:
    """Bars of four symbols as the lake holds them."""
    bars = panel(n_days, **options)  # type: ignore[arg-type]
    step = pl.col("timeframe").replace_strict({tf.value: tf.ms for tf in Timeframe}, return_dtype=pl.Int64())
    close = (pl.col("ts").dt.epoch("ms") + step).cast(BARS.schema["ts"])
    extra = {"quality": "observed", "source": "exchange"}
    full = bars.with_columns(*(pl.lit(v).alias(k) for k, v in extra.items()), close.alias("received_at"), close.alias("known_at"))
    return full.select(pl.col(name).cast(dtype) for name, dtype in BARS.schema.items())


def put_bars(house: House, bars: pl.DataFrame) -> None:
    """Make these the bars of the lake, of the months that they touch."""
    for (timeframe,), rows in bars.partition_by("timeframe", as_dict=True).items():
        window = Window(month_start(rows["ts"].min()), next_month(rows["ts"].max()))
        house.lake.replace("bars", rows, Scope(window, (Timeframe(timeframe),)), house.provenance("bars", "test"))


def up_to(house: House, bars: pl.DataFrame, moment: datetime) -> None:
    """The clock at a moment, and every bar that had closed by then in the lake."""
    house.clock = lambda: moment + timedelta(seconds=5)
    put_bars(house, bars.filter(pl.col("known_at") <= moment))


def run(
    house: House, job: str, trigger: str, assets: Sequence[str] | None = None, horizons: Sequence[str] = (), is_good: bool = True,
    repeats: str = "", tags: Mapping[str, str] | None = None,
) -> dg.ExecuteInProcessResult:  # fmt: skip
    """One run of a job, as the sensors ask for it, or with other tags. repeats: id of the run that this one repeats."""
    now = house.clock()
    named = {HORIZONS_TAG: orjson.dumps(list(horizons)).decode()} if horizons else {}
    asked = {TRIGGER_TAG: trigger, **range_tags(Window(month_start(now), next_month(now)))} if tags is None else dict(tags)
    asked |= named
    asked |= {PARENT_RUN_ID_TAG: repeats, ROOT_RUN_ID_TAG: repeats} if repeats else {}
    definition = build_definitions(overrides={"house": house}).resolve_job_def(job)
    keys = [dg.AssetKey(name) for name in assets] if assets else None
    with open_instance(house.settings) as instance:
        result = definition.execute_in_process(run_config=QUIET, instance=instance, tags=asked, raise_on_error=False, asset_selection=keys)
    assert result.success is is_good
    return result


def forecast(house: House, is_good: bool = True) -> dg.ExecuteInProcessResult:
    """What follows a bar close."""
    return run(house, "on_forecasts", AT_BAR_CLOSE, is_good=is_good)


def train_baselines(house: House, horizons: Sequence[str] = ("1h", "4h")) -> dg.ExecuteInProcessResult:
    """What follows the first bars and every midnight."""
    return run(house, "train_models", "test", BASELINE_TRAINING, horizons)


def said(house: House) -> pl.DataFrame:
    """All forecasts of the lake."""
    return house.lake.read("forecasts")


def logs(house: House, result: dg.ExecuteInProcessResult) -> str:
    """Lines of a run's log."""
    with open_instance(house.settings) as instance:
        return "\n".join(entry.user_message for entry in instance.all_logs(result.run_id))


def materialised(result: dg.ExecuteInProcessResult) -> dict[str, dict[str, object]]:
    """Metadata of what a run made, by asset."""
    events = [e for e in result.all_events if e.is_step_materialization and e.asset_key]
    return {e.asset_key.to_user_string(): {k: v.value for k, v in e.materialization.metadata.items()} for e in events if e.asset_key}


def failed_checks(result: dg.ExecuteInProcessResult) -> list[str]:
    """Checks that did not hold."""
    return [f"{e.asset_key.to_user_string()}.{e.check_name}" for e in result.get_asset_check_evaluations() if not e.passed]


def promote(house: House, horizon: str = "1h") -> str:
    """Make the newest candidate the champion, as the gate would; its version."""
    candidates = [m for m in models.newest_models(house.store, horizon) if m.family != BASELINE]
    event = models.ModelEvent(horizon, candidates[0].version, models.Event.PROMOTED, "gate", "test")
    models.add_event(house.store, event)
    return candidates[0].version


def copied(house: House, folder: Path, **settings: object) -> House:
    """A house of its own with everything that another one holds."""
    shutil.copytree(house.settings.base, folder)
    effective = Settings.load(base=folder, fetch_exchange_bars=False, **settings)
    return House(lambda: effective, house.clock)
