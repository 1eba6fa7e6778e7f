"""Every past forecast of a series beside what happened, and what they were worth together.

What belongs here: pages of past forecasts with outcomes, and their scores. What does not: the newest forecast (`forecasts`),
calibration over all series (`reliability`) and judging outcomes (pipelines).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

import numpy as np
import polars as pl

from altforecast.errors import InputError
from altforecast.forecast_params import HORIZONS
from altforecast.forecast_scores import brier_skill, expected_calibration_error, reliability, skill
from altforecast.forecast_tables import FORECAST_OUTCOMES
from altforecast.forecast_tests import diebold_mariano, dm_lag
from altforecast.types import Series
from altforecast_serving.lineage import Answer
from altforecast_serving.queries.cursors import encode_cursor
from altforecast_serving.queries.lake import LakeReader, one_series, scan
from altforecast_serving.queries.rows import EMPTY_LAKE, latest, not_built

TABLE_OF: Mapping[str, str] = {"live": "forecasts", "walk_forward": "walk_forward_forecasts"}
"""Origin -> table of its forecasts."""
DEFAULT_FORECASTERS = ("champion", "har")
"""Without a wish: the champion where it has forecast anything, else the baseline."""
MAX_SUMMARY_STEPS = 5
"""Steps of 1, 2, 4, 8, 16 months: what is older than 31 months with outcomes counts in no summary."""
PIT_BINS = 10
_UNSHOWN = ("p_base", "calibrated_at")
_DAY, _STEP = timedelta(days=1), timedelta(milliseconds=1)


@dataclass(frozen=True)
class TrackQuestion:
    """Which past forecasts: hashable."""

    series: Series
    horizon: str
    origins: tuple[str, ...] = ("live",)
    forecaster: str | None = None
    start: datetime | None = None
    end: datetime | None = None
    limit: int = 100
    after: tuple[datetime | str, ...] | None = None


def find_track_record(reader: LakeReader, question: TrackQuestion, *, rows_only: bool = False) -> Answer:
    """Past forecasts, newest first, with outcomes where they are known, and on the first page their scores.

    rows_only: the rows as a frame, for formats that hold nothing else.
    """
    forecaster, rows = _forecasts(reader, question)
    page = _with_outcomes(reader, question, forecaster, rows.head(question.limit))
    summary = [] if rows_only or question.after else _summaries(reader, question, forecaster)
    return Answer(
        page if rows_only else {"rows": page.to_dicts(), "summary": summary}, _parts(reader, question, page), latest(page, "known_at"),
        next_cursor=encode_cursor([page["ts"][-1], page["origin"][-1]]) if rows.height > question.limit else None,
        warnings=[] if page.height else _why_empty(reader, question),
    )  # fmt: skip


# ---- rows


def _forecasts(reader: LakeReader, question: TrackQuestion) -> tuple[str, pl.DataFrame]:
    """The forecaster, and its forecasts in order, one more than the page holds."""
    names = (question.forecaster,) if question.forecaster is not None else DEFAULT_FORECASTERS
    for name in names:
        found = pl.concat([_of_origin(reader, question, name, origin) for origin in question.origins])
        if found.height:
            break
    return name, found.sort("ts", "origin", descending=True).head(question.limit + 1)


def _of_origin(reader: LakeReader, question: TrackQuestion, forecaster: str, origin: str) -> pl.DataFrame:
    wanted, end = _mine(question) & (pl.col("forecaster") == forecaster), question.end
    if question.after is not None and isinstance(at := question.after[0], datetime):
        until = at + _STEP if origin < str(question.after[1]) else at
        end = until if end is None else min(end, until)
    timeframe = HORIZONS[question.horizon][0]
    rows = reader.page(TABLE_OF[origin], (timeframe,), wanted, ("ts",), question.limit + 1, start=question.start, end=end)
    return rows.drop(_UNSHOWN).with_columns(pl.lit(origin).alias("origin"))


def _mine(question: TrackQuestion) -> pl.Expr:
    return one_series(question.series) & (pl.col("horizon") == question.horizon)


def _with_outcomes(reader: LakeReader, question: TrackQuestion, forecaster: str, page: pl.DataFrame) -> pl.DataFrame:
    """The page with what happened, and the losses of the baselines on the same bars."""
    known = _outcomes_of(reader, question, forecaster, page)
    keys = ["ts", "origin"]
    losses = known.select(*keys, "forecaster", "loss")
    for name in ("har", "climatology"):
        page = page.join(losses.filter(pl.col("forecaster") == name).select(*keys, pl.col("loss").alias(f"loss_{name}")), keys, "left")
    own = known.filter(pl.col("forecaster") == forecaster).select(*keys, "outcome", "is_up", "is_in_80", "is_in_95", "pit", "loss")
    joined = page.join(own, keys, "left").with_columns((pl.col("price") * pl.col("outcome").exp()).alias("price_then"))
    return joined.sort("ts", "origin", descending=True)


def _outcomes_of(reader: LakeReader, question: TrackQuestion, forecaster: str, page: pl.DataFrame) -> pl.DataFrame:
    if page.is_empty():
        return FORECAST_OUTCOMES.empty()
    first, last = page["ts"][-1], page["ts"][0]
    paths = [part.path for part in reader.lake.files("forecast_outcomes", HORIZONS[question.horizon][0], first, last + _STEP)]
    wanted = _compared(question, forecaster) & pl.col("ts").is_between(first, last)
    return scan(paths, wanted) if paths else FORECAST_OUTCOMES.empty()


def _compared(question: TrackQuestion, forecaster: str) -> pl.Expr:
    """Outcomes of the forecaster and of the baselines that it is compared with."""
    names = sorted({forecaster, "har", "climatology"})
    return _mine(question) & pl.col("forecaster").is_in(names) & pl.col("origin").is_in(list(question.origins))


# ---- scores


def _summaries(reader: LakeReader, question: TrackQuestion, forecaster: str) -> list[dict[str, Any]]:
    """Scores of each origin over all outcomes of the period, newest MAX_SUMMARY_STEPS at most; origins without any are left out."""
    wanted = _compared(question, forecaster)
    if question.start is not None:
        wanted &= pl.col("ts") >= question.start
    if question.end is not None:
        wanted &= pl.col("ts") < question.end
    walk = reader.walk("forecast_outcomes", (HORIZONS[question.horizon][0],), question.start, question.end, newest_first=True)
    found = pl.concat([FORECAST_OUTCOMES.empty(), *(scan(paths, wanted) for paths in islice(walk, MAX_SUMMARY_STEPS))]).sort("ts")
    return [scores(found.filter(pl.col("origin") == origin), question.horizon, forecaster, origin) for origin in question.origins
            if ((found["origin"] == origin) & (found["forecaster"] == forecaster)).any()]  # fmt: skip


def scores(outcomes: pl.DataFrame, horizon: str, forecaster: str, origin: str) -> dict[str, Any]:
    """What the outcomes of one forecaster were worth beside the baselines'; rows of forecast_outcomes of one series, oldest first.

    Skills and the Diebold-Mariano test count bars that both sides forecast; null where there are none, or too few for the test.
    """
    mine = outcomes.filter(pl.col("forecaster") == forecaster)
    return {
        "horizon": horizon, "forecaster": forecaster, "origin": origin, "n": mine.height,
        "first": mine["ts"].min(), "last": mine["ts"].max(),
        "coverage_80": mine["is_in_80"].mean(), "coverage_95": mine["is_in_95"].mean(),
        "skill_climatology": _skill(*_both(outcomes, forecaster, "climatology")[:2]), **_against_har(outcomes, horizon, forecaster),
        **_probability(mine), "pit": histogram(np.bincount(_pit_bins(mine["pit"].to_numpy()), minlength=PIT_BINS)),
    }  # fmt: skip


def _both(outcomes: pl.DataFrame, forecaster: str, reference: str) -> tuple[Any, Any, Any]:
    """Losses of both, and when, on the bars that both forecast."""
    mine = outcomes.filter(pl.col("forecaster") == forecaster).select("ts", "loss")
    other = outcomes.filter(pl.col("forecaster") == reference).select("ts", pl.col("loss").alias("reference"))
    both = mine.join(other, "ts").sort("ts")
    return both["loss"].to_numpy(), both["reference"].to_numpy(), both["ts"].to_physical().to_numpy()


def _skill(loss: Any, reference: Any) -> float | None:
    return _finite(skill(loss, reference)) if len(loss) else None


def _against_har(outcomes: pl.DataFrame, horizon: str, forecaster: str) -> dict[str, float | None]:
    loss, reference, when = _both(outcomes, forecaster, "har")
    timeframe, n_bars = HORIZONS[horizon]
    lag = dm_lag(n_bars, _DAY / timeframe.duration)
    if forecaster == "har" or len(loss) <= 2 * lag:
        return {"skill_har": _skill(loss, reference), "dm_t": None, "dm_p": None}
    test = diebold_mariano(loss, reference, when, lag)
    return {"skill_har": _skill(loss, reference), "dm_t": _finite(test.t), "dm_p": _finite(test.p_value)}


def _probability(mine: pl.DataFrame) -> dict[str, Any]:
    """Calibration of P(up) over the rows that said one."""
    said = mine.filter(pl.col("p_up").is_not_null())
    if said.is_empty():
        return {"brier_skill": None, "ece": None, "reliability": []}
    up, p = said["is_up"].to_numpy(), said["p_up"].cast(pl.Float64).to_numpy()
    bins = [
        {"n": b.n, "mean_probability": b.mean_probability, "happened_frac": b.happened_frac} for b in reliability(up, p)
    ]  # fmt: skip
    return {
        "brier_skill": _finite(brier_skill(up, p, float(up.mean()))),
        "ece": _finite(expected_calibration_error(up, p)),
        "reliability": bins,
    }


def _pit_bins(pit: Any) -> Any:
    return np.minimum((pit * PIT_BINS).astype(np.int64), PIT_BINS - 1)


def histogram(counts: Any) -> list[dict[str, Any]]:
    """Columns of a histogram over 0 to 1."""
    return [{"low": i / len(counts), "high": (i + 1) / len(counts), "n": int(n)} for i, n in enumerate(counts)]


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


# ---- origin


def _parts(reader: LakeReader, question: TrackQuestion, page: pl.DataFrame) -> list[Any]:
    timeframes = (HORIZONS[question.horizon][0],)
    found: list[Any] = []
    for origin in question.origins:
        found += reader.rests_on(TABLE_OF[origin], timeframes, page.filter(pl.col("origin") == origin))
    return found + list(reader.rests_on("forecast_outcomes", timeframes, page.filter(pl.col("outcome").is_not_null())))


def _why_empty(reader: LakeReader, question: TrackQuestion) -> list[str]:
    if not reader.series():
        return [EMPTY_LAKE]
    tables = [TABLE_OF[origin] for origin in question.origins]
    if not any(reader.lake.files(name) for name in tables):
        return [not_built(name) for name in tables]
    return [f"no {question.horizon} forecast of {question.series.symbol} on {question.series.exchange} matches"]


def check_origin(text: str) -> tuple[str, ...]:
    """Origins of `live`, `walk_forward` or `all`; raises InputError."""
    if text == "all":
        return tuple(TABLE_OF)
    if text not in TABLE_OF:
        raise InputError("origin", text, "unknown origin", [*TABLE_OF, "all"])
    return (text,)
