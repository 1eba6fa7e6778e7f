"""Events to lives, outcomes and cuts."""

from __future__ import annotations

from datetime import UTC, datetime

from altforecast.books import Book, BookState
from altforecast.opportunity_history import cut_frame, cut_rows, event_frame, opportunities, outcomes
from altforecast.tables import TABLES
from tests.domain.opportunity_lives import event, life

T0 = int(datetime(2024, 5, 1, tzinfo=UTC).timestamp() * 1000)


def test_event_frame_keeps_every_figure() -> None:
    frame = event_frame(life("a", T0, 800))
    assert frame.schema == TABLES["opportunity_events"].schema
    first, last = frame.row(0, named=True), frame.row(3, named=True)
    assert (first["event"], first["net_edge_pct"], first["expected_profit_usdt"], first["edge_curve"]) == (
        "opened", 0.2, 2.0, "[[1000.0, 0.2], [3000.0, 0.1]]",
    )  # fmt: skip
    assert (first["capture_delays_ms"], first["capture_100ms_edge_pct"]) == ("", None)
    assert (last["event"], last["capture_delays_ms"]) == ("updated", "1000,5000")
    assert (last["capture_1000ms_profit_usdt"], last["capture_5000ms_profit_usdt"]) == (-1.0, None)
    assert event_frame([]).is_empty()


def test_event_frame_keeps_the_later_of_two_rows_with_one_key() -> None:
    frame = event_frame([event("updated", "a", T0, T0, 0.2), event("updated", "a", T0, T0, 0.3)])
    assert frame["net_edge_pct"].to_list() == [0.3]


def test_opportunities_sum_up_a_life() -> None:
    row = opportunities(event_frame(life("a", T0, 800))).row(0, named=True)
    names = ("lifetime_ms", "n_events", "birth_edge_pct", "peak_edge_pct", "death_edge_pct", "risk_flags", "reason")
    assert {k: row[k] for k in names} == {
        "lifetime_ms": 800, "n_events": 3, "birth_edge_pct": 0.2, "peak_edge_pct": 0.6, "death_edge_pct": -0.1,
        "risk_flags": "thin", "reason": "edge_gone",
    }  # fmt: skip
    assert (row["birth_profit_usdt"], row["peak_profit_usdt"], row["peak_optimal_profit_usdt"]) == (2.0, 6.0, 12.0)
    assert row["ts"] == row["closed_at"] == datetime(2024, 5, 1, 0, 0, 0, 800_000, UTC)


def test_opportunities_leave_out_what_is_open_and_tell_a_lost_birth() -> None:
    events = [*list(life("a", T0, 800))[1:], *list(life("b", T0, 900))[:2]]
    found = opportunities(event_frame(events))
    assert found["id"].to_list() == ["a"]
    assert found["birth_edge_pct"].to_list() == [None]
    assert opportunities(event_frame([])).is_empty()


def test_outcomes_tell_captured_gone_and_not_live_apart() -> None:
    found = outcomes(event_frame(life("a", T0, 800)))
    assert dict(zip(found["delay_ms"], found["outcome"], strict=True)) == {100: "captured", 500: "captured", 1000: "gone", 5000: "not_live"}
    assert (found["ts"].dt.epoch("ms") - T0).to_list() == [800, 800, 5000, 5000]


def test_cut_rows_hold_live_books_alone() -> None:
    live, empty, away = (Book("okx", s) for s in ("BTC-USDT", "ETH-USDT", "SOL-USDT"))
    for book in (live, away):
        book.load([(100.0 - i, 1.0 + i) for i in range(30)], [(101.0 + i, 2.0 + i) for i in range(3)])
    live.state, live.ts_ingest_ns = BookState.LIVE, T0 * 1_000_000
    empty.state = BookState.LIVE
    away.state = BookState.SUSPECT
    frame = cut_frame(cut_rows([live, empty, away], (T0 + 5) * 1_000_000))
    assert frame.height == 1
    row = frame.row(0, named=True)
    assert (row["symbol"], len(row["bid_prices"]), row["ask_prices"], row["ts_event"]) == ("BTC-USDT", 10, [101.0, 102.0, 103.0], None)
    assert row["bid_prices"][:2] == [100.0, 99.0]
    assert row["bid_sizes"][:2] == [1.0, 2.0]
