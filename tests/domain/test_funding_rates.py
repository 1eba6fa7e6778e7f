"""Settled funding is checked row by row; nothing is accepted before it could be known."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from altforecast.funding_rates import CANDIDATE, check_funding
from altforecast.tables import FUNDING_RATES

NOW = datetime(2026, 7, 1, tzinfo=UTC)
SETTLED_MS = 1_782_604_800_000
"""2026-06-28 00:00."""


def candidates(**changes: Any) -> pl.DataFrame:
    """One good row; lists give more."""
    row = {"row": 0, "time": SETTLED_MS, "symbol": "BTCUSDT", "exchange": "Binance", "funding_rate": "0.0001", "interval_h": 8} | changes
    n = max(len(v) for v in row.values() if isinstance(v, list)) if any(isinstance(v, list) for v in row.values()) else 1
    columns = {k: v if isinstance(v, list) else [v] * n for k, v in row.items()}
    return pl.DataFrame(columns | {"row": list(range(n))}, strict=False).select(CANDIDATE)


@pytest.mark.parametrize("late_ms", [0, 6, 13])
def test_check_funding_puts_late_stamps_on_the_schedule(late_ms: int) -> None:
    row = check_funding(candidates(time=SETTLED_MS + late_ms), NOW).accepted.row(0, named=True)
    assert row["ts"] == datetime(2026, 6, 28, tzinfo=UTC)
    assert row["known_at"] - row["ts"] == timedelta(minutes=1)
    assert (row["symbol"], row["exchange"], row["funding_rate"], row["interval_h"]) == ("BTC-USDT-PERP", "binance", 1e-4, 8)


def test_check_funding_drops_repetitions_of_a_settlement() -> None:
    found = check_funding(candidates(time=[SETTLED_MS, SETTLED_MS + 13, SETTLED_MS + 28_800_000]), NOW)
    assert (found.accepted.height, found.n_dropped, found.refused.height) == (2, 1, 0)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"funding_rate": "NaN"}, "bad_rate"),
        ({"funding_rate": None}, "bad_rate"),
        ({"funding_rate": "much"}, "bad_rate"),
        ({"funding_rate": 0.11}, "bad_rate"),
        ({"symbol": "?"}, "bad_symbol"),
        ({"symbol": None}, "bad_symbol"),
        ({"exchange": "!"}, "bad_symbol"),
        ({"time": None}, "unreadable_time"),
        ({"time": 12}, "wrong_time_unit"),
        ({"time": int(NOW.timestamp() * 1000)}, "future_time"),
    ],
)
def test_check_funding_refuses_with_the_reason(changes: dict[str, Any], reason: str) -> None:
    found = check_funding(candidates(**changes), NOW)
    assert found.accepted.is_empty()
    assert found.refused["reason"].to_list() == [reason]
    assert found.refused["detail"].null_count() == 0


@pytest.mark.parametrize(("hours", "expected"), [(8, 8), ("4", 4), (None, None), (0, None), (25, None), (7.5, None)])
def test_check_funding_keeps_whole_intervals_only(hours: object, expected: int | None) -> None:
    assert check_funding(candidates(interval_h=hours), NOW).accepted["interval_h"].to_list() == [expected]


def test_check_funding_of_nothing_is_nothing() -> None:
    found = check_funding(candidates().clear(), NOW)
    assert found.accepted.schema == FUNDING_RATES.schema
    assert found.accepted.is_empty()
    assert found.refused.is_empty()
