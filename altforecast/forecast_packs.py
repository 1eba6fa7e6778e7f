"""Everything that is needed to forecast one horizon, as one value: baselines, residuals out of sample, optionally boosted models.

What belongs here: the parts of a pack. What does not: making one (`forecast_training`), using one (`forecasting`) and files
(`altforecast_io.model_files`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from altforecast.baselines import HarModel
from altforecast.forecast_params import CALIBRATION
from altforecast.forecast_params import CATBOOST as CATBOOST
from altforecast.forecast_params import LIGHTGBM as LIGHTGBM

if TYPE_CHECKING:
    from altforecast.models import ModelBundle  # LightGBM takes seconds to load; baselines do without

BASELINE = "baseline"
CLIMATOLOGY, HAR, EWMA, SCALE, SHAPE = "climatology", "har", "ewma", "scale", "shape"
"""Parts of a forecast, each with residuals and a calibration of its own."""


@dataclass(frozen=True)
class PackInfo:
    """What a pack is; plain values, kept beside the models as JSON."""

    version: str
    """`<horizon>-<UTC minute of training>-<first six digits of the data hash>`, e.g. `1h-20261121T1430-3f9a2c`; baselines have the
    prefix `har-`, CatBoost models `catboost-`."""
    horizon: str
    family: str
    """baseline | lightgbm | catboost"""
    trained_at: int
    """Moment [ms]."""
    train_from: int
    """Open of the first bar that taught [ms]."""
    train_until: int
    """Open of the last bar that may have taught [ms]; its label ended one horizon before the end of the bars, as in every fold."""
    n_rows: int
    """Rows that taught."""
    data_hash: str
    """Digest of the bars that taught."""
    code_version: str
    features: tuple[str, ...] = ()
    mixed: tuple[str, ...] = ("har",)
    """Parts whose quantiles are averaged."""
    p_base: float | None = None
    """Share of rises among the rows that taught."""
    learned_days: int = CALIBRATION.residual_days
    """Days of residuals that calibrate scale and shape, see `ModelParams`."""

    def days(self, part: str) -> int:
        """Days of residuals that calibrate a part."""
        if part in (SCALE, SHAPE):
            return self.learned_days
        return CALIBRATION.climatology_days if part == CLIMATOLOGY else CALIBRATION.residual_days

    @property
    def parts(self) -> tuple[str, ...]:
        """Parts that need residuals and a calibration."""
        return (CLIMATOLOGY, HAR) if self.family == BASELINE else self.mixed


@dataclass(frozen=True)
class Residuals:
    """Out-of-sample residuals of the time before the end of the bars that taught, newest last, enough for the calibration window."""

    ts: NDArray[np.int64]
    """Opens of the bars [ms], shape (time,), one regular clock; the last one is the last bar of the training."""
    series: tuple[tuple[str, str], ...]
    values: Mapping[str, NDArray[np.float32]]
    """Part -> outcome over standard deviation, shape (time, series); for `shape` what each learned quantile missed by,
    (time, series, levels); for `climatology` the outcome itself. NaN where unknown."""
    pending: Mapping[str, NDArray[np.float64]]
    """What was said of the newest bars, whose outcome was still to come: part -> standard deviation, shape (horizon, series); for
    `shape` the learned quantiles, (horizon, series, levels). `climatology` says nothing."""


@dataclass(frozen=True)
class Pack:
    """One trained forecaster of one horizon."""

    info: PackInfo
    har: HarModel
    residuals: Residuals
    bundle: ModelBundle | None = None
    """None for a baseline."""
