"""Shares, their intervals, and what a midnight may know."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from altforecast.opportunity_history import event_frame, opportunities, outcomes
from altforecast.opportunity_stats import day_share, statistics, wilson
from tests.domain.opportunity_lives import life, lives

START = datetime(2024, 5, 1, tzinfo=UTC)
T0 = int(START.timestamp() * 1000)
DAY_MS = 86_400_000


def test_wilson_equals_published_values() -> None:
    found = wilson(81, 263)
    assert (round(found.low, 4), round(found.high, 4)) == (0.2553, 0.3662)
    assert wilson(0, 20).low == 0.0
    assert wilson(20, 20).high == 1.0


def test_day_share_is_wider_where_days_are_alike() -> None:
    days = np.repeat(np.arange(20), 50)
    mixed = np.tile(np.array([True, False]), 500)
    bursts = days % 2 == 0
    loose, tight = day_share(bursts, days), day_share(mixed, days)
    assert loose.frac == tight.frac == 0.5
    assert tight.high - tight.low < 0.01 < 0.3 < loose.high - loose.low


def tables(n: int = 200, days: int = 10) -> tuple[pl.DataFrame, pl.DataFrame]:
    events = event_frame(lives(T0, T0 + days * DAY_MS, n))
    return opportunities(events), outcomes(events)


def row(frame: pl.DataFrame, dimension: str, key: str) -> dict[str, object]:
    return frame.filter((pl.col("dimension") == dimension) & (pl.col("key") == key)).row(0, named=True)


def test_statistics_count_every_opportunity_once_per_dimension() -> None:
    closed, known = tables()
    found = statistics(closed, known, START + timedelta(days=11))
    sums = dict(found.group_by("dimension").agg(pl.col("n").sum()).iter_rows())
    assert sums == {"all": 200, "pair": 200, "venue": 400, "hour": 200, "type": 200}
    everything = row(found, "all", "all")
    assert everything["n_5000ms"] == 200
    assert everything["median_lifetime_ms"] == closed["lifetime_ms"].median()
    assert everything["capture_1000ms_frac"] == (closed["lifetime_ms"] >= 1000).mean()
    assert everything["ci_method"] == "day_cluster"
    assert everything["capture_1000ms_ci_low"] < everything["capture_1000ms_frac"] < everything["capture_1000ms_ci_high"]  # type: ignore[operator]


def test_statistics_know_only_what_was_known_before() -> None:
    closed, known = tables()
    as_of = START + timedelta(days=6)
    before = statistics(closed.filter(pl.col("known_at") < as_of), known.filter(pl.col("known_at") < as_of), as_of)
    assert statistics(closed, known, as_of).equals(before)
    assert row(before, "all", "all")["n"] < 200  # type: ignore[operator]
    assert statistics(closed, known, START).is_empty()
    assert statistics(closed, known, START + timedelta(days=60)).is_empty()


def test_statistics_of_few_days_use_wilson() -> None:
    events = event_frame([*life("a", T0 + 5, 2000), *life("b", T0 + 9, 200)])
    found = row(statistics(opportunities(events), outcomes(events), START + timedelta(days=1)), "pair", "BTC-USDT okx>kraken")
    assert (found["n"], found["capture_1000ms_frac"], found["ci_method"]) == (2, 0.5, "wilson")
    assert found["capture_1000ms_ci_low"] == pytest.approx(wilson(1, 2).low)
    assert (found["capture_100ms_frac"], found["profit_100ms_usdt"], found["profit_5000ms_usdt"]) == (1.0, 6.0, 0.0)
