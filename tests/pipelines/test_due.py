"""Derived tables that are due stay known until a run has built them."""

from __future__ import annotations

from datetime import timedelta

import dagster as dg
import pytest

from altforecast.types import Timeframe
from altforecast_io.store import inbox
from altforecast_pipelines import due
from altforecast_pipelines.ingest import ingest_landing, open_instance, run_backfill
from altforecast_pipelines.resources import House
from altforecast_pipelines.scope import SCOPE_TAG, decode_plan
from altforecast_pipelines.sensors import due_sensor
from tests.pipelines.conftest import BTC, END, ETHBTC, HOUR, NOW, OTHER, START, alert, deliver, land, random_bars, run_requests, tick_inbox

H1 = Timeframe.H1
LATER = timedelta(minutes=4)


def tick_due(house: House) -> dg.SensorResult | dg.SkipReason:
    with open_instance(house.settings) as instance:
        result = due_sensor(dg.build_sensor_context(instance=instance), house=house)
    assert isinstance(result, dg.SensorResult | dg.SkipReason)
    return result


def test_due_sensor_builds_what_a_run_that_failed_behind_bars_left(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    land(house, random_bars(BTC, H1, NOW - timedelta(days=90), NOW - HOUR))
    run_backfill(house.settings, clock=house.clock)
    assert due.markers(house.lake) == []
    deliver(house, alert(BTC, H1, END - timedelta(days=40), "90"))
    replace = house.lake.replace

    def fail_at_pivots(name: str, *arguments: object) -> object:
        if name == "pivots":
            raise OSError("disk full")
        return replace(name, *arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as failing:
        failing.setattr(house.lake, "replace", fail_at_pivots)
        assert [r.success for r in run_requests(house, tick_inbox(house).run_requests)] == [False]
    assert inbox.pending(house.store).n_rows == 0
    deliver(house, alert(BTC, H1, NOW - HOUR, received_at=NOW))
    assert [r.success for r in run_requests(house, tick_inbox(house, "1").run_requests)] == [True]
    assert len(due.markers(house.lake)) == 1
    assert isinstance(tick_due(house), dg.SkipReason)
    house.clock = lambda: NOW + LATER
    asked = tick_due(house)
    assert isinstance(asked, dg.SensorResult)
    (request,) = asked.run_requests or []
    (part,) = decode_plan(request.tags[SCOPE_TAG]).derived
    assert (f"{part.window.start:%Y-%m}", f"{part.window.end:%Y-%m}", part.series) == ("2024-03", "2024-06", frozenset({BTC}))
    assert [r.success for r in run_requests(house, asked.run_requests)] == [True]
    assert due.markers(house.lake) == []
    fresh = house.lake.read("pivots", "1h"), house.lake.read("indicators", "1h")
    run_backfill(house.settings, clock=house.clock)
    assert house.lake.read("pivots", "1h").equals(fresh[0])
    assert house.lake.read("indicators", "1h").equals(fresh[1])


def test_ingest_landing_leaves_a_marker_that_a_backfill_clears(house: House) -> None:
    land(house, random_bars(BTC, H1, START, START + timedelta(days=40)))
    ingest_landing(house.settings, clock=house.clock)
    assert house.lake.read("indicators").is_empty()
    (marker,) = due.markers(house.lake)
    assert (marker.tries, marker.next_at) == (0, NOW + due.PATIENCE)
    run_backfill(house.settings, clock=house.clock)
    assert due.markers(house.lake) == []


def test_due_sensor_one_run_for_all_imports(house: House) -> None:
    for series in (BTC, OTHER):
        land(house, random_bars(series, H1, START, START + timedelta(days=40)))
        ingest_landing(house.settings, clock=house.clock)
    house.clock = lambda: NOW + LATER
    asked = tick_due(house)
    assert isinstance(asked, dg.SensorResult)
    assert [r.success for r in run_requests(house, asked.run_requests)] == [True]
    assert house.lake.read("indicators").height == house.lake.read("bars").height
    assert due.markers(house.lake) == []


def test_due_sensor_tries_again_with_growing_pauses_and_gives_up(house: House) -> None:
    land(house, random_bars(BTC, H1, START, START + timedelta(days=2)))
    ingest_landing(house.settings, clock=house.clock)
    asked, keys = [], set()
    for minute in (2, 3, 8, 9, 20, 21, 44, 45, 92, 93, 190):
        house.clock = lambda at=minute: NOW + timedelta(minutes=at)  # type: ignore[misc]
        result = tick_due(house) if any(m.next_at <= house.clock() for m in due.markers(house.lake)) else None
        if isinstance(result, dg.SensorResult):
            asked.append(minute)
            keys |= {r.run_key for r in result.run_requests or []}
    assert asked == [3, 9, 21, 45, 93]
    assert len(keys) == len(asked)
    assert [m.is_given_up for m in due.markers(house.lake)] == [True]


def test_begin_leaves_markers_that_the_plan_does_not_cover(house: House) -> None:
    land(house, random_bars(BTC, H1, START, START + timedelta(days=40)))
    ingest_landing(house.settings, clock=house.clock)
    deliver(house, alert(ETHBTC, H1, START + timedelta(days=41)))
    assert [r.success for r in run_requests(house, tick_inbox(house).run_requests)] == [True]
    assert len(due.markers(house.lake)) == 1
