"""The delivery ledger: which streams of bars should arrive, and how each of them does.

What belongs here: the expected streams and the judgement of one moment. What does not: counting deliveries (store.inbox),
reading the lake, or filling holes (pipelines).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

import polars as pl

from altforecast.symbols import CRYPTOCAP, DEFAULT_TV_BTC_SYMBOL, METRIC_TIMEFRAMES, metric_series
from altforecast.types import Metric, Series, Timeframe

GRACE = timedelta(seconds=120)
"""How long after its close a bar may be on its way before its stream is late."""
LOOKBACK_BARS = 96
"""Bars per stream that the ledger looks at."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Stream = tuple[Series, Timeframe]


class StreamState(StrEnum):
    """How a stream does, the best first."""

    ON_TIME = "on_time"
    """Every expected bar was delivered, or the newest is still within its grace."""
    REPAIRED = "repaired"
    """Bars that were not delivered have been filled from an exchange."""
    LATE = "late"
    """Only the newest closed bar is overdue."""
    MISSING = "missing"
    """Older bars are overdue that an exchange can give: a backfill repairs them."""
    FLAGGED = "flagged"
    """Older bars of an index series are overdue: nobody else publishes them, the hole stays."""
    NEVER_SEEN = "never_seen"
    """No alert of this stream ever came: it was probably never made."""


@dataclass(frozen=True)
class Received:
    """What was delivered for one stream: deliveries counted, and the opens of the bars they were for."""

    n_received: int
    n_duplicates: int
    n_revisions: int
    last_received_at: datetime
    opens: frozenset[datetime]


@dataclass(frozen=True)
class InLake:
    """Bars of one stream in the lake within the window, by how they came: delivered as an alert, or filled otherwise."""

    delivered: frozenset[datetime] = frozenset()
    filled: frozenset[datetime] = frozenset()


@dataclass(frozen=True)
class StreamStatus:
    """One line of the ledger."""

    metric: Metric
    series: Series
    timeframe: Timeframe
    state: StreamState
    newest_ts: datetime | None
    """Open of the newest bar that is known."""
    expected_next_at: datetime
    """When the alert of the bar after the newest is due: its close."""
    last_received_at: datetime | None
    n_received: int
    n_duplicates: int
    n_revisions: int
    n_expected: int
    """Closed bars that the ledger looked at [bars]."""
    missing: tuple[datetime, ...]
    """Opens of outstanding bars, oldest first."""
    repaired: tuple[datetime, ...]
    """Opens of bars that were filled instead of delivered, oldest first."""
    is_repairable: bool
    """Whether an exchange publishes this series."""


def expected_streams(tv_btc_symbol: str = DEFAULT_TV_BTC_SYMBOL) -> list[tuple[Metric, Series, Timeframe]]:
    """The 24 streams that should arrive: six metrics on four timeframes."""
    return [(metric, metric_series(metric, tv_btc_symbol), tf) for metric in Metric for tf in METRIC_TIMEFRAMES]


def presence(bars: pl.DataFrame) -> dict[Stream, InLake]:
    """Which bars of each stream came as alerts and which otherwise; empty for no bars.

    bars: columns ts, symbol, exchange, timeframe, source of the table bars.
    """
    streams = bars.group_by("exchange", "symbol", "timeframe").agg(
        pl.col("ts").filter(pl.col("source") == "tradingview").alias("delivered"),
        pl.col("ts").filter(pl.col("source") != "tradingview").alias("filled"),
    )
    return {
        (Series(row["exchange"], row["symbol"]), Timeframe(row["timeframe"])): InLake(frozenset(row["delivered"]), frozenset(row["filled"]))
        for row in streams.iter_rows(named=True)
    }


def ledger_start(now: datetime, timeframe: Timeframe, lookback_bars: int = LOOKBACK_BARS) -> datetime:
    """Open of the oldest of the last `lookback_bars` bars that have closed by `now`."""
    return _last_closed(now, timeframe) - (lookback_bars - 1) * timeframe.duration


def delivery_ledger(
    received: Mapping[Stream, Received],
    in_lake: Mapping[Stream, InLake],
    now: datetime,
    tv_btc_symbol: str = DEFAULT_TV_BTC_SYMBOL,
    *,
    grace: timedelta = GRACE,
    lookback_bars: int = LOOKBACK_BARS,
) -> list[StreamStatus]:
    """One status per expected stream, in the order of metrics and timeframes.

    received, in_lake: what is known since `ledger_start` of each timeframe, and the newest open before it; absent streams are
    empty. A stream is expected from its first delivered bar on, so an alert made yesterday is not blamed for last week.
    now: UTC-aware. `missing` and `repaired` hold at most `lookback_bars` opens.
    """
    return [
        _status(metric, series, tf, received.get((series, tf)), in_lake.get((series, tf), InLake()), now, grace, lookback_bars)
        for metric, series, tf in expected_streams(tv_btc_symbol)
    ]


def _status(
    metric: Metric,
    series: Series,
    timeframe: Timeframe,
    got: Received | None,
    lake: InLake,
    now: datetime,
    grace: timedelta,
    lookback_bars: int,
) -> StreamStatus:
    delivered = lake.delivered | (got.opens if got else frozenset())
    known = delivered | lake.filled
    expected = _opens(min(delivered, default=None), now, timeframe, lookback_bars)
    missing = tuple(ts for ts in expected if ts not in known)
    repaired = tuple(ts for ts in expected if ts in lake.filled and ts not in delivered)
    newest = max(known, default=None)
    return StreamStatus(
        metric=metric,
        series=series,
        timeframe=timeframe,
        state=_state(series, bool(delivered), _overdue(missing, now - grace, timeframe), bool(repaired), _last_closed(now, timeframe)),
        newest_ts=newest,
        expected_next_at=(newest or _last_closed(now, timeframe)) + 2 * timeframe.duration,
        last_received_at=got.last_received_at if got else None,
        n_received=got.n_received if got else 0,
        n_duplicates=got.n_duplicates if got else 0,
        n_revisions=got.n_revisions if got else 0,
        n_expected=len(expected),
        missing=missing,
        repaired=repaired,
        is_repairable=series.exchange != CRYPTOCAP,
    )


def _overdue(missing: tuple[datetime, ...], now: datetime, timeframe: Timeframe) -> tuple[datetime, ...]:
    return tuple(ts for ts in missing if ts + timeframe.duration <= now)


def _state(series: Series, is_seen: bool, overdue: tuple[datetime, ...], is_repaired: bool, last_closed: datetime) -> StreamState:
    if not is_seen:
        return StreamState.NEVER_SEEN
    if not overdue:
        return StreamState.REPAIRED if is_repaired else StreamState.ON_TIME
    if overdue == (last_closed,):
        return StreamState.LATE
    return StreamState.FLAGGED if series.exchange == CRYPTOCAP else StreamState.MISSING


def _opens(first: datetime | None, now: datetime, timeframe: Timeframe, lookback_bars: int) -> list[datetime]:
    """Opens of all closed bars from `first`, but at most `lookback_bars` of them; empty without a first."""
    if first is None:
        return []
    start = max(first, ledger_start(now, timeframe, lookback_bars))
    count = (_last_closed(now, timeframe) - start) // timeframe.duration + 1
    return [start + i * timeframe.duration for i in range(max(count, 0))]


def _last_closed(now: datetime, timeframe: Timeframe) -> datetime:
    """Open of the newest bar that has closed by `now`."""
    return now - (now - _EPOCH) % timeframe.duration - timeframe.duration
