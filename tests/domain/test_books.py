"""Books against a dictionary that is sorted on demand."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from altforecast.books import Book, BookState, Level

PRICES = st.integers(1, 30).map(lambda i: i / 4)
LEVELS = st.lists(st.tuples(PRICES, st.sampled_from([0.0, 0.5, 2.0])), max_size=12)


def reference(changes: list[list[Level]]) -> list[Level]:
    """What is left after all changes, ascending."""
    side: dict[float, float] = {}
    for change in changes:
        for price, size in change:
            side[price] = size
    return sorted((p, s) for p, s in side.items() if s > 0)


@given(LEVELS, LEVELS, st.lists(st.tuples(LEVELS, LEVELS), max_size=8), st.integers(1, 40))
def test_apply_equals_a_sorted_dictionary(
    bids: list[Level], asks: list[Level], changes: list[tuple[list[Level], list[Level]]], n: int
) -> None:
    book = Book("okx", "BTC-USDT")
    book.load(dict(bids).items(), dict(asks).items())
    for change in changes:
        book.apply(*change)
    all_bids = reference([list(dict(bids).items()), *(c[0] for c in changes)])[::-1]
    all_asks = reference([list(dict(asks).items()), *(c[1] for c in changes)])
    assert (book.bids(n), book.asks(n)) == (all_bids[:n], all_asks[:n])
    assert book.top(n) == tuple([row[i] for row in side[:n]] for side in (all_bids, all_asks) for i in (0, 1))
    assert (book.best_bid, book.best_ask) == (all_bids[0][0] if all_bids else None, all_asks[0][0] if all_asks else None)
    assert book.is_crossed == bool(all_bids and all_asks and all_bids[0][0] >= all_asks[0][0])


def test_cut_keeps_the_best() -> None:
    book = Book("okx", "BTC-USDT")
    book.load([(1.0, 1.0), (3.0, 1.0), (2.0, 1.0)], [(5.0, 1.0), (4.0, 2.0)])
    book.cut(2)
    assert (book.bids(9), book.asks(9)) == ([(3.0, 1.0), (2.0, 1.0)], [(4.0, 2.0), (5.0, 1.0)])


def test_clear_leaves_nothing_that_could_be_used() -> None:
    book = Book("okx", "BTC-USDT")
    book.load([(1.0, 1.0)], [(2.0, 1.0)])
    book.state, book.sequence, book.checksum_ok, book.n_updates = BookState.LIVE, 7, True, 3
    book.clear(BookState.SUSPECT)
    assert (book.bids(9), book.asks(9), book.best_bid, book.best_ask) == ([], [], None, None)
    assert (book.state, book.sequence, book.checksum_ok, book.n_updates) == (BookState.SUSPECT, None, None, 3)
