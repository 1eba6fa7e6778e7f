"""Every number that changes a forecast or its evaluation, with unit and default.

What belongs here: windows, calibration lengths, folds and model sizes. What does not: numbers of other methods (`params`) and
operational settings. Method: docs/methods/forecasts.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from altforecast.errors import InputError
from altforecast.types import Timeframe

VARIANCE_FLOOR = 1e-9
"""Added before every logarithm of a variance [squared log return], so that a bar without movement stays finite."""

LIGHTGBM, CATBOOST = "lightgbm", "catboost"
"""Families of boosted models; CatBoost needs the extra of its name."""

HORIZONS: Mapping[str, tuple[Timeframe, int]] = MappingProxyType(
    {"15m": (Timeframe.M15, 1), "1h": (Timeframe.H1, 1), "4h": (Timeframe.H1, 4), "24h": (Timeframe.H1, 24)}
)
"""Horizon name -> (length of the bars it is forecast from, bars ahead)."""


@dataclass(frozen=True)
class FeatureParams:
    """Windows of the feature matrix [bars], shortest first; the longest bounds what any feature looks back on."""

    variance_windows: tuple[int, int, int, int, int] = (1, 4, 24, 168, 720)
    """Bar, a few bars, day, week, month."""
    fill_frac: float = 0.5
    """A window with a smaller share of known bars has no value."""

    @property
    def day(self) -> int:
        """Bars of the middle window, the unit of volatility."""
        return self.variance_windows[2]

    @property
    def week(self) -> int:
        """Bars of the second longest window."""
        return self.variance_windows[3]

    @property
    def month(self) -> int:
        """Bars of the longest window."""
        return self.variance_windows[4]

    @property
    def lookback_bars(self) -> int:
        """Bars before a row that can change it: the longest window behind the longest lag."""
        return self.month + self.day


_WINDOWS: Mapping[Timeframe, tuple[int, int, int, int, int]] = MappingProxyType(
    {Timeframe.H1: (1, 4, 24, 168, 720), Timeframe.M15: (1, 4, 96, 672, 2880)}
)


def feature_params(timeframe: Timeframe) -> FeatureParams:
    """Windows for bars of one length; raises InputError where none are defined."""
    if timeframe not in _WINDOWS:
        raise InputError("timeframe", timeframe.value, "no forecasts are made from such bars", [t.value for t in _WINDOWS])
    return FeatureParams(_WINDOWS[timeframe])


@dataclass(frozen=True)
class CalibrationParams:
    """How residuals become quantiles."""

    residual_days: int = 240
    climatology_days: int = 180
    shrink_units: float = 200.0
    """Own quantiles get weight n / (n + this), n in non-overlapping outcomes."""
    min_own: int = 50
    """Below so many matured residuals a series takes the pooled quantiles."""
    ewma_decay: float = 0.97
    """Weight of the past per bar."""


@dataclass(frozen=True)
class FoldParams:
    """Walk-forward by calendar quarters."""

    min_train_days: int = 90
    min_train_rows: int = 1000
    """A fold that fewer known outcomes come before is left out: a stray early series must not stop the others."""
    min_own_rows: int = 2000
    """A series with fewer training rows has no regression of its own."""
    ridge: float = 1e-3


@dataclass(frozen=True)
class LiveParams:
    """Walk-forward beside a training for production: the newest folds only."""

    max_quarters: int = 4
    max_short_folds: int = 8
    """Folds of months, weeks or days, where history is too short for quarters."""
    min_test_days: int = 56
    """A calendar whose folds span fewer days gives way to a shorter one."""
    burn_in_days: int = 30
    """First days out of sample that are not scored, because hardly a residual stands behind their calibration."""


CALIBRATION = CalibrationParams()
FOLDS = FoldParams()
LIVE = LiveParams()


@dataclass(frozen=True)
class BoosterParams:
    """Size and shrinkage of one set of boosted trees."""

    rounds: int
    learning_rate: float = 0.05
    leaves: int = 31
    min_rows: int = 1000
    feature_frac: float = 0.5
    row_frac: float = 0.5
    l2: float = 10.0


@dataclass(frozen=True)
class ModelParams:
    """What the boosted models of one horizon are made of; chosen on folds before 2024-07 (docs/reports/forecast-configurations.md)."""

    scale: BoosterParams = BoosterParams(rounds=200)
    scale_own: BoosterParams = BoosterParams(rounds=100, leaves=15, min_rows=200)
    shape: BoosterParams = BoosterParams(rounds=60, leaves=15)
    direction: BoosterParams = BoosterParams(rounds=60, leaves=15)
    min_own_rows: int = 4000
    """A series with fewer training rows has no trees of its own."""
    shrink: float = 1.0
    """Share of the learned correction of the log variance that is applied [0-1]."""
    max_rows: int = 100_000
    """Training rows of the pooled trees, drawn at random beyond that."""
    clip: float = 3.0
    """Direction learns from outcomes of at most so many standard deviations."""
    seed: int = 1
    family: str = LIGHTGBM
    mixed: tuple[str, ...] = ("har", "scale", "shape")
    """Forecasters whose quantiles the mix averages."""
    residual_days: int = CALIBRATION.residual_days
    """Trailing days of residuals that calibrate scale and shape; at most those of the baselines, which packs keep."""


MODELS: Mapping[str, ModelParams] = MappingProxyType(
    {
        "15m": ModelParams(mixed=("scale", "shape"), residual_days=120),
        "1h": ModelParams(mixed=("scale", "shape"), residual_days=120),
        "4h": ModelParams(scale=BoosterParams(rounds=150)),
        "24h": ModelParams(
            scale=BoosterParams(rounds=60),
            scale_own=BoosterParams(rounds=40, leaves=15, min_rows=200),
            shrink=0.5,
            mixed=("har", "ewma", "scale", "shape"),
        ),
    }
)
