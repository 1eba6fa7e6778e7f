"""What is ahead: the newest forecast of each horizon, who made it and what it is worth.

What belongs here: choosing between champion and baseline, and all that an answer says of one forecast. What does not: making
forecasts (pipelines) and past ones (`track_record`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp

import polars as pl
import structlog

from altforecast.decision_scores import score_ai
from altforecast.errors import StorageError
from altforecast.forecast_params import HORIZONS
from altforecast.forecast_scores import LEVELS
from altforecast.forecast_tables import FORECASTS, QUANTILES
from altforecast.symbols import CRYPTOCAP
from altforecast.types import Series, Timeframe
from altforecast_io.lake import PartFile
from altforecast_io.provenance import Provenance
from altforecast_io.store.models import Event
from altforecast_serving.lineage import Answer, newest_known
from altforecast_serving.queries.calibrations import calibration_of
from altforecast_serving.queries.direction import direction
from altforecast_serving.queries.lake import LakeReader
from altforecast_serving.queries.model_health import newest_health, recent_of
from altforecast_serving.queries.model_reports import Report, direction_of, walk_forward_of
from altforecast_serving.queries.models import BASELINE_ANSWERS, NOTHING_TRAINED, HorizonLog, ModelLog
from altforecast_serving.queries.newest_forecasts import Row, Rows, newest_bars, newest_forecasts
from altforecast_serving.queries.rows import EMPTY_LAKE, not_built

log = structlog.get_logger(__name__)
STALE_BARS = 1.5
"""A forecast is stale when the newest bar is further ahead than this [bars]: between, the next one is being made."""
Parts = list[tuple[PartFile, Provenance]]


def timeframes_of(horizons: tuple[str, ...]) -> tuple[Timeframe, ...]:
    """Bars that these horizons are forecast from, shortest first."""
    return tuple(sorted({HORIZONS[name][0] for name in horizons}, key=lambda tf: tf.ms))


@dataclass(frozen=True)
class Chosen:
    """The forecast that answers for one series and horizon."""

    row: Row
    is_baseline: bool
    note: str | None
    is_stale: bool


def find_forecasts(
    reader: LakeReader, models: ModelLog, series: Series, horizons: tuple[str, ...], metrics: Mapping[Series, str]
) -> Answer:
    """The newest forecast of each horizon; horizons without one are left out, and the warnings say why."""
    chosen = [pick for name in horizons if (pick := _choose(_rows_of(reader, series, name), _log_of(models, name), reader))]
    health = newest_health(reader)
    bar = _newest_bar(reader, series)
    data = {
        "symbol": series.symbol, "exchange": series.exchange, "metric": metrics.get(series), "price": bar and bar["close"],
        "price_at": bar and bar["known_at"], "horizons": [_horizon(reader, models, pick, health) for pick in chosen],
    }  # fmt: skip
    return Answer(
        data, _parts(reader, [pick.row for pick in chosen]), newest_known(pick.row["known_at"] for pick in chosen),
        warnings=[*_stale(chosen), *([] if chosen else _why_empty(reader, models, series))],
    )  # fmt: skip


def find_overview(reader: LakeReader, models: ModelLog, horizons: tuple[str, ...], metrics: Mapping[Series, str]) -> Answer:
    """One line per series and horizon."""
    logs = {name: _log_of(models, name) for name in horizons}
    newest = [item for timeframe in timeframes_of(horizons) for item in newest_forecasts(reader, timeframe).items()]
    chosen = [pick for (_, name), rows in newest if name in logs and (pick := _choose(rows, logs[name], reader))]
    order = {name: rank for rank, name in enumerate(HORIZONS)}
    chosen.sort(key=lambda pick: (pick.row["symbol"], pick.row["exchange"], order[pick.row["horizon"]]))
    n_stale = sum(pick.is_stale for pick in chosen)
    return Answer(
        [_line(pick, models, metrics) for pick in chosen], _parts(reader, [pick.row for pick in chosen]),
        newest_known(pick.row["known_at"] for pick in chosen),
        warnings=[f"{n_stale} of {len(chosen)} forecasts are of older bars than the newest ones"] * bool(n_stale)
        if chosen else _why_empty(reader, models, None),
    )  # fmt: skip


# ---- finding rows


def _rows_of(reader: LakeReader, series: Series, horizon: str) -> Rows:
    return newest_forecasts(reader, HORIZONS[horizon][0]).get((series, horizon), {})


def _newest_bar(reader: LakeReader, series: Series) -> Row | None:
    """The newest bar of those that forecasts are made from."""
    held = (reader.hot("bars", tf).of(series).tail(1) for tf in timeframes_of(tuple(HORIZONS)))
    rows = [row for frame in held for row in frame.to_dicts()]
    return max(rows, key=lambda row: row["known_at"], default=None)


def _log_of(models: ModelLog, horizon: str) -> HorizonLog | None:
    """None where the store does not answer: forecasts are in the lake and go on."""
    try:
        return models.horizon(horizon)
    except StorageError as error:
        log.warning("model_log_not_readable", error=str(error))
        return None


# ---- choosing


def _choose(rows: Rows, held: HorizonLog | None, reader: LakeReader) -> Chosen | None:
    """The champion's newest forecast where it still holds, else the baseline's, which says why it is there; None without either."""
    champion, har = rows.get("champion"), rows.get("har")
    note = held.note() if held is not None else None
    if champion is not None and _may_answer(champion, held) and _has_said(champion) and not _is_behind(champion, har):
        return Chosen(champion, False, note, _is_stale(champion, reader))
    if har is None:
        return None
    return Chosen(har, True, _why_baseline(champion, held) if note is None or _is_back(held) else note, _is_stale(har, reader))


def _may_answer(row: Row, held: HorizonLog | None) -> bool:
    """Whether the row is of the present champion, or of the one before a promotion that came after the bar."""
    if held is None:
        return True
    if held.champion is None:
        return False
    decided = held.decided
    is_before = decided is not None and decided.event is not Event.ROLLED_BACK and decided.at is not None and row["known_at"] <= decided.at
    return bool(row["model"] == held.champion.version or is_before)


def _has_said(row: Row) -> bool:
    return row[QUANTILES[0]] is not None


def _is_behind(champion: Row, har: Row | None) -> bool:
    return har is not None and har["ts"] > champion["ts"] and _has_said(har)


def _is_back(held: HorizonLog | None) -> bool:
    """A former champion answers again after a roll-back, so that a baseline needs another reason."""
    return held is not None and held.champion is not None


def _why_baseline(champion: Row | None, held: HorizonLog | None) -> str:
    if champion is None and held is None:
        return f"the model log cannot be read: {BASELINE_ANSWERS}"
    version = held.champion.version if held is not None and held.champion is not None else "the champion"
    if champion is not None and not _has_said(champion):
        return f"{version} made no forecast ({champion['reason']}): {BASELINE_ANSWERS}"
    return f"{version} has not forecast this bar: {BASELINE_ANSWERS}"


def _is_stale(row: Row, reader: LakeReader) -> bool:
    timeframe = Timeframe(row["timeframe"])
    newest = newest_bars(reader, timeframe).get(Series(row["exchange"], row["symbol"]))
    return newest is not None and newest - row["ts"] > STALE_BARS * timeframe.duration


# ---- saying


def _horizon(reader: LakeReader, models: ModelLog, pick: Chosen, health: dict[tuple[str, str], Row]) -> Row:
    row, report = pick.row, _report(models, pick.row["model"])
    plain = ("horizon", "timeframe", "ts", "target_ts", "forecaster", "model", "price", "sigma", "p_up", "p_base", "reason")
    return {
        **{name: row[name] for name in plain}, "made_at": row["known_at"], "is_stale": pick.is_stale, "is_baseline": pick.is_baseline,
        "quantiles": _quantiles(row), "direction": direction(row["p_up"], row["p_base"], direction_of(report)),
        "score_ai": score_ai(row["p_up"], row["p_base"]),
        "calibration": calibration_of(reader, row), "recent": recent_of(health.get((row["horizon"], row["forecaster"]))),
        "walk_forward": walk_forward_of(report), "note": pick.note,
    }  # fmt: skip


def _line(pick: Chosen, models: ModelLog, metrics: Mapping[Series, str]) -> Row:
    row = pick.row
    prices = [_price(row, name) for name in QUANTILES]
    plain = ("symbol", "exchange", "horizon", "timeframe", "ts", "target_ts", "forecaster", "model", "price", "sigma", "p_up", "reason")
    places = {"low_95": 0.025, "low_80": 0.10, "median": 0.50, "high_80": 0.90, "high_95": 0.975}
    return {
        **{name: row[name] for name in plain}, "metric": metrics.get(Series(row["exchange"], row["symbol"])),
        "is_stale": pick.is_stale, "is_baseline": pick.is_baseline,
        **{name: prices[LEVELS.index(level)] for name, level in places.items()},
        "direction": direction(row["p_up"], row["p_base"], direction_of(_report(models, row["model"])))["word"],
    }  # fmt: skip


def _report(models: ModelLog, version: str) -> Report:
    """Empty where the model or the store is not there."""
    try:
        model = models.model(version)
    except StorageError as error:
        log.warning("model_log_not_readable", error=str(error))
        return {}
    return model.report if model is not None else {}


def _quantiles(row: Row) -> list[Row]:
    if not _has_said(row) or row["price"] is None:
        return []
    return [
        {"level": level, "return_frac": exp(row[name]) - 1.0, "price": _price(row, name)}
        for level, name in zip(LEVELS, QUANTILES, strict=True)
    ]


def _price(row: Row, name: str) -> float | None:
    return row["price"] * exp(row[name]) if row["price"] is not None and row[name] is not None else None


def _parts(reader: LakeReader, rows: list[Row]) -> Parts:
    """Files that these forecasts, and the calibrations they used, are in."""
    found: Parts = []
    for timeframe in timeframes_of(tuple({row["horizon"] for row in rows})):
        mine = [row for row in rows if row["timeframe"] == timeframe.value]
        for name, column in (("forecasts", "ts"), ("forecast_calibrations", "calibrated_at")):
            times = [row[column] for row in mine if row[column] is not None]
            found += reader.rests_on(name, (timeframe,), pl.DataFrame({"ts": times}, schema={"ts": FORECASTS.schema["ts"]}))
    return found


def _stale(chosen: list[Chosen]) -> list[str]:
    return [
        f"{pick.row['horizon']}: the newest forecast is of the bar of {pick.row['ts']:%Y-%m-%d %H:%M} UTC; newer bars are there"
        for pick in chosen if pick.is_stale
    ]  # fmt: skip


def _why_empty(reader: LakeReader, models: ModelLog, series: Series | None) -> list[str]:
    known = reader.series()
    if not known:
        return [EMPTY_LAKE]
    if series is not None and series.exchange == CRYPTOCAP:
        return [f"{series.symbol} is an index: forecasts are made of what can be traded"]
    wanted = timeframes_of(tuple(HORIZONS))
    if series is not None and not set(wanted) & set(known.get(series, [])):
        needed = " or ".join(tf.value for tf in wanted)
        return [f"{series.symbol} on {series.exchange} has no bars of {needed}, which forecasts are made from"]
    if not any(reader.lake.files("forecasts", tf) for tf in wanted):
        return [f"no forecast has been made yet: {NOTHING_TRAINED}" if _is_untrained(models) else not_built("forecasts")]
    return [f"no forecast of {series.symbol} on {series.exchange} yet" if series is not None else "no forecast of this horizon yet"]


def _is_untrained(models: ModelLog) -> bool:
    held = [_log_of(models, name) for name in HORIZONS]
    return all(one is not None and not one.newest for one in held)
