"""What a pack says of the newest bars before any calibration: standard deviations, learned quantiles, the score of direction.

What belongs here: applying fitted baselines and models to a grid with just enough warm-up, and what they missed by. What does not:
quantiles of that (`forecast_calibrations`) and fitting (`forecast_training`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from altforecast.bar_grid import BarGrid
from altforecast.baselines import averaged, ewma_sigma, har_design
from altforecast.errors import InputError
from altforecast.forecast_features import FeatureMatrix, build_features
from altforecast.forecast_packs import BASELINE, CLIMATOLOGY, EWMA, HAR, SCALE, SHAPE, Pack
from altforecast.forecast_params import HORIZONS, feature_params
from altforecast.forecast_scores import LEVELS
from altforecast.types import Timeframe

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Answers:
    """Shapes (rows, series); NaN where a series has too little history or no bar."""

    ts: Ints
    """Opens of the bars [ms], shape (rows,)."""
    sigma: Mapping[str, Floats]
    """Part -> standard deviation of the return ahead; of the parts that the pack has."""
    shape: Floats | None = None
    """Learned quantiles of outcome / sigma of `scale`, (rows, series, levels); None for a baseline."""
    score: Floats | None = None
    """Score of direction; None for a baseline."""


def warmup_bars(timeframe: Timeframe) -> int:
    """Bars before a forecast bar that its features and baselines look back on."""
    return feature_params(timeframe).lookback_bars


def answers(pack: Pack, grid: BarGrid, first: int, stop: int | None = None, features: FeatureMatrix | None = None) -> Answers:
    """What the pack says at the rows [first, stop) of the grid.

    features: rows that end with the grid (all or the newest ones); built here where they are not given. Raises InputError for a grid
    of other bars than the horizon's and for features that lack a column or a row that the models need.
    """
    check_grid(pack, grid)
    if pack.bundle is None and pack.info.family != BASELINE:
        raise InputError("pack", pack.info.version, "was loaded without its models")
    horizon = HORIZONS[pack.info.horizon][1]
    stop = len(grid.ts) if stop is None else stop
    seen = _with_warmup(grid, first, stop)
    skip = len(seen.ts) - (stop - first)
    pooled, own = pack.har.predict(har_design(seen, horizon, stop - first), seen.series)
    base = averaged(pooled, own)
    sigma = {HAR: np.exp(base / 2.0)}
    if EWMA in pack.info.parts:
        sigma[EWMA] = ewma_sigma(seen, horizon)[skip:]
    if pack.bundle is None or stop == first:
        return Answers(seen.ts[skip:], sigma, *_no_models(pack, base.shape))
    mine = _wanted_rows(pack, grid, seen, (first, stop), features)
    return _with_models(pack, Answers(seen.ts[skip:], sigma), mine, base, seen.series)


def check_grid(pack: Pack, grid: BarGrid) -> None:
    """Raise InputError where the grid holds other bars than those of the pack's horizon."""
    timeframe = HORIZONS[pack.info.horizon][0]
    if grid.timeframe is not timeframe:
        raise InputError("grid", grid.timeframe.value, f"{pack.info.horizon} is forecast from bars of {timeframe.value}")


def residual_of(part: str, outcome: Floats, said: Answers) -> Floats:
    """Residuals of one part, shape (rows, series), with a last axis of levels for `shape`; NaN where outcome or answer is missing."""
    if part == CLIMATOLOGY:
        return outcome
    sigma = said.sigma[SCALE if part == SHAPE else part]
    with np.errstate(invalid="ignore", divide="ignore"):
        standardised = np.where(sigma > 0, outcome / sigma, np.nan)
    if part != SHAPE:
        return standardised
    assert said.shape is not None
    return np.asarray(standardised[:, :, None] - said.shape)


def _with_warmup(grid: BarGrid, first: int, stop: int) -> BarGrid:
    rows = slice(max(first - warmup_bars(grid.timeframe), 0), stop)
    values = (grid.open[rows], grid.high[rows], grid.low[rows], grid.close[rows], grid.volume[rows])
    return BarGrid(grid.timeframe, grid.ts[rows], grid.known_at[rows], grid.series, *values)


def _no_models(pack: Pack, shape: tuple[int, ...]) -> tuple[Floats | None, Floats | None]:
    return (None, None) if pack.bundle is None else (np.full((*shape, len(LEVELS)), np.nan), np.full(shape, np.nan))


def _wanted_rows(pack: Pack, grid: BarGrid, seen: BarGrid, span: tuple[int, int], features: FeatureMatrix | None) -> FeatureMatrix:
    """The features of these rows in the order of the training; newer columns that it did not know are left out."""
    n = span[1] - span[0]
    found = build_features(seen, n) if features is None else features
    start = span[0] - (len(grid.ts) - len(found.values)) if features is not None else 0
    if start < 0:
        raise InputError("features", len(found.values), f"rows; the newest {len(grid.ts) - span[0]} of the grid are needed")
    missing = [name for name in pack.info.features if name not in found.names]
    if missing:
        raise InputError("features", missing[0], f"model {pack.info.version} learned from this feature, which is not there")
    rows = slice(start, start + n)
    if found.names == pack.info.features:
        return FeatureMatrix(found.names, found.values[rows], found.known_at[rows])
    columns = [found.names.index(name) for name in pack.info.features]
    return FeatureMatrix(pack.info.features, found.values[rows][:, :, columns], found.known_at[rows])


def _with_models(pack: Pack, said: Answers, features: FeatureMatrix, base: Floats, series: tuple[tuple[str, str], ...]) -> Answers:
    from altforecast.boosted_paths import rows_of  # LightGBM is loaded by now, the bundle is made of it

    bundle = pack.bundle
    assert bundle is not None
    rows = rows_of(features, base, slice(0, len(base)))
    sigma, shape, score = np.full(base.shape, np.nan), np.full((*base.shape, len(LEVELS)), np.nan), np.full(base.shape, np.nan)
    if len(rows.x):
        rows.put(sigma, np.exp((rows.base + bundle.scale.predict(rows.x, rows.column, series)) / 2.0))
        rows.put(shape, bundle.shape.predict(rows.x))
        rows.put(score, bundle.direction.predict(rows.x))
    return replace(said, sigma={**said.sigma, SCALE: sigma}, shape=shape, score=score)
