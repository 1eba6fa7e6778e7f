"""Arrivals: taken in once, whatever happens in between."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from altforecast.types import Timeframe
from altforecast_io.landing import landing_files
from altforecast_io.store import inbox
from altforecast_pipelines import intake
from altforecast_pipelines.intake import bars_of, month_runs, take_in, touched_by_inbox, touched_by_landing, waiting_rows
from altforecast_pipelines.resources import House
from altforecast_pipelines.scope import Plan
from altforecast_pipelines.sensors import plan_inbox, plan_landing
from tests.pipelines.conftest import BTC, ETHBTC, HOUR, USDT_D, alert, deliver, land, random_bars

AT = datetime(2024, 4, 30, 22, tzinfo=UTC)
H1 = Timeframe.H1


def take(house: House, plan: Plan, run_id: str = "run-1") -> int:
    return take_in(house, plan, house.provenance("bars", run_id)).n_rows


def test_take_in_inbox_over_a_month_end(house: House) -> None:
    deliver(house, *(alert(BTC, H1, AT + HOUR * i) for i in range(4)))
    plan = plan_inbox(house, inbox.last_id(house.store))
    assert plan is not None
    take(house, plan)
    bars = house.lake.read("bars", "1h")
    assert bars["ts"].to_list() == [AT + HOUR * i for i in range(4)]
    assert set(bars["quality"]) == {"observed"}
    assert [f.month for f in house.lake.files("bars")] == ["2024-04", "2024-05"]
    assert inbox.pending(house.store).n_rows == 0
    assert house.lake.files("bars")[0].provenance().inputs[0].name == "inbox 1..4"


def test_take_in_killed_before_the_mark_loses_and_doubles_nothing(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    land(house, random_bars(BTC, H1, AT - HOUR * 5, AT + HOUR))
    deliver(house, alert(BTC, H1, AT, received_at=AT + HOUR * 2), alert(ETHBTC, H1, AT))
    plan = Plan((), inbox.last_id(house.store), tuple(f.name for f in landing_files(house.lake.root)))
    with monkeypatch.context() as killed:
        killed.setattr("altforecast_io.store.inbox.mark_built", _die)
        with pytest.raises(KeyboardInterrupt):
            take(house, plan)
    assert inbox.pending(house.store).n_rows == 2
    assert len(landing_files(house.lake.root)) == 1
    half = house.lake.read("bars")
    take(house, plan, "run-2")
    assert house.lake.read("bars").equals(half)
    assert house.lake.read("bar_revisions").height == 1
    assert half.select("symbol", "exchange", "timeframe", "ts").is_duplicated().any() is False
    assert half.height == 7
    assert (inbox.pending(house.store).n_rows, landing_files(house.lake.root)) == (0, [])


def _die(*_: object) -> None:
    raise KeyboardInterrupt


def test_take_in_killed_between_revisions_and_bars_keeps_the_replaced_value(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    land(house, random_bars(BTC, H1, AT, AT + HOUR))
    take(house, plan_landing(house, landing_files(house.lake.root)))
    first = house.lake.read("bars")["close"].item()
    deliver(house, alert(BTC, H1, AT, "250", received_at=AT + HOUR * 9))
    plan = plan_inbox(house, 1)
    assert plan is not None
    replace = house.lake.replace

    def die_at_bars(name: str, *arguments: object) -> object:
        if name == "bars":
            _die()
        return replace(name, *arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as killed:
        killed.setattr(house.lake, "replace", die_at_bars)
        with pytest.raises(KeyboardInterrupt):
            take(house, plan)
    take(house, plan)
    assert house.lake.read("bar_revisions")["close"].to_list() == [first]
    assert house.lake.read("bars")["close"].to_list() == [250.0]


def test_take_in_takes_no_row_behind_the_plan(house: House) -> None:
    deliver(house, alert(BTC, H1, AT), alert(BTC, H1, AT + HOUR))
    plan = plan_inbox(house, 1)
    assert plan is not None
    take(house, plan)
    assert house.lake.read("bars").height == 1
    assert inbox.pending(house.store).n_rows == 1


def test_take_in_revision_in_one_batch_keeps_both_values(house: House) -> None:
    deliver(house, alert(BTC, H1, AT, "100"), alert(BTC, H1, AT, "101", received_at=AT + HOUR * 2))
    plan = plan_inbox(house, 2)
    assert plan is not None
    take(house, plan)
    assert house.lake.read("bars")["close"].to_list() == [101.0]
    assert house.lake.read("bar_revisions")["close"].to_list() == [100.0]


def test_waiting_rows_reads_on_behind_one_batch(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "READ_ROWS", 3)
    deliver(house, *(alert(BTC, H1, AT + HOUR * i) for i in range(10)))
    assert [r.id for r in waiting_rows(house.store, 8)] == list(range(1, 9))


def test_bars_of_index_series_has_no_volume_where_none_came(house: House) -> None:
    from dataclasses import replace

    inbox.append(house.store, [inbox.Delivery(replace(alert(USDT_D, H1, AT), volume=None))])
    assert bars_of(waiting_rows(house.store, 1))["volume"].to_list() == [None]
    assert bars_of([]).is_empty()


def test_touched_by_inbox_spans_each_stream(house: House) -> None:
    deliver(house, alert(BTC, H1, AT), alert(BTC, H1, AT - HOUR * 30), alert(ETHBTC, H1, AT))
    found = {t.series: (t.first, t.last) for t in touched_by_inbox(waiting_rows(house.store, 3))}
    assert found == {BTC: (AT - HOUR * 30, AT), ETHBTC: (AT, AT)}


def test_touched_by_landing_names_each_month(house: House) -> None:
    land(house, random_bars(BTC, H1, AT, AT + HOUR * 4))
    found = touched_by_landing(landing_files(house.lake.root))
    assert [(t.first, t.last) for t in found] == [(AT, AT + HOUR), (AT + HOUR * 2, AT + HOUR * 3)]
    assert touched_by_landing([]) == []


def test_month_runs_leaves_untouched_months_out() -> None:
    bars = pl.concat([random_bars(BTC, H1, AT - timedelta(days=d), AT - timedelta(days=d) + HOUR) for d in (0, 31, 90)])
    runs = [(w.start.month, w.end.month, f.height) for w, f in month_runs(bars)]
    assert runs == [(1, 2, 1), (3, 5, 2)]
    assert [f.height for _, f in month_runs(bars, rows=1)] == [1, 1, 1]
    assert list(month_runs(bars.clear())) == []
