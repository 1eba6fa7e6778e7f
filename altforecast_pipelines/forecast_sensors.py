"""Sensors of forecasts: new bars are forecast, missing models are trained.

What belongs here: when, run keys, run requests. What does not: what is due (`forecasts`, `training`) and the sensors of bars (`sensors`).
"""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from typing import Any

import dagster as dg
import orjson

from altforecast.forecast_packs import BASELINE
from altforecast.forecast_params import HORIZONS
from altforecast.types import Window
from altforecast_io.lake import month_start, next_month
from altforecast_io.store import models
from altforecast_pipelines import jobs
from altforecast_pipelines.features import TIMEFRAMES
from altforecast_pipelines.forecasts import AT_BAR_CLOSE, is_waiting
from altforecast_pipelines.instance import EXPRESS, HEAVY_TAGS, LANE_TAG
from altforecast_pipelines.lessons import HORIZONS_TAG
from altforecast_pipelines.partitions import range_tags
from altforecast_pipelines.resources import House
from altforecast_pipelines.scope import TRIGGER_TAG
from altforecast_pipelines.sensors import RUNNING, is_in_progress
from altforecast_pipelines.training import bar_counts, bars_needed

SETTLED = timedelta(minutes=1)
"""Bars this fresh wait for the run that builds what rests on them, because features read it; older ones are forecast without it."""
CANDIDATE_ROWS = 5_000
"""Rows that must have taught the baseline before boosted models are tried on the same bars."""


def training_request(run_key: str, assets: Sequence[str], trigger: str, horizons: Sequence[str] = ()) -> dg.RunRequest:
    """A training of some assets, of all horizons or the named ones, for the workers of the queue `forecast`."""
    now = datetime.now(UTC)
    named = {HORIZONS_TAG: orjson.dumps(list(horizons)).decode()} if horizons else {}
    tags = HEAVY_TAGS | named | {TRIGGER_TAG: trigger} | range_tags(Window(month_start(now), next_month(now)))
    return dg.RunRequest(run_key=run_key, run_config=jobs.QUIET, tags=tags, asset_selection=[dg.AssetKey(name) for name in assets])


# ---- forecasts


@dg.sensor(job=jobs.on_forecasts, minimum_interval_seconds=2, default_status=RUNNING, description="New bars and new models are forecast.")
def forecast_sensor(context: dg.SensorEvaluationContext, house: dg.ResourceParam[House]) -> dg.SensorResult | dg.SkipReason:
    """Cursor: state of the newest bars and of the log of models that was looked at; a look costs a few file stamps where it is the same."""
    state = state_of(house)
    if state == context.cursor:
        return dg.SkipReason("no bar and no model is new")
    if is_in_progress(context.instance, "on_forecasts"):
        return dg.SkipReason("a run is in progress")
    if house.clock() - newest_stamp(house) < SETTLED and is_in_progress(context.instance):
        return dg.SkipReason("the newest bars are being built")
    if not is_waiting(house):
        return dg.SensorResult(skip_reason=why_silent(house), cursor=state)
    return dg.SensorResult([request(house, state)], cursor=state)


def request(house: House, state: str) -> dg.RunRequest:
    """A run of `on_forecasts` over the current month; the same state starts nothing twice."""
    now = house.clock()
    tags = {TRIGGER_TAG: AT_BAR_CLOSE, LANE_TAG: EXPRESS} | range_tags(Window(month_start(now), next_month(now)))
    key = hashlib.sha256(state.encode()).hexdigest()[:16]
    return dg.RunRequest(run_key=f"forecasts:{key}", run_config=jobs.QUIET, tags=tags)


def state_of(house: House) -> str:
    """Stamps of the hot files of bars and the newest entry of the log of models."""
    stamps = [[stat.st_mtime_ns, stat.st_size] if (stat := _stat(house, tf)) else None for tf in TIMEFRAMES]
    newest = models.newest_events(house.store, limit=1)
    return orjson.dumps([*stamps, newest[0].id if newest else None]).decode()


def _stat(house: House, timeframe: Any) -> Any:
    path = house.lake.hot_path("bars", timeframe)
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def newest_stamp(house: House) -> datetime:
    """When bars were written last; the beginning of time where there are none."""
    stamps = [stat.st_mtime for tf in TIMEFRAMES if (stat := _stat(house, tf))]
    return datetime.fromtimestamp(max(stamps, default=0.0), UTC)


def why_silent(house: House) -> str:
    """Why nothing is to be forecast, in words."""
    missing = [h for h in HORIZONS if not models.newest_models(house.store, h, 1, family=BASELINE, with_reports=False)]
    return f"no baseline yet of {', '.join(missing)}" if missing else "everything is forecast"


# ---- training


@dg.sensor(job=jobs.train_models, minimum_interval_seconds=15, default_status=RUNNING, description="Models that are missing are trained.")
def training_sensor(context: dg.SensorEvaluationContext, house: dg.ResourceParam[House]) -> dg.SensorResult | dg.SkipReason:
    """Baselines as soon as there are enough bars, candidates once behind them; a training that failed is asked for again an hour or a
    day later."""
    if is_in_progress(context.instance, "train_models"):
        return dg.SkipReason("a training is at work")
    ready, short = without_baseline(house)
    now = house.clock()
    if ready:
        key = f"baselines:{'-'.join(ready)}:{now:%Y-%m-%dT%H}"
        return dg.SensorResult([training_request(key, jobs.BASELINE_TRAINING, "first", ready)])
    wanted = without_candidate(house)
    if wanted:
        key = f"candidates:{'-'.join(wanted)}:{now:%Y-%m-%d}"
        return dg.SensorResult([training_request(key, jobs.TRAINING, "first", wanted)])
    return dg.SkipReason("; ".join(short) or "every horizon has its models")


def without_baseline(house: House) -> tuple[list[str], list[str]]:
    """Horizons that lack a baseline and have bars enough, and words on those that have not."""
    missing = [h for h in HORIZONS if not models.newest_models(house.store, h, 1, family=BASELINE, with_reports=False)]
    ready, short = [], []
    counts = {tf: bar_counts(house, tf) for tf in {HORIZONS[h][0] for h in missing}}
    for horizon in missing:
        timeframe = HORIZONS[horizon][0]
        n, needed = int(counts[timeframe]["n"].sum()), bars_needed(counts[timeframe].height, horizon)
        if n >= needed:
            ready.append(horizon)
        else:
            short.append(f"{horizon}: {n:,} of {needed:,} bars of {timeframe.value}")
    return ready, short


def without_candidate(house: House) -> list[str]:
    """Horizons whose bars leave a fold to test on but that never had a candidate; none where LightGBM is not installed."""
    if find_spec("lightgbm") is None:
        return []
    found = []
    for horizon in HORIZONS:
        baselines = models.newest_models(house.store, horizon, 1, family=BASELINE)
        has_folds = bool(baselines and baselines[0].report.get("folds") and baselines[0].n_rows >= CANDIDATE_ROWS)
        newest = models.newest_models(house.store, horizon, with_reports=False)
        if has_folds and all(m.family == BASELINE for m in newest):
            found.append(horizon)
    return found


FORECAST_SENSORS = (forecast_sensor, training_sensor)
