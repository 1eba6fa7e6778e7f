"""The best levels of a book, and how they change when the book does.

What belongs here: cutting a change to a window that a client follows. What does not: wire forms.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from altforecast_sandbox.resting import Change, RestingBook, Rows


@dataclass(slots=True)
class _Side:
    seen: dict[int, int] | None = None
    """The window before the change; None while the window holds the whole side, which is then passed on."""


@dataclass(slots=True)
class _Window:
    last_id: int = -1
    bids: _Side = field(default_factory=_Side)
    asks: _Side = field(default_factory=_Side)
    rows: tuple[Rows, Rows] = ((), ())


def window_change(book: RestingBook, change: Change, depth: int, is_telling_fallen: bool = True) -> tuple[Rows, Rows]:
    """Bids and asks that changed among the best `depth` levels a side, best first; the same for everyone who asks.

    Lots 0: the level left the window, because it is gone or, with `is_telling_fallen`, because better ones pushed it out.
    Must be asked for every change of a book while anybody follows this window; the first answer after a pause repeats the
    whole window.
    """
    window: _Window = book.windows.setdefault(depth, _Window())
    if window.last_id != change.last_id:
        is_next = window.last_id == change.first_id - 1
        bids = _side(window.bids, book.top_bids(depth), book.bids, change.bids, depth, is_next)
        asks = _side(window.asks, book.top_asks(depth), book.asks, change.asks, depth, is_next)
        window.rows = (tuple(sorted(bids.items(), reverse=True)), tuple(sorted(asks.items())))
        window.last_id = change.last_id
    if is_telling_fallen:
        return window.rows
    return (
        tuple([row for row in window.rows[0] if row[1] or row[0] not in book.bids]),
        tuple([row for row in window.rows[1] if row[1] or row[0] not in book.asks]),
    )


def _side(state: _Side, top: Rows, side: dict[int, int], changed: Rows, depth: int, is_next: bool) -> dict[int, int]:
    was_whole = is_next and state.seen is None
    if len(side) + len(changed) <= depth and was_whole:
        return dict(changed)
    now = dict(top)
    before, state.seen = state.seen, None if len(side) + len(changed) <= depth else now
    if not is_next or before is None:
        # what a client may still show and must not: what this change took away, and what lies beyond the window
        gone = [ticks for ticks, lots in changed if not lots] + [ticks for ticks in side if ticks not in now]
        return dict.fromkeys(gone, 0) | now
    rows = {ticks: lots for ticks, lots in top if before.get(ticks) != lots}
    return rows | {ticks: 0 for ticks in before if ticks not in now}
