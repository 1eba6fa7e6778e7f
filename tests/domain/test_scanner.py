"""The scanner: what is looked at, what is never one, and that looking only at changes misses nothing."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from altforecast.arbitrage_cut import cut_row
from altforecast.books import Book, BookState
from altforecast.opportunities import OpportunityEvent, OpportunityEventKind, OpportunityType, RiskFlag
from altforecast.params import ArbitrageParams
from altforecast.scanner import Scanner
from altforecast.trading_terms import TradingTerms, TransferTerms
from tests.domain.random_books import NOW_NS, fill, flat, make

MS = 1_000_000
PARAMS = ArbitrageParams(target_size_usdt=300.0, withdraw_cost_usdt=0.1)
FEES = {"a": 10.0, "b": 10.0, "c": 20.0, "d": 5.0}


def scanner(params: ArbitrageParams = PARAMS) -> Scanner:
    return Scanner(TradingTerms(FEES), params)


def look(*books: Book, at_ns: int = NOW_NS, params: ArbitrageParams = PARAMS) -> list[OpportunityEvent]:
    one = scanner(params)
    for book in books:
        one.set_book(book)
    return one.evaluate(at_ns)


def test_evaluate_opens_the_right_way_round() -> None:
    (event,) = look(flat("a", "BTC-USDT", 99.9, 100.0), flat("b", "BTC-USDT", 101.0, 101.1))
    one = event.opportunity
    assert (event.kind, one.type, one.buy_exchange, one.sell_exchange) == (OpportunityEventKind.OPENED, OpportunityType.SPATIAL, "a", "b")
    assert one.net_edge_pct == pytest.approx(1.0 - 0.2 - 0.02 - 0.1 / 300 * 100)
    assert one.expected_profit_usdt == pytest.approx(3.0 * (101 * 0.999 - 100 * 1.001) - 0.1)
    assert one.edge_curve[0][0] == 300.0
    assert RiskFlag.TRANSFER_COST_UNKNOWN in one.risk_flags


def test_evaluate_without_a_known_fee_assumes_the_high_one() -> None:
    assert TradingTerms().taker_fee("nobody") == 0.002


def _withdrawn(book: Book) -> None:
    book.clear(BookState.SUSPECT)


def _not_live(book: Book) -> None:
    book.state = BookState.SYNCING


def _stale(book: Book) -> None:
    book.ts_ingest_ns = NOW_NS - 10_001 * MS


def _skewed(book: Book) -> None:
    book.ts_ingest_ns = NOW_NS - 1001 * MS


def _crossed(book: Book) -> None:
    book.load([(102.0, 100.0)], [(101.0, 100.0)])


def _one_sided(book: Book) -> None:
    book.load([(101.0, 100.0)], [])


@pytest.mark.parametrize("spoil", [_withdrawn, _not_live, _stale, _skewed, _crossed, _one_sided])
def test_evaluate_books_that_may_not_be_used(spoil: Callable[[Book], None]) -> None:
    good, bad = flat("a", "BTC-USDT", 99.9, 100.0), flat("b", "BTC-USDT", 101.0, 101.1)
    spoil(bad)
    assert look(good, bad) == []


@pytest.mark.parametrize(("spoil", "reason"), [(_withdrawn, "book_withdrawn"), (_stale, "stale"), (_crossed, "book_withdrawn")])
def test_evaluate_closes_with_the_reason(spoil: Callable[[Book], None], reason: str) -> None:
    good, bad, one = flat("a", "BTC-USDT", 99.9, 100.0), flat("b", "BTC-USDT", 101.0, 101.1), scanner()
    one.set_book(good)
    one.set_book(bad)
    assert len(one.evaluate(NOW_NS)) == 1
    spoil(bad)
    one.mark(bad)
    (event,) = one.evaluate(NOW_NS + MS)
    assert (event.kind, event.reason) == (OpportunityEventKind.CLOSED, reason)
    assert one.open_opportunities() == []


def test_evaluate_a_quiet_book_keeps_open_what_was_seen_when_both_were_new() -> None:
    quiet, busy, one = flat("a", "BTC-USDT", 99.9, 100.0), flat("b", "BTC-USDT", 101.0, 101.1), scanner()
    for book in (quiet, busy):
        one.set_book(book)
    opened = one.evaluate(NOW_NS)
    busy.ts_ingest_ns = NOW_NS + 5000 * MS
    one.mark(busy)
    assert [e.kind for e in one.evaluate(NOW_NS + 5000 * MS)].count(OpportunityEventKind.CLOSED) == 0
    assert [o.id for o in one.open_opportunities()] == [opened[0].opportunity.id]
    assert [e.reason for e in one.evaluate(NOW_NS + 10_001 * MS)][-1:] == ["stale"]


def test_drop_closes_and_keeps_the_book_out_until_it_is_marked() -> None:
    books, one = (flat("a", "BTC-USDT", 99.9, 100.0), flat("b", "BTC-USDT", 101.0, 101.1)), scanner()
    for book in books:
        one.set_book(book)
    one.evaluate(NOW_NS)
    one.drop("b", None)
    assert [e.reason for e in one.evaluate(NOW_NS + MS)] == ["book_withdrawn"]
    one.mark(books[0])
    assert one.evaluate(NOW_NS + 2 * MS) == []
    one.mark(books[1])
    assert [e.kind for e in one.evaluate(NOW_NS + 3 * MS)] == [OpportunityEventKind.OPENED]


def test_evaluate_closes_stale_books_without_any_update() -> None:
    one = scanner()
    for book in (flat("a", "BTC-USDT", 99.9, 100.0), flat("b", "BTC-USDT", 101.0, 101.1)):
        one.set_book(book)
    one.evaluate(NOW_NS)
    assert [e.reason for e in one.evaluate(NOW_NS + 10_000 * MS) if e.kind is OpportunityEventKind.CLOSED] == []
    due = one.next_due_ns()
    assert due is not None
    assert due <= NOW_NS + 10_000 * MS + 1
    assert "stale" in [e.reason for e in one.evaluate(NOW_NS + 10_000 * MS + 1)]


def test_evaluate_hysteresis_between_opening_and_closing() -> None:
    params = replace(PARAMS, withdraw_cost_usdt=0.0, min_net_edge_pct=0.5, close_margin_pct=0.1, min_profit_usdt=1e9)
    sell, one = flat("b", "BTC-USDT", 100.6, 100.7), scanner(params)
    one.set_book(flat("a", "BTC-USDT", 99.9, 100.0))
    one.set_book(sell)
    states = []
    for i, bid in enumerate((100.70, 100.73, 100.65, 100.615, 100.65, 100.73)):  # net = gross - 0.22
        sell.load([(bid, 100.0), (90.0, 1.0)], [(bid + 0.1, 100.0)])
        one.mark(sell)
        one.evaluate(NOW_NS + i * MS)
        states.append(bool(one.open_opportunities()))
    assert states == [False, True, True, False, False, True]


@pytest.mark.parametrize("quotes", [("USDT", "USD"), ("USDC", "USDT"), ("EUR", "USD")])
def test_evaluate_unlike_quotes_need_a_conversion_book(quotes: tuple[str, str]) -> None:
    buy, sell = flat("a", f"BTC-{quotes[0]}", 99.9, 100.0), flat("b", f"BTC-{quotes[1]}", 103.0, 103.1)
    others = [flat("c", f"BTC-{q}", 100.0, 100.1, 1.0) for q in {*quotes, "USDT"}]
    assert [e for e in look(buy, sell, *others) if e.opportunity.symbol != e.opportunity.sell_symbol] == []


def test_evaluate_converts_at_the_live_book_with_its_fee() -> None:
    buy, sell = flat("a", "BTC-USDT", 99.9, 100.0), flat("b", "BTC-USD", 103.0, 103.1)
    # one USDT costs 1.01 USD: what is left of the 3 % is about 2 %, less three fees
    (event,) = look(buy, sell, flat("b", "USDT-USD", 1.009, 1.01, 1e6))
    one = event.opportunity
    assert (one.symbol, one.sell_symbol) == ("BTC-USDT", "BTC-USD")
    assert RiskFlag.CONVERTED_QUOTE in one.risk_flags
    assert one.sell_vwap == pytest.approx(103.0 / 1.01 * 0.999)
    # the other way round the dollar is worth nothing extra: no opportunity at 1.03
    assert look(buy, sell, flat("b", "USDT-USD", 1.029, 1.03, 1e6)) == []


def test_evaluate_conversion_change_alone_opens_and_closes() -> None:
    conversion, one = flat("c", "USDT-USD", 1.029, 1.03, 1e6), scanner()
    for book in (flat("a", "BTC-USDT", 99.9, 100.0), flat("b", "BTC-USD", 103.0, 103.1), conversion):
        one.set_book(book)
    assert one.evaluate(NOW_NS) == []
    conversion.load([(0.999, 1e6)], [(1.0, 1e6)])
    one.mark(conversion)
    assert [e.kind for e in one.evaluate(NOW_NS + MS)] == [OpportunityEventKind.OPENED]
    one.drop("c", "USDT-USD")
    assert [e.reason for e in one.evaluate(NOW_NS + 2 * MS)] == ["book_withdrawn"]


def test_evaluate_other_coin_of_the_same_name() -> None:
    terms = TradingTerms(FEES)
    terms.set_transfers(
        TransferTerms(v, "ABC", "ETH", 0.1, None, True, True, contract, NOW_NS // MS) for v, contract in (("a", "0xAA"), ("b", "0xBB"))
    )
    one = Scanner(terms, PARAMS)
    for venue, bid in (("a", 99.9), ("b", 103.0)):
        one.set_book(flat(venue, "ABC-USDT", bid, bid + 0.1))
    assert one.evaluate(NOW_NS) == []
    assert one.cut(NOW_NS) == []


def test_evaluate_flags_thin_and_too_good() -> None:
    (event,) = look(flat("a", "BTC-USDT", 99.9, 100.0, 2.0), flat("b", "BTC-USDT", 120.0, 120.1, 2.0))
    assert {RiskFlag.THIN, RiskFlag.EDGE_TOO_GOOD} <= set(event.opportunity.risk_flags)


def test_evaluate_flags_lagging_event_time() -> None:
    buy, sell, one = flat("a", "BTC-USDT", 99.9, 100.0), flat("b", "BTC-USDT", 99.9, 100.0), scanner()
    sell.ts_event_ms = NOW_NS // MS - 40
    for book in (buy, sell):
        one.set_book(book)
    assert one.evaluate(NOW_NS) == []
    sell.load([(101.0, 100.0)], [(101.1, 100.0)])
    sell.ts_event_ms = NOW_NS // MS - 1500
    one.mark(sell)
    (event,) = one.evaluate(NOW_NS + MS)
    assert RiskFlag.EVENT_TIME_LAG in event.opportunity.risk_flags


def test_evaluate_triangle_on_one_venue() -> None:
    books = [flat("a", "BTC-USDT", 100.0, 100.1), flat("a", "ETH-USDT", 10.2, 10.21, 1000.0), flat("a", "ETH-BTC", 0.0999, 0.1, 1000.0)]
    (event,) = look(*books)
    one = event.opportunity
    assert (one.type, one.symbol) == (OpportunityType.TRIANGULAR, "USDT>BTC>ETH>USDT")
    assert one.net_edge_pct == pytest.approx((10.2 / (100.1 * 0.1) * 0.999**3 - 1) * 100 - 0.02)
    books[1].ts_ingest_ns -= 1001 * MS
    assert look(*books) == []


def test_cut_every_ordered_pair_of_usable_books() -> None:
    one, old = scanner(), flat("c", "BTC-USDT", 99.9, 100.0)
    old.ts_ingest_ns -= 20_000 * MS
    for book in (flat("a", "BTC-USDT", 99.9, 100.0), flat("b", "BTC-USDT", 101.0, 101.1), flat("d", "BTC-USDT", 100.0, 100.1, 0.01), old):
        one.set_book(book)
    one.evaluate(NOW_NS)
    edges = {(e.buy_exchange, e.sell_exchange): e.net_edge_pct for e in one.cut(NOW_NS)}
    assert set(edges) == {(x, y) for x in "abd" for y in "abd" if x != y}
    assert edges["a", "d"] is None
    assert edges["a", "b"] == pytest.approx(1.0 - 0.22 - 0.1 / 300 * 100, abs=0.02)
    assert cut_row(one.cut(NOW_NS), NOW_NS)["ts"] == "2023-11-14T22:13:20.000Z"


SYMBOLS = {"BTC-USDT": 100.0, "BTC-USD": 100.2, "ETH-USDT": 10.0, "ETH-BTC": 0.1, "USDT-USD": 1.001}


class Market:
    """Random updates, drops, silences and crossings over some venues; the same for the same seed."""

    def __init__(self, seed: int, scanners: list[Scanner]) -> None:
        self.rng, self.scanners, self.now = random.Random(seed), scanners, NOW_NS
        self.books = [make(v, s, self.rng, mid, ns=self.now) for v in "abcd" for s, mid in SYMBOLS.items()]
        for one in scanners:
            for book in self.books:
                one.set_book(book)

    def step(self) -> list[Book]:
        """Change something; the books that changed."""
        rng = self.rng
        self.now += rng.choice((1, 20, 60, 300)) * MS + (3000 * MS if rng.random() < 0.01 else 0)
        changed = rng.sample(self.books, rng.choice((1, 1, 2, 5)))
        for book in changed:
            chance = rng.random()
            if chance < 0.05:
                book.clear(BookState.SUSPECT)
                for one in self.scanners:
                    one.drop(book.venue, book.symbol)
                continue
            fill(book, rng, SYMBOLS[book.symbol] * (1 + rng.gauss(0, 0.002)), ns=self.now)
            if chance < 0.1:
                book.bid_keys[-1] = -book.ask_keys[-1] * 1.01
            for one in self.scanners:
                one.mark(book)
        return changed


PROPERTY = replace(PARAMS, stale_after_ms=2500.0, max_skew_ms=2000.0)


def told(event: OpportunityEvent) -> tuple[object, ...]:
    return (event.opportunity.id, event.kind, event.opportunity, event.reason, event.peak_edge_pct, event.peak_ms, event.captures)


@pytest.mark.parametrize("seed", range(4))
def test_evaluate_of_changes_equals_a_full_rescan(seed: int) -> None:
    incremental, full = scanner(PROPERTY), scanner(PROPERTY)
    market = Market(seed, [incremental, full])
    kinds: dict[tuple[object, object], int] = {}
    for _ in range(500):
        market.step()
        for book in market.books:
            if book.state is BookState.LIVE:
                full.mark(book)
        ours, theirs = incremental.evaluate(market.now), full.evaluate(market.now)
        assert sorted(map(repr, map(told, ours))) == sorted(map(repr, map(told, theirs)))
        for event in ours:
            key = (event.opportunity.type, event.reason or event.kind)
            kinds[key] = kinds.get(key, 0) + 1
        for one in incremental.open_opportunities():
            _assert_usable(market, one.buy_exchange, one.symbol)
            _assert_usable(market, one.sell_exchange, one.sell_symbol)
    assert {"edge_gone", "book_withdrawn", "stale", "opened", "updated"} <= {str(k[1]) for k in kinds}
    assert kinds[OpportunityType.TRIANGULAR, OpportunityEventKind.OPENED] > 20


def _assert_usable(market: Market, venue: str, symbol: str) -> None:
    for book in market.books:
        if (book.venue, book.symbol) == (venue, symbol):
            assert book.state is BookState.LIVE
            assert not book.is_crossed
            assert market.now - book.ts_ingest_ns <= 2500 * MS


def test_evaluate_is_deterministic() -> None:
    runs = []
    for _ in range(2):
        one = scanner(PROPERTY)
        market = Market(9, [one])
        found = []
        for _ in range(300):
            market.step()
            found += one.evaluate(market.now)
        runs.append(found)
    assert runs[0] == runs[1]
    assert len(runs[0]) > 100


def test_close_ends_everything() -> None:
    one = scanner()
    for book in (flat("a", "BTC-USDT", 99.9, 100.0), flat("b", "BTC-USDT", 101.0, 101.1)):
        one.set_book(book)
    one.evaluate(NOW_NS)
    assert [e.reason for e in one.close(NOW_NS + MS)] == ["shutdown"]
    assert one.next_due_ns() is None
    assert one.evaluate(NOW_NS + 9000 * MS) == []
