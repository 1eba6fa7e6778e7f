"""Checking settled funding: candidate rows become the table `funding_rates`, or are refused with a reason.

What belongs here: the rules for one row of funding. What does not: file formats (`altforecast_io.funding_files`) and features
(`reading_features`).
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

import polars as pl

from altforecast.bar_times import parse_times
from altforecast.errors import InputError
from altforecast.params import CLEAN
from altforecast.symbols import parse_symbol, parse_venue
from altforecast.tables import FUNDING_RATES, TS

LATENESS = "1m"
"""A settlement is known this long after its moment: suppliers stamp it up to some milliseconds late and publish it a little later,
so a bar that closes at that moment does not know it."""
MAX_RATE = 0.1
"""Fraction per interval beyond which a rate is a mistake: venues cap it at 0.04 or below."""
MAX_INTERVAL_H = 24
CANDIDATE = ("row", "time", "symbol", "exchange", "funding_rate", "interval_h")


class CheckedFunding(NamedTuple):
    """Good rows, refused ones (row, reason, detail), and how many repeated a settlement."""

    accepted: pl.DataFrame
    refused: pl.DataFrame
    n_dropped: int


def check_funding(candidates: pl.DataFrame, now: datetime) -> CheckedFunding:
    """Rows of table `funding_rates` from raw ones.

    candidates: columns of CANDIDATE: row [int], time (anything `parse_times` reads), symbol and exchange (any spelling; a symbol
    without -PERP gets it, funding exists for perpetuals only), funding_rate (number or text), interval_h (number or null). Every row
    is accepted, refused (unreadable_time, wrong_time_unit, future_time, bad_symbol, bad_rate) or dropped as a repetition of a
    settlement that stands before it. An interval that is no whole number of 1 to 24 h is null. Empty in, empty out.
    """
    rows = _read(candidates, now)
    reason = (
        pl.when(pl.col("problem").is_not_null()).then(pl.col("problem"))
        .when(pl.col("known_at") > now).then(pl.lit("future_time"))
        .when(pl.any_horizontal(pl.col("symbol", "exchange").is_null())).then(pl.lit("bad_symbol"))
        .when(~(pl.col("funding_rate").abs() <= MAX_RATE).fill_null(False) | pl.col("funding_rate").is_nan()).then(pl.lit("bad_rate"))
    )  # fmt: skip
    judged = rows.with_columns(reason.alias("reason"))
    good = judged.filter(pl.col("reason").is_null())
    accepted = good.unique(FUNDING_RATES.key, keep="first", maintain_order=True).select(FUNDING_RATES.schema.names())
    refused = judged.filter(pl.col("reason").is_not_null()).select("row", "reason", "detail")
    return CheckedFunding(FUNDING_RATES.conform(accepted), refused, good.height - accepted.height)


def _read(candidates: pl.DataFrame, now: datetime) -> pl.DataFrame:
    times = parse_times(candidates["time"], now, CLEAN.first_year)
    hours = pl.col("interval_h").cast(pl.Float64, strict=False)
    is_whole = hours.is_between(1, MAX_INTERVAL_H) & (hours == hours.round())
    named = candidates.with_columns(
        times["ts"].dt.round("1m").cast(TS), times["problem"],
        pl.col("symbol").cast(pl.String).replace_strict(_names(candidates["symbol"], _perpetual), return_dtype=pl.String),
        pl.col("exchange").cast(pl.String).replace_strict(_names(candidates["exchange"], parse_venue), return_dtype=pl.String),
        pl.col("funding_rate").cast(pl.Float64, strict=False),
        pl.when(is_whole).then(hours).cast(pl.Int64).alias("interval_h"),
        detail=pl.format("{} {}: {}", *(pl.col(c).cast(pl.String).fill_null("null") for c in ("symbol", "time", "funding_rate"))),
    )  # fmt: skip
    return named.with_columns(pl.col("ts").dt.offset_by(LATENESS).alias("known_at"), pl.lit("import").alias("source"))


def _names(column: pl.Series, parse: object) -> dict[str | None, str | None]:
    return {text: _parsed(text, parse) for text in column.cast(pl.String).unique().to_list()}


def _parsed(text: str | None, parse: object) -> str | None:
    try:
        return None if text is None else str(parse(text))  # type: ignore[operator]
    except InputError:
        return None


def _perpetual(text: str) -> str:
    symbol = parse_symbol(text)
    return symbol if symbol.endswith("-PERP") else f"{symbol}-PERP"
