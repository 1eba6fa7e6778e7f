"""Rules that withdraw a book, each at its edge."""

from __future__ import annotations

import pytest

from altforecast.book_health import (
    BookWatch,
    Finding,
    HealthRules,
    LagClock,
    Step,
    advance,
    best_state,
    clock_offset_ms,
    is_crossed_too_long,
    is_stale,
    is_too_shallow,
    silence_limit_s,
    skew_ms,
)
from altforecast.books import Book, BookState

RULES = HealthRules()
S = 1_000_000_000


def live_book(levels: int = 20, at_ns: int = 0) -> Book:
    """A book around 100 with steps of one."""
    book = Book("kraken", "BTC-USD")
    book.load([(100.0 - n, 1.0) for n in range(levels)], [(101.0 + n, 1.0) for n in range(levels)])
    book.state, book.ts_ingest_ns = BookState.LIVE, at_ns
    return book


def updated(book: Book, watch: BookWatch, at_ns: int, bids: list[tuple[float, float]] = [], asks: list[tuple[float, float]] = []) -> bool:  # noqa: B006
    """One more update of a book, as a session makes it."""
    book.apply(bids, asks)
    book.ts_ingest_ns = at_ns
    book.n_updates += 1
    return watch.note()


@pytest.mark.parametrize(
    ("gaps", "limit"), [([], 10.0), ([3.0] * 4, 10.0), ([0.1] * 9, 10.0), ([3.0] * 5, 60.0), ([1.0, 1.0, 2.0, 9.0, 9.0], 40.0)]
)
def test_silence_limit_s_follows_the_pace_of_the_pair(gaps: list[float], limit: float) -> None:
    assert silence_limit_s(RULES, gaps) == limit


@pytest.mark.parametrize(
    ("silence", "limit", "connection", "stale"),
    [(10.0, 10.0, 99.0, False), (10.1, 10.0, 10.1, True), (30.0, 60.0, 30.0, False), (30.0, 10.0, 1.0, False), (601.0, 10.0, 1.0, True)],
)
def test_is_stale_needs_a_silent_connection_or_a_very_silent_book(silence: float, limit: float, connection: float, stale: bool) -> None:
    assert is_stale(silence, limit, connection, RULES) is stale


@pytest.mark.parametrize(("messages", "since", "too_long"), [(0, 99.0, False), (1, 0.5, False), (1, 0.51, True), (2, 0.0, True)])
def test_is_crossed_too_long_allows_one_message_and_half_a_second(messages: int, since: float, too_long: bool) -> None:
    assert is_crossed_too_long(messages, since, RULES) is too_long


@pytest.mark.parametrize(("levels", "deepest", "shallow"), [(4, 9, False), (4, 10, True), (5, 50, False), (2, 2, False)])
def test_is_too_shallow_only_where_it_was_deep(levels: int, deepest: int, shallow: bool) -> None:
    assert is_too_shallow(levels, deepest, RULES) is shallow


def test_skew_ms_has_no_sign() -> None:
    assert skew_ms(live_book(at_ns=S), live_book(at_ns=3 * S // 2)) == skew_ms(live_book(at_ns=3 * S // 2), live_book(at_ns=S)) == 500.0


class TestBookWatch:
    """One book over time."""

    def test_note_crossed_twice_in_a_row_is_broken(self) -> None:
        book = live_book()
        watch = BookWatch(book, RULES)
        assert not updated(book, watch, S, bids=[(101.0, 1.0)])
        assert updated(book, watch, S + 1, bids=[(90.5, 1.0)])

    def test_note_uncrossed_by_the_next_message_is_forgiven(self) -> None:
        book = live_book()
        watch = BookWatch(book, RULES)
        assert not updated(book, watch, S, bids=[(101.0, 1.0)])
        assert not updated(book, watch, S + 1, asks=[(101.0, 0.0)])
        assert watch.finding(2 * S, 0.0) is None

    def test_finding_crossed_for_half_a_second_without_a_message(self) -> None:
        book = live_book()
        watch = BookWatch(book, RULES)
        updated(book, watch, S, bids=[(101.0, 1.0)])
        assert watch.finding(S + S // 2, 0.0) is None
        found = watch.finding(S + S // 2 + 1, 0.0)
        assert found is not None
        assert found[0] is Finding.CROSSED

    def test_finding_stale_after_the_limit_on_a_silent_connection(self) -> None:
        watch = BookWatch(live_book(at_ns=S), RULES)
        assert watch.finding(11 * S, 10.0) is None
        assert watch.finding(11 * S + 1, 10.1) == (Finding.STALE, "silent for 10.0 s")

    def test_finding_quiet_pair_is_given_its_pace(self) -> None:
        book = live_book()
        watch = BookWatch(book, RULES)
        for n in range(1, 8):
            updated(book, watch, 4 * n * S)
            assert watch.finding(4 * n * S, 0.0) is None
        assert list(watch.gaps_s) == [4.0] * 6
        assert watch.finding((28 + 80) * S, 80.0) is None
        assert watch.finding((28 + 81) * S, 81.0) is not None

    def test_finding_depth_lost(self) -> None:
        book = live_book()
        watch = BookWatch(book, RULES)
        assert watch.finding(S, 0.0) is None
        updated(book, watch, S, asks=[(101.0 + n, 0.0) for n in range(16)])
        assert watch.finding(S, 0.0) == (Finding.DEPTH, "4 levels left of 20")

    @pytest.mark.parametrize("state", [s for s in BookState if s is not BookState.LIVE])
    def test_finding_says_nothing_of_books_that_nobody_uses(self, state: BookState) -> None:
        book = live_book()
        book.state = state
        assert BookWatch(book, RULES).finding(9999 * S, 9999.0) is None


class TestLagClock:
    """Event times against ours."""

    def test_lag_ms_is_above_the_smallest(self) -> None:
        clock = LagClock()
        for n, raw_ms in enumerate((250, 205, 230)):
            clock.note(n * S + raw_ms * 1_000_000, n * 1000)
        assert clock.lag_ms == 25.0
        assert clock.floor_ms == 205.0

    def test_lag_ms_is_none_without_event_times(self) -> None:
        clock = LagClock()
        clock.note(S, None)
        assert clock.lag_ms is None
        assert clock.floor_ms is None
        assert not clock.is_running_away(S, RULES)

    def test_floor_ms_forgets_after_ten_minutes(self) -> None:
        clock = LagClock()
        clock.note(5_000_000, 0)
        for minute in range(1, 11):
            at = minute * 60 * S
            clock.note(at + 80_000_000, at // 1_000_000)
        assert clock.floor_ms == 80.0

    def test_is_running_away_only_after_it_stayed_away(self) -> None:
        clock = LagClock()
        clock.note(S, 1000)
        clock.note(10 * S, 4999)
        assert not clock.is_running_away(10 * S, RULES)
        assert not clock.is_running_away(14 * S, RULES)
        assert clock.is_running_away(15 * S, RULES)
        clock.note(16 * S, 16_000)
        assert not clock.is_running_away(16 * S, RULES)


def test_clock_offset_ms_is_the_median_of_three_or_more() -> None:
    assert clock_offset_ms([-40.0, 30.0, None, 20.0]) == 20.0
    assert clock_offset_ms([-40.0, None, 20.0]) is None


def test_advance_walks_the_whole_circle() -> None:
    state, walk = BookState.CONNECTING, []
    for step in (Step.DIALLED, Step.OPENED, Step.COMPLETE, Step.FAULT, Step.CLOSED, Step.DIALLED):
        state = advance(state, step)
        walk.append(state.value)
    assert walk == ["connecting", "syncing", "live", "suspect", "backoff", "connecting"]


def test_advance_never_revives_a_withdrawn_book() -> None:
    assert advance(BookState.SUSPECT, Step.COMPLETE) is BookState.SUSPECT
    assert advance(BookState.BACKOFF, Step.COMPLETE) is BookState.BACKOFF
    assert advance(BookState.BACKOFF, Step.FAULT) is BookState.BACKOFF


def test_best_state_of_several_connections() -> None:
    assert best_state([BookState.BACKOFF, BookState.LIVE, BookState.SYNCING]) is BookState.LIVE
    assert best_state([BookState.BACKOFF, BookState.SUSPECT]) is BookState.SUSPECT
    assert best_state([]) is None
