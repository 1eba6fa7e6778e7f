"""Opportunity events from landing files to statistics: once, in any order of months, through killed runs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from altforecast.books import Book, BookState
from altforecast.opportunity_history import cut_frame, cut_rows, event_frame
from altforecast.types import Window
from altforecast_io.lake import month_start, next_month
from altforecast_io.landing import compact_landing, landing_files, write_landing
from altforecast_pipelines import arbitrage
from altforecast_pipelines.arbitrage import DERIVED, LANDED, PLAN_TAG, ArbitragePlan, decode_plan, encode_plan, markers
from altforecast_pipelines.arbitrage_sensors import arbitrage_sensor
from altforecast_pipelines.definitions import build_definitions
from altforecast_pipelines.ingest import open_instance
from altforecast_pipelines.jobs import QUIET
from altforecast_pipelines.partitions import range_tags
from altforecast_pipelines.resources import House
from tests.domain.opportunity_lives import in_time, life, lives

START, END = datetime(2024, 3, 26, tzinfo=UTC), datetime(2024, 4, 5, tzinfo=UTC)
NOW = datetime(2024, 4, 5, 12, tzinfo=UTC)
TABLES = (LANDED[0], *DERIVED)


def ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def all_events(n: int = 200) -> pl.DataFrame:
    """Events over two months; one life spans the turn."""
    turn = life("turn", ms(datetime(2024, 4, 1, tzinfo=UTC)) - 1500, 3000)
    return event_frame(in_time([*lives(ms(START), ms(END), n), *turn]))


def land(house: House, frame: pl.DataFrame, files: int = 3, table: str = "opportunity_events") -> None:
    size = frame.height // files + 1
    for i in range(files):
        write_landing(house.lake.root, f"part-{i}", frame[i * size : (i + 1) * size], table=table)


def run(house: House, tags: dict[str, str], is_good: bool = True) -> dg.ExecuteInProcessResult:
    job = build_definitions(overrides={"house": house}).resolve_job_def("on_arbitrage")
    with open_instance(house.settings) as instance:
        result = job.execute_in_process(run_config=QUIET, instance=instance, tags=tags, raise_on_error=False)
    assert result.success is is_good
    return result


def run_months(house: House, start: datetime, end: datetime) -> None:
    run(house, range_tags(Window(start, end)))


def tick(house: House, cursor: str | None = None) -> dg.SensorResult | dg.SkipReason:
    with open_instance(house.settings) as instance:
        return arbitrage_sensor(dg.build_sensor_context(instance=instance, cursor=cursor), house=house)  # type: ignore[no-any-return]


def contents(house: House) -> dict[str, pl.DataFrame]:
    return {name: house.lake.read(name) for name in TABLES}


def at_end(house: House) -> House:
    house.clock = lambda: NOW
    return house


@pytest.fixture
def house(make_house: Callable[[str], House]) -> House:
    """An empty house on the last day of the events."""
    return at_end(make_house("home"))


@pytest.fixture(scope="module")
def events() -> pl.DataFrame:
    return all_events()


def test_plan_survives_its_tag() -> None:
    for plan in (ArbitragePlan(), ArbitragePlan({"book_cuts": ("a.parquet",)}, Window(month_start(START), next_month(END)))):
        assert decode_plan(encode_plan(plan)) == plan


def test_run_takes_landing_files_in_and_builds_everything(house: House, events: pl.DataFrame) -> None:
    land(house, events)
    result = tick(house)
    assert isinstance(result, dg.SensorResult)
    assert result.run_requests is not None
    run(house, dict(result.run_requests[0].tags))
    found = contents(house)
    assert found["opportunity_events"].equals(events)
    assert found["opportunities"].height == 201
    assert found["opportunity_outcomes"].height == 4 * 201
    assert set(found["opportunity_stats"]["dimension"]) == {"all", "pair", "venue", "hour", "type"}
    assert landing_files(house.lake.root, "opportunity_events") == []
    assert markers(house.lake) == []
    assert "nothing landed" in str(tick(house, result.cursor))
    record = house.lake.files("opportunities")[-1].provenance()
    assert [i.name for i in record.inputs] == ["opportunity_events@2024-03", "opportunity_events@2024-04"]


def test_months_one_by_one_give_what_all_at_once_gives(make_house: Callable[[str], House], events: pl.DataFrame) -> None:
    at_once, one_by_one = at_end(make_house("at_once")), at_end(make_house("one_by_one"))
    land(at_once, events)
    run_months(at_once, month_start(START), next_month(END))
    for month in (3, 4):
        start = datetime(2024, month, 1, tzinfo=UTC)
        land(one_by_one, events.filter((pl.col("ts") >= start) & (pl.col("ts") < next_month(start))), files=1)
        run_months(one_by_one, start, next_month(start))
    for name, frame in contents(at_once).items():
        assert frame.equals(contents(one_by_one)[name]), name


def test_rows_do_not_depend_on_what_came_later(make_house: Callable[[str], House], events: pl.DataFrame) -> None:
    until = datetime(2024, 4, 2, 7, tzinfo=UTC)
    whole, early = at_end(make_house("whole")), at_end(make_house("early"))
    land(whole, events)
    land(early, events.filter(pl.col("ts") < until))
    for each in (whole, early):
        run_months(each, month_start(START), next_month(END))
    for name in TABLES:
        known = pl.col("known_at") <= until.replace(hour=0) if name == "opportunity_stats" else pl.col("known_at") < until
        expected = whole.lake.read(name).filter(known)
        assert expected.height > 50
        assert expected.equals(early.lake.read(name).filter(known)), name


def test_files_taken_in_twice_change_nothing(house: House, events: pl.DataFrame) -> None:
    land(house, events)
    run_months(house, month_start(START), next_month(END))
    before = contents(house)
    land(house, events, files=5)
    run_months(house, month_start(START), next_month(END))
    assert all(frame.equals(before[name]) for name, frame in contents(house).items())


@pytest.mark.parametrize("at", ["mark", "remove_landing"])
def test_run_killed_while_taking_in_loses_nothing(house: House, events: pl.DataFrame, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    land(house, events)
    with monkeypatch.context() as killed:
        killed.setattr(arbitrage, at, lambda *_: 1 / 0)
        run(house, range_tags(Window(month_start(START), next_month(END))), is_good=False)
    assert len(landing_files(house.lake.root, "opportunity_events")) == 3
    result = tick(house)
    assert isinstance(result, dg.SensorResult)
    run(house, dict((result.run_requests or [])[0].tags))
    assert contents(house)["opportunities"].height == 201


def test_months_left_due_by_a_failed_run_are_asked_for_again(house: House, events: pl.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    land(house, events)
    with monkeypatch.context() as failing:
        failing.setattr("altforecast.opportunity_history.outcomes", lambda _: 1 / 0)
        run(house, range_tags(Window(month_start(START), next_month(END))), is_good=False)
    assert landing_files(house.lake.root, "opportunity_events") == []
    assert [m.window for m in markers(house.lake)] == [Window(month_start(START), next_month(END))]
    assert "nothing landed" in str(tick(house))
    house.clock = lambda: NOW + arbitrage.PATIENCE
    result = tick(house)
    assert isinstance(result, dg.SensorResult)
    run(house, dict((result.run_requests or [])[0].tags))
    assert contents(house)["opportunity_outcomes"].height == 4 * 201
    assert markers(house.lake) == []


def test_a_marker_is_given_up_after_its_tries(house: House) -> None:
    arbitrage.mark(house, "lost", Window(month_start(START), next_month(START)))
    now, asked = NOW, 0
    for _ in range(20):
        now += timedelta(days=1)
        asked += arbitrage.retry(house.lake, now) is not None
    assert asked == arbitrage.MAX_TRIES
    house.clock = lambda: now
    arbitrage.mark(house, "next", None)
    assert [(m.name, m.tries) for m in markers(house.lake)] == [("next", arbitrage.MAX_TRIES)]


def test_sensor_asks_for_each_table_at_its_own_pace(house: House, events: pl.DataFrame) -> None:
    book = Book("okx", "BTC-USDT")
    book.load([(1.0, 1.0)], [(2.0, 1.0)])
    book.state = BookState.LIVE
    land(house, events[:10], files=1)
    write_landing(house.lake.root, "cut-1", cut_frame(cut_rows([book], ms(NOW) * 1_000_000)), table="book_cuts")
    first = tick(house)
    assert isinstance(first, dg.SensorResult)
    assert set(decode_plan((first.run_requests or [])[0].tags[PLAN_TAG]).landing) == set(LANDED)
    assert "not long enough ago" in str(tick(house, first.cursor))
    house.clock = lambda: NOW + timedelta(minutes=6)
    second = tick(house, first.cursor)
    assert isinstance(second, dg.SensorResult)
    assert set(decode_plan((second.run_requests or [])[0].tags[PLAN_TAG]).landing) == {"opportunity_events"}
    run(house, dict((first.run_requests or [])[0].tags))
    assert house.lake.read("book_cuts")["bid_prices"].to_list() == [[1.0]]


def test_compact_landing_loses_and_doubles_nothing(house: House, events: pl.DataFrame) -> None:
    land(house, events, files=10)
    assert compact_landing(house.lake.root, "opportunity_events", min_files=11) == 0
    assert compact_landing(house.lake.root, "opportunity_events", min_files=10) == 10
    assert [p.name for p in landing_files(house.lake.root, "opportunity_events")] == ["part-9-c.parquet"]
    land(house, events[:50], files=1)
    run_months(house, month_start(START), next_month(END))
    assert contents(house)["opportunity_events"].equals(events)


def test_lake_shows_cuts_in_sql(house: House) -> None:
    from altforecast_io.query import connect

    book = Book("okx", "BTC-USDT")
    book.load([(1.0, 3.0)], [(2.0, 1.0)])
    book.state = BookState.LIVE
    write_landing(house.lake.root, "cut-1", cut_frame(cut_rows([book], ms(NOW) * 1_000_000)), table="book_cuts")
    run_months(house, month_start(NOW), next_month(NOW))
    assert connect(house.lake).sql("SELECT bid_sizes[1] FROM book_cuts").fetchall() == [(3.0,)]


def test_replay_grid_leaves_a_table(house: House, real_data: Path) -> None:
    job = build_definitions(overrides={"house": house}).resolve_job_def("replay_grid")
    source = str(real_data / "recordings" / "cryptofeed" / "OKX.ws.1.0")
    config = {"source": source, "format": "cryptofeed", "venue": "okx", "sizes_usdt": [1000.0, 3000.0], "thresholds_pct": [0.1, 0.2, 0.3]}
    with open_instance(house.settings) as instance:
        result = job.execute_in_process(run_config={"ops": {"replay_choices": {"config": config}}}, instance=instance)
    found = pl.read_parquet(next((house.lake.root / "replays").glob("*.parquet")))
    assert found.select("size_usdt", "threshold_pct").rows() == [(s, t) for s in (1000.0, 3000.0) for t in (0.1, 0.2, 0.3)]
    assert set(found["frames"]) == {415}
    metadata = next(e.step_output_data.metadata for e in result.all_events if e.is_successful_output)
    assert metadata["digest"].value == found["digest"][0]
    assert str(metadata["results"].value).count("\n") == 7
