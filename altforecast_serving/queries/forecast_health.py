"""Whether forecasts keep up with the bars, for the health matrix and Prometheus.

What belongs here: ages of the newest forecasts, and the figures of the newest health rows as gauges. What does not: judging models
(`model_health`) and the other components (`health`).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple

from altforecast.errors import StorageError
from altforecast.forecast_params import HORIZONS
from altforecast.forecast_tables import QUANTILES
from altforecast_serving.lineage import newest_known
from altforecast_serving.queries.lake import LakeReader
from altforecast_serving.queries.model_health import newest_health
from altforecast_serving.queries.newest_forecasts import newest_bars, newest_forecasts

MAX_BARS_BEHIND = 3
"""Bars by which the newest forecast may be behind the newest bar before forecasting counts as down."""
ANSWERING = ("champion", "har")
_GAUGES = {
    "coverage_80": ("forecast_coverage_80", "Share of outcomes of the last 30 days inside the 80 % interval"),
    "coverage_95": ("forecast_coverage_95", "Share of outcomes of the last 30 days inside the 95 % interval"),
    "skill_climatology": ("forecast_skill_climatology", "1 - loss / loss of climatology, last 30 days"),
    "skill_har": ("forecast_skill_har", "1 - loss / loss of the baseline HAR-S-FHS, last 30 days"),
}
AGE = ("forecast_age_seconds", "Age of the newest forecast [s]")
FORECAST_GAUGES = (AGE[0], *(name for name, _ in _GAUGES.values()))


class Reading(NamedTuple):
    """One value of a gauge with labels; None is NaN."""

    name: str
    meaning: str
    labels: dict[str, str]
    value: float | None


def forecast_component(reader: LakeReader, now: datetime) -> dict[str, Any]:
    """The component `forecasts` of the health matrix. Without any forecast it is fine: nobody has started the pipelines.

    `forecasters`: who made the newest forecast with quantiles of each horizon; `bars_behind`: how far the newest forecast of the bars
    of a length is behind the newest of these bars.
    """
    try:
        newest = {name: at for name in HORIZONS if (at := _newest(reader, name))}
        behind = {name: _bars_behind(reader, name, at[0]) for name, at in newest.items()}
    except StorageError as error:
        return {"ok": False, "age_s": None, "detail": str(error)}
    if not newest:
        return {"ok": True, "age_s": None, "newest_known_at": None, "detail": "no forecasts yet"}
    known_at = newest_known(at[2] for at in newest.values())
    late = [name for name, n in behind.items() if n > MAX_BARS_BEHIND]
    note = {"detail": f"forecasts of {', '.join(late)} are more than {MAX_BARS_BEHIND} bars behind"} if late else {}
    return {
        "ok": not late, "newest_known_at": known_at, "age_s": None if known_at is None else round((now - known_at).total_seconds(), 1),
        "forecasters": {name: at[1] for name, at in newest.items()}, "bars_behind": behind, **note,
    }  # fmt: skip


def _newest(reader: LakeReader, horizon: str) -> tuple[datetime, str, datetime] | None:
    """(bar, forecaster, when it was made) of the newest forecast with quantiles; of champion and baseline at one bar the champion."""
    found = [
        (row["ts"], rank, name, row["known_at"])
        for (_, ahead), rows in newest_forecasts(reader, HORIZONS[horizon][0]).items() if ahead == horizon
        for rank, name in enumerate(reversed(ANSWERING)) if (row := rows.get(name)) is not None and row[QUANTILES[0]] is not None
    ]  # fmt: skip
    if not found:
        return None
    ts, _, forecaster, known_at = max(found, key=lambda item: item[:2])
    return ts, forecaster, known_at


def _bars_behind(reader: LakeReader, horizon: str, at: datetime) -> int:
    """Bars of the series that are forecast at all, so that an index with newer bars does not count."""
    timeframe = HORIZONS[horizon][0]
    bars = newest_bars(reader, timeframe)
    newest = max((bars[series] for series, ahead in newest_forecasts(reader, timeframe) if ahead == horizon and series in bars), default=at)
    return max(0, (newest - at) // timeframe.duration)


def forecast_gauges(reader: LakeReader, now: datetime) -> Iterator[Reading]:
    """Age of the newest forecast of each horizon, then coverage and skill of each forecaster; nothing where there is nothing."""
    for name in HORIZONS:
        if (newest := _newest(reader, name)) is not None:
            age = (now - newest[2]).total_seconds()
            yield Reading(*AGE, {"horizon": name, "forecaster": newest[1]}, age)
    for (horizon, forecaster), row in newest_health(reader).items():
        for column, (gauge, meaning) in _GAUGES.items():
            yield Reading(gauge, meaning, {"horizon": horizon, "forecaster": forecaster}, row[column])
