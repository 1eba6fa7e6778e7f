"""The inbox on both databases: durable, in order, every content once, also under concurrency and failure.

What belongs here: `altforecast_io.store.inbox`. What does not: parsing alerts, HTTP.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from altforecast.errors import BusyError, StorageError
from altforecast.types import Metric, Series, Timeframe
from altforecast_io.sources.tradingview import Alert
from altforecast_io.store import inbox
from altforecast_io.store.engine import Store, open_store
from altforecast_io.store.inbox import Delivery, InboxWriter, Pending, Receipt
from tests.io.conftest import NOW

BTC = Series("binance", "BTC-USDT")


def alert(n: int = 0, close: str = "95000.5", **changes: Any) -> Alert:
    """The alert for the bar that closed `n` quarters of an hour ago."""
    made = Alert(
        metric=Metric.BTC, series=BTC, timeframe=Timeframe.M15, ts=NOW - timedelta(minutes=15) * (n + 1), open=Decimal(95000),
        high=Decimal(96000), low=Decimal(94000), close=Decimal(close), volume=Decimal("12.30"), received_at=NOW, raw='{"src": "test"}',
    )  # fmt: skip
    return replace(made, **changes)


def put(store: Store, *alerts: Alert) -> list[Receipt]:
    return inbox.append(store, [Delivery(a, "10.0.0.1") for a in alerts])


def test_append_keeps_every_field(store: Store) -> None:
    put(store, alert())
    (row,) = inbox.tail(store)
    assert (row.id, row.kind, row.metric, row.series, row.timeframe) == (1, "tradingview", Metric.BTC, BTC, Timeframe.M15)
    assert (row.ts, row.received_at) == (NOW - timedelta(minutes=15), NOW)
    assert (row.open, row.close, row.volume) == (Decimal(95000), Decimal("95000.5"), Decimal("12.3"))
    assert (row.is_revision, row.n_duplicates, row.source_ip, row.raw, row.built_at) == (False, 0, "10.0.0.1", '{"src": "test"}', None)


def test_append_volume_may_be_missing(store: Store) -> None:
    put(store, alert(volume=None))
    assert inbox.tail(store)[0].volume is None


def test_append_duplicate_points_to_the_first_row_and_is_counted(store: Store) -> None:
    first, again = put(store, alert())[0], put(store, alert())[0]
    assert (first, again) == (Receipt(1, "stored"), Receipt(1, "duplicate"))
    assert [r.n_duplicates for r in inbox.tail(store)] == [1]


def test_append_other_content_is_a_revision(store: Store) -> None:
    receipts = [put(store, alert(close=c))[0] for c in ("95000.5", "95001", "95001", "95000.5")]
    assert [r.status for r in receipts] == ["stored", "revision", "duplicate", "duplicate"]
    assert [r.id for r in receipts] == [1, 2, 2, 1]
    assert [r.is_revision for r in inbox.tail(store)] == [False, True]


def test_append_one_batch_with_everything(store: Store) -> None:
    statuses = [r.status for r in put(store, alert(), alert(), alert(close="95001"), alert(1), alert(close="95001"))]
    assert statuses == ["stored", "duplicate", "revision", "stored", "duplicate"]
    assert [(r.id, r.n_duplicates) for r in inbox.tail(store)] == [(1, 1), (2, 1), (3, 0)]


def test_append_other_streams_at_the_same_time_are_apart(store: Store) -> None:
    statuses = [r.status for r in put(store, alert(), alert(timeframe=Timeframe.H1), alert(series=Series("cryptocap", "BTC.D")))]
    assert statuses == ["stored"] * 3


def test_append_nothing(store: Store) -> None:
    assert put(store) == []


def test_tail_follows_ids(store: Store) -> None:
    put(store, *(alert(n) for n in range(5)))
    assert [r.id for r in inbox.tail(store, after_id=2, limit=2)] == [3, 4]
    assert inbox.tail(store, after_id=5) == []
    assert inbox.last_id(store) == 5


def test_mark_built_leaves_later_rows(store: Store, hand: Any) -> None:
    put(store, *(alert(n) for n in range(3)))
    hand.now = NOW + timedelta(minutes=1)
    assert inbox.mark_built(store, 2, "run-1") == 2
    assert inbox.mark_built(store, 2, "run-2") == 0
    assert [(r.built_run_id, r.built_at) for r in inbox.tail(store)] == [("run-1", hand.now)] * 2 + [(None, None)]
    assert [r.id for r in inbox.unbuilt(store)] == [3]
    assert inbox.pending(store) == Pending(1, 3, 3, NOW)


def test_pending_of_empty_inbox(store: Store) -> None:
    assert inbox.pending(store) == Pending(0, None, None, None)
    assert inbox.last_id(store) == 0


def test_unbuilt_keeps_the_newest(store: Store) -> None:
    put(store, *(alert(n) for n in range(4)))
    assert [r.id for r in inbox.unbuilt(store, limit=2)] == [3, 4]


def test_received_counts_deliveries_and_knows_the_newest_before(store: Store) -> None:
    put(store, alert(0), alert(0), alert(0, close="95001"), alert(200), alert(300))
    (found,) = inbox.received(store, NOW - timedelta(days=1)).values()
    assert (found.n_received, found.n_duplicates, found.n_revisions, found.last_received_at) == (3, 1, 1, NOW)
    assert found.opens == {alert(0).ts, alert(200).ts}


def test_prune_keeps_unbuilt_rows(store: Store) -> None:
    put(store, alert(0), alert(1))
    inbox.mark_built(store, 1, "run")
    assert inbox.prune(store, NOW) == 0
    assert inbox.prune(store, NOW + timedelta(seconds=1)) == 1
    assert [r.id for r in inbox.tail(store)] == [2]
    assert put(store, alert(5))[0].id == 3


def test_append_from_two_writers_is_seen_in_order(reopen: Callable[[], Store]) -> None:
    """A reader that follows ids while two processes' worth of writers append must not pass over a row."""
    stores = [reopen(), reopen(), reopen()]
    seen: list[int] = []
    done = threading.Event()

    def write(store: Store, first: int) -> None:
        for n in range(first, first + 60):
            put(store, alert(n), alert(1000, close=str(95000 + n % 7)))
            time.sleep(0.002)  # SQLite's lock is unfair: leave the other one a gap

    def follow() -> None:
        while True:
            is_last = done.is_set()
            seen.extend(r.id for r in inbox.tail(stores[2], after_id=seen[-1] if seen else 0))
            if is_last:
                return

    writers = [threading.Thread(target=write, args=(s, i * 100)) for i, s in enumerate(stores[:2])]
    reader = threading.Thread(target=follow)
    for thread in (*writers, reader):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    reader.join()
    rows = inbox.tail(stores[2], limit=10_000)
    assert seen == [r.id for r in rows]
    assert len(rows) == 120 + 7
    assert sum(not r.is_revision for r in rows) == 121


@pytest.mark.anyio
async def test_submit_64_parallel_duplicates_make_one_row(store: Store) -> None:
    writer = InboxWriter(store)
    writer.start()
    receipts = await asyncio.gather(*(writer.submit(alert()) for _ in range(64)))
    assert writer.stop()
    assert Counter(r.status for r in receipts) == {"stored": 1, "duplicate": 63}
    assert {r.id for r in receipts} == {1}
    assert [r.n_duplicates for r in inbox.tail(store)] == [63]


@pytest.mark.anyio
async def test_submit_returns_after_the_commit(store: Store) -> None:
    writer = InboxWriter(store)
    writer.start()
    for n in range(5):
        receipt = await writer.submit(alert(n))
        assert inbox.last_id(store) == receipt.id
    writer.stop()


@asynccontextmanager
async def busy(store: Store, writer: InboxWriter) -> AsyncIterator[asyncio.Task[Receipt]]:
    """Another process holds the write lock, and the writer waits for it with one alert in hand."""
    writer.start()
    with store.write() as connection:
        store.lock(connection, "inbox")
        first = asyncio.create_task(writer.submit(alert(500)))
        await asyncio.sleep(0)
        while writer.depth:
            await asyncio.sleep(0.001)
        yield first


@pytest.mark.anyio
async def test_submit_when_full_is_refused_and_the_rest_is_kept(store: Store) -> None:
    writer = InboxWriter(store, max_queue=3)
    async with busy(store, writer) as first:
        waiting = [asyncio.create_task(writer.submit(alert(n))) for n in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(BusyError, match="full"):
            await writer.submit(alert(9))
    assert [r.status for r in await asyncio.gather(first, *waiting)] == ["stored"] * 4
    writer.stop()
    assert len(inbox.tail(store)) == 4


@pytest.mark.anyio
async def test_stop_commits_what_waits_and_takes_no_more(store: Store) -> None:
    writer = InboxWriter(store, max_batch=4)
    writer.start()
    waiting = [asyncio.create_task(writer.submit(alert(n))) for n in range(50)]
    await asyncio.sleep(0)
    assert await asyncio.to_thread(writer.stop)
    assert len(await asyncio.gather(*waiting)) == 50
    assert len(inbox.tail(store)) == 50
    with pytest.raises(BusyError):
        await writer.submit(alert(99))


@pytest.mark.anyio
async def test_submit_one_bad_row_does_not_fail_its_neighbours(store: Store) -> None:
    writer = InboxWriter(store)
    async with busy(store, writer):
        bad = alert(7, raw="lone surrogate \ud800")
        waiting = [asyncio.create_task(writer.submit(a)) for a in (alert(0), bad, alert(1))]
        await asyncio.sleep(0)
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    writer.stop()
    assert [type(o) for o in outcomes] == [Receipt, StorageError, Receipt]
    assert len(inbox.tail(store)) == 3


@pytest.mark.anyio
async def test_submit_cancelled_sender_does_not_disturb_others(store: Store) -> None:
    writer = InboxWriter(store)
    writer.start()
    tasks = [asyncio.create_task(writer.submit(alert(n))) for n in range(10)]
    await asyncio.sleep(0)
    tasks[3].cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    writer.stop()
    assert sum(isinstance(o, Receipt) for o in outcomes) == 9
    assert len(inbox.tail(store)) == 10


@pytest.mark.anyio
async def test_submit_full_disk_acknowledges_nothing_and_recovers(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/s.sqlite", "sandbox", lambda: NOW)
    put(store, alert(0))
    limit = 10_000

    @event.listens_for(store.engine, "checkout")
    def _limited(connection: Any, _record: object, _proxy: object) -> None:
        connection.execute(f"PRAGMA max_page_count = {limit}")

    writer = InboxWriter(store)
    writer.start()
    limit = 1  # SQLite makes it the present size: not a page more
    big = "x" * 6000
    outcomes = await asyncio.gather(*(writer.submit(alert(n, raw=big)) for n in range(1, 60)), return_exceptions=True)
    assert {type(o) for o in outcomes} == {StorageError}
    assert [r.id for r in inbox.tail(store)] == [1]
    limit = 10_000
    assert (await writer.submit(alert(1, raw=big))).status == "stored"
    writer.stop()
    assert [r.ts for r in inbox.tail(store)] == [alert(0).ts, alert(1).ts]
    store.close()


def test_receipts_match_order_in_a_large_batch(store: Store) -> None:
    alerts = [alert(n) for n in range(256)]
    receipts = put(store, *alerts)
    by_id: dict[int, datetime] = {r.id: r.ts for r in inbox.tail(store)}
    assert [by_id[r.id] for r in receipts] == [a.ts for a in alerts]


def _contents(*closes: tuple[str, int]) -> list[Alert]:
    """Deliveries for one bar: closing price and minutes after the first one."""
    return [alert(close=close, received_at=NOW + timedelta(minutes=minutes)) for close, minutes in closes]


@pytest.mark.parametrize("is_one_batch", [True, False])
def test_append_correction_taken_back_is_a_revision(store: Store, is_one_batch: bool) -> None:
    """A, B, A again much later: the bar ends at A, as its sender says."""
    alerts = _contents(("1", 0), ("2", 10), ("1", 20), ("1", 21), ("2", 30), ("1", 40))
    receipts = put(store, *alerts) if is_one_batch else [put(store, a)[0] for a in alerts]
    assert [(r.id, r.status) for r in receipts] == [
        (1, "stored"), (2, "revision"), (3, "revision"), (3, "duplicate"), (4, "revision"), (5, "revision"),
    ]  # fmt: skip
    rows = inbox.tail(store)
    assert [(str(r.close), r.is_revision, r.n_duplicates) for r in rows] == [
        ("1", False, 0), ("2", True, 0), ("1", True, 1), ("2", True, 0), ("1", True, 0),
    ]  # fmt: skip


@pytest.mark.parametrize("is_one_batch", [True, False])
def test_append_late_resend_does_not_undo_a_correction(store: Store, is_one_batch: bool) -> None:
    alerts = _contents(("1", 0), ("2", 1), ("1", 2))
    receipts = put(store, *alerts) if is_one_batch else [put(store, a)[0] for a in alerts]
    assert [(r.id, r.status) for r in receipts] == [(1, "stored"), (2, "revision"), (1, "duplicate")]
    assert inbox.tail(store)[-1].close == Decimal(2)
