"""Every number that changes a result, with unit and default.

What belongs here: constants of methods; changing one is a changelog line and a new `CODE_VERSION`. What does not:
operational settings (ports, paths, keys), which live in `altforecast_io.settings`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class IndicatorParams:
    """Classic indicator lengths [bars]; method: docs/methods/indicators.md."""

    ema_fast_bars: int = 20
    ema_slow_bars: int = 50
    rsi_bars: int = 14
    macd_fast_bars: int = 12
    macd_slow_bars: int = 26
    macd_signal_bars: int = 9
    atr_bars: int = 14
    bollinger_bars: int = 20
    bollinger_width_sd: float = 2.0
    adx_bars: int = 14
    warmup_bars: int = 600
    """Bars read before a partition: brings every recursive indicator within 1e-9 of full history."""


@dataclass(frozen=True)
class PivotParams:
    """Swing points: strict on the left, non-strict on the right [bars]."""

    left_bars: int = 5
    right_bars: int = 5


@dataclass(frozen=True)
class DivergenceParams:
    """Price/oscillator disagreement; method: docs/methods/divergences.md."""

    min_span_bars: int = 5
    max_span_bars: int = 60
    expire_bars: int = 60
    eps_rsi_points: float = 1.0
    eps_macd_atr: float = 0.02
    """MACD is compared in units of ATR."""
    eps_volume: float = 0.0
    require_line_of_sight: bool = False
    warmup_bars: int = 200
    """Bars before a partition that can still change an event in it (span + life + both pivot wings, with room)."""


@dataclass(frozen=True)
class OutcomeParams:
    """What counts as a hit; method: docs/methods/evidence.md."""

    barrier_atr: float = 1.5
    horizon_bars: int = 24
    bootstrap_draws: int = 500
    confidence_frac: float = 0.95
    seed: int = 20261121


@dataclass(frozen=True)
class LevelParams:
    """Support and resistance; method: docs/methods/levels.md."""

    join_atr: float = 0.25
    touch_atr: float = 0.25
    break_atr: float = 0.75
    min_bars_between_touches: int = 12
    max_levels: int = 40
    half_life_bars: float = 500.0


@dataclass(frozen=True)
class RegimeParams:
    """Risk-ON / Risk-OFF; method: docs/methods/regime.md."""

    weight_total3: float = 0.3
    weight_total2: float = 0.2
    weight_btc_d: float = -0.2
    weight_usdt_d: float = -0.2
    weight_ethbtc: float = 0.1
    change_hours: int = 24
    sd_days: int = 30
    enter_score: float = 0.75
    leave_score: float = 0.25
    confirm_bars: int = 3
    min_weight_frac: float = 0.5
    """Below this share of available weight no score is given."""
    stale_bars: float = 1.5
    warmup_days: int = 40


@dataclass(frozen=True)
class ReportParams:
    """Arrows of the report line; method: docs/methods/regime.md."""

    flat_z: float = 0.25
    sd_days: int = 30
    stale_bars: float = 1.5


@dataclass(frozen=True)
class CleanParams:
    """When an imported bar is refused or repaired; method: docs/methods/bars.md."""

    ohlc_tolerance_frac: float = 1e-9
    """Open or close outside [low, high] by no more than this is rounding, and is repaired."""
    spike_return_log: float = 1.5
    """A bar whose high or low leaves its neighbours by more than this log distance and comes back is a bad tick."""
    max_future_bars: int = 1
    frozen_min_bars: int = 3
    """A run of at least this many equal closes with non-zero volume is looked at as a frozen-close filling."""
    frozen_volume_tolerance_frac: float = 1e-6


INDICATORS = IndicatorParams()
PIVOTS = PivotParams()
DIVERGENCES = DivergenceParams()
OUTCOMES = OutcomeParams()
LEVELS = LevelParams()
REGIME = RegimeParams()
REPORT = ReportParams()
CLEAN = CleanParams()
