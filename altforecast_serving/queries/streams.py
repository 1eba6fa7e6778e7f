"""The delivery ledger for the outside: how each expected stream of alerts does right now.

What belongs here: gathering what was delivered and what the lake holds. What does not: the judgement (`altforecast.streams`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from altforecast.streams import InLake, Stream, StreamStatus, delivery_ledger, expected_streams, ledger_start, presence
from altforecast.symbols import METRIC_TIMEFRAMES
from altforecast.types import Series, Timeframe
from altforecast_io.lake import HOT_ROWS
from altforecast_io.store import inbox, settings
from altforecast_io.store.engine import Store
from altforecast_serving.lineage import Answer, newest_known
from altforecast_serving.queries.lake import LakeReader

COLUMNS = ("ts", "symbol", "exchange", "timeframe", "source")
NO_SECRET = "SECRET_WEBHOOK_TOKEN is not set: alerts are refused until it is"


def find_streams(reader: LakeReader, store: Store, now: datetime, tv_btc_symbol: str, *, has_secret: bool) -> Answer:
    """One row per expected stream, and a summary by state."""
    live = settings.LiveSettings(store)
    live.refresh()
    lookback = int(live["streams.lookback_bars"])
    since = min(ledger_start(now, tf, lookback) for tf in METRIC_TIMEFRAMES)
    received = inbox.received(store, since)
    grace = timedelta(seconds=live["streams.grace_s"])
    ledger = delivery_ledger(
        received, _in_lake(reader, now, tv_btc_symbol, lookback), now, tv_btc_symbol, grace=grace, lookback_bars=lookback
    )
    states = Counter(line.state.value for line in ledger)
    data = {"as_of": now, "summary": dict(states), "n_streams": len(ledger), "streams": [_row(line) for line in ledger]}
    known_at = newest_known(line.newest_ts + line.timeframe.duration for line in ledger if line.newest_ts)
    return Answer(data, known_at=known_at, warnings=[] if has_secret else [NO_SECRET])


def _in_lake(reader: LakeReader, now: datetime, tv_btc_symbol: str, lookback: int) -> Mapping[Stream, InLake]:
    streams = expected_streams(tv_btc_symbol)
    return presence(pl.concat([_recent(reader, series, tf, ledger_start(now, tf, lookback), lookback) for _, series, tf in streams]))


def _recent(reader: LakeReader, series: Series, timeframe: Timeframe, start: datetime, lookback: int) -> pl.DataFrame:
    """Newest bars of a stream: from memory, which holds some before `start` too, or from files where that is too short."""
    if lookback < HOT_ROWS:
        return reader.hot("bars", timeframe).of(series).select(COLUMNS)
    return reader.lake.read("bars", timeframe, start - timeframe.duration, None, [series], COLUMNS)


def _row(line: StreamStatus) -> dict[str, Any]:
    row = asdict(line)
    row["exchange"], row["symbol"] = line.series.exchange, line.series.symbol
    del row["series"]
    return {k: v.value if isinstance(v, Timeframe) else v for k, v in row.items()}
