"""What followed each divergence and each control pivot, and what that is worth as evidence.

What belongs here: the barrier rule of the table `divergence_outcomes`, and the shares, intervals and verdicts of its part of the
table `evidence`. What does not: the bootstrap itself (`bootstrap`), evidence on levels (`level_evidence`).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray

from altforecast import tables
from altforecast.bootstrap import cluster_lift, holm
from altforecast.errors import InputError
from altforecast.event_ids import event_ids, hex_ids
from altforecast.params import OUTCOMES, OutcomeParams
from altforecast.segments import Floats, Ints, Segments, aligned, read_nullable, read_prices, rows_of, split_segments
from altforecast.signal_scan import scan_barriers
from altforecast.types import DivergenceKind, DivergenceStatus, Oscillator, Side, Timeframe

WARMUP_BARS = OUTCOMES.horizon_bars
"""Earlier bars, indicators, divergences and pivots to read before a window for rows equal to a run over everything."""

CONTROL = "control"
NOT_BETTER = "not better than base rate"
BETTER = "better than base rate"
WORSE = "worse than base rate"
TOO_FEW = "too few events"

_BULLISH = (DivergenceKind.REGULAR_BULLISH.value, DivergenceKind.HIDDEN_BULLISH.value, Side.LOW.value)
_WEEK_MS = 7 * 24 * 3600 * 1000
_MONDAY_MS = 3 * 24 * 3600 * 1000
"""1970-01-01 was a Thursday: with this offset weeks start on Mondays."""
_SHARES = ("hit_frac", "base_frac", "lift_pp", "ci_low_pp", "ci_high_pp", "p_value")


def divergence_outcomes(
    bars: pl.DataFrame,
    indicators: pl.DataFrame,
    divergences: pl.DataFrame,
    pivots: pl.DataFrame,
    timeframe: Timeframe,
    params: OutcomeParams = OUTCOMES,
) -> pl.DataFrame:
    """Table `divergence_outcomes`: one row per matured event, at the bar whose close decided it.

    bars, indicators (atr_14 is read), divergences (`active` rows count), pivots (the control: every confirmed pivot, favouring a
    rise after a low and a fall after a high): the tables of the same names, one timeframe, sorted. From the close of the event's
    bar, barriers at +-barrier_atr * ATR(14): the favourable one first = hit; both in one bar = miss; neither within horizon_bars =
    sign of the return (0 = miss). return_atr is signed in favour of the event: +-barrier_atr, or the return at the horizon.
    No row for events that are not matured, whose bar is not among `bars`, whose ATR is null or 0, or whose horizon meets a hole of
    more than restart_gap_bars first. Empty bars in, empty out. Raises InputError as `find_divergences`. Method: docs/methods/evidence.md.
    """
    segments = split_segments(bars, timeframe, params.restart_gap_bars)
    events = pl.concat([_opened(divergences), _controls(pivots, segments, timeframe)])
    if bars.is_empty() or events.is_empty():
        return tables.DIVERGENCE_OUTCOMES.empty()
    high, low, close = read_prices(bars, "high", "low", "close")
    atr = read_nullable(aligned(bars, indicators, "atr_14"), "atr_14")
    rows = rows_of(bars, events)
    signs = np.where(events["kind"].is_in(_BULLISH).to_numpy(), 1.0, -1.0)
    stops = segments.stops[np.searchsorted(segments.starts, rows, side="right") - 1]
    end_row, is_hit, move = scan_barriers(high, low, close, atr, rows, signs, stops, params.barrier_atr, params.horizon_bars)
    return _matured(bars, events, end_row, is_hit, move, timeframe)


def _opened(divergences: pl.DataFrame) -> pl.DataFrame:
    return divergences.filter(pl.col("status") == DivergenceStatus.ACTIVE.value).select(
        "ts", "symbol", "exchange", "id", "oscillator", "kind"
    )


def _controls(pivots: pl.DataFrame, segments: Segments, timeframe: Timeframe) -> pl.DataFrame:
    numbers = pl.DataFrame(
        [(*name, n) for n, name in enumerate(segments.names)],
        schema={"symbol": pl.String, "exchange": pl.String, "series": pl.Int64},
        orient="row",
    )
    known = pivots.join(numbers, on=["symbol", "exchange"], how="inner", maintain_order="left")
    is_high = (known["side"] == Side.HIGH.value).cast(pl.Int64).to_numpy()
    pivot_ts = known["pivot_ts"].to_physical().to_numpy()
    ids = event_ids("pivot", segments.names, timeframe, known["series"].to_numpy(), is_high, pivot_ts)
    return known.select("ts", "symbol", "exchange", hex_ids(ids), pl.lit(CONTROL).alias("oscillator"), pl.col("side").alias("kind"))


def _matured(
    bars: pl.DataFrame, events: pl.DataFrame, end_row: Ints, is_hit: NDArray[np.bool_], move: Floats, timeframe: Timeframe
) -> pl.DataFrame:
    columns = events.rename({"ts": "event_ts"}).with_columns(
        pl.Series("is_hit", is_hit), pl.Series("return_atr", move), pl.Series("row", end_row), pl.lit(timeframe.value).alias("timeframe")
    )
    done = columns.filter(pl.col("row") >= 0)
    ts = bars["ts"].gather(done["row"])
    return tables.DIVERGENCE_OUTCOMES.conform(done.drop("row").with_columns(ts, (ts + timeframe.duration).alias("known_at")))


def evidence(outcomes: pl.DataFrame, timeframe: Timeframe, as_of: datetime, params: OutcomeParams = OUTCOMES) -> pl.DataFrame:
    """Rows of table `evidence` for divergences: one per oscillator and kind, as it could be known at `as_of`.

    outcomes: table `divergence_outcomes`, events and controls, any number of series and timeframes; only rows of `timeframe` with
    known_at <= as_of count. Each kind is compared with the pivots of the same side (bullish: low, bearish: high). Lift, interval and
    p come from a bootstrap over whole weeks of the events (coins move together); is_significant is Holm's correction
    over the rows that were tested here, at 1 - confidence_frac. Rows with fewer than min_events events or controls, or fewer than
    min_weeks weeks, say "too few events" and carry no interval. No outcome known yet: empty out. Raises InputError for a naive as_of.
    Method: docs/methods/evidence.md.
    """
    if as_of.tzinfo is None:
        raise InputError("as_of", as_of, "must carry a time zone")
    known = outcomes.filter((pl.col("timeframe") == timeframe.value) & (pl.col("known_at") <= as_of))
    if known.is_empty():
        return tables.EVIDENCE.empty()
    rows = [_compared(known, oscillator, kind, params) for oscillator in Oscillator for kind in DivergenceKind]
    frame = pl.DataFrame(rows, schema_overrides=dict.fromkeys(_SHARES, pl.Float64) | dict.fromkeys(("n", "n_control"), pl.Int64))
    return tables.EVIDENCE.conform(_judged(frame, timeframe, as_of, params))


def _compared(known: pl.DataFrame, oscillator: Oscillator, kind: DivergenceKind, params: OutcomeParams) -> dict[str, object]:
    side = Side.LOW if kind.value in _BULLISH else Side.HIGH
    hits, weeks = _hits_and_weeks(known, oscillator.value, kind.value)
    base_hits, base_weeks = _hits_and_weeks(known, CONTROL, side.value)
    row: dict[str, object] = {"oscillator": oscillator.value, "kind": kind.value, "n": len(hits), "n_control": len(base_hits)}
    row |= dict.fromkeys(_SHARES) | {"hit_frac": _share(hits), "base_frac": _share(base_hits)}
    if len(hits) and len(base_hits):
        row["lift_pp"] = 100.0 * float(hits.mean() - base_hits.mean())
    if min(len(hits), len(base_hits)) >= params.min_events and len(np.unique(weeks)) >= params.min_weeks:
        lift = cluster_lift(hits, base_hits, weeks, base_weeks, params.bootstrap_draws, params.seed, params.confidence_frac)
        row |= {"ci_low_pp": 100.0 * lift.low, "ci_high_pp": 100.0 * lift.high, "p_value": lift.p_value}
    return row


def _hits_and_weeks(known: pl.DataFrame, oscillator: str, kind: str) -> tuple[NDArray[np.bool_], Ints]:
    events = known.filter((pl.col("oscillator") == oscillator) & (pl.col("kind") == kind))
    return events["is_hit"].to_numpy(), (events["event_ts"].to_physical().to_numpy() + _MONDAY_MS) // _WEEK_MS


def _share(hits: NDArray[np.bool_]) -> float | None:
    return float(hits.mean()) if len(hits) else None


def _judged(frame: pl.DataFrame, timeframe: Timeframe, as_of: datetime, params: OutcomeParams) -> pl.DataFrame:
    adjusted = holm(frame["p_value"].fill_null(float("nan")).to_numpy())
    significant = adjusted <= 1.0 - params.confidence_frac
    moment = pl.lit(as_of.astimezone(UTC)).cast(tables.TS)
    return frame.with_columns(
        moment.alias("ts"),
        pl.lit(timeframe.value).alias("timeframe"),
        pl.lit("divergence").alias("signal"),
        pl.Series("is_significant", significant),
        pl.Series("verdict", list(_verdicts(adjusted, significant, frame["lift_pp"].to_list())), dtype=pl.String),
        moment.alias("known_at"),
    )


def _verdicts(adjusted: Floats, significant: NDArray[np.bool_], lifts: list[float]) -> Iterator[str]:
    for p, is_significant, lift in zip(adjusted, significant, lifts, strict=True):
        if np.isnan(p):
            yield TOO_FEW
        elif is_significant:
            yield BETTER if lift > 0 else WORSE
        else:
            yield NOT_BETTER
