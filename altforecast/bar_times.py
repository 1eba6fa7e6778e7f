"""Reading the time column of a bar file: numbers in any unit and ISO text become UTC milliseconds.

What belongs here: units, plausible years and clock changes. What does not: alignment with a timeframe (`bar_checks`).
"""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl

from altforecast.tables import TS

UNITS = ("s", "ms", "us", "ns")
_MS_PER_UNIT = {"s": 1000.0, "ms": 1.0, "us": 1e-3, "ns": 1e-6}
_ISO = (
    r"^\s*(?P<date>\d{4}-\d{2}-\d{2})(?:[ T](?P<minute>\d{2}:\d{2})(?::(?P<second>\d{2})(?P<fraction>\.\d+)?)?)?"
    r"\s*(?P<zone>Z|UTC|[+-]\d{2}:?\d{2})?\s*$"
)
_NUMBER = r"^\s*\d+(\.\d+)?\s*$"


def parse_times(column: pl.Series, now: datetime, first_year: int) -> pl.DataFrame:
    """Open times of bars from a raw column, one row per value.

    column: datetimes, dates, epoch numbers (s, ms, us or ns, told by their size: between `first_year` and a year after `now`
    the four never overlap), numbers as text, or ISO text with or without a zone (without one it is read as UTC).
    Returns `ts` (UTC ms, null where unreadable), `unit` (of numbers; null for readable text and datetimes), `is_naive` (text
    without a zone) and `problem` (null | unreadable_time | wrong_time_unit). A datetime in an implausible year is read again
    as the number it stores. Null gives `unreadable_time`. An empty column gives an empty frame.
    """
    bounds = (_ms(datetime(first_year, 1, 1, tzinfo=UTC)), _ms(now) + 366 * 86_400_000)
    if column.dtype == pl.String:
        return _from_text(column, bounds)
    if column.dtype == pl.Date:
        column = column.cast(pl.Datetime("ms"))
    if isinstance(column.dtype, pl.Datetime):
        return _from_datetime(column, bounds)
    return _from_numbers(column.cast(pl.Float64, strict=False), bounds)


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def _from_numbers(column: pl.Series, bounds: tuple[int, int]) -> pl.DataFrame:
    value = pl.col("value")
    in_ms = {unit: value * factor for unit, factor in _MS_PER_UNIT.items()}
    fits = {unit: ms.is_between(*bounds) for unit, ms in in_ms.items()}
    unit = pl.coalesce(pl.when(fits[u]).then(pl.lit(u)) for u in UNITS)
    ms = pl.coalesce(pl.when(fits[u]).then(in_ms[u]) for u in UNITS)
    problem = (
        pl.when(value.is_null() | value.is_nan())
        .then(pl.lit("unreadable_time"))
        .when(ms.is_null())
        .then(pl.lit("wrong_time_unit"))
        .alias("problem")
    )
    frame = column.alias("value").to_frame()
    return frame.select(
        ms.round(3).floor().cast(pl.Int64, strict=False).cast(TS).alias("ts"),
        unit.alias("unit"),
        pl.lit(False).alias("is_naive"),
        problem,
    )


def _from_datetime(column: pl.Series, bounds: tuple[int, int]) -> pl.DataFrame:
    stored = _from_numbers(column.to_physical().cast(pl.Float64), bounds)
    declared = (
        column.dt.replace_time_zone("UTC") if getattr(column.dtype, "time_zone", None) is None else column.dt.convert_time_zone("UTC")
    )
    plain = pl.DataFrame({"at": declared.dt.cast_time_unit("ms")}).select(
        pl.when(pl.col("at").dt.epoch("ms").is_between(*bounds)).then("at").alias("at")
    )["at"]
    is_plain = plain.is_not_null()
    return stored.with_columns(
        pl.when(is_plain).then(plain.cast(TS)).otherwise("ts").alias("ts"),
        pl.when(~is_plain).then("unit").alias("unit"),
        pl.when(~is_plain).then("problem").alias("problem"),
    )


def _from_text(column: pl.Series, bounds: tuple[int, int]) -> pl.DataFrame:
    text = column.alias("text").to_frame()
    numbers = _from_numbers(
        text.select(pl.when(pl.col("text").str.contains(_NUMBER)).then(pl.col("text").str.strip_chars().cast(pl.Float64, strict=False)))[
            "text"
        ],
        bounds,
    )
    if numbers["unit"].null_count() == 0:
        return numbers
    parts = text.select(pl.col("text").str.extract_groups(_ISO)).unnest("text")
    clock = pl.format(
        "{} {}:{}", "date", pl.col("minute").fill_null("00:00"), pl.col("second").fill_null("00") + pl.col("fraction").fill_null("")
    )
    zone = pl.col("zone").str.replace(":", "")
    sign = pl.when(zone.str.starts_with("-")).then(-1).otherwise(1)
    minutes = sign * (zone.str.slice(1, 2).cast(pl.Int64, strict=False) * 60 + zone.str.slice(3, 2).cast(pl.Int64, strict=False))
    local = clock.str.to_datetime("%Y-%m-%d %H:%M:%S%.f", strict=False, time_unit="ms")
    read = parts.select(
        (local - pl.duration(minutes=minutes.fill_null(0))).dt.replace_time_zone("UTC").cast(TS).alias("ts"),
        (pl.col("zone").is_null() & pl.col("date").is_not_null()).alias("is_naive"),
    )
    is_plausible = pl.col("ts").dt.epoch("ms").is_between(*bounds)
    iso = read.with_columns(
        pl.when(is_plausible).then("ts").alias("ts"),
        pl.when(pl.col("ts").is_null())
        .then(pl.lit("unreadable_time"))
        .when(~is_plausible)
        .then(pl.lit("wrong_time_unit"))
        .alias("problem"),
    )
    is_number = text.select(pl.col("text").str.contains(_NUMBER).fill_null(False))["text"]
    return numbers.with_columns(
        pl.when(is_number).then("ts").otherwise(iso["ts"]).alias("ts"),
        pl.when(is_number).then(False).otherwise(iso["is_naive"].fill_null(False)).alias("is_naive"),
        pl.when(is_number).then("problem").otherwise(iso["problem"]).alias("problem"),
    )


def may_be_autumn_change(ts: pl.Expr) -> pl.Expr:
    """Whether a naive time lies in the night hours (00:00-03:59) in which local clocks are set back.

    Last Sunday of October (Europe), first Sunday of November (America), first Sunday of April (Australia). Null gives null.
    """
    is_night = (ts.dt.weekday() == 7) & (ts.dt.hour() < 4)
    month, day = ts.dt.month(), ts.dt.day()
    return is_night & (((month == 10) & (day >= 25)) | (month.is_in([11, 4]) & (day <= 7)))
