"""Counts over the lake: what there is, from when to when.

What belongs here: counts per series, per metric and overall, summed from per-file counts that are kept until a file changes.
What does not: prices over time (`bars`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl

from altforecast.symbols import METRIC_TIMEFRAMES, metric_series
from altforecast.types import DivergenceStatus, Metric, Series, Timeframe
from altforecast_io.lake import PartFile
from altforecast_serving.lineage import Answer, newest_known
from altforecast_serving.queries.divergences import count_statuses
from altforecast_serving.queries.lake import LakeReader
from altforecast_serving.queries.rows import EMPTY_LAKE
from altforecast_serving.queries.tail import Tail

Counts = dict[tuple[Series, Timeframe], "Count"]


@dataclass(frozen=True)
class Count:
    """Bars of one series on one timeframe."""

    n_bars: int
    first_ts: datetime
    last_ts: datetime
    low: float
    high: float
    sum_close: float


def _part_counts(part: PartFile) -> Counts:
    lazy = pl.scan_parquet(part.path, hive_partitioning=False).group_by("symbol", "exchange")
    frame = lazy.agg(
        pl.len(), pl.col("ts").min().alias("first"), pl.col("ts").max().alias("last"),
        pl.col("low").min(), pl.col("high").max(), pl.col("close").sum(),
    ).collect()  # fmt: skip
    timeframe = Timeframe(part.timeframe)
    return {
        (Series(e, s), timeframe): Count(n, first, last, low, high, total) for s, e, n, first, last, low, high, total in frame.iter_rows()
    }


def count_bars(reader: LakeReader) -> Counts:
    """Counts of every series and timeframe of the lake."""
    totals: Counts = {}
    for part in reader.lake.files("bars"):
        for key, more in reader.of_part("counts", part, _part_counts).items():
            totals[key] = _sum(totals[key], more) if key in totals else more
    return totals


def _sum(a: Count, b: Count) -> Count:
    first, last = min(a.first_ts, b.first_ts), max(a.last_ts, b.last_ts)
    return Count(a.n_bars + b.n_bars, first, last, min(a.low, b.low), max(a.high, b.high), a.sum_close + b.sum_close)


def find_symbols(reader: LakeReader, tail: Tail, metrics: dict[Series, str]) -> Answer:
    """Every series with its timeframes, counts and last close; series that exist only in the inbox tail are marked."""
    counts = count_bars(reader)
    rows = []
    for series in sorted({s for s, _ in counts} | set(tail.series)):
        timeframes = [_timeframe(reader, tail, series, tf, counts.get((series, tf))) for tf in Timeframe]
        rows.append({
            "symbol": series.symbol, "exchange": series.exchange, "metric": metrics.get(series),
            "timeframes": [t for t in timeframes if t is not None],
        })  # fmt: skip
    return Answer(rows, _newest_parts(reader), _known_at(counts), bool(tail.series), warnings=[] if rows else [EMPTY_LAKE])


def _timeframe(reader: LakeReader, tail: Tail, series: Series, timeframe: Timeframe, count: Count | None) -> dict[str, Any] | None:
    fresh = tail.of(series, timeframe)
    if count is None and fresh is None:
        return None
    held = reader.hot("bars", timeframe).of(series)
    newest = fresh if fresh is not None and (held.is_empty() or fresh["ts"][-1] >= held["ts"][-1]) else held
    return {
        "timeframe": timeframe.value, "n_bars": count.n_bars if count else 0, "n_provisional": fresh.height if fresh is not None else 0,
        "first_ts": count.first_ts if count else newest["ts"][0], "last_ts": newest["ts"][-1], "last_close": newest["close"][-1],
    }  # fmt: skip


def find_metric_stats(reader: LakeReader, tv_btc_symbol: str) -> Answer:
    """One row per metric and timeframe (also those without bars): counts, span, last close and change, range, mean close."""
    counts = count_bars(reader)
    rows = [_metric_row(reader, counts, metric, metric_series(metric, tv_btc_symbol), tf) for metric in Metric for tf in METRIC_TIMEFRAMES]
    warnings = [] if counts else [EMPTY_LAKE]
    return Answer(rows, _newest_parts(reader), newest_known(r["known_at"] for r in rows), warnings=warnings)


def _metric_row(reader: LakeReader, counts: Counts, metric: Metric, series: Series, timeframe: Timeframe) -> dict[str, Any]:
    count = counts.get((series, timeframe))
    closes = reader.hot("bars", timeframe).of(series)["close"]
    last = closes[-1] if len(closes) else None
    return {
        "metric": metric.value, "symbol": series.symbol, "exchange": series.exchange, "timeframe": timeframe.value,
        "n_bars": count.n_bars if count else 0,
        "first_ts": count.first_ts if count else None, "last_ts": count.last_ts if count else None,
        "known_at": count.last_ts + timeframe.duration if count else None,
        "last_close": last, "change_pct": (last / closes[-2] - 1) * 100 if len(closes) > 1 and closes[-2] else None,
        "low": count.low if count else None, "high": count.high if count else None,
        "mean_close": count.sum_close / count.n_bars if count else None,
    }  # fmt: skip


def find_stats(reader: LakeReader, tail: Tail) -> Answer:
    """Overall counts: metrics, timeframes, series, bars, provisional bars, divergences by status."""
    counts = count_bars(reader)
    statuses = count_statuses(reader, list(Timeframe))
    data = {
        "metrics": [m.value for m in Metric],
        "timeframes": [tf.value for tf in sorted({tf for _, tf in counts}, key=lambda tf: tf.ms)],
        "n_series": len({s for s, _ in counts} | set(tail.series)),
        "n_bars": sum(c.n_bars for c in counts.values()),
        "n_provisional_bars": sum(f.height for f in tail.matching(Timeframe)),
        "n_bars_by_timeframe": _by_timeframe(counts),
        "n_active_divergences": statuses[DivergenceStatus.ACTIVE.value],
        "n_divergences": sum(statuses.values()),
        "n_divergences_by_status": statuses,
        "first_ts": min((c.first_ts for c in counts.values()), default=None),
        "last_ts": max((c.last_ts for c in counts.values()), default=None),
    }
    return Answer(data, _newest_parts(reader), _known_at(counts), bool(tail.series), warnings=[] if counts else [EMPTY_LAKE])


def _by_timeframe(counts: Counts) -> dict[str, int]:
    totals: dict[str, int] = {}
    for (_, timeframe), count in sorted(counts.items(), key=lambda item: item[0][1].ms):
        totals[timeframe.value] = totals.get(timeframe.value, 0) + count.n_bars
    return totals


def _known_at(counts: Counts) -> datetime | None:
    return newest_known(count.last_ts + timeframe.duration for (_, timeframe), count in counts.items())


def _newest_parts(reader: LakeReader) -> list[tuple[PartFile, Any]]:
    """All parts of the bars table with their provenance."""
    return list(_with_provenance(reader, reader.lake.files("bars")))


def _with_provenance(reader: LakeReader, parts: Iterable[PartFile]) -> Iterable[tuple[PartFile, Any]]:
    return ((part, record) for part in parts if (record := reader.provenance(part)) is not None)
