"""Plans: what arrivals make due."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from altforecast.types import Series, Timeframe, Window
from altforecast_pipelines.scope import MAX_SERIES, MAX_STARTS, Part, Touched, decode_plan, encode_plan, plan_arrivals, plan_range

A, B = Series("binance", "BTC-USDT"), Series("cryptocap", "USDT.D")
H1, D1 = Timeframe.H1, Timeframe.D1


def day(year: int, month: int, day: int = 1) -> datetime:
    return datetime(year, month, day, tzinfo=UTC)


def test_plan_arrivals_newest_bar_is_the_current_month_and_series_alone() -> None:
    at = day(2024, 5, 17)
    plan = plan_arrivals([Touched(H1, A, at, at)], newest=at)
    assert plan.derived == (Part(H1, Window(day(2024, 5), day(2024, 6)), frozenset({A})),)


def test_plan_arrivals_late_bar_reaches_to_the_newest_month() -> None:
    late = day(2024, 1, 31)
    plan = plan_arrivals([Touched(H1, A, late, late)], newest=day(2024, 4, 20))
    assert plan.derived == (Part(H1, Window(day(2024, 1), day(2024, 5)), frozenset({A})),)


def test_plan_arrivals_series_with_one_start_share_a_part() -> None:
    at = day(2024, 5, 17)
    plan = plan_arrivals([Touched(H1, A, at, at), Touched(H1, B, at, at), Touched(D1, A, at, at)], newest=at)
    assert [(p.timeframe, p.series) for p in plan.derived] == [(H1, frozenset({A, B})), (D1, frozenset({A}))]


def test_plan_arrivals_late_series_does_not_widen_the_others() -> None:
    plan = plan_arrivals(
        [Touched(H1, A, day(2024, 2, 3), day(2024, 2, 3)), Touched(H1, B, day(2024, 5, 1), day(2024, 5, 1))], day(2024, 5, 1)
    )
    assert {p.series: p.window.start for p in plan.derived} == {frozenset({A}): day(2024, 2), frozenset({B}): day(2024, 5)}


def test_plan_arrivals_many_starts_become_one_part() -> None:
    series = [Series("x", f"A{i}-USDT") for i in range(MAX_STARTS + 1)]
    plan = plan_arrivals([Touched(H1, s, day(2023, i + 1), day(2023, i + 1)) for i, s in enumerate(series)], day(2024, 1, 1))
    assert plan.derived == (Part(H1, Window(day(2023, 1), day(2024, 2)), frozenset(series)),)


def test_plan_arrivals_many_series_become_all() -> None:
    series = [Series("x", f"A{i}-USDT") for i in range(MAX_SERIES + 1)]
    plan = plan_arrivals([Touched(H1, s, day(2024, 1), day(2024, 1)) for s in series], day(2024, 1))
    assert plan.derived[0].series is None


def test_plan_arrivals_nothing_gives_an_empty_plan() -> None:
    assert plan_arrivals([], day(2024, 1)).window is None


@pytest.mark.parametrize("series", [None, frozenset({A, B})])
def test_encode_plan_round_trip(series: frozenset[Series] | None) -> None:
    plan = plan_range(Window(day(2024, 1), day(2024, 3)), [H1, D1], inbox_to=7, landing=["a.parquet"])
    plan = type(plan)((*plan.derived, Part(H1, Window(day(2024, 1), day(2024, 2)), series)), plan.inbox_to, plan.landing)
    assert decode_plan(encode_plan(plan)) == plan


def test_decode_plan_refuses_other_text() -> None:
    with pytest.raises((ValueError, KeyError)):
        decode_plan('{"derived": []}')
