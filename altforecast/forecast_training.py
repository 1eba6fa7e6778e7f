"""Training for production: the newest folds walked for evidence and residuals, then one last fit that is the next fold's.

What belongs here: making a pack and the table of what its method was worth. What does not: the walk itself (`walk_forward`), the gate
(`promotion`) and using the pack (`forecasting`). Method: docs/methods/forecasts.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from altforecast import CODE_VERSION
from altforecast.bar_grid import BarGrid, bar_variance
from altforecast.baselines import HarFitter, HarModel, averaged, ewma_sigma, har_design
from altforecast.errors import InputError, UnknownNameError
from altforecast.forecast_answers import Answers, residual_of
from altforecast.forecast_features import FeatureMatrix
from altforecast.forecast_folds import Calendar, newest_folds
from altforecast.forecast_gates import judge
from altforecast.forecast_packs import BASELINE, CATBOOST, CLIMATOLOGY, EWMA, HAR, LIGHTGBM, SCALE, SHAPE, Pack, PackInfo, Residuals
from altforecast.forecast_params import CALIBRATION, FOLDS, HORIZONS, LIVE, MODELS, FoldParams, LiveParams, ModelParams
from altforecast.forecast_scores import LEVELS
from altforecast.forecast_summary import summarise
from altforecast.forecast_tables import QUANTILES, WALK_FORWARD_FORECASTS
from altforecast.forecast_targets import log_variance_ahead, return_ahead
from altforecast.types import Timeframe
from altforecast.walk_forward import PastForecasts, Span, forecast_past

Floats = NDArray[np.float64]
Progress = Callable[[str], None]
SPARE_DAYS = 8
"""Days of residuals kept beyond the calibration window, so that a pack can renew calibrations of the week before its training."""
_DAY_MS = 86_400_000
_PREFIXES = {BASELINE: "har-", LIGHTGBM: "", CATBOOST: "catboost-"}
_LAKE_NAMES = {"champion": "mix", "har": "har", "climatology": "climatology"}
"""Forecaster in the lake -> forecaster of the walk forward."""


@dataclass(frozen=True)
class Training:
    """A pack and what its method was worth on bars that it did not know."""

    pack: Pack
    past: PastForecasts | None
    """Walk forward of the same method over the newest folds; None where history leaves no fold."""
    table: dict[str, Any]
    """`forecast_summary.summarise` as JSON values (no NaN), with `calendar`, `folds` [[train_until, test_start, test_stop], ms] and
    `scored_from` [ms]; of candidates also `parameters` and, as `verdicts`, the published goals; `skipped` says why where nothing could
    be scored; empty without folds, but for the parameters."""


@dataclass(frozen=True)
class _Task:
    """One horizon of one grid."""

    grid: BarGrid
    name: str
    horizon: int
    outcome: Floats
    target: Floats
    stop: int
    """Rows that may teach the last fit."""
    calendar: Calendar | None
    params: FoldParams
    live: LiveParams


def train_baseline(
    grid: BarGrid,
    horizon: str,
    trained_at: int,
    progress: Progress = lambda _: None,
    *,
    fold_params: FoldParams = FOLDS,
    live: LiveParams = LIVE,
) -> Training:
    """HAR-S with its residuals; no machine-learning library is loaded.

    grid: all bars of the horizon's timeframe, the newest last. trained_at: moment [ms], named in the version. progress: called with
    one line per step. Raises UnknownNameError for the horizon, InputError for other bars and for too few (how many are needed).
    """
    task = _task(grid, horizon, fold_params, live)
    past = _walk(task, None, None, 1, progress)
    har, base = _last_har(task)
    info = _info(task, base, BASELINE, trained_at, (), (HAR,))
    progress(f"{horizon}: last fit of HAR-S on {info.n_rows:,} rows")
    pack = Pack(info, har, _residuals(task, past, info.parts))
    return Training(pack, past, _table(task, past, HAR))


def train_candidate(
    grid: BarGrid,
    features: FeatureMatrix,
    horizon: str,
    trained_at: int,
    *,
    params: ModelParams | None = None,
    threads: int = 1,
    family: str = LIGHTGBM,
    progress: Progress = lambda _: None,
    fold_params: FoldParams = FOLDS,
    live: LiveParams = LIVE,
) -> Training:
    """Boosted models on top of HAR-S: walk the newest folds, then fit all rows that may teach.

    features: of the whole grid. params: those of the horizon where None. The rest as in `train_baseline`; the same inputs, seed and
    threads give the same pack.
    """
    if family not in (LIGHTGBM, CATBOOST):
        raise UnknownNameError("family", family, "no such boosted models", (LIGHTGBM, CATBOOST))
    if len(features.values) != len(grid.ts):
        raise InputError("features", len(features.values), f"need one row for each of the {len(grid.ts)} slots of the grid")
    task = _task(grid, horizon, fold_params, live)
    params = replace(MODELS[horizon] if params is None else params, family=family)
    past = _walk(task, features, params, threads, progress)
    har, base = _last_har(task)
    info = replace(_info(task, base, family, trained_at, features.names, params.mixed), learned_days=params.residual_days)
    progress(f"{horizon}: last fit of the {family} models on {info.n_rows:,} rows")
    bundle = _last_models(task, features, base, params, threads, past)
    pack = Pack(info, har, _residuals(task, past, info.parts), bundle)
    return Training(pack, past, {"parameters": _plain(asdict(params)), **_judged(task, _table(task, past, "mix"))})


def _task(grid: BarGrid, name: str, params: FoldParams, live: LiveParams) -> _Task:
    if name not in HORIZONS:
        raise UnknownNameError("horizon", name, "no such horizon", HORIZONS)
    timeframe, h = HORIZONS[name]
    if grid.timeframe is not timeframe:
        raise InputError("grid", grid.timeframe.value, f"{name} is forecast from bars of {timeframe.value}")
    outcome, target = return_ahead(grid.close, h), log_variance_ahead(bar_variance(grid), h)
    known = (~np.isnan(target)).sum(axis=1)
    stop = max(len(grid.ts) - 2 * h, 0)
    if known[:stop].sum() < params.min_train_rows:
        raise InputError(
            "bars",
            int(known[:stop].sum()),
            f"{name}: too few bars with a known outcome to learn from, {params.min_train_rows:,} are needed",
        )
    calendar = newest_folds(grid.ts, known, h, timeframe.ms, params, live)
    return _Task(grid, name, h, outcome, target, stop, calendar, params, live)


def _walk(
    task: _Task, features: FeatureMatrix | None, params: ModelParams | None, threads: int, progress: Progress
) -> PastForecasts | None:
    if task.calendar is None:
        progress(f"{task.name}: history leaves no fold to walk")
        return None
    folds = task.calendar.folds
    progress(f"{task.name}: {len(folds)} folds ({task.calendar.name}), {len(task.grid.ts):,} bars of {len(task.grid.series)} series")
    span = Span(task.horizon, folds[0].test_start)
    return forecast_past(
        task.grid, span, features, params, threads, lambda text: progress(f"{task.name}: {text}"), task.params, folds
    )  # fmt: skip


def _last_har(task: _Task) -> tuple[HarModel, Floats]:
    """HAR-S of all rows that may teach, and its in-sample log variance of them."""
    design = har_design(task.grid, task.horizon)
    model = HarFitter(design, task.target, task.grid.series, task.params).fit(task.stop)
    return model, averaged(*model.predict(design[: task.stop], task.grid.series))


def _last_models(task: _Task, features: FeatureMatrix, base: Floats, params: ModelParams, threads: int, past: PastForecasts | None) -> Any:
    """The bundle of all rows that may teach; Platt from scores out of sample whose outcome had closed before them."""
    from altforecast import models  # LightGBM takes seconds to load; baselines do without
    from altforecast.boosted_paths import rows_of

    known = ~np.isnan(task.target[: task.stop] + task.outcome[: task.stop])
    rows = rows_of(features, base, slice(0, task.stop), known)
    lesson = models.Lesson(rows.x, rows.base, rows.take(task.target), rows.take(task.outcome), rows.column, task.grid.series)
    bundle = models.fit_bundle(lesson, params, task.name, features.names, threads)
    return replace(bundle, platt=None if past is None or past.score is None else _platt(task, past.ts, past.score))


def _platt(task: _Task, ts: NDArray[np.int64], score: Floats) -> Any:
    from altforecast import models  # see above

    past = task.outcome[: task.stop]
    scores = np.full(task.outcome.shape, np.nan)
    scores[np.searchsorted(task.grid.ts, ts)] = score
    scored = ~np.isnan(past) & ~np.isnan(scores[: task.stop])
    return models.fit_platt(scores[: task.stop][scored], past[scored] > 0) if scored.any() else None


def _info(task: _Task, base: Floats, family: str, trained_at: int, features: tuple[str, ...], mixed: tuple[str, ...]) -> PackInfo:
    digest, outcome = data_hash(task.grid), task.outcome[: task.stop]
    known = ~np.isnan(outcome)
    minute = datetime.fromtimestamp(trained_at / 1000, UTC).strftime("%Y%m%dT%H%M")
    taught = ~np.isnan(task.target[: task.stop] + base)
    began = int(task.grid.ts[np.flatnonzero(taught.any(axis=1))[0]])
    return PackInfo(
        f"{_PREFIXES[family]}{task.name}-{minute}-{digest[:6]}", task.name, family, trained_at, began,
        int(task.grid.ts[task.stop - 1]), int(taught.sum()), digest, CODE_VERSION, features, mixed,
        float((outcome[known] > 0).mean()) if known.any() else None,
    )  # fmt: skip


def data_hash(grid: BarGrid) -> str:
    """SHA-256 of the clock, the series and all prices and volumes of a grid, in hexadecimal."""
    found = hashlib.sha256(repr((grid.timeframe.value, int(grid.ts[0]), len(grid.ts), grid.series)).encode())
    for values in (grid.open, grid.high, grid.low, grid.close, grid.volume):
        found.update(np.ascontiguousarray(values).tobytes())
    return found.hexdigest()


def _residuals(task: _Task, past: PastForecasts | None, parts: tuple[str, ...]) -> Residuals:
    """Of the rows of the calibration window: out of sample where folds were walked, of all rows where nothing is learned."""
    days = max(CALIBRATION.residual_days, CALIBRATION.climatology_days) + SPARE_DAYS
    first = max(len(task.grid.ts) - days * task.grid.bars_per_day, 0)
    said = _said(task, past, first)
    outcome = task.outcome[first:]
    values = {part: residual_of(part, outcome, said).astype(np.float32) for part in parts}
    pending = {part: path[-task.horizon :] for part, path in said.sigma.items() if part in parts or (part == SCALE and SHAPE in parts)}
    if SHAPE in parts and said.shape is not None:
        pending[SHAPE] = said.shape[-task.horizon :]
    return Residuals(task.grid.ts[first:], task.grid.series, values, pending)


def _said(task: _Task, past: PastForecasts | None, first: int) -> Answers:
    """Everything said out of sample at the rows from `first` on; NaN before the first fold."""
    shape = (len(task.grid.ts) - first, len(task.grid.series))
    sigma = {part: np.full(shape, np.nan) for part in (HAR, SCALE)}
    learned = np.full((*shape, len(LEVELS)), np.nan)
    if past is not None:
        n = min(len(past.ts), shape[0])
        for part in (part for part in sigma if part in past.sigma):
            sigma[part][-n:] = past.sigma[part][-n:]
        if past.shape is not None:
            learned[-n:] = past.shape[-n:]
    return Answers(task.grid.ts[first:], {**sigma, EWMA: ewma_sigma(task.grid, task.horizon)[first:]}, learned)


def _table(task: _Task, past: PastForecasts | None, best: str) -> dict[str, Any]:
    if past is None or task.calendar is None:
        return {}
    folds = task.calendar.folds
    burn_in = min(task.live.burn_in_days * _DAY_MS, (folds[-1].test_stop - folds[0].test_start) // 4)
    since = folds[0].test_start + burn_in
    head = {"calendar": task.calendar.name, "folds": [list(fold) for fold in folds], "scored_from": since}
    try:
        return {**head, **_plain(summarise(_since(past, since), best))}
    except InputError as error:
        return {**head, "skipped": str(error)}


def _judged(task: _Task, table: dict[str, Any]) -> dict[str, Any]:
    """The table with the verdicts on the published goals; as it is where nothing was scored."""
    return (
        {**table, "verdicts": [_plain(verdict._asdict()) for verdict in judge({task.name: _numbers(table)})]} if "best" in table else table
    )


def _numbers(value: Any) -> Any:
    """The opposite of `_plain` for scores: None is NaN, which misses its goal."""
    if isinstance(value, dict):
        return {key: _numbers(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_numbers(part) for part in value]
    return float("nan") if value is None else value


def _since(past: PastForecasts, since: int) -> PastForecasts:
    """The forecasts of the bars from a moment on."""
    rows = slice(int(np.searchsorted(past.ts, since)), None)
    cut: dict[str, Any] = {}
    for field in fields(past):
        value = getattr(past, field.name)
        if isinstance(value, np.ndarray):
            cut[field.name] = value[rows]
        elif field.name in ("quantiles", "sigma"):
            cut[field.name] = {name: part[rows] for name, part in value.items()}
    return replace(past, **cut)


def _plain(value: Any) -> Any:
    """Values for JSON: NaN and infinity are None, numpy scalars plain."""
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    plain = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(plain, float) and not np.isfinite(plain) else plain


def past_frame(past: PastForecasts, timeframe: Timeframe, horizon: str, version: str, since: int) -> pl.DataFrame:
    """Rows of walk_forward_forecasts from the bar `since` [ms] on: champion (the mix, where there are models), har and climatology.

    Bars without a forecast are left out; price is null (join the bars). known_at is the close of the bar: when the forecast would have
    been made.
    """
    cut = _since(past, since)
    frames = [
        _past_rows(cut, timeframe, horizon, version, forecaster, cut.quantiles[name])
        for forecaster, name in _LAKE_NAMES.items()
        if name in cut.quantiles
    ]
    return WALK_FORWARD_FORECASTS.conform(pl.concat(frames))


def _past_rows(past: PastForecasts, timeframe: Timeframe, horizon: str, version: str, forecaster: str, quantiles: Floats) -> pl.DataFrame:
    row, column = np.nonzero(~np.isnan(quantiles).any(axis=2))
    ts, names = past.ts[row], past.series
    nothing = np.full(past.outcome.shape, np.nan)
    is_model = forecaster == "champion"
    sigma = past.sigma[SCALE] if is_model else nothing if forecaster == CLIMATOLOGY else past.sigma[HAR]
    p_up = past.p_up if is_model and past.p_up is not None else nothing
    p_base = past.p_base if is_model and past.p_base is not None else nothing
    frame = pl.DataFrame(
        {
            "ts": ts, "symbol": np.array([s for s, _ in names])[column], "exchange": np.array([e for _, e in names])[column],
            "timeframe": timeframe.value, "horizon": horizon, "forecaster": forecaster,
            "target_ts": ts + (past.horizon + 1) * timeframe.ms, "price": None, "sigma": sigma[row, column],
            **{name: quantiles[row, column, k] for k, name in enumerate(QUANTILES)}, "p_up": p_up[row, column],
            "p_base": p_base[row, column], "model": version, "calibrated_at": ts // _DAY_MS * _DAY_MS,
            "reason": None, "known_at": ts + timeframe.ms,
        }
    )  # fmt: skip
    floats = [pl.col(name).fill_nan(None) for name in ("sigma", *QUANTILES, "p_up", "p_base")]
    return frame.with_columns(floats).cast(WALK_FORWARD_FORECASTS.schema)
