"""Calibration over all symbols: do forecasts happen as often as they say.

What belongs here: sums over outcomes, kept per lake file. What does not: scores of one series (`track_record`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import polars as pl

from altforecast.forecast_params import HORIZONS
from altforecast_io.lake import PartFile
from altforecast_io.provenance import Provenance
from altforecast_serving.lineage import Answer, newest_known
from altforecast_serving.queries.lake import LakeReader
from altforecast_serving.queries.rows import EMPTY_LAKE, latest, not_built
from altforecast_serving.queries.track_record import DEFAULT_FORECASTERS, PIT_BINS, histogram

MAX_MONTHS = 60
"""Months of outcomes that count, the newest ones."""
FINE_BINS = 400
"""P(up) is counted in so many equal steps, of which RELIABILITY_BINS of about equal mass are made."""
RELIABILITY_BINS = 20
_GROUP = ("horizon", "forecaster", "origin")
_WEEK_MS = 7 * 86_400_000
Sums = dict[str, pl.DataFrame]


def find_reliability(reader: LakeReader, horizon: str, origin: str, forecaster: str | None) -> Answer:
    """Coverage, PIT histogram, coverage by week and bins of P(up) of one forecaster over all series of a horizon."""
    parts = reader.lake.files("forecast_outcomes", HORIZONS[horizon][0])[-MAX_MONTHS:]
    sums = [reader.of_part("calibration_sums", part, _part_sums) for part in parts]
    names = (forecaster,) if forecaster is not None else DEFAULT_FORECASTERS
    for name in names:
        weeks = _of(sums, "weeks", (horizon, name, origin))
        if weeks.height:
            break
    n = int(weeks["n"].sum())
    data = {
        "horizon": horizon, "forecaster": name, "origin": origin, "n": n,
        "coverage_80": weeks["in_80"].sum() / n if n else None, "coverage_95": weeks["in_95"].sum() / n if n else None,
        **_p_up(_of(sums, "p_up", (horizon, name, origin))), "pit": _pit(_of(sums, "pit", (horizon, name, origin))), "weeks": _weeks(weeks),
    }  # fmt: skip
    known_at = newest_known(latest(found["known"], "known_at") for found in sums) if n else None
    return Answer(
        data, list(_with_provenance(reader, parts)) if n else [], known_at, warnings=[] if n else _why_empty(reader, horizon, origin)
    )


def _part_sums(part: PartFile) -> Sums:
    """Counts of one month that months can be summed from."""
    columns = [*_GROUP, "ts", "pit", "is_in_80", "is_in_95", "p_up", "is_up", "known_at"]
    rows = pl.scan_parquet(part.path, hive_partitioning=False).select(columns)
    week = (pl.col("ts").dt.epoch("ms") // _WEEK_MS).alias("key")
    pit = (pl.col("pit") * PIT_BINS).floor().cast(pl.Int64).clip(0, PIT_BINS - 1).alias("key")
    fine = (pl.col("p_up").cast(pl.Float64) * FINE_BINS).floor().cast(pl.Int64).alias("key")
    covered = (pl.len().alias("n"), pl.col("is_in_80").sum().alias("in_80"), pl.col("is_in_95").sum().alias("in_95"))
    said = (pl.len().alias("n"), pl.col("p_up").cast(pl.Float64).sum().alias("p"), pl.col("is_up").sum().alias("up"))
    lazy = {
        "weeks": rows.group_by(*_GROUP, week).agg(covered), "pit": rows.group_by(*_GROUP, pit).agg(pl.len().alias("n")),
        "p_up": rows.filter(pl.col("p_up").is_not_null()).group_by(*_GROUP, fine).agg(said),
        "known": rows.select(pl.col("known_at").max()),
    }  # fmt: skip
    return dict(zip(lazy, pl.collect_all(list(lazy.values())), strict=True))


def _of(sums: Iterable[Sums], name: str, group: tuple[str, str, str]) -> pl.DataFrame:
    """Sums of one group over all files, by key; an empty frame where there are none."""
    frames = [found[name] for found in sums]
    if not frames:
        return pl.DataFrame(schema={"key": pl.Int64, "n": pl.Int64, "in_80": pl.Int64, "in_95": pl.Int64, "p": pl.Float64, "up": pl.Int64})
    wanted = pl.all_horizontal(pl.col(column) == value for column, value in zip(_GROUP, group, strict=True))
    return pl.concat(frames).filter(wanted).drop(_GROUP).group_by("key").sum().sort("key")


def _weeks(weeks: pl.DataFrame) -> list[dict[str, Any]]:
    shown = weeks.select(
        pl.from_epoch(pl.col("key") * _WEEK_MS, "ms").dt.replace_time_zone("UTC").alias("ts"), "n",
        (pl.col("in_80") / pl.col("n")).alias("coverage_80"), (pl.col("in_95") / pl.col("n")).alias("coverage_95"),
    )  # fmt: skip
    return shown.to_dicts()


def _pit(pit: pl.DataFrame) -> list[dict[str, Any]]:
    counts = np.zeros(PIT_BINS, dtype=np.int64)
    counts[pit["key"].to_numpy()] = pit["n"].to_numpy()
    return histogram(counts)


def _p_up(fine: pl.DataFrame) -> dict[str, Any]:
    """Bins of about equal mass, made of whole fine steps, and the calibration error over them."""
    n = int(fine["n"].sum())
    if not n:
        return {"n_p_up": 0, "ece": None, "reliability": []}
    middle = fine["n"].cum_sum() - fine["n"] / 2
    binned = fine.with_columns((middle * RELIABILITY_BINS / n).floor().cast(pl.Int64).alias("bin")).group_by("bin").sum().sort("bin")
    bins = [
        {"n": int(row["n"]), "mean_probability": row["p"] / row["n"], "happened_frac": row["up"] / row["n"]} for row in binned.to_dicts()
    ]
    ece = sum(b["n"] * abs(b["mean_probability"] - b["happened_frac"]) for b in bins) / n
    return {"n_p_up": n, "ece": ece, "reliability": bins}


def _with_provenance(reader: LakeReader, parts: Iterable[PartFile]) -> Iterable[tuple[PartFile, Provenance]]:
    return ((part, record) for part in parts if (record := reader.provenance(part)) is not None)


def _why_empty(reader: LakeReader, horizon: str, origin: str) -> list[str]:
    if not reader.series():
        return [EMPTY_LAKE]
    if not reader.lake.files("forecast_outcomes"):
        return [not_built("forecast_outcomes")]
    return [f"no {origin} forecast of {horizon} has matured yet"]
