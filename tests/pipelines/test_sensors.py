"""Sensors: one run per burst, nothing twice, nothing left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import dagster as dg

from altforecast.types import Series, Timeframe
from altforecast_io.store import inbox
from altforecast_pipelines.ingest import open_instance
from altforecast_pipelines.instance import EXPRESS, LANE_TAG
from altforecast_pipelines.resources import House
from altforecast_pipelines.scope import SCOPE_TAG, decode_plan
from altforecast_pipelines.sensors import due_sensor, inbox_sensor, landing_sensor, late_data_sensor, wait_for_inbox
from tests.pipelines.conftest import BTC, ETHBTC, HOUR, NOW, SERIES, USDT_D, alert, deliver, land, random_bars, run_requests, tick_inbox

AT = datetime(2024, 5, 1, tzinfo=UTC)
H1, M15 = Timeframe.H1, Timeframe.M15


def test_inbox_sensor_burst_is_one_run_on_the_express_lane(house: House) -> None:
    deliver(house, *(alert(s, tf, AT) for s in SERIES for tf in (M15, H1)))
    result = tick_inbox(house)
    (request,) = result.run_requests or []
    assert request.run_key is not None
    assert request.run_key.startswith("inbox:0-8:")
    assert result.cursor == "8"
    assert request.tags[LANE_TAG] == EXPRESS
    assert request.tags["dagster/asset_partition_range_start"] == "2024-05-01"
    plan = decode_plan(request.tags[SCOPE_TAG])
    assert plan.inbox_to == 8
    assert {p.timeframe for p in plan.derived} == {M15, H1}


def test_inbox_sensor_repeated_tick_has_the_same_run_key(house: House) -> None:
    deliver(house, alert(BTC, H1, AT))
    first, again = tick_inbox(house, "0"), tick_inbox(house, "0")
    keys = [r.run_key for r in first.run_requests or []]
    assert keys == [r.run_key for r in again.run_requests or []]
    assert len(keys) == 1
    behind = tick_inbox(house, first.cursor)
    assert not behind.run_requests
    assert behind.cursor == "1"


def test_inbox_sensor_cursor_of_another_store_starts_at_what_is_unbuilt(house: House) -> None:
    deliver(house, *(alert(BTC, H1, AT + HOUR * i) for i in range(3)))
    inbox.mark_built(house.store, 1, "earlier")
    result = tick_inbox(house, "9000")
    (request,) = result.run_requests or []
    assert request.run_key is not None
    assert request.run_key.startswith("inbox:1-3:")
    assert result.cursor == "3"
    assert [r.success for r in run_requests(house, result.run_requests)] == [True]
    assert inbox.pending(house.store).n_rows == 0
    assert tick_inbox(house, "9000").cursor == "3"


def test_inbox_sensor_run_keys_of_two_stores_differ(make_house: Callable[[str], House]) -> None:
    old, new, restored = make_house("old"), make_house("new"), make_house("restored")
    keys = []
    for one, ts, cursor in ((old, AT, "0"), (new, AT + HOUR, "0"), (restored, AT, "7")):
        deliver(one, alert(BTC, H1, ts))
        keys += [r.run_key for r in tick_inbox(one, cursor).run_requests or []]
    assert len(set(keys)) == 3


def test_inbox_sensor_after_an_hour_without_dagster_builds_everything(house: House) -> None:
    land(house, random_bars(BTC, H1, AT - timedelta(days=40), AT), "history")
    run_requests(house, _landing(house).run_requests)
    for i in range(60):
        deliver(house, *(alert(s, M15, AT + timedelta(minutes=15) * i) for s in (BTC, ETHBTC, USDT_D)))
    deliver(house, alert(BTC, H1, AT), alert(BTC, H1, AT + HOUR))
    result = tick_inbox(house)
    assert [r.success for r in run_requests(house, result.run_requests)] == [True]
    assert inbox.pending(house.store).n_rows == 0
    assert house.lake.read("bars", "15m").height == house.lake.read("indicators", "15m").height == 180
    assert house.lake.read("indicators", "1h")["ts"].max() == AT + HOUR
    assert not tick_inbox(house, result.cursor).run_requests


def test_inbox_sensor_late_bar_reaches_back(house: House) -> None:
    land(house, random_bars(BTC, H1, AT - timedelta(days=70), AT), "history")
    run_requests(house, _landing(house).run_requests)
    deliver(house, alert(BTC, H1, AT - timedelta(days=50)))
    (request,) = tick_inbox(house).run_requests or []
    assert request.tags["dagster/asset_partition_range_start"] == "2024-03-01"
    assert request.tags["dagster/asset_partition_range_end"] == "2024-04-01"


def test_late_data_sensor_asks_again_for_a_lost_run(house: House) -> None:
    deliver(house, alert(BTC, H1, AT, received_at=NOW - timedelta(minutes=10)))
    with open_instance(house.settings) as instance:
        result = late_data_sensor(dg.build_sensor_context(instance=instance), house=house)
    assert isinstance(result, dg.SensorResult)
    assert [r.success for r in run_requests(house, result.run_requests)] == [True]
    with open_instance(house.settings) as instance:
        assert isinstance(late_data_sensor(dg.build_sensor_context(instance=instance), house=house), dg.SkipReason)


def test_late_data_sensor_leaves_fresh_rows_to_the_inbox_sensor(house: House) -> None:
    deliver(house, alert(BTC, H1, AT, received_at=NOW - timedelta(seconds=5)))
    with open_instance(house.settings) as instance:
        assert isinstance(late_data_sensor(dg.build_sensor_context(instance=instance), house=house), dg.SkipReason)


def test_landing_sensor_takes_all_files_in_one_run(house: House) -> None:
    land(house, random_bars(BTC, H1, AT - HOUR * 5, AT), "a")
    land(house, random_bars(Series("okx", "SOL-USDT"), H1, AT - HOUR * 5, AT), "b")
    result = _landing(house)
    (request,) = result.run_requests or []
    assert decode_plan(request.tags[SCOPE_TAG]).landing == ("a.parquet", "b.parquet")
    assert [r.run_key for r in _landing(house).run_requests or []] == [request.run_key]
    run_requests(house, result.run_requests)
    assert house.lake.read("bars").height == 10


def _landing(house: House) -> dg.SensorResult:
    with open_instance(house.settings) as instance:
        result = landing_sensor(dg.build_sensor_context(instance=instance), house=house)
    assert isinstance(result, dg.SensorResult)
    return result


def test_wait_for_inbox_returns_when_a_row_comes(house: House) -> None:
    sender = threading.Timer(0.3, lambda: deliver(house, alert(BTC, H1, AT)))
    sender.start()
    assert wait_for_inbox(house, 0, lambda: False, wait_s=20.0) == 1
    sender.join()


def test_wait_for_inbox_waits_for_the_run_in_the_way(house: House) -> None:
    deliver(house, alert(BTC, H1, AT))
    free_at = time.monotonic() + 0.3
    assert wait_for_inbox(house, 0, lambda: time.monotonic() < free_at, wait_s=20.0) == 1
    assert time.monotonic() >= free_at


def test_wait_for_inbox_gives_up_in_time(house: House) -> None:
    assert wait_for_inbox(house, 0, lambda: False, wait_s=0.2) == 0


def test_inbox_sensor_runs_by_default() -> None:
    sensors: list[Callable[..., object]] = [inbox_sensor, late_data_sensor, landing_sensor, due_sensor]
    assert all(isinstance(s, dg.SensorDefinition) and s.default_status is dg.DefaultSensorStatus.RUNNING for s in sensors)
