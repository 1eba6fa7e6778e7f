"""Deciding row by row whether an imported bar is accepted, repaired or quarantined, and why.

What belongs here: the checks and the stable names of their reasons. What does not: reading files, and merging bars
that passed (`bars`). Method: docs/methods/bars.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import polars as pl

from altforecast.bar_times import may_be_autumn_change, parse_times
from altforecast.bars import find_gaps
from altforecast.errors import AltForecastError
from altforecast.params import CLEAN, CleanParams
from altforecast.symbols import CRYPTOCAP, parse_metric, parse_symbol, parse_timeframe, parse_venue
from altforecast.tables import BAR_GAPS, BARS, TS
from altforecast.types import Quality, Timeframe

ROW_REASONS = (
    "unsupported_timeframe", "unknown_exchange", "unknown_symbol", "unreadable_time", "wrong_time_unit", "misaligned_ts", "future_bar",
    "unfinished_last_bar", "ambiguous_local_time", "frozen_close_filling", "missing_ohlc", "missing_volume", "nan_value",
    "nonpositive_price", "negative_volume", "ohlc_order", "duplicate_conflict", "spike",
)  # fmt: skip
"""Why a row may be quarantined; the first that applies is given."""
REPAIRS = ("ohlc_order", "wrong_time_unit")
PRICES = ("open", "high", "low", "close")
CANDIDATE = ("row", "time", "symbol", "exchange", "timeframe", *PRICES, "volume", "recorded_at")
"""Columns that `check_bars` reads; all but `row` and `time` may be missing."""

_QUARANTINED = pl.Schema({"row": pl.Int64(), "reason": pl.String(), "detail": pl.String()})
_SERIES = ["exchange", "symbol", "timeframe"]


@dataclass(frozen=True)
class CheckOptions:
    """What the format of a file says about its rows."""

    units: tuple[str, ...] = ()
    """Units in which the format writes times; another one is repaired and counted. Empty: any."""
    ends_unfinished: bool = False
    """Whether the format always ends with the bar that is still forming (chart exports)."""
    may_lack_volume: bool = False
    """Whether bars of a venue may come without volume; otherwise such rows are mark or index prices, not trades."""


@dataclass(frozen=True)
class Checked:
    """Every row of the input is in exactly one of `accepted`, `quarantined` and the count `n_dropped`."""

    accepted: pl.DataFrame
    """Schema of `bars`; a key repeats only where a file tells several recordings of one bar, told apart by `received_at`."""
    quarantined: pl.DataFrame
    """row, reason, detail."""
    repaired: pl.DataFrame
    """row, reason, detail of accepted rows whose value was changed."""
    n_dropped: int
    """Rows that repeat another one exactly (`duplicate_identical`)."""
    gaps: pl.DataFrame
    """Holes in the accepted rows, schema of `bar_gaps`."""
    notes: tuple[str, ...] = ()


def check_bars(frame: pl.DataFrame, now: datetime, params: CleanParams = CLEAN, options: CheckOptions | None = None) -> Checked:
    """Sort the rows of one file into accepted, repaired, quarantined and dropped.

    frame: columns of CANDIDATE. `time` as `parse_times` takes it; prices and volume as numbers or text; `recorded_at` (UTC
    datetime) says when a row was recorded, otherwise it counts as received now. Symbols, venues and timeframes in any spelling.
    now: UTC; a bar whose close lies after it (or after its `recorded_at`) is unfinished.
    Missing volume is null; missing, NaN or infinite prices are quarantined. Rows of one series belong into one call, because
    duplicates, spikes and fillings are judged by their neighbours. An empty frame gives empty results.
    """
    rules = options or CheckOptions()
    read = _read(frame, now, params, rules)
    judged = _judge_rows(read, now, params, rules)
    judged, n_dropped = _judge_duplicates(judged)
    judged = _judge_neighbours(judged, params, rules)
    bad = judged.filter(pl.col("reason").is_not_null())
    good = _repair(judged.filter(pl.col("reason").is_null()), params)
    return Checked(
        accepted=_as_bars(good, now),
        quarantined=bad.select(_QUARANTINED.names()).sort("row"),
        repaired=_repairs(good),
        n_dropped=n_dropped,
        gaps=_gaps(good, params),
        notes=_notes(read),
    )


# ---- reading


def _read(frame: pl.DataFrame, now: datetime, params: CleanParams, rules: CheckOptions) -> pl.DataFrame:
    """Typed columns, canonical names, `ts` and the first reasons."""
    missing = [pl.lit(None, pl.String).alias(c) for c in CANDIDATE if c not in frame.columns]
    full = frame.with_columns(missing).select(CANDIDATE)
    times = parse_times(full["time"], now, params.first_year)
    typed = full.drop("time").with_columns(
        *(pl.col(c).cast(pl.Float64, strict=False) for c in (*PRICES, "volume")),
        (pl.col("volume").cast(pl.String).str.strip_chars().fill_null("") != "").alias("gave_volume"),
        pl.col("recorded_at").cast(TS),
        pl.lit("ohlc" if set(PRICES) <= set(frame.columns) else "partial").alias("shape"),
    )
    named = _canonical(pl.concat([typed, times], how="horizontal"))
    step = pl.col("timeframe").replace_strict({t.value: t.ms for t in Timeframe}, default=None, return_dtype=pl.Int64)
    is_other_unit = pl.col("unit").is_not_null() & (pl.lit(bool(rules.units)) & ~pl.col("unit").is_in(rules.units))
    is_stored_as_time = isinstance(full["time"].dtype, pl.Datetime)
    return named.with_columns(
        step.alias("step"), (is_other_unit | (pl.lit(is_stored_as_time) & pl.col("unit").is_not_null())).alias("unit_repaired")
    )


def _canonical(rows: pl.DataFrame) -> pl.DataFrame:
    given = rows.select("exchange", "symbol", "timeframe").unique()
    found = [_names(*row) for row in given.iter_rows()]
    schema = {"_exchange": pl.String, "_symbol": pl.String, "_timeframe": pl.String, "reason": pl.String, "detail": pl.String}
    table = pl.concat([given, pl.DataFrame(found, schema=schema, orient="row")], how="horizontal")
    table = table.with_columns(pl.struct("_exchange", "_symbol", "_timeframe").rank("dense").alias("_series"))
    joined = rows.join(table, on=_SERIES, how="left", nulls_equal=True, maintain_order="left")
    return joined.with_columns(pl.col(f"_{c}").alias(c) for c in _SERIES).drop(f"_{c}" for c in _SERIES)


def _names(exchange: str | None, symbol: str | None, timeframe: str | None) -> tuple[str | None, ...]:
    """Canonical (exchange, symbol, timeframe) and the reason and detail of the first that is not known."""
    try:
        length = parse_timeframe(timeframe or "").value
    except AltForecastError as error:
        return exchange, symbol, None, "unsupported_timeframe", str(error)
    try:
        venue = parse_venue(exchange or "")
    except AltForecastError as error:
        return None, symbol, length, "unknown_exchange", str(error)
    try:
        name = parse_metric(symbol or "").value if venue == CRYPTOCAP else parse_symbol(symbol or "")
    except AltForecastError as error:
        return venue, None, length, "unknown_symbol", str(error)
    return venue, name, length, None, None


# ---- rows by themselves


def _judge_rows(rows: pl.DataFrame, now: datetime, params: CleanParams, rules: CheckOptions) -> pl.DataFrame:
    o, h, low, c, v = (pl.col(x) for x in (*PRICES, "volume"))
    ts, at = pl.col("ts"), pl.col("ts").dt.epoch("ms")
    end, limit = at + pl.col("step"), pl.lit(int(now.timestamp() * 1000))
    recorded = pl.col("recorded_at").dt.epoch("ms")
    prices = pl.format("open={} high={} low={} close={}", *(x.cast(pl.String).fill_null("nothing") for x in (o, h, low, c)))
    outside = pl.max_horizontal((h - pl.max_horizontal(o, c, low)).neg(), (low - pl.min_horizontal(o, c)))
    is_index, has_none = pl.col("exchange") == CRYPTOCAP, v.is_null() & ~pl.col("gave_volume")
    whole = pl.col("shape") == "ohlc"
    volume = pl.format("volume={}", v.cast(pl.String).fill_null("no number"))
    steps: list[tuple[str, pl.Expr, pl.Expr]] = [
        ("", pl.col("problem").is_not_null(), pl.lit("time cannot be read as a moment between 2009 and next year")),
        ("misaligned_ts", at % pl.col("step") != 0, pl.format("ts={} is no multiple of {}", ts.dt.to_string(), "timeframe")),
        ("future_bar", at > limit, pl.format("opens at {}, after now", ts.dt.to_string())),
        ("unfinished_last_bar", end > limit, pl.format("{} closes after now", ts.dt.to_string())),
        ("unfinished_last_bar", end > recorded, pl.format("recorded at {}, before its close", pl.col("recorded_at").dt.to_string())),
        ("ambiguous_local_time", pl.col("is_twice"), pl.format("{} twice, close={}", ts.dt.to_string(), c)),
        ("frozen_close_filling", ~whole & _is_filled(params), pl.format("close={} frozen, volume={} on a straight line", c, v)),
        ("missing_ohlc", ~whole, pl.lit("file has no open, high and low; bars are not invented from closes")),
        ("missing_volume", has_none & ~is_index & ~pl.lit(rules.may_lack_volume), pl.lit("no volume: mark or index price")),
        ("nan_value", ~pl.all_horizontal(pl.col(p).is_finite().fill_null(False) for p in PRICES), prices),
        ("nan_value", (v.is_null() & pl.col("gave_volume")) | ~v.is_finite().fill_null(True), volume),
        ("nonpositive_price", pl.min_horizontal(*PRICES) <= 0, prices),
        ("negative_volume", v < 0, volume),
        ("ohlc_order", outside > params.ohlc_tolerance_frac * h.abs(), prices),
    ]  # fmt: skip
    judged = rows.with_columns(pl.int_range(pl.len()).alias("_order"), _is_twice(rows))
    for name, mask, detail in steps:
        judged = _mark(judged, name or pl.col("problem"), mask, detail)
    return judged


def _is_twice(rows: pl.DataFrame) -> pl.Series:
    """Naive night hours of an autumn clock change that stand in the file twice with different values."""
    name = "is_twice"
    if not rows["is_naive"].any():
        return pl.Series(name, [False]).new_from_index(0, rows.height)
    key = [*_SERIES, "ts"]
    is_pair = rows.select(key).is_duplicated() & ~rows.select(*key, "close", "volume").is_duplicated()
    return (is_pair & rows.select(pl.col("is_naive") & may_be_autumn_change(pl.col("ts")).fill_null(False)).to_series()).alias(name)


def _mark(rows: pl.DataFrame, reason: str | pl.Expr, mask: pl.Expr, detail: pl.Expr) -> pl.DataFrame:
    """Give reason and detail to rows of the mask that have none yet; a null in the mask is no."""
    hit = mask.fill_null(False) & pl.col("reason").is_null()
    named = pl.lit(reason) if isinstance(reason, str) else reason
    flagged = rows.with_columns(hit.alias("_hit"))
    if not flagged["_hit"].any():
        return rows
    return flagged.with_columns(
        pl.when("_hit").then(named).otherwise("reason").alias("reason"), pl.when("_hit").then(detail).otherwise("detail").alias("detail")
    ).drop("_hit")


def _is_filled(params: CleanParams) -> pl.Expr:
    """Close equal to the one before and a traded volume on the straight line through its two predecessors.

    Rows of a series stand together in order of time, as files have them.
    """
    c, v, at = pl.col("close"), pl.col("volume"), pl.col("ts").dt.epoch("ms")
    bend = (v - 2 * v.shift(1) + v.shift(2)).abs()
    is_run = (at - at.shift(2)).abs() == 2 * pl.col("step")
    same_series = pl.col("_series") == pl.col("_series").shift(2)
    return (c == c.shift(1)) & (v > 0) & (bend <= params.frozen_volume_tolerance_frac * v) & is_run & same_series


# ---- rows among others


def _judge_duplicates(rows: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """Drop exact repeats; of different rows for one bar and recording keep the one written last in time."""
    valid = rows.filter(pl.col("reason").is_null())
    keys = ["_series", "ts", "recorded_at"]
    is_double = valid.select(keys).is_duplicated()
    if not is_double.any():
        return rows, 0
    single, double = valid.filter(~is_double), valid.filter(is_double)
    direction = (pl.col("ts").last() < pl.col("ts").first()).alias("_newest_first")
    distinct = double.unique([*keys, *PRICES, "volume"], keep="first", maintain_order=True)
    ranked = distinct.join(valid.group_by("_series").agg(direction), on="_series", how="left", maintain_order="left")
    order = pl.when("_newest_first").then(-pl.col("_order")).otherwise("_order")
    ranked = ranked.with_columns((order == order.max().over(keys)).alias("_winner"))
    detail = pl.format("another row for {} came later: close={} volume={} lost", pl.col("ts").dt.to_string(), "close", "volume")
    lost = _mark(ranked.filter(~pl.col("_winner")), "duplicate_conflict", pl.lit(True), detail)
    bad = rows.filter(pl.col("reason").is_not_null())
    kept = [part.select(rows.columns) for part in (bad, single, ranked.filter("_winner"), lost)]
    return pl.concat(kept).sort("_order"), double.height - distinct.height


def _judge_neighbours(rows: pl.DataFrame, params: CleanParams, rules: CheckOptions) -> pl.DataFrame:
    """Bad ticks, and last bars that were still forming when the file was made."""
    valid = rows.filter(pl.col("reason").is_null()).sort("_series", "ts", "recorded_at")
    same_bar = (pl.col("_series") == pl.col("_series").shift(-1)) & (pl.col("ts") == pl.col("ts").shift(-1))
    newest = valid.filter(~same_bar.fill_null(False)).with_columns(_spike().alias("_spike"))
    spikes = newest.filter(pl.col("_spike") > params.spike_return_log).select("_order", "_spike")
    judged = rows.join(spikes, on="_order", how="left", maintain_order="left")
    judged = judged.join(_forming(newest, rules), on="_order", how="left", maintain_order="left")
    detail = pl.format("high={} low={}, {} log away from both neighbours", "high", "low", pl.col("_spike").round(3))
    judged = _mark(judged, "unfinished_last_bar", pl.col("_forming").is_not_null(), pl.col("_forming"))
    return _mark(judged, "spike", pl.col("_spike").is_not_null(), detail).drop("_spike", "_forming")


def _spike() -> pl.Expr:
    """Log distance by which high or low leaves both neighbours; null for the first and last bar of a series."""
    high, low = pl.col("high"), pl.col("low")
    is_inside = pl.all_horizontal((pl.col("_series") == pl.col("_series").shift(k)).fill_null(False) for k in (1, -1))
    up = (high / pl.max_horizontal(high.shift(1), high.shift(-1))).log()
    down = (pl.min_horizontal(low.shift(1), low.shift(-1)) / low).log()
    return pl.when(is_inside).then(pl.max_horizontal(up, down))


def _forming(rows: pl.DataFrame, rules: CheckOptions) -> pl.DataFrame:
    """`_order` and `_forming` (why) of last bars that the file itself shows to be unfinished."""
    is_last = pl.col("_series").ne_missing(pl.col("_series").shift(-1))
    last = rows.filter(is_last).with_columns((pl.col("ts").dt.epoch("ms") + pl.col("step")).alias("end"))
    if rules.ends_unfinished:
        return last.select("_order", pl.lit("a chart export ends with the bar that is still forming").alias("_forming"))
    pair = ["exchange", "symbol"]
    finest = last.sort("step").unique(pair, keep="first").select(*pair, pl.col("end").alias("seen"), pl.col("step").alias("fine"))
    joined = last.join(finest, on=pair, how="left")
    is_open = (pl.col("ts").dt.epoch("ms") < pl.col("seen")) & (pl.col("seen") < pl.col("end"))
    flagged = joined.with_columns(is_open.alias("is_open")).filter(pl.col("is_open").any().over(pair))
    flagged = flagged.filter(pl.col("is_open") | (pl.col("step") == pl.col("fine")))
    reason = pl.format("recorded while forming: finer bars of the series end at {}", pl.col("seen").cast(TS).dt.to_string())
    return flagged.select("_order", reason.alias("_forming"))


# ---- results


def _repair(rows: pl.DataFrame, params: CleanParams) -> pl.DataFrame:
    """High and low stretched over open and close (only rounding is left here), quality marks."""
    high, low = pl.max_horizontal(*PRICES), pl.min_horizontal(*PRICES)
    changed = (high != pl.col("high")) | (low != pl.col("low"))
    is_flat = (high == low) & (pl.col("exchange") != CRYPTOCAP)
    quality = (
        pl.when(is_flat & (pl.col("volume") == 0))
        .then(pl.lit(Quality.QUIET.value))
        .when(is_flat & _is_filled(params))
        .then(pl.lit(Quality.FEED_DOWN.value))
        .otherwise(pl.lit(Quality.BACKFILLED.value))
    )
    ordered = rows.sort("_series", "ts")
    return ordered.with_columns(changed.alias("ohlc_repaired"), high.alias("high"), low.alias("low"), quality.alias("quality"))


def _as_bars(rows: pl.DataFrame, now: datetime) -> pl.DataFrame:
    return rows.with_columns(
        pl.lit("import").alias("source"),
        pl.col("recorded_at").fill_null(pl.lit(now).cast(TS)).alias("received_at"),
        (pl.col("ts").dt.epoch("ms") + pl.col("step")).cast(TS).alias("known_at"),
    ).select(BARS.schema.names())


def _repairs(rows: pl.DataFrame) -> pl.DataFrame:
    unit = rows.filter("unit_repaired").select(
        "row", pl.lit("wrong_time_unit").alias("reason"), pl.format("read as {}", "unit").alias("detail")
    )
    order = rows.filter("ohlc_repaired").select(
        "row", pl.lit("ohlc_order").alias("reason"), pl.lit("high or low moved to open or close: rounding").alias("detail")
    )
    return pl.concat([unit, order]).sort("row", "reason")


def _gaps(rows: pl.DataFrame, params: CleanParams) -> pl.DataFrame:
    found = [find_gaps(rows, Timeframe(tf), params) for tf in sorted(rows["timeframe"].unique().to_list())]
    return pl.concat([BAR_GAPS.empty(), *found])


def _notes(rows: pl.DataFrame) -> tuple[str, ...]:
    units = rows["unit"].drop_nulls().unique().sort().to_list()
    notes = [f"times are numbers in {' and '.join(units)}"] if units else []
    if rows["is_naive"].any():
        notes.append("times carry no zone and were read as UTC")
    return tuple(notes)
