"""Asset checks: what must hold of freshly built rows, and which failures stop the run.

What belongs here: the checks and their verdicts. What does not: the schema, which the lake enforces at every write.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import dagster as dg
import polars as pl

from altforecast.tables import F64, table
from altforecast_io.lake import PartFile
from altforecast_pipelines.build import Built
from altforecast_pipelines.resources import House

MAX_FILES = 400
"""Newest files of a build that are looked at; older ones of a longer backfill were looked at when they were built."""
SHOWN_ROWS = 5


@dataclass(frozen=True)
class Check:
    """One rule: `find` gives the rows that break it; a blocking rule stops everything downstream."""

    name: str
    meaning: str
    find: Callable[[pl.LazyFrame, House], pl.LazyFrame]
    columns: tuple[str, ...]
    is_blocking: bool = False


def check_specs(asset: str, checks: Sequence[Check]) -> list[dg.AssetCheckSpec]:
    """Dagster's declaration of the checks of one asset."""
    return [dg.AssetCheckSpec(c.name, asset=asset, description=c.meaning, blocking=c.is_blocking) for c in checks]


def results(house: House, asset: str, built: Built, checks: Sequence[Check]) -> Iterator[dg.AssetCheckResult]:
    """Verdict of each check over the files that were written."""
    files = built.parts[-MAX_FILES:]
    for check in checks:
        bad, n_bad = broken(files, check, house)
        yield dg.AssetCheckResult(
            passed=n_bad == 0,
            asset_key=asset,
            check_name=check.name,
            severity=dg.AssetCheckSeverity.ERROR if check.is_blocking else dg.AssetCheckSeverity.WARN,
            metadata={"files": len(files), "rows_broken": n_bad, **({"first": "; ".join(bad)} if bad else {})},
        )


def broken(files: Sequence[PartFile], check: Check, house: House) -> tuple[list[str], int]:
    """Descriptions of the first rows that break a rule, and how many do."""
    found: list[str] = []
    n_found = 0
    for file in files:
        rows = check.find(pl.scan_parquet(file.path, hive_partitioning=False).select(check.columns), house).collect()
        n_found += rows.height
        found += [f"{file.name}: {row}" for row in rows.head(SHOWN_ROWS - len(found)).iter_rows()]
    return found, n_found


def unique_keys(name: str) -> Check:
    """No key twice in a file (a key's month is part of it)."""
    key = table(name).key
    return Check(
        "keys_are_unique", f"no two rows share {', '.join(key)}", lambda rows, _: rows.filter(pl.struct(key).is_duplicated()), key, True
    )


def no_future(name: str) -> Check:
    """Nothing is known before it could be: `known_at` lies at most a day ahead of the clock of this machine."""
    return Check(
        "nothing_from_the_future",
        "known_at is not later than now",
        lambda rows, house: rows.filter(pl.col("known_at") > pl.lit(house.clock()).dt.offset_by("1m")),
        ("ts", "known_at"),
        name == "bars",
    )


def ordered_prices() -> Check:
    """low <= open, close <= high, and all positive."""
    low, high = pl.col("low"), pl.col("high")
    bad = (low > pl.min_horizontal("open", "close")) | (high < pl.max_horizontal("open", "close")) | (low <= 0)
    columns = ("ts", "symbol", "exchange", "open", "high", "low", "close")
    return Check("prices_are_ordered", "0 < low <= open, close <= high", lambda rows, _: rows.filter(bad), columns, True)


def few_nulls(name: str, share: float = 0.5) -> Check:
    """Once a series has a value, it goes on having values: no column is mostly null behind its first value in a file.

    Before the first value lies the warm-up of a young series; that is no fault.
    """
    spec = table(name)
    columns = tuple(c.name for c in spec.columns if c.nullable and c.dtype == F64)
    series = tuple(c for c in spec.sort if c != "ts")

    def find(rows: pl.LazyFrame, _: House) -> pl.LazyFrame:
        behind = [pl.col(c).is_not_null().cum_max().over(series, order_by="ts").alias(f"_{c}") for c in columns]
        seen = rows.with_columns(behind)
        shares = seen.select((pl.col(c).is_null() & pl.col(f"_{c}")).sum().truediv(pl.col(f"_{c}").sum()).alias(c) for c in columns)
        found = shares.unpivot(variable_name="column", value_name="null_frac")
        return found.filter(pl.col("null_frac").is_finite() & (pl.col("null_frac") > share)).sort("column")

    return Check("values_are_present", f"less than {share:.0%} of any column is null once it has values", find, (*series, "ts", *columns))
