"""Whether price bounces off levels more often than off levels drawn at random nearby.

What belongs here: outcomes of touches of real and placebo levels, and the level part of table `evidence`. What does not: finding
levels (`levels`), the bootstrap (`bootstrap`), evidence on divergences (`outcomes`).
"""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray

from altforecast.bootstrap import cluster_lift
from altforecast.errors import InputError
from altforecast.params import LEVELS, OUTCOMES, PIVOTS, LevelParams, OutcomeParams
from altforecast.segments import Floats, Ints, aligned, read_nullable, read_prices, rows_of, split_segments
from altforecast.tables import EVIDENCE, TS
from altforecast.types import LevelEvent, Timeframe

_WEEK_MS = 7 * 24 * 3600 * 1000
_MONDAY_MS = 3 * 24 * 3600 * 1000
"""1970-01-01 was a Thursday: with this offset weeks start on Mondays."""
_TEXT, _FLAG = pl.String(), pl.Boolean()
BOUNCES = pl.Schema(
    [
        ("ts", TS), ("symbol", _TEXT), ("exchange", _TEXT), ("timeframe", _TEXT), ("id", _TEXT), ("is_placebo", _FLAG),
        ("side", _TEXT), ("is_hit", _FLAG), ("known_at", TS),
    ]
)  # fmt: skip
"""One matured touch: `ts` open of the touching bar, `side` support where it was reached from above, `known_at` end of the horizon."""


def level_bounces(
    levels: pl.DataFrame,
    bars: pl.DataFrame,
    indicators: pl.DataFrame,
    timeframe: Timeframe,
    seed: int = OUTCOMES.seed,
    params: LevelParams = LEVELS,
) -> pl.DataFrame:
    """Every matured touch of every level and of two placebos per level; columns `BOUNCES`.

    levels: table `levels`, from the start of the wanted span. bars, indicators (atr_14): the bars the levels were found on, one
    timeframe, sorted; spans of levels beyond them are left out. A touch follows the rule of `find_levels`. It is a hit when the price
    goes bounce_atr ATR of that bar away from the level, back to the side it came from, before a close break_atr ATR through it; both
    in one bar, or neither within bounce_horizon_bars, is a miss. A touch whose horizon is cut off by the end of the series or by a
    long hole has not matured and is left out, so that quick endings are not over-represented. Placebos: the same level shifted up
    and down by placebo_min_atr..placebo_max_atr ATR of its first row; the distance comes from a hash of id and seed, so a placebo
    does not depend on which other levels there are. Empty in, empty out. Method: docs/methods/levels.md.
    """
    from altforecast.level_touches import TouchParams, matured_rows, scan_touches

    if bars.is_empty() or levels.is_empty():
        return pl.DataFrame(schema=BOUNCES)
    segments = split_segments(bars, timeframe, PIVOTS.restart_gap_bars)
    spans = np.array(segments.series_spans())
    hole_ms = (PIVOTS.restart_gap_bars + 1) * timeframe.ms
    rest_ms = params.min_bars_between_touches * timeframe.ms
    prm = TouchParams(hole_ms, rest_ms, params.touch_atr, params.break_atr, params.bounce_atr, params.bounce_horizon_bars)
    lives = _lives(levels, bars, spans)
    arrays = [segments.ts, *read_prices(bars, "high", "low", "close"), read_nullable(aligned(bars, indicators, "atr_14"), "atr_14")]
    is_matured = matured_rows(segments.ts, prm.horizon, hole_ms, spans[:, 0], spans[:, 1])
    given = [*arrays, is_matured, *(lives[c].to_numpy() for c in ("begin", "end", "price", "level"))]
    heads = lives.unique("level", keep="first", maintain_order=True)
    parts = []
    for sign in (0.0, 1.0, -1.0):
        shift = sign * _distances(heads["id"], seed, sign, params) * heads["band"].to_numpy() / params.touch_atr
        found = scan_touches(*[*given, heads["last_touch_ts"].to_physical().to_numpy(), shift, prm])
        parts.append(_touches(found, bars, heads["id"], sign != 0.0, timeframe, params))
    return pl.concat(parts).sort("symbol", "exchange", "ts", "id", "is_placebo", maintain_order=True)


def level_evidence(bounces: pl.DataFrame, timeframe: Timeframe, as_of: datetime, params: OutcomeParams = OUTCOMES) -> pl.DataFrame:
    """The `level` row of table `evidence` as it could be known at `as_of`; empty where no touch has matured.

    bounces: answer of `level_bounces`. Interval and p from the week-cluster bootstrap; one test, so Holm's correction changes nothing.
    Fewer than min_events touches, placebo touches or min_weeks weeks: "too few events", no interval. Raises InputError for a naive as_of.
    """
    if as_of.tzinfo is None:
        raise InputError("as_of", as_of, "must carry a time zone")
    known = bounces.filter((pl.col("timeframe") == timeframe.value) & (pl.col("known_at") <= as_of))
    if known.is_empty():
        return EVIDENCE.empty()
    (hits, weeks), (base, base_weeks) = _hits_and_weeks(known, False), _hits_and_weeks(known, True)
    row: dict[str, object] = dict.fromkeys(("lift_pp", "ci_low_pp", "ci_high_pp", "p_value"))
    row |= {"n": len(hits), "n_control": len(base), "hit_frac": _share(hits), "base_frac": _share(base), "is_significant": False}
    if len(hits) and len(base):
        row["lift_pp"] = 100.0 * float(hits.mean() - base.mean())
    if min(len(hits), len(base)) >= params.min_events and len(np.unique(weeks)) >= params.min_weeks:
        lift = cluster_lift(hits, base, weeks, base_weeks, params.bootstrap_draws, params.seed, params.confidence_frac)
        row |= {"ci_low_pp": 100.0 * lift.low, "ci_high_pp": 100.0 * lift.high, "p_value": lift.p_value}
        row["is_significant"] = lift.p_value <= 1.0 - params.confidence_frac
    return _evidence_row(row, timeframe, as_of)


def _lives(levels: pl.DataFrame, bars: pl.DataFrame, spans: Ints) -> pl.DataFrame:
    """Stretches of constant price of each level as row spans of the bars, in order of level and time."""
    series, keys = ["symbol", "exchange"], ["symbol", "exchange", "ts", "id"]
    dead = levels.filter(pl.col("event") == LevelEvent.EVICTED.value).select(*keys, pl.lit(True).alias("is_dead"))
    states = levels.unique(keys, keep="first").join(dead, on=keys, how="left").sort(*series, "id", "ts")
    ends = bars.select(series)[spans[:, 0].tolist()].with_columns(last=pl.Series(spans[:, 1] - 1))
    states = (
        states.with_columns(begin=pl.Series(rows_of(bars, states)))
        .filter(pl.col("begin") >= 0)
        .join(ends, on=series, how="inner", maintain_order="left")
    )
    following = pl.col("begin").shift(-1).over("id")
    lives = states.with_columns(end=pl.when(pl.col("is_dead")).then("begin").otherwise(following.fill_null(pl.col("last"))))
    return lives.with_columns(level=(pl.col("id").rle_id().cast(pl.Int64)))


def _distances(ids: pl.Series, seed: int, sign: float, params: LevelParams) -> Floats:
    """How far [ATR] each level is shifted: uniform in its range, from a hash of id, seed and direction."""
    numbers = ids.str.to_integer(base=16, dtype=pl.UInt64).to_numpy() ^ np.uint64(2 * seed + (sign > 0))
    mixed = (numbers ^ (numbers >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    uniform = ((mixed ^ (mixed >> np.uint64(33))) >> np.uint64(11)).astype(np.float64) / 2.0**53
    return np.asarray(params.placebo_min_atr + (params.placebo_max_atr - params.placebo_min_atr) * uniform, dtype=np.float64)


def _touches(
    found: tuple[Ints, Ints, NDArray[np.bool_], NDArray[np.bool_]],
    bars: pl.DataFrame,
    ids: pl.Series,
    is_placebo: bool,
    timeframe: Timeframe,
    params: LevelParams,
) -> pl.DataFrame:
    level, row, is_support, is_hit = found
    ts = bars["ts"].gather(row)
    columns = bars.select("symbol", "exchange")[row.astype(np.uint32)].with_columns(
        ts,
        ids.gather(level).alias("id"),
        pl.Series("side", np.where(is_support, "support", "resistance"), dtype=pl.String),
        pl.Series("is_hit", is_hit),
        pl.lit(timeframe.value).alias("timeframe"),
        pl.lit(is_placebo).alias("is_placebo"),
        bars["ts"].gather(row + params.bounce_horizon_bars).alias("known_at") + timeframe.duration,
    )
    return columns.select(BOUNCES.names()).cast(BOUNCES)


def _hits_and_weeks(known: pl.DataFrame, is_placebo: bool) -> tuple[NDArray[np.bool_], Ints]:
    part = known.filter(pl.col("is_placebo") == is_placebo)
    return part["is_hit"].to_numpy(), (part["ts"].to_physical().to_numpy() + _MONDAY_MS) // _WEEK_MS


def _share(hits: NDArray[np.bool_]) -> float | None:
    return float(hits.mean()) if len(hits) else None


def _evidence_row(row: dict[str, object], timeframe: Timeframe, as_of: datetime) -> pl.DataFrame:
    moment = as_of.astimezone(UTC)
    named = {"ts": moment, "known_at": moment, "timeframe": timeframe.value, "signal": "level", "oscillator": "", "kind": "bounce"}
    return EVIDENCE.conform(pl.DataFrame([row | named | {"verdict": _verdict(row)}], schema=EVIDENCE.schema))


def _verdict(row: dict[str, object]) -> str:
    from altforecast.outcomes import BETTER, NOT_BETTER, TOO_FEW, WORSE

    if row["p_value"] is None:
        return TOO_FEW
    if not row["is_significant"]:
        return NOT_BETTER
    return BETTER if float(str(row["lift_pp"])) > 0 else WORSE
