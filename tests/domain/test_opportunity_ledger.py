"""The ledger with much at once: lots, void entries, what is given up."""

from __future__ import annotations

from dataclasses import replace

from altforecast.capture_chance import CaptureChance
from altforecast.opportunities import OpportunityEventKind, OpportunityType
from altforecast.opportunity_ledger import LOT, NS_PER_MS, Figures, Ledger, What
from altforecast.params import ArbitrageParams

MS = NS_PER_MS
NOW = 1_700_000_000_000 * MS


def what(i: int) -> What:
    return What(OpportunityType.SPATIAL, f"C{i:03d}-USDT", "a", "b", f"C{i:03d}-USDT")


def ledger(n: int, params: ArbitrageParams | None = None) -> Ledger:
    """With `n` open ones, offered last name first."""
    params = params or ArbitrageParams()
    made = Ledger(params, CaptureChance(params))
    for i in reversed(range(n)):
        offer(made, i, 1.0, NOW)
    return made


def offer(one: Ledger, i: int, edge: float, now_ns: int) -> object:
    figures = Figures(100.0, 101.0, edge, 0.0, 0.0, 0.0, edge, 1.0, 1.0, 1.0, 1.0, ())
    return one.offer(what(i), figures, edge, 1.0, lambda: ((300.0, edge),), now_ns)


def answer(one: Ledger, now_ns: int) -> list[str]:
    found = []
    for life, delay in one.due(now_ns):
        one.capture(life, delay, (0.5, 1.0), now_ns)
        found.append(life.what.symbol)
    return found


def test_due_gives_lots_and_asks_for_the_rest() -> None:
    one = ledger(LOT + 5)
    assert one.next_due_ns() == NOW + 100 * MS
    assert answer(one, NOW + 99 * MS) == []
    first = answer(one, NOW + 100 * MS)
    assert first == [what(i).symbol for i in range(LOT)]
    assert one.next_due_ns() == NOW + 101 * MS
    assert answer(one, NOW + 101 * MS) == [what(LOT + i).symbol for i in range(5)]
    assert one.next_due_ns() == NOW + 500 * MS


def test_tell_throttled_gives_lots_oldest_first() -> None:
    one = ledger(LOT + 5)
    assert [offer(one, i, 1.01, NOW + i * MS) for i in range(LOT + 5)] == [None] * (LOT + 5)
    assert one.tell_throttled(NOW + 249 * MS) == []
    told = one.tell_throttled(NOW + 250 * MS)
    assert [e.opportunity.symbol for e in told] == [what(i).symbol for i in range(LOT)]
    assert told[0].opportunity.edge_curve == ((300.0, 1.01),)
    assert len(one.tell_throttled(NOW + 251 * MS)) == 5
    assert one.tell_throttled(NOW + 600 * MS) == []


def test_tell_throttled_forgets_what_was_told_or_closed_meanwhile() -> None:
    one = ledger(3)
    for i in range(3):
        offer(one, i, 1.01, NOW + MS)
    # a change of more than a tenth is told at once; the next small one waits a quarter of a second from there
    assert offer(one, 0, 2.0, NOW + 10 * MS) is not None
    assert offer(one, 0, 2.01, NOW + 20 * MS) is None
    one.close(what(1), "edge_gone", NOW + 30 * MS)
    assert [e.opportunity.symbol for e in one.tell_throttled(NOW + 250 * MS)] == [what(2).symbol]
    answer(one, NOW + 250 * MS)
    assert one.next_due_ns() == NOW + 260 * MS
    assert [e.opportunity.net_edge_pct for e in one.tell_throttled(NOW + 260 * MS)] == [2.01]


def test_offer_closing_and_opening_at_one_moment_keeps_the_heaps_in_order() -> None:
    one = ledger(1)
    for _ in range(3):
        assert offer(one, 0, 1.01, NOW) is None
        one.close(what(0), "edge_gone", NOW)
        offer(one, 0, 1.0, NOW)
    assert len(answer(one, NOW + 100 * MS)) == 4


def test_close_gives_up_the_oldest_that_wait() -> None:
    params = replace(ArbitrageParams(), max_ended=10)
    one = ledger(100, params)
    for i in range(100):
        one.close(what(i), "edge_gone", NOW + i)
    assert one.n_given_up == 90
    # what was given up is not kept for ever
    assert len(one._due) <= 2 * 10 * len(params.capture_ms)
    events = [e for t in params.capture_ms for life, d in one.due(NOW + t * MS) if (e := one.capture(life, d, None, NOW + t * MS))]
    assert sorted(e.opportunity.symbol for e in events) == [what(i).symbol for i in range(90, 100)]
    assert {(e.kind, len(e.captures)) for e in events} == {(OpportunityEventKind.UPDATED, len(params.capture_ms))}
    assert one.next_due_ns() is None
    assert not one.waits
