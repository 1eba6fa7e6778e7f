"""The session of HTX on hand-written frames: every rule and every fault."""

from __future__ import annotations

import gzip
import json

import pytest

from altforecast.books import BookState
from altforecast_io.exchanges.sessions.htx import MAX_BUFFERED, HtxSession, open_session
from altforecast_io.exchanges.sessions.session import FaultReason, Open, Send
from tests.io.sessions.frames import SECOND, faults, is_changed, is_withheld, started

NOW = 100 * SECOND
Rows = list[list[float]]


def packed(message: dict[str, object]) -> bytes:
    return gzip.compress(json.dumps(message).encode())


def update(seq: int, prev: int, bids: Rows, asks: Rows, market: str = "btcusdt") -> bytes:
    tick = {"seqNum": seq, "prevSeqNum": prev, "bids": bids, "asks": asks}
    return packed({"ch": f"market.{market}.mbp.150", "ts": 1700000000456, "tick": tick})


def reply(seq: int, market: str = "btcusdt") -> bytes:
    data = {"seqNum": seq, "bids": [[100, 1], [99.5, 2]], "asks": [[101, 2.5]]}
    return packed({"id": f"req.{market}", "rep": f"market.{market}.mbp.150", "status": "ok", "ts": 1700000000123, "data": data})


@pytest.fixture
def waiting() -> HtxSession:
    session = open_session(["BTC-USDT"])
    started(session, NOW)
    (asked,) = session.received(packed({"id": "sub.btcusdt", "status": "ok", "subbed": "market.btcusdt.mbp.150", "ts": 1}), NOW)
    assert asked == Send('{"req":"market.btcusdt.mbp.150","id":"req.btcusdt"}')
    return session


@pytest.fixture
def live(waiting: HtxSession) -> HtxSession:
    assert is_changed(waiting.received(reply(10), NOW))
    return waiting


def test_opened_subscribes_every_symbol() -> None:
    session = open_session(["BTC-USDT", "ETH-USDT"], "http://127.0.0.1:9/htx")
    assert session.begin() == (Open("ws://127.0.0.1:9/htx/feed"),)
    assert session.opened(NOW)[1] == Send('{"sub":"market.ethusdt.mbp.150","id":"sub.ethusdt"}')


def test_received_ping_is_answered(waiting: HtxSession) -> None:
    assert waiting.received(packed({"ping": 1583491673714}), NOW) == (Send('{"pong":1583491673714}'),)


def test_received_snapshot_joins_the_updates_that_waited(waiting: HtxSession) -> None:
    assert waiting.received(update(8, 5, [[90, 1]], []), NOW) == ()
    assert waiting.received(update(12, 8, [[100, 0]], []), NOW) == ()
    assert waiting.received(update(15, 12, [], [[100.5, 3]]), NOW) == ()
    (book,) = waiting.received(reply(10), NOW + 7)
    assert (book.bids(3), book.asks(3)) == ([(99.5, 2.0)], [(100.5, 3.0), (101.0, 2.5)])
    assert (book.sequence, book.state, book.ts_ingest_ns) == (15, BookState.LIVE, NOW + 7)


def test_received_snapshot_older_than_the_updates_is_asked_for_again(waiting: HtxSession) -> None:
    waiting.received(update(20, 15, [], []), NOW)
    assert waiting.received(reply(10), NOW) == ()
    assert waiting.tick(NOW + SECOND // 2) == []
    assert waiting.tick(NOW + SECOND) == [Send('{"req":"market.btcusdt.mbp.150","id":"req.btcusdt"}')]
    assert is_changed(waiting.received(reply(18), NOW + SECOND))
    assert waiting.books["BTC-USDT"].sequence == 20


def test_received_hole_among_waiting_updates_is_a_gap(waiting: HtxSession) -> None:
    waiting.received(update(12, 8, [], []), NOW)
    waiting.received(update(20, 15, [], []), NOW)
    assert faults(waiting.received(reply(10), NOW)) == [(FaultReason.GAP, "BTC-USDT")]


def test_received_late_update_behind_the_snapshot_changes_nothing(live: HtxSession) -> None:
    assert live.received(update(9, 8, [[100, 0]], []), NOW) == ()
    assert live.books["BTC-USDT"].best_bid == 100.0
    assert is_changed(live.received(update(13, 9, [], []), NOW))
    assert faults(live.received(update(13, 9, [], []), NOW)) == [(FaultReason.GAP, "BTC-USDT")]


def test_received_hole_is_a_gap(live: HtxSession) -> None:
    assert is_changed(live.received(update(12, 10, [[100.2, 1]], []), NOW))
    assert faults(live.received(update(16, 14, [], []), NOW)) == [(FaultReason.GAP, "BTC-USDT")]
    assert live.books["BTC-USDT"].best_bid is None


def test_received_crossed_for_two_messages_is_a_fault(live: HtxSession) -> None:
    assert is_withheld(live.received(update(12, 10, [[101, 1]], []), NOW))
    assert faults(live.received(update(13, 12, [], []), NOW)) == [(FaultReason.CROSSED, "BTC-USDT")]


def test_received_waits_for_a_bounded_number_of_updates(waiting: HtxSession) -> None:
    for n in range(MAX_BUFFERED):
        assert waiting.received(update(n + 1, n, [], []), NOW) == ()
    assert faults(waiting.received(update(MAX_BUFFERED + 1, MAX_BUFFERED, [], []), NOW)) == [(FaultReason.SNAPSHOT, "BTC-USDT")]


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x1f\x8bgarbage",
        update(12, 10, [], [])[:-9],
        packed({}),
        packed({"ch": "market.btcusdt.mbp.150", "tick": {"seqNum": 12, "bids": [], "asks": []}}),
        update(12, 10, [[-1, 2]], []),
        gzip.compress(b" " * 9_000_000 + b"{}"),
    ],
)
def test_received_bad_frame_withdraws_everything(live: HtxSession, payload: bytes) -> None:
    assert faults(live.received(payload, NOW)) == [(FaultReason.BAD_FRAME, None)]
    assert live.books["BTC-USDT"].state is BookState.SUSPECT


def test_received_refusals_and_limits() -> None:
    session = started(open_session(["BTC-USDT", "LINK-USDT"]), NOW)
    refusal = {"ts": 1, "status": "error", "err-code": "bad-request", "err-msg": "invalid mbp.150.symbol linkusdt", "id": "sub.linkusdt"}
    assert faults(session.received(packed(refusal), NOW)) == [(FaultReason.REFUSED, "LINK-USDT")]
    limit = {"ts": 1, "status": "error", "err-code": "429", "err-msg": "too many request", "id": "sub.btcusdt"}
    assert faults(session.received(packed(limit), NOW)) == [(FaultReason.LIMITED, None)]


def test_tick_misses_snapshots(waiting: HtxSession) -> None:
    assert faults(waiting.tick(NOW + 11 * SECOND)) == [(FaultReason.SNAPSHOT, "BTC-USDT")]
