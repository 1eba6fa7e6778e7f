"""The ledger: identity, throttled telling, deaths, captures on the books that followed, bounds, rows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from altforecast.books import Book, BookState
from altforecast.capture_chance import CaptureChance
from altforecast.opportunities import Opportunity, OpportunityEvent, OpportunityEventKind, OpportunityType, opportunity_row
from altforecast.opportunity_history import event_frame, outcomes
from altforecast.opportunity_ledger import What, opportunity_id
from altforecast.params import ArbitrageParams
from altforecast.scanner import Scanner
from altforecast.trading_terms import TradingTerms
from tests.domain.random_books import NOW_NS, flat

MS = 1_000_000
PARAMS = ArbitrageParams(target_size_usdt=300.0, withdraw_cost_usdt=0.1)
OPENED, UPDATED, CLOSED = OpportunityEventKind


class Desk:
    """Two venues whose sell side is moved by hand."""

    def __init__(self, params: ArbitrageParams = PARAMS, chance: CaptureChance | None = None) -> None:
        self.scanner = Scanner(TradingTerms({"a": 10.0, "b": 10.0}), params, chance)
        self.buy, self.sell = flat("a", "BTC-USDT", 99.9, 100.0), flat("b", "BTC-USDT", 99.9, 100.0)
        for book in (self.buy, self.sell):
            self.scanner.set_book(book)

    def at(self, ms: int, bid: float | None = None) -> list[OpportunityEvent]:
        """Evaluate `ms` after the beginning, with another bid on the sell side where given."""
        if bid is not None:
            self.sell.load([(bid, 100.0), (50.0, 1.0)], [(bid + 0.1, 100.0)])
            self.scanner.mark(self.sell)
        return self.scanner.evaluate(NOW_NS + ms * MS)


def test_opportunity_id_is_the_same_everywhere() -> None:
    what = What(OpportunityType.SPATIAL, "BTC-USDT", "okx", "kraken", "BTC-USDT")
    assert opportunity_id(what, 1_700_000_000_000) == "2dea8a4390b77351"
    assert opportunity_id(what, 1_700_000_000_001) != opportunity_id(what, 1_700_000_000_000)
    assert opportunity_id(what._replace(sell_exchange="htx"), 1_700_000_000_000) != opportunity_id(what, 1_700_000_000_000)


def test_life_of_an_opportunity() -> None:
    desk = Desk()
    events = [*desk.at(0, 101.0), *desk.at(300, 102.0), *desk.at(600, 101.5), *desk.at(900, 99.95)]
    assert [e.kind for e in events] == [OPENED, UPDATED, UPDATED, CLOSED]
    assert len({e.opportunity.id for e in events}) == 1
    last = events[-1]
    assert (last.reason, last.ts_ms - last.opened_ms, last.peak_ms - last.opened_ms) == ("edge_gone", 900, 300)
    assert last.peak_edge_pct == events[1].opportunity.net_edge_pct
    assert last.opportunity.net_edge_pct == events[2].opportunity.net_edge_pct
    (again,) = [e for e in desk.at(1000, 101.0) if e.kind is OPENED]
    assert again.opportunity.id != last.opportunity.id


def test_updates_are_held_back_and_told_when_due() -> None:
    desk = Desk()
    desk.at(0, 101.0)
    assert desk.at(10, 101.01) == []
    assert desk.scanner.next_due_ns() == NOW_NS + 100 * MS
    assert desk.at(249) == []
    (event,) = desk.at(250)
    assert event.kind is UPDATED
    assert event.opportunity.ts_detected_ms == NOW_NS // MS + 10
    assert desk.at(499) == []
    # a change of more than 10 % is told at once
    assert [e.kind for e in desk.at(251, 101.5)] == [UPDATED]
    assert desk.at(252, 101.5) == []


def captures_of(events: list[OpportunityEvent]) -> dict[int, tuple[float | None, float | None]]:
    return {c.delay_ms: (c.net_edge_pct, c.profit_usdt) for e in events for c in e.captures}


def test_captures_are_valued_on_the_books_that_followed() -> None:
    desk = Desk()
    (born,) = desk.at(0, 101.0)
    events = [*desk.at(100), *desk.at(300, 100.5), *desk.at(500), *desk.at(800, 99.95)]
    assert captures_of(events)[100] == (born.opportunity.net_edge_pct, born.opportunity.expected_profit_usdt)
    edge, profit = captures_of(events)[500]
    assert edge == pytest.approx(0.5 - 0.22 - 0.1 / 300 * 100)
    assert profit == pytest.approx(3.0 * (100.5 * 0.999 - 100 * 1.001) - 0.1)
    assert desk.at(1000) == []
    desk.sell.clear(BookState.SUSPECT)
    (late,) = desk.at(5000)
    assert (late.kind, late.reason) == (UPDATED, "edge_gone")
    found = captures_of([late])
    assert list(found) == [100, 500, 1000, 5000]
    assert found[1000][1] is not None
    assert found[1000][1] < 0.0
    assert found[5000] == (None, None)


def test_capture_of_the_birth_quantity_not_of_a_later_one() -> None:
    desk = Desk()
    (born,) = desk.at(0, 101.0)
    desk.buy.load([(99.9, 100.0)], [(100.0, 1.0), (200.0, 100.0)])
    desk.scanner.mark(desk.buy)
    events = [*desk.at(50), *desk.at(100), *desk.at(200, 99.95)]
    edge, _ = captures_of(events)[100]
    assert born.opportunity.net_edge_pct > 0.5
    assert edge is not None
    assert edge < -30.0


def test_shutdown_gives_up_captures() -> None:
    desk = Desk()
    desk.at(0, 101.0)
    desk.at(100)
    (event,) = desk.scanner.close(NOW_NS + 200 * MS)
    assert [c.delay_ms for c in event.captures] == [100]
    assert desk.at(6000) == []


def test_outcomes_of_events_know_every_capture() -> None:
    desk = Desk()
    events = [*desk.at(0, 101.0), *desk.at(100), *desk.at(500), *desk.at(700, 99.95), *desk.at(1000), *desk.at(5000)]
    frame = outcomes(event_frame(events)).sort("delay_ms")
    assert frame["delay_ms"].to_list() == [100, 500, 1000, 5000]
    assert frame["outcome"].to_list() == ["captured", "captured", "gone", "gone"]


def test_chance_is_learned_from_captures_and_shown_at_birth() -> None:
    desk = Desk(replace(PARAMS, chance_min_outcomes=5))
    chances = []
    for n in range(8):
        start = n * 6000
        for book in (desk.buy, desk.sell):
            book.ts_ingest_ns = NOW_NS + start * MS
            desk.scanner.mark(book)
        chances += [e.opportunity.capture_chance for e in desk.at(start, 101.0) if e.kind is OPENED]
        desk.at(start + 500)
        desk.at(start + 600, 99.95)
        desk.at(start + 5000)
    assert chances[:5] == [None] * 5
    assert chances[5] == pytest.approx((5 + 20 * 6 / 7) / 25)
    assert desk.scanner.chance.calibration() is not None


def test_open_opportunities_are_bounded() -> None:
    one = Scanner(TradingTerms({}, 10.0), replace(PARAMS, max_open=3))
    for n in range(5):
        one.set_book(flat("a", f"X{n}-USDT", 99.9, 100.0))
        one.set_book(flat("b", f"X{n}-USDT", 101.0, 101.1))
    assert len(one.evaluate(NOW_NS)) == 3
    assert (len(one.open_opportunities()), one.ledger.n_refused) == (3, 2)


def test_ended_opportunities_that_wait_are_bounded() -> None:
    desk = Desk(replace(PARAMS, max_ended=2))
    for n in range(5):
        desk.at(n * 2, 101.0)
        desk.at(n * 2 + 1, 99.95)
    assert desk.scanner.ledger.n_given_up == 3
    late = desk.at(6000)
    assert [e.kind for e in late] == [UPDATED, UPDATED]


def test_opportunity_row_is_flat_and_carries_what_was_captured() -> None:
    desk = Desk()
    (opened,) = desk.at(0, 101.0)
    row = opportunity_row(opened)
    assert all(isinstance(v, str | float | int | None) for v in row.values())
    assert (row["event"], row["type"], row["ts"]) == ("opened", "spatial", "2023-11-14T22:13:20.000Z")
    assert row["edge_curve"].startswith("[[300.0,")
    assert row["risk_flags"] == "transfer_cost_unknown"
    desk.at(100)
    (closed,) = desk.at(200, 99.95)
    row = opportunity_row(closed)
    assert row["reason"] == "edge_gone"
    assert row["capture_100ms_profit_usdt"] == opened.opportunity.expected_profit_usdt
    assert "capture_500ms_profit_usdt" not in row


def test_opportunity_at_best_size_where_the_fixed_one_is_too_much() -> None:
    one = Scanner(TradingTerms({}, 10.0), replace(PARAMS, target_size_usdt=1e6, min_profit_usdt=1.0))
    one.set_book(flat("a", "BTC-USDT", 99.9, 100.0, 5.0))
    one.set_book(flat("b", "BTC-USDT", 102.0, 102.1, 5.0))
    (event,) = one.evaluate(NOW_NS)
    found: Opportunity = event.opportunity
    assert (found.net_edge_pct, found.expected_profit_usdt, found.edge_curve[-1][0]) == (-100.0, 0.0, 1000.0)
    assert found.optimal_qty == 5.0
    assert event.peak_edge_pct > 1.0


def test_mark_of_an_unknown_book_sets_it() -> None:
    desk = Desk()
    other = Book("b", "BTC-USDT")
    other.load([(101.0, 100.0)], [(101.1, 100.0)])
    other.state, other.ts_ingest_ns = BookState.LIVE, NOW_NS
    desk.scanner.mark(other)
    assert [e.kind for e in desk.at(1)] == [OPENED]
