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
    restart_gap_bars: int = 100
    """A hole of more missing bars than this starts every recursive indicator anew (on-balance volume goes on)."""


@dataclass(frozen=True)
class PivotParams:
    """Swing points: strict on the left, non-strict on the right [bars]."""

    left_bars: int = 5
    right_bars: int = 5
    restart_gap_bars: int = 100
    """No pivot reaches across a hole of more missing bars than this."""


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
    pivots: PivotParams = PivotParams()
    """Swing points that are compared; their `restart_gap_bars` also ends every open event at a hole."""
    warmup_bars: int = 200
    """Bars before a partition that can still change an event in it (span + life + both pivot wings, with room)."""


@dataclass(frozen=True)
class OutcomeParams:
    """What counts as a hit; method: docs/methods/evidence.md."""

    barrier_atr: float = 1.5
    horizon_bars: int = 24
    restart_gap_bars: int = 100
    """An event whose horizon meets a hole of more missing bars than this before a barrier has no outcome."""
    bootstrap_draws: int = 2000
    min_events: int = 30
    """With fewer matured events or controls the verdict is "too few events"."""
    min_weeks: int = 8
    """With fewer weeks (bootstrap clusters) the verdict is "too few events"."""
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
    bounce_atr: float = 1.5
    """A bounce: this far away from the level before a close `break_atr` through it."""
    bounce_horizon_bars: int = 48
    placebo_min_atr: float = 1.5
    placebo_max_atr: float = 3.0
    """Control levels are the real ones shifted up or down by a distance drawn from this range."""


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
    min_history_frac: float = 0.5
    """Below this share of the sd window no z-score is given."""
    stale_bars: float = 1.5
    warmup_days: int = 40


@dataclass(frozen=True)
class ReportParams:
    """Arrows of the report line; method: docs/methods/regime.md."""

    flat_z: float = 0.25
    sd_days: int = 30
    stale_bars: float = 1.5
    min_history_frac: float = 0.5
    """Below this share of the sd window an arrow is unknown."""
    unusual_z: float = 2.0
    """The market doctor names changes beyond this many standard deviations."""


@dataclass(frozen=True)
class CleanParams:
    """When an imported bar is refused or repaired, and how holes are judged; method: docs/methods/bars.md."""

    ohlc_tolerance_frac: float = 1e-9
    """Open or close outside [low, high] by no more than this is rounding, and is repaired."""
    spike_return_log: float = 1.5
    """A bar whose high or low leaves both neighbours by more than this log distance is a bad tick."""
    frozen_volume_tolerance_frac: float = 1e-6
    """Volume this close to the straight line through its two predecessors counts as interpolated."""
    first_year: int = 2009
    """No bar can be older than the first block of Bitcoin."""
    gap_quiet_max_hours: float = 12.0
    """A longer hole is never called quiet, even where other series traded on."""
    gap_sparse_max_bars: int = 6
    """A hole of at most this many bars is quiet on a venue that prints no bar when nothing traded."""
    gap_peer_lookback_bars: int = 12
    """Bars before a hole in which another series must have printed to be a witness."""


@dataclass(frozen=True)
class ArbitrageParams:
    """Arbitrage; method: docs/methods/arbitrage.md. The first block comes from the settings."""

    target_size_usdt: float = 3000.0
    min_net_edge_pct: float = 0.1
    slippage_bps: float = 2.0
    withdraw_cost_usdt: float = 5.0
    """Assumed cost of a transfer whose fee is unknown; such an opportunity is flagged."""
    sane_edge_pct: float = 5.0
    stale_after_ms: float = 10_000.0
    max_skew_ms: float = 1000.0
    close_margin_pct: float = 0.02
    """An open opportunity closes only this far below `min_net_edge_pct` [percent]."""
    min_profit_usdt: float = 1.0
    """A trade at its best size counts from this profit on (with the smallest net edge as well)."""
    curve_usdt: tuple[float, ...] = (300.0, 1000.0, 3000.0, 10_000.0, 30_000.0)
    """Notionals of the edge curve."""
    update_ms: float = 250.0
    """Changes of an open opportunity are told at most this often ..."""
    update_change_frac: float = 0.1
    """... unless its edge or profit changed by this share."""
    capture_ms: tuple[int, ...] = (100, 500, 1000, 5000)
    usual_delay_ms: int = 500
    """The capture whose chance is shown; one of `capture_ms`."""
    event_lag_ms: float = 1000.0
    """Event time this much later than the least delay seen is flagged."""
    max_open: int = 10_000
    """More opportunities at once are not opened, and are counted."""
    max_ended: int = 10_000
    """Ended opportunities that still wait for captures; beyond, the oldest are given up, and are counted."""
    value_refresh_ms: float = 1000.0
    """How often the USDT value of other quotes is taken anew."""
    convertible: tuple[str, ...] = ("USDT", "USDC", "USD", "EUR", "FDUSD")
    """Quotes between which books are compared through a conversion book."""
    chance_min_outcomes: int = 30
    """Below this many outcomes in an edge bucket no chance is given."""
    chance_prior_outcomes: float = 20.0
    """Weight of the bucket's pooled rate in a pair's chance."""
    chance_max_pairs: int = 5000


INDICATORS = IndicatorParams()
PIVOTS = PivotParams()
DIVERGENCES = DivergenceParams()
OUTCOMES = OutcomeParams()
LEVELS = LevelParams()
REGIME = RegimeParams()
REPORT = ReportParams()
CLEAN = CleanParams()
ARBITRAGE = ArbitrageParams()
