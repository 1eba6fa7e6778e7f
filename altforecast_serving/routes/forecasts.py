"""`/api/forecasts`: what is ahead, who says so, what it is worth, and what became of all that was said before.

What belongs here: parameters and handlers. What does not: finding forecasts (`queries.forecasts`, `track_record`, `reliability`,
`model_health`) and the shapes of answers (`forecast_models`).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Path, Query, Request
from pydantic import Field
from starlette.responses import Response

from altforecast.errors import InputError, StorageError, UnknownNameError
from altforecast.forecast_params import HORIZONS
from altforecast.symbols import parse_timeframe
from altforecast.types import Series, Timeframe
from altforecast_serving.answers import MEDIA_TYPES, Format, asked_format
from altforecast_serving.dependencies import Services, ServicesDep
from altforecast_serving.errors import documented
from altforecast_serving.lineage import Answer, Envelope
from altforecast_serving.queries.cursors import decode_cursor
from altforecast_serving.queries.forecasts import find_forecasts, find_overview, timeframes_of
from altforecast_serving.queries.freshness import newest_bar, of_bars
from altforecast_serving.queries.model_health import SkillQuestion, find_skill
from altforecast_serving.queries.reliability import find_reliability
from altforecast_serving.queries.track_record import TrackQuestion, check_origin, find_track_record
from altforecast_serving.routes.forecast_models import (
    Forecaster,
    ForecastLine,
    ForecastResponse,
    Origin,
    ReliabilityResponse,
    SkillRow,
    TrackRecordResponse,
)
from altforecast_serving.routes.parameters import MAX_ROWS, METRIC_HELP, TEXT, Parameters, Period, check_period

router = APIRouter(tags=["forecasts"])
log = structlog.get_logger(__name__)
HORIZON_HELP = "how far ahead: 15m 1h 4h 24h (also 1d and the other spellings of these lengths)"
TABLES = ("forecasts", "forecast_calibrations", "model_health", "bars")
_NAMES = {Timeframe.M15: "15m", Timeframe.H1: "1h", Timeframe.H4: "4h", Timeframe.D1: "24h"}
SymbolPath = Annotated[str, Path(max_length=64, description=METRIC_HELP, examples=["BTC-USDT"])]
HorizonText = Annotated[str | None, TEXT]


class Ahead(Parameters):
    """Parameters of the newest forecasts."""

    horizon: HorizonText = Field(None, description=f"{HORIZON_HELP}; default: all")
    timeframe: HorizonText = Field(None, description="the same as `horizon`; give one of the two")

    def horizons(self) -> tuple[str, ...]:
        """The horizon asked for, or all; raises UnknownNameError, InputError for two different ones."""
        if self.horizon is not None and self.timeframe is not None:
            raise InputError("timeframe", self.timeframe, "give horizon or timeframe, not both")
        if self.timeframe is not None:
            return (parse_horizon(self.timeframe, "timeframe"),)
        return (parse_horizon(self.horizon, "horizon"),) if self.horizon is not None else tuple(HORIZONS)


class AheadOf(Ahead):
    """Parameters of one symbol's forecasts."""

    exchange: str | None = Field(None, max_length=32, description="venue; default: the metric's own, else by preference")


class TrackRecordOf(Period):
    """Parameters of a track record."""

    horizon: HorizonText = Field(None, description=f"{HORIZON_HELP}; default: 1h")
    exchange: str | None = Field(None, max_length=32)
    origin: str = Field("live", max_length=16, description="live, walk_forward (made of the past by a model that did not know it) or all")
    forecaster: Forecaster | None = Field(None, description="default: champion where it has forecast anything, else har")
    limit: int = Field(100, ge=1, le=MAX_ROWS)
    cursor: str | None = Field(None, max_length=512)
    format: Format | None = Field(None, description="json, csv or arrow (the rows alone); default by the Accept header")


class SkillOf(Period):
    """Parameters of the skill over time."""

    horizon: HorizonText = Field(None, description=f"{HORIZON_HELP}; default: all")
    forecaster: Forecaster | None = None
    limit: int = Field(1000, ge=1, le=MAX_ROWS)
    cursor: str | None = Field(None, max_length=512)


class ReliabilityOf(Parameters):
    """Parameters of the calibration over all symbols."""

    horizon: HorizonText = Field(None, description=f"{HORIZON_HELP}; default: 1h")
    origin: Origin = Field("live")
    forecaster: Forecaster | None = Field(None, description="default: champion where it has forecast anything, else har")


def parse_horizon(text: str | None, field: str = "horizon") -> str:
    """Horizon for any accepted spelling of its length, 1h where None; raises UnknownNameError naming the field."""
    try:
        return "1h" if text is None else _NAMES[parse_timeframe(text)]
    except (UnknownNameError, KeyError):
        raise UnknownNameError(field, text, "no such horizon", HORIZONS) from None


@router.get("/api/forecasts", responses={200: {"model": Envelope[list[ForecastLine]]}, **documented(401, 422, 429)})
async def list_forecasts(request: Request, services: ServicesDep, asked: Annotated[Ahead, Query()]) -> Response:
    """The newest forecast of every symbol and horizon, one line each."""
    horizons = asked.horizons()

    def find() -> Answer:
        return find_overview(services.reader, services.models, horizons, services.metric_names)

    return await _about_now(request, services, ("forecast_overview", horizons), horizons, None, find)


@router.get("/api/forecasts/skill", responses={200: {"model": Envelope[list[SkillRow]]}, **documented(401, 422, 429)})
async def read_skill(request: Request, services: ServicesDep, asked: Annotated[SkillOf, Query()]) -> Response:
    """How well each forecaster did over the 30 days before each midnight, live forecasts only, newest first."""
    check_period(asked.start, asked.end)
    question = SkillQuestion(
        horizon=parse_horizon(asked.horizon) if asked.horizon is not None else None, forecaster=asked.forecaster,
        start=asked.start, end=asked.end, limit=asked.limit, after=tuple(decode_cursor(asked.cursor, 3)) if asked.cursor else None,
    )  # fmt: skip
    return await services.answer_in_thread(request, question, ["model_health", "bars"], lambda: find_skill(services.reader, question))


@router.get("/api/forecasts/reliability", responses={200: {"model": Envelope[ReliabilityResponse]}, **documented(401, 422, 429)})
async def read_reliability(request: Request, services: ServicesDep, asked: Annotated[ReliabilityOf, Query()]) -> Response:
    """Calibration over all symbols: bins of P(up), PIT histogram, coverage by week."""
    horizon = parse_horizon(asked.horizon)
    return await services.answer_in_thread(
        request, ("reliability", horizon, asked.origin, asked.forecaster), ["forecast_outcomes", "bars"],
        lambda: find_reliability(services.reader, horizon, asked.origin, asked.forecaster),
    )  # fmt: skip


@router.get("/api/forecasts/btc", responses={200: {"model": Envelope[ForecastResponse]}, **documented(401, 404, 422, 429)})
async def read_btc_forecasts(request: Request, services: ServicesDep, asked: Annotated[AheadOf, Query()]) -> Response:
    """What is ahead of Bitcoin."""
    return await _forecasts_of(request, services, "BTC", asked)


@router.get("/api/forecasts/{symbol}", responses={200: {"model": Envelope[ForecastResponse]}, **documented(401, 404, 422, 429)})
async def read_forecasts(request: Request, services: ServicesDep, symbol: SymbolPath, asked: Annotated[AheadOf, Query()]) -> Response:
    """What is ahead of one symbol: quantiles, P(up), who says so and what it has been worth."""
    return await _forecasts_of(request, services, symbol, asked)


ROWS: dict[int | str, dict[str, Any]] = {
    200: {
        "model": Envelope[TrackRecordResponse],
        "content": {media.split(";")[0]: {} for fmt, media in MEDIA_TYPES.items() if fmt is not Format.JSON},
    }
}


@router.get("/api/forecasts/{symbol}/track-record", responses={**ROWS, **documented(401, 404, 422, 429, 503)})
async def read_track_record(
    request: Request, services: ServicesDep, symbol: SymbolPath, asked: Annotated[TrackRecordOf, Query()]
) -> Response:
    """Every past forecast beside what happened, newest first."""
    check_period(asked.start, asked.end)
    fmt = asked_format(request, asked.format)
    question = TrackQuestion(
        series=await _series(services, symbol, asked.exchange), horizon=parse_horizon(asked.horizon), origins=check_origin(asked.origin),
        forecaster=asked.forecaster, start=asked.start, end=asked.end, limit=asked.limit,
        after=tuple(decode_cursor(asked.cursor, 2)) if asked.cursor else None,
    )  # fmt: skip

    async def find() -> Answer:
        return await services.in_thread(lambda: find_track_record(services.reader, question, rows_only=fmt is not Format.JSON))

    tables = ["forecasts", "walk_forward_forecasts", "forecast_outcomes", "bars"]
    return await services.answer(request, question, tables, find, fmt=fmt)


async def _forecasts_of(request: Request, services: Services, symbol: str, asked: AheadOf) -> Response:
    horizons, series = asked.horizons(), await _series(services, symbol, asked.exchange)

    def find() -> Answer:
        return find_forecasts(services.reader, services.models, series, horizons, services.metric_names)

    return await _about_now(request, services, ("forecasts", series, horizons), horizons, series, find)


async def _series(services: Services, symbol: str, exchange: str | None) -> Series:
    """The series meant; a metric whose own venue has no bars (BTC of another venue than TradingView's) is taken from one that has."""
    series = await services.series(symbol, exchange)
    known = await services.known_series()
    is_elsewhere = series not in known and exchange is None and await services.has_symbol(series.symbol)
    return next(s for s in sorted(known) if s.symbol == series.symbol) if is_elsewhere else series


async def _about_now(
    request: Request, services: Services, question: Hashable, horizons: tuple[str, ...], series: Series | None, find: Callable[[], Answer]
) -> Response:
    """Answer about the present: it changes with the lake, the model log and the age of the bars."""
    timeframes = timeframes_of(horizons)
    fresh = of_bars(services.clock(), timeframes, is_about_now=True)
    version = await services.in_thread(lambda: _log_version(services))

    def noted() -> Answer:
        answer = find()
        if version is None:
            answer.warnings.append("the model log cannot be read: what models are worth is not shown")
        return fresh.noted(answer, newest_bar(services.reader, series, timeframes))

    return await services.answer_in_thread(request, question, TABLES, noted, extra_version=(fresh.version, version))


def _log_version(services: Services) -> Hashable:
    """None where the store does not answer: forecasts are in the lake and go on."""
    try:
        return services.models.version()
    except StorageError as error:
        log.warning("model_log_not_readable", error=str(error))
        return None
