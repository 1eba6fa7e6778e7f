"""Shapes of the answers about forecasts and models, as the OpenAPI shows them.

What belongs here: response models. What does not: routes (`forecasts`, `models`) and finding what they hold (`queries`).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from altforecast.types import Timeframe

Horizon = Literal["15m", "1h", "4h", "24h"]
Forecaster = Literal["champion", "challenger", "har", "climatology"]
Origin = Literal["live", "walk_forward"]


class QuantileResponse(BaseModel):
    """One quantile of what is ahead."""

    level: float = Field(description="0-1")
    return_frac: float = Field(description="change against the price: 0.01 is +1 %")
    price: float


class DirectionResponse(BaseModel):
    """Where the price is likelier to go, if anything was ever proven about it."""

    word: Literal["no directional edge", "up", "down"]
    why: str = Field(description="the figures that decide the word")


class CalibrationResponse(BaseModel):
    """Which past residuals turned the standard deviation into quantiles."""

    renewed_at: datetime = Field(description="open of the bar at which the calibration was renewed")
    window_start: datetime | None = Field(description="oldest bar that counted")
    n_own: int | None = Field(description="residuals of the series itself")
    n_pooled: int | None = Field(description="residuals of all series")


class RecentResponse(BaseModel):
    """How well the forecaster did lately, live forecasts of all symbols."""

    as_of: datetime
    window_days: int
    n: int = Field(description="outcomes that counted")
    coverage_80: float | None
    coverage_95: float | None
    skill_climatology: float | None = Field(description="1 - loss / loss of climatology")
    skill_har: float | None = Field(description="1 - loss / loss of the baseline HAR-S-FHS")
    dm_t: float | None = Field(description="Diebold-Mariano t against HAR-S-FHS; below 0 is better")
    verdict: str = Field(description="ok, roll_back or too_few")
    reason: str


class WalkForwardResponse(BaseModel):
    """What the model was worth on years that it did not know."""

    skill_climatology: float | None
    skill_har: float | None
    dm_t: float | None
    coverage_80: float | None
    coverage_95: float | None
    test_from: datetime | None
    test_to: datetime | None


class HorizonResponse(BaseModel):
    """The forecast of one horizon."""

    horizon: Horizon
    timeframe: Timeframe = Field(description="length of the bars it is made from")
    ts: datetime = Field(description="open of the bar at whose close it was made")
    made_at: datetime
    target_ts: datetime = Field(description="when the outcome is known")
    is_stale: bool = Field(description="newer bars are there, but no newer forecast")
    forecaster: Forecaster
    is_baseline: bool = Field(description="a baseline answers because no model has earned the place, or lost it")
    model: str = Field(description="version; /api/models/{version} opens it")
    price: float | None = Field(description="close from which the return counts")
    sigma: float | None = Field(description="standard deviation of the log return ahead")
    quantiles: list[QuantileResponse] = Field(description="nine, lowest first; empty where `reason` says why")
    p_up: float | None = Field(description="calibrated probability of a rise; only boosted models say one")
    p_base: float | None = Field(description="share of rises before training")
    direction: DirectionResponse
    score_ai: float | None = Field(description="distance of P(up) from the base rate, -1 to 1; 1 is 5 points or more. No weight is implied")
    calibration: CalibrationResponse | None
    recent: RecentResponse | None = Field(description="null until forecasts have matured for a day")
    walk_forward: WalkForwardResponse | None = Field(description="null where the model has no report")
    reason: str | None = Field(description="why there are no quantiles")
    note: str | None = Field(description="why a baseline answers, or that a roll-back brought the model back; else null")


class ForecastResponse(BaseModel):
    """What is ahead of one symbol."""

    symbol: str
    exchange: str
    metric: str | None
    price: float | None = Field(description="newest close of its bars")
    price_at: datetime | None = Field(description="when that bar closed")
    horizons: list[HorizonResponse] = Field(description="shortest first; those that have been forecast")


class ForecastLine(BaseModel):
    """The newest forecast of one symbol and horizon, in short."""

    symbol: str
    exchange: str
    metric: str | None
    horizon: Horizon
    timeframe: Timeframe
    ts: datetime
    target_ts: datetime
    is_stale: bool
    forecaster: Forecaster
    is_baseline: bool
    model: str
    price: float | None
    sigma: float | None
    low_95: float | None = Field(description="price")
    low_80: float | None
    median: float | None
    high_80: float | None
    high_95: float | None
    p_up: float | None
    direction: str
    reason: str | None


class PastForecast(BaseModel):
    """One past forecast beside what happened."""

    ts: datetime
    symbol: str
    exchange: str
    timeframe: Timeframe
    horizon: Horizon
    forecaster: Forecaster
    origin: Origin = Field(description="live, or made of the past by a model that did not know it")
    model: str
    target_ts: datetime
    price: float | None = Field(description="close from which the return counts")
    sigma: float | None
    q025: float | None = Field(description="2.5 % quantile of the log return, and so on")
    q050: float | None
    q100: float | None
    q250: float | None
    q500: float | None
    q750: float | None
    q900: float | None
    q950: float | None
    q975: float | None
    p_up: float | None
    reason: str | None
    outcome: float | None = Field(description="log return that followed; null until known, and where the forecast was made after that")
    price_then: float | None
    is_up: bool | None
    is_in_80: bool | None
    is_in_95: bool | None
    pit: float | None = Field(description="where the outcome fell among the quantiles, 0-1")
    loss: float | None = Field(description="mean pinball loss, half the CRPS [log return]")
    loss_har: float | None = Field(description="of the baseline HAR-S-FHS on the same bar")
    loss_climatology: float | None
    known_at: datetime = Field(description="when the forecast was made")


class ReliabilityBinResponse(BaseModel):
    """Forecasts of about the same P(up)."""

    n: int
    mean_probability: float
    happened_frac: float


class Bar(BaseModel):
    """One column of a histogram."""

    low: float
    high: float
    n: int


class ScoresResponse(BaseModel):
    """What matured forecasts of one forecaster and origin were worth."""

    horizon: Horizon
    forecaster: Forecaster
    origin: Origin
    n: int
    first: datetime | None
    last: datetime | None
    coverage_80: float | None
    coverage_95: float | None
    skill_climatology: float | None
    skill_har: float | None
    dm_t: float | None
    dm_p: float | None
    brier_skill: float | None = Field(description="of P(up) over the share of rises among these outcomes")
    ece: float | None
    reliability: list[ReliabilityBinResponse]
    pit: list[Bar] = Field(description="ten columns, equally high where the distribution is right")


class TrackRecordResponse(BaseModel):
    """Past forecasts, newest first, with what they were worth."""

    rows: list[PastForecast]
    summary: list[ScoresResponse] = Field(description="of all matured forecasts asked for, not only of this page; one per origin")


class SkillRow(BaseModel):
    """One forecaster on one day."""

    ts: datetime
    horizon: Horizon
    forecaster: Forecaster
    model: str
    window_days: int
    n: int
    skill_climatology: float | None
    skill_har: float | None
    dm_t: float | None
    coverage_80: float | None
    coverage_95: float | None
    brier_skill: float | None
    ece: float | None
    verdict: str
    reason: str
    known_at: datetime


class CoverageWeek(BaseModel):
    """Coverage of the forecasts of one week."""

    ts: datetime = Field(description="first instant of the week (a Thursday, as weeks count from 1970-01-01)")
    n: int
    coverage_80: float
    coverage_95: float | None = Field(description="null where it was not measured")


class ReliabilityResponse(BaseModel):
    """Calibration over all symbols."""

    horizon: Horizon
    forecaster: Forecaster
    origin: Origin
    n: int
    coverage_80: float | None
    coverage_95: float | None
    n_p_up: int = Field(description="forecasts that said a P(up)")
    ece: float | None
    reliability: list[ReliabilityBinResponse]
    pit: list[Bar]
    weeks: list[CoverageWeek]


class ModelScores(BaseModel):
    """Figures of the walk-forward test; null where the report has none."""

    skill_climatology: float | None
    skill_har: float | None
    dm_t: float | None
    coverage_80: float | None
    coverage_95: float | None
    brier_skill: float | None
    ece: float | None
    accuracy: float | None
    majority: float | None
    test_from: datetime | None
    test_to: datetime | None
    n: int | None


class ModelLine(BaseModel):
    """One trained model in short."""

    version: str
    horizon: str
    family: str
    role: Literal["champion", "challenger", "former champion", "candidate", "baseline"]
    trained_at: datetime
    train_from: datetime
    train_until: datetime
    n_rows: int
    data_hash: str
    code_version: str
    dagster_run_id: str
    mlflow_run_id: str | None
    mlflow_version: int | None
    registered_at: datetime | None
    scores: ModelScores
    n_gates: int
    n_gates_met: int


class ModelEventResponse(BaseModel):
    """One entry of the model log."""

    id: int
    at: datetime
    horizon: str
    version: str | None
    event: str
    actor: str
    reason: str
    verdicts: list[dict[str, Any]]


class HorizonModels(BaseModel):
    """Who answers for one horizon, and who might."""

    horizon: Horizon
    answering: Literal["champion", "baseline"] | None = Field(description="null before anything is trained")
    note: str | None = Field(description="why the baseline answers")
    champion: ModelLine | None
    challenger: ModelLine | None
    newest: list[ModelLine] = Field(description="newest training first: at most 5 candidates and the newest baseline")
    events: list[ModelEventResponse] = Field(description="at most 10, newest first")


class ForecasterScores(BaseModel):
    """One forecaster in the walk-forward test."""

    name: str
    loss: float | None
    skill_climatology: float | None
    skill_har: float | None
    dm_t: float | None
    dm_p: float | None
    coverage_80: float | None
    coverage_95: float | None


class GroupScores(BaseModel):
    """The model on one symbol, quarter or volatility decile."""

    group: str
    n: int
    coverage_80: float | None
    coverage_95: float | None
    skill_climatology: float | None
    skill_har: float | None


class GateResponse(BaseModel):
    """One gate of promotion and what the model reached."""

    goal: str
    horizon: str
    reached: str
    gate: str
    is_met: bool
    aim: str


class ModelCard(ModelLine):
    """Everything that is known of one model."""

    best: str | None = Field(description="forecaster of the test that the model answers with")
    forecasters: list[ForecasterScores]
    symbols: list[GroupScores]
    quarters: list[GroupScores]
    deciles: list[GroupScores]
    coverage_weeks: list[CoverageWeek]
    reliability: list[ReliabilityBinResponse]
    direction: dict[str, Any] | None
    folds: list[dict[str, Any]]
    gates: list[GateResponse]
    parameters: dict[str, Any]
    files: dict[str, str] = Field(description="file -> SHA-256, where the report or the model's folder says them")
    events: list[ModelEventResponse]
